#include "cuda/driver_api.h"

#include <string.h>

#include "base/panic.h"
#include "cuda/driver_api_thread.h"

static const struct cuda_call cuda_calls[] = {
#define CUDA_ROW(name, version, parameters) {#name, version},
    CUDA_CALLS(CUDA_ROW)
#undef CUDA_ROW
};

enum { N_CALLS = sizeof cuda_calls / sizeof cuda_calls[0] };
_Static_assert(sizeof(struct cuda_api) == N_CALLS * sizeof(void *), "the table is an array too");

bool cuda_result_is_sticky(int result) {
    return result == CUDA_ERROR_ECC_UNCORRECTABLE || result == CUDA_ERROR_ILLEGAL_ADDRESS ||
           result == CUDA_ERROR_LAUNCH_TIMEOUT || result == CUDA_ERROR_CONTEXT_IS_DESTROYED ||
           (result >= CUDA_ERROR_ASSERT && result <= CUDA_ERROR_LAUNCH_FAILED);
}

bool cuda_api_load(struct cuda_api *api, struct foreign *f, int *version, struct fault *fault) {
    struct cuda_lookup job = {
        .foreign = f, .calls = cuda_calls, .n_calls = N_CALLS, .found = (void **)(void *)api};
    int64_t result;
    memset(api, 0, sizeof *api);
    if (foreign_run(f, cuda_lookup_thread, &job, &result) == FOREIGN_DEAD) {
        return fault_set(fault, FAULT_CUDA_ERROR, "looking up functions in %s: %s",
                         f->libraries.cuda, foreign_death(f));
    }
    *version = job.version;
    if (result != 0) {
        return fault_set(fault, FAULT_CUDA_ERROR, "asking %s for its version: CUDA error %lld",
                         f->libraries.cuda, (long long)result);
    }
    if (job.version > 0 && job.version < CUDA_VERSION_MIN) {
        return fault_set(fault, FAULT_CUDA_ERROR,
                         "%s is a driver for CUDA %d.%d; wick needs %d.%d or newer (driver 525): "
                         "update the NVIDIA driver",
                         f->libraries.cuda, job.version / 1000, job.version % 1000 / 10,
                         CUDA_VERSION_MIN / 1000, CUDA_VERSION_MIN % 1000 / 10);
    }
    if (job.missing != NULL) {
        return fault_set(fault, FAULT_CUDA_ERROR, "looking up functions in %s: it has no %s",
                         f->libraries.cuda, job.missing);
    }
    return true;
}
