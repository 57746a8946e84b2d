/* random_blocks: random weights of a wanted standard deviation, made directly in a block format:
 * random bits for the quants, and scale fields set so that the values come out right. */
#ifndef WICK_LAB_RANDOM_BLOCKS_H
#define WICK_LAB_RANDOM_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "gguf/quant.h"

enum { RANDOM_SCALES = 16, RANDOM_PATTERNS = 256, RANDOM_HALVES = 1 << 16 };

struct random_recipe;

struct random_blocks {
    enum quant_type type;
    const struct random_recipe *recipe;
    uint64_t state;
    float span;                           /* F32: values are uniform in -span .. span */
    uint16_t scale[RANDOM_SCALES];        /* F16: d of a block, one of these, by chance */
    uint16_t offset[RANDOM_SCALES];       /* F16: m or dmin that goes with it */
    uint8_t pattern[RANDOM_PATTERNS][12]; /* Q4_K, Q5_K: packed scales and minimums */
    uint16_t half[RANDOM_HALVES];         /* F16, BF16: a uniform value for every 16 bits */
};

/* The same (type, deviation, seed) give the same bytes. About 140 KB: not for the stack. */
void random_blocks_begin(struct random_blocks *random, enum quant_type type, double deviation,
                         uint64_t seed);

/* Fills whole blocks: `length` is a multiple of block_bytes. The sequence does not depend on how it
 * is cut, as long as every length but the last is a multiple of 8. */
void random_blocks_fill(struct random_blocks *random, uint8_t *out, size_t length);

#endif
