/* quant: the block formats of GGUF tensors, and what their bytes mean.
 *
 * The numbers are ggml's type ids as found in files. `expand` is the definition of a format: the
 * F32 values a row stands for, rounded as the format's authors round them (docs/ARCHITECTURE.md).
 * Every fast path is judged against it. */
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
    uint16_t block_bytes;  /* 144; 0 without expand */
    uint16_t block_values; /* 256; 0 without expand */
    /* blocks -> n values; n is a multiple of block_values; blocks may lie at any address; out does
     * not overlap. NULL: type known by name only, not supported. */
    void (*expand)(const void *blocks, float *out, size_t n);
};

/* NULL for an id that is not in our table. An entry without `expand` is a type we can name and not
 * run. */
const struct quant_info *quant_info(uint32_t type);

/* By name ("q8_0", any case); -1 if there is none that we can run. */
int quant_by_name(const char *name);

/* IEEE binary16 <-> binary32, in plain integer code: exact one way, round to nearest even the
 * other. */
float quant_f16_to_f32(uint16_t half);
uint16_t quant_f32_to_f16(float value);

/* The 16 int8 values that the nibbles of IQ4_NL and IQ4_XS select. */
extern const int8_t quant_iq4_values[16];

#endif
