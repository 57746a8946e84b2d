/* load_thread: what loading asks of the driver: memory, modules, copies, graphs. */
#ifndef WICK_CUDA_LOAD_THREAD_H
#define WICK_CUDA_LOAD_THREAD_H

#include <stddef.h>
#include <stdint.h>

#include "cuda/gpu_thread.h"
#include "kernels/abi.h"

/* Every kernel that a step may have; from FEW and MANY on one a kind of weights. */
enum gpu_entry {
    GPU_ENTRY_EMBED,
    GPU_ENTRY_PREPARE,
    GPU_ENTRY_TOP_SLICE,
    GPU_ENTRY_TOP_MERGE,
    GPU_ENTRY_FINISH,
    GPU_ENTRY_KV_STORE,
    GPU_ENTRY_ATTEND_FEW,
    GPU_ENTRY_ATTEND_COMBINE,
    GPU_ENTRY_ATTEND_MANY,
    GPU_ENTRY_FEW,
    GPU_ENTRY_MANY = GPU_ENTRY_FEW + GPU_KINDS,
    GPU_ENTRIES = GPU_ENTRY_MANY + GPU_KINDS
};

/* One kernel of a step. */
struct gpu_launch {
    uint32_t entry; /* enum gpu_entry */
    uint32_t grid[3], block;
    uint32_t shared; /* dynamic shared memory of a block */
    uint32_t share;  /* not 0: so many pieces, for as many blocks in x as run at once, at most */
    void *arguments; /* the one struct that it takes */
};

enum { GPU_ARGUMENTS_BYTES = 512 };

struct gpu_launches {
    uint32_t n, most;
    struct gpu_launch *launch; /* (most) */
    uint8_t *arguments;        /* (most, GPU_ARGUMENTS_BYTES) */
};

/* The one allocation of device memory and the one of pinned memory. The cache is cleared: what lies
 * beyond a sequence's end is read, though never used. */
struct gpu_memory {
    struct gpu_call call;
    struct cu_stream *stream;
    size_t vram_bytes, pinned_bytes;
    uint64_t vram;       /* address */
    void *pinned;        /* ours */
    uint64_t pinned_gpu; /* the device's */
};
foreign_call gpu_memory_thread;

struct gpu_clear {
    struct gpu_call call;
    struct cu_stream *stream;
    uint64_t at, bytes;
};
foreign_call gpu_clear_thread;

/* One module of PTX, made ready for the device, and the functions that are wanted of it. */
enum { GPU_MODULE_ENTRIES = 5, GPU_LOG_BYTES = 512 };
struct gpu_module {
    struct gpu_call call;
    const char *ptx;
    uint32_t n;
    struct {
        const char *name;
        struct cu_function **function;
    } entry[GPU_MODULE_ENTRIES];
    char log[GPU_LOG_BYTES]; /* what the driver's assembler found wrong */
};
foreign_call gpu_module_thread;

/* Copies to the device and waits for the end. */
struct gpu_upload {
    struct gpu_call call;
    struct cu_stream *stream;
    uint64_t to;
    const void *from;
    size_t bytes;
};
foreign_call gpu_upload_thread;

/* Makes a graph of the copy of the batch and the launches. */
struct gpu_capture {
    struct gpu_call call;
    struct cu_stream *stream;
    struct cu_function *const *function; /* (GPU_ENTRIES) */
    uint32_t multiprocessors;
    uint64_t batch;
    const void *batch_host;
    size_t batch_bytes;
    struct gpu_launches *launches;
    struct cu_graph_exec *exec;
};
foreign_call gpu_capture_thread;

/* One step: the graph, then copies of logits that are wanted in full, then who tells that they are
 * there (none: the graph has told). */
struct gpu_copy {
    void *to;
    uint64_t from;
    size_t bytes;
};
struct gpu_run_step {
    struct gpu_call call;
    struct cu_stream *stream;
    struct cu_graph_exec *exec;
    uint32_t n_copies; /* 0 or 1 */
    struct gpu_copy copy;
    struct cu_function *finish;
    struct gpu_finish arguments;
};
foreign_call gpu_step_thread;

/* Asks whether the device has failed, or has finished. */
struct gpu_query {
    struct gpu_call call;
    struct cu_stream *stream;
    int32_t finished;
};
foreign_call gpu_query_thread;

/* Gives all back. */
struct gpu_close {
    struct gpu_call call;
    int32_t device;
    uint64_t vram;
    void *pinned;
};
foreign_call gpu_close_thread;

#endif
