/* block_rig: random but sane bytes for every tensor type, and a small generator for tests. */
#ifndef WICK_TESTS_BLOCK_RIG_H
#define WICK_TESTS_BLOCK_RIG_H

#include <stddef.h>
#include <stdint.h>

#include "gguf/quant.h"

/* The types there are, in the order of their ids. */
extern const enum quant_type block_rig_types[];
extern const size_t block_rig_n_types;

/* SplitMix64. */
uint64_t block_rig_next(uint64_t *state);
/* Uniform in [-1, 1). */
float block_rig_real(uint64_t *state);

/* `n_values` values of `type`: every bit random, scales finite and of a size that decodes to values
 * around 0.1. */
void block_rig_fill(enum quant_type type, uint8_t *blocks, size_t n_values, uint64_t *state);

#endif
