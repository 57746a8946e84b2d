/* A libcuda.so.1 with every function that wick looks up, none of which does anything. Its result
 * tells by which way it was found: 41 by its exported name, 42 by cuGetProcAddress. */
#include <string.h>

#include "cuda/driver_api.h"

#ifndef API_VERSION
#define API_VERSION 12020
#endif

enum { BY_NAME = 41, BY_ADDRESS = 42, VERSION_V2 = 3020 };

/* One of these is another function under that name. */
#define cuDriverGetVersion not_this_version
#ifdef API_WITHOUT
#define cuMemFree_v2 not_this_free
#endif
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define STUB(name, version, parameters)                                                            \
    int name parameters;                                                                           \
    int name parameters {                                                                          \
        return BY_NAME;                                                                            \
    }
CUDA_CALLS(STUB)
#undef cuDriverGetVersion

int cuDriverGetVersion(int *version);
int cuDriverGetVersion(int *version) {
    *version = API_VERSION;
    return 0;
}

#ifdef API_ADDRESSES
static int alloc_of_version_2(uint64_t *address, size_t bytes) {
    (void)address;
    (void)bytes;
    return BY_ADDRESS;
}

/* Knows one function, in one variant. */
static int find(const char *symbol, void **function, int version) {
    *function = NULL;
    if (strcmp(symbol, "cuMemAlloc") == 0 && version >= VERSION_V2) {
        int (*alloc)(uint64_t *, size_t) = alloc_of_version_2;
        memcpy(function, &alloc, sizeof alloc);
    }
    return 0;
}

#if API_ADDRESSES == 2
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                        int *status) {
    *status = 0;
    return flags == 0 ? find(symbol, function, version) : CUDA_ERROR_INVALID_VALUE;
}
#else
int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    return flags == 0 ? find(symbol, function, version) : CUDA_ERROR_INVALID_VALUE;
}
#endif
#endif
