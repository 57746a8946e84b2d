/* cuda: the front door of the CUDA backend.
 *
 *   cuda_open -> cuda_carve (measuring: the plan) -> cuda_vram_available -> cuda_carve
 *             -> backend.h: load until done, begin, advance ...
 *
 * Threads: the main loop's, which builds batches and reads results; the driver thread (foreign.h),
 * which alone calls the driver; while loading, a team that reads and packs. */
#ifndef WICK_CUDA_CUDA_H
#define WICK_CUDA_CUDA_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/arena.h"
#include "base/config.h"
#include "base/fault.h"
#include "cuda/gpu.h"
#include "model/model.h"

enum { CUDA_CANDIDATES = 64 }; /* that a row can be asked for */

/* Can this model be computed at all? INVALID_REQUEST or MODEL_LOAD_FAILED say why not. */
bool cuda_check(const struct config *config, const struct model *model, struct fault *fault);

/* Brings the driver up (once) and opens the device. CUDA_ERROR names the step that failed. */
bool cuda_open(struct gpu_driver *driver, const struct config *config, struct fault *fault);

/* Device memory that a plan may take: what is free and the driver does not need itself, or less if
 * config->vram says so. */
uint64_t cuda_vram_available(const struct gpu_driver *driver, const struct config *config);

/* What a backend is carved for, besides backend_limits. */
struct cuda_setup {
    struct gpu_driver *driver; /* NULL: for a plan only */
    const struct config *config;
    int file; /* the model's; open until load is done */
};

/* Measures or takes. `vram` and `pinned` are measured (arena_measure) in both cases: the device's
 * memory is taken while loading. NULL while measuring. */
struct backend *cuda_carve(const struct cuda_setup *setup, const struct model *model,
                           const struct backend_limits *limits, struct arena *arena,
                           struct arena *vram, struct arena *pinned);

#endif
