/* driver_api_thread: the half of driver_api that runs on the driver thread. */
#ifndef WICK_CUDA_DRIVER_API_THREAD_H
#define WICK_CUDA_DRIVER_API_THREAD_H

#include "cuda/driver_api.h"

struct cuda_call {
    const char *name; /* as it is exported: with _v2 where there are two */
    int version;
};

struct cuda_lookup {
    struct foreign *foreign;
    const struct cuda_call *calls;
    uint32_t n_calls;
    void **found;        /* in the order of the calls */
    const char *missing; /* the first that was not found */
    int version;         /* of the driver; 0: it cannot be asked */
};

/* A struct cuda_lookup; the result is cuDriverGetVersion's. */
foreign_call cuda_lookup_thread;

#endif
