/* gpu_thread: the driver calls of gpu.c, as they run on the driver thread. */
#ifndef WICK_CUDA_GPU_THREAD_H
#define WICK_CUDA_GPU_THREAD_H

#include <stddef.h>
#include <stdint.h>

#include "cuda/driver_api.h"

enum { GPU_DEVICES_MAX = 16, GPU_NAME_BYTES = 64, GPU_PCI_BYTES = 16, GPU_ERROR_BYTES = 96 };

/* First member of the context of every call: with which functions, and what became of it. */
struct gpu_call {
    const struct cuda_api *api;
    const char *what; /* the driver call that failed: "cuMemAlloc" */
    int32_t result;   /* its result */
    char name[GPU_ERROR_BYTES], text[GPU_ERROR_BYTES]; /* of the result, in the driver's words */
};

/* Notes a result; 0 when it was good. Every call ends with the first that was not. */
int64_t gpu_call_end(struct gpu_call *call, int result, const char *what);

struct gpu_device {
    char name[GPU_NAME_BYTES];
    char pci[GPU_PCI_BYTES]; /* "0000:3b:00.0" */
    size_t vram_bytes;
    int32_t major, minor; /* compute capability */
    int32_t multiprocessors;
    int32_t shared_bytes; /* that a block may have */
};

/* cuInit and the list. */
struct gpu_list {
    struct gpu_call call;
    int32_t version; /* of CUDA, as the driver has it: 12040 is 12.4 */
    int32_t n;
    struct gpu_device device[GPU_DEVICES_MAX];
};
foreign_call gpu_list_thread;

/* Context, stream, free memory of one device. */
struct gpu_open {
    struct gpu_call call;
    int32_t device;
    struct cu_context *context;
    struct cu_stream *stream;
    size_t free_bytes, total_bytes;
};
foreign_call gpu_open_thread;

#endif
