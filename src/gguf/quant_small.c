/* The simple formats: 32 values a block, one scale d (and one offset m) in F16.
 *
 *   Q4_0  | d 2 | nibbles 16                |  value = (q - 8) * d
 *   Q4_1  | d 2 | m 2 | nibbles 16          |  value = q * d + m
 *   Q5_0  | d 2 | fifth bits 4 | nibbles 16 |  value = (q - 16) * d
 *   Q5_1  | d 2 | m 2 | fifth bits 4 | nibbles 16 |  value = q * d + m
 *   Q8_0  | d 2 | int8 32                   |  value = q * d
 *
 * Byte j of the nibbles holds value j below and value j + 16 above; bit i of the fifth bits (a
 * little-endian u32) belongs to value i. Every product and sum is rounded to F32 as written here.
 */
#include "base/bytes.h"
#include "base/panic.h"
#include "gguf/quant.h"
#include "gguf/quant_blocks.h"

static float f16_at(const uint8_t *p) {
    return quant_f16_to_f32(bytes_u16(p));
}

void quant_expand_q4_0(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SMALL == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SMALL, block += 18, out += QUANT_SMALL) {
        float d = f16_at(block);
        const uint8_t *nibbles = block + 2;
        for (int j = 0; j < 16; j++) {
            out[j] = (float)((nibbles[j] & 0xF) - 8) * d;
            out[j + 16] = (float)((nibbles[j] >> 4) - 8) * d;
        }
    }
}

void quant_expand_q4_1(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SMALL == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SMALL, block += 20, out += QUANT_SMALL) {
        float d = f16_at(block), m = f16_at(block + 2);
        const uint8_t *nibbles = block + 4;
        for (int j = 0; j < 16; j++) {
            out[j] = (float)(nibbles[j] & 0xF) * d + m;
            out[j + 16] = (float)(nibbles[j] >> 4) * d + m;
        }
    }
}

/* The five-bit numbers of values j and j + 16. */
static int five_bits_below(const uint8_t *nibbles, uint32_t fifth, int j) {
    return (nibbles[j] & 0xF) | (int)(fifth >> j & 1) << 4;
}

static int five_bits_above(const uint8_t *nibbles, uint32_t fifth, int j) {
    return nibbles[j] >> 4 | (int)(fifth >> (j + 16) & 1) << 4;
}

void quant_expand_q5_0(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SMALL == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SMALL, block += 22, out += QUANT_SMALL) {
        float d = f16_at(block);
        uint32_t fifth = bytes_u32(block + 2);
        for (int j = 0; j < 16; j++) {
            out[j] = (float)(five_bits_below(block + 6, fifth, j) - 16) * d;
            out[j + 16] = (float)(five_bits_above(block + 6, fifth, j) - 16) * d;
        }
    }
}

void quant_expand_q5_1(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SMALL == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SMALL, block += 24, out += QUANT_SMALL) {
        float d = f16_at(block), m = f16_at(block + 2);
        uint32_t fifth = bytes_u32(block + 4);
        for (int j = 0; j < 16; j++) {
            out[j] = (float)five_bits_below(block + 8, fifth, j) * d + m;
            out[j + 16] = (float)five_bits_above(block + 8, fifth, j) * d + m;
        }
    }
}

void quant_expand_q8_0(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SMALL == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SMALL, block += 34, out += QUANT_SMALL) {
        float d = f16_at(block);
        for (int j = 0; j < QUANT_SMALL; j++) out[j] = (float)(int8_t)block[2 + j] * d;
    }
}
