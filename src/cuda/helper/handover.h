/* handover: what the helper gives, and to whom. Included by both sides. */
#ifndef WICK_CUDA_HELPER_HANDOVER_H
#define WICK_CUDA_HELPER_HANDOVER_H

/* dlfcn.h as the helper finds it in glibc. Only to be called on the driver thread. */
struct foreign_functions {
    void *(*open)(const char *path, int flags);
    void *(*symbol)(void *library, const char *name);
    int (*close)(void *library);
    char *(*error)(void);
};

/* The auxiliary vector of the helper has one entry of this type, the address of a struct handover.
 * glibc passes over types that it does not know. "wick" in ASCII. */
enum { HANDOVER_AUX_TYPE = 0x6b636977 };

struct handover {
    void (*receive)(void *context, const struct foreign_functions *functions); /* never returns */
    void *context;
};

#endif
