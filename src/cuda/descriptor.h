/* descriptor: a batch as the kernels read it, written to pinned memory. Pure. */
#ifndef WICK_CUDA_DESCRIPTOR_H
#define WICK_CUDA_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "cuda/layout.h"

/* Writes `batch` to `out` (room->bytes). *ticket is what the flag shows when the step is done, one
 * more when the logits have been copied as well. Where split_all, or where a sequence has but one
 * row, attention is split over the context. */
void descriptor_write(const struct layout_batch *room, const struct batch *batch, bool split_all,
                      uint32_t ticket, uint8_t *out);

#endif
