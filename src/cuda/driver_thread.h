/* driver_thread: the thread that belongs to glibc, from its first instruction to its last. */
#ifndef WICK_CUDA_DRIVER_THREAD_H
#define WICK_CUDA_DRIVER_THREAD_H

#include <stdint.h>

#include "cuda/foreign.h"

/* What the thread starts with. */
struct driver_start {
    uint64_t entry;       /* of glibc's loader */
    uint64_t block;       /* argc and what follows: the stack pointer at the entry */
    uint64_t alternate;   /* memory for the stack of signal handlers */
    uint64_t n_alternate; /* its bytes */
    int32_t *thread;      /* the kernel writes the id here before the thread runs */
    int32_t cleared;      /* and 0 here when it ends, until glibc names a place of its own */
    _Alignas(16) uint64_t storage[32]; /* thread-local storage until glibc has its own */
};

/* Starts it with all signals blocked that this thread blocks; returns its id, or the kernel's error
 * as a negative number. *start must stay. */
int32_t driver_thread_start(struct driver_start *start);

/* Where the helper arrives (helper/handover.h): `context` is a struct foreign. */
void driver_thread_receive(void *context, const struct foreign_functions *functions);

/* Opens libcuda.so.1. */
struct driver_open {
    struct foreign *foreign;
    char *error; /* dlerror's text; empty: it went well */
    uint32_t error_bytes;
};
foreign_call driver_thread_open; /* a struct driver_open */

/* Looks a function of it up. */
struct driver_symbol {
    struct foreign *foreign;
    const char *name;
    void *found; /* NULL: there is none */
};
foreign_call driver_thread_symbol; /* a struct driver_symbol */

#endif
