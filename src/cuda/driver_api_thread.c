#include "cuda/driver_api_thread.h"

/* Functions that look functions up; either may be NULL. */
struct cuda_resolver {
    cuda_proc_address_v2 *newer; /* CUDA 12.0 and later */
    cuda_proc_address *older;    /* CUDA 11.3 and later */
};

/* The exported name without the mark of its variant. */
static void base_name(const char *name, char *base, uint32_t bytes) {
    uint32_t n = 0;
    while (name[n] != '\0' && n + 1 < bytes) {
        base[n] = name[n];
        n++;
    }
    if (n > 3 && base[n - 3] == '_' && base[n - 2] == 'v') n -= 3;
    base[n] = '\0';
}

static void *call_resolve(const struct cuda_lookup *job, const struct cuda_resolver *resolver,
                          const struct cuda_call *call) {
    char base[64];
    void *function = NULL;
    int status = 0;
    base_name(call->name, base, sizeof base);
    int result = CUDA_ERROR_NOT_FOUND;
    if (resolver->newer != NULL) {
        result = resolver->newer(base, &function, call->version, 0, &status);
    } else if (resolver->older != NULL) {
        result = resolver->older(base, &function, call->version, 0);
    }
    if (result == CUDA_SUCCESS && function != NULL) return function;
    return job->foreign->functions.symbol(job->foreign->library, call->name);
}

static void *symbol_of(const struct cuda_lookup *job, const char *name) {
    return job->foreign->functions.symbol(job->foreign->library, name);
}

int64_t cuda_lookup_thread(void *context) {
    struct cuda_lookup *job = context;
    int (*version)(int *);
    *(void **)(void *)&version = symbol_of(job, "cuDriverGetVersion");
    if (version != NULL) {
        int result = version(&job->version);
        if (result != CUDA_SUCCESS) return result;
    }
    struct cuda_resolver resolver;
    *(void **)(void *)&resolver.newer = symbol_of(job, "cuGetProcAddress_v2");
    *(void **)(void *)&resolver.older = symbol_of(job, "cuGetProcAddress");
    for (uint32_t i = 0; i < job->n_calls; i++) {
        job->found[i] = call_resolve(job, &resolver, &job->calls[i]);
        if (job->found[i] == NULL && job->missing == NULL) job->missing = job->calls[i].name;
    }
    return CUDA_SUCCESS;
}
