/* launches: the kernels of a step, in order, with grids and arguments. Pure. */
#ifndef WICK_CUDA_LAUNCHES_H
#define WICK_CUDA_LAUNCHES_H

#include <stdint.h>

#include "base/arena.h"
#include "cuda/layout.h"
#include "cuda/load_thread.h"

/* Measures or takes room for the longest list of a model of n_layers. */
void launches_carve(struct gpu_launches *list, uint32_t n_layers, struct arena *arena);

/* Where a step's pinned memory lies for the device. */
struct launches_pinned {
    uint64_t flag, choice;
};

/* The kernels of a step of at most `rows` rows. shared_bytes: what a block may have. */
void launches_write(struct gpu_launches *list, const struct layout *layout,
                    const struct launches_pinned *pinned, uint32_t rows, uint32_t shared_bytes);

/* Is attention split over the context for every sequence of such a batch? */
bool launches_split_all(uint32_t rows);

#endif
