/* quant: the types of GGUF tensors, and the F32 values that their bytes stand for.
 *
 * The numbers are ggml's type ids as found in files. */
#ifndef WICK_GGUF_QUANT_H
#define WICK_GGUF_QUANT_H

#include <stddef.h>
#include <stdint.h>

enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_IQ4_NL = 20,
    QUANT_IQ4_XS = 23,
    QUANT_BF16 = 30,
    QUANT_TYPES = 43 /* one past the largest id we know by name */
};

struct quant_info {
    const char *name;      /* "Q4_K"; as llama.cpp spells it */
    uint16_t block_bytes;  /* 144; 0: a type that we can name and not run */
    uint16_t block_values; /* 256; 0 likewise */
};

/* NULL for an id that is not in our table. */
const struct quant_info *quant_info(uint32_t type);

/* Blocks of a type that we can run -> n values, rounded as the format's authors round them
 * (quant_codes.h). n is a multiple of block_values; blocks may lie at any address; out does not
 * overlap. */
void quant_expand(enum quant_type type, const void *blocks, float *out, size_t n);

/* By name ("q8_0", any case); -1 if there is none that we can run. */
int quant_by_name(const char *name);

/* IEEE binary16 <-> binary32, in plain integer code: exact one way, round to nearest even the
 * other. */
float quant_f16_to_f32(uint16_t half);
uint16_t quant_f32_to_f16(float value);

#endif
