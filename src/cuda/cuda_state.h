/* cuda_state: what cuda.c (memory, loading) and cuda_step.c (steps) share. Nobody else includes
 * this. */
#ifndef WICK_CUDA_CUDA_STATE_H
#define WICK_CUDA_CUDA_STATE_H

#include "backend/backend.h"
#include "cuda/cuda.h"
#include "cuda/gpu.h"
#include "cuda/launches.h"
#include "cuda/layout.h"
#include "cuda/load_thread.h"
#include "cuda/upload.h"

/* Batches of 1, 2, 4 ... rows and of rows_max: a graph each. */
enum { CUDA_CLASSES_MAX = 12 };

struct cuda_class {
    struct layout_batch room;
    struct cu_graph_exec *exec;
    uint64_t usual_ns; /* that its last step took */
};

/* A step on its way on the device; also one that was given up, whose end must be seen before the
 * batch is written anew. */
struct cuda_flight {
    bool on;
    uint32_t ticket; /* that the flag will show */
    uint32_t class;
    uint64_t posted_ns, asked_ns;
};

struct cuda {
    struct backend backend; /* first: a struct backend * is a struct cuda * */
    struct gpu_driver *driver;
    uint32_t hang_ms;
    struct layout layout;
    struct upload upload;
    struct gpu_launches launches;
    struct launches_pinned pinned;
    size_t vram_bytes, pinned_bytes;
    struct cu_function *function[GPU_ENTRIES];
    uint32_t n_classes;
    struct cuda_class class[CUDA_CLASSES_MAX];

    bool posted;           /* the driver thread works on a call of ours */
    uint32_t stage, index; /* of loading */
    struct gpu_memory memory;
    struct gpu_clear clear;
    struct gpu_module module;
    struct gpu_capture capture;

    const struct batch *batch; /* begun and not yet handed over */
    uint32_t n_results;        /* rows of it that wanted something */
    struct cuda_flight flight;
    uint32_t ticket; /* the last one given */
    struct gpu_run_step run;
    struct gpu_query query;
    bool asking; /* the call with the driver thread is the query, not the step */
    bool failed;
    struct fault fault; /* why */
};

void cuda_begin(struct backend *backend, const struct batch *batch);
enum backend_status cuda_advance(struct backend *backend, uint64_t deadline_ns,
                                 struct fault *fault);
const float *cuda_logits(const struct backend *backend, uint32_t index);
struct backend_candidates cuda_candidates(const struct backend *backend, uint32_t index);
void cuda_abort(struct backend *backend);
bool cuda_look(struct backend *backend, struct fault *fault);

#endif
