#include "gguf/quant_codes.h"

#include <string.h>

#include "base/bytes.h"

/* Formats as in ggml's block definitions; offsets are bytes of one block. */

static void codes_read_q4_0(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = 0;
    for (int i = 0; i < 16; i++) {
        codes->value[i] = (int8_t)(block[2 + i] & 15);
        codes->value[i + 16] = (int8_t)(block[2 + i] >> 4);
    }
}

static void codes_read_q4_1(const uint8_t *block, struct quant_codes *codes) {
    codes_read_q4_0(block + 2, codes); /* the same nibbles behind one more scale */
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
}

/* Fifth bits: bit i belongs to value i. */
static void codes_read_5_bits(const uint8_t *nibbles, uint32_t high, int8_t *value) {
    for (int i = 0; i < 16; i++) {
        value[i] = (int8_t)((nibbles[i] & 15) | (int)(high >> i & 1) << 4);
        value[i + 16] = (int8_t)(nibbles[i] >> 4 | (int)(high >> (i + 16) & 1) << 4);
    }
}

static void codes_read_q5_0(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = 0;
    codes_read_5_bits(block + 6, bytes_u32(block + 2), codes->value);
}

static void codes_read_q5_1(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
    codes_read_5_bits(block + 8, bytes_u32(block + 4), codes->value);
}

static void codes_read_q8_0(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = 0;
    memcpy(codes->value, block + 2, 32);
}

/* The 12 bytes of Q4_K and Q5_K that hold eight 6-bit scales and eight 6-bit mins. */
static void codes_read_k_scales(const uint8_t *packed, struct quant_codes *codes) {
    for (int i = 0; i < 4; i++) {
        codes->scale[i] = (int8_t)(packed[i] & 63);
        codes->min[i] = packed[i + 4] & 63;
        codes->scale[i + 4] = (int8_t)((packed[i + 8] & 15) | (packed[i] >> 6) << 4);
        codes->min[i + 4] = (uint8_t)(packed[i + 8] >> 4 | (packed[i + 4] >> 6) << 4);
    }
}

static void codes_read_q4_k(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
    codes_read_k_scales(block + 4, codes);
    const uint8_t *nibbles = block + 16;
    for (int pair = 0; pair < 4; pair++)
        for (int i = 0; i < 32; i++) {
            codes->value[64 * pair + i] = (int8_t)(nibbles[32 * pair + i] & 15);
            codes->value[64 * pair + 32 + i] = (int8_t)(nibbles[32 * pair + i] >> 4);
        }
}

static void codes_read_q5_k(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
    codes_read_k_scales(block + 4, codes);
    const uint8_t *high = block + 16, *nibbles = block + 48;
    for (int pair = 0; pair < 4; pair++)
        for (int i = 0; i < 32; i++) {
            int bits = high[i] >> (2 * pair);
            uint8_t both = nibbles[32 * pair + i];
            codes->value[64 * pair + i] = (int8_t)((both & 15) | (bits & 1) << 4);
            codes->value[64 * pair + 32 + i] = (int8_t)(both >> 4 | (bits & 2) << 3);
        }
}

static void codes_read_q6_k(const uint8_t *block, struct quant_codes *codes) {
    const uint8_t *low = block, *high = block + 128;
    for (int half = 0; half < 2; half++, low += 64, high += 32)
        for (int i = 0; i < 32; i++) {
            int8_t *value = codes->value + 128 * half + i;
            value[0] = (int8_t)((low[i] & 15) | (high[i] & 3) << 4);
            value[32] = (int8_t)((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
            value[64] = (int8_t)(low[i] >> 4 | (high[i] >> 4 & 3) << 4);
            value[96] = (int8_t)(low[i + 32] >> 4 | (high[i] >> 6) << 4);
        }
    memcpy(codes->scale, block + 192, 16);
    codes->d = bytes_u16(block + 208);
    codes->m = 0;
}

/* Values 0..7 (zero 4): two low bits, and a high bit from the mask. */
static void codes_read_q3_k(const uint8_t *block, struct quant_codes *codes) {
    const uint8_t *mask = block, *low = block + 32, *packed = block + 96;
    for (int half = 0; half < 2; half++)
        for (int quarter = 0; quarter < 4; quarter++)
            for (int i = 0; i < 32; i++) {
                int two = low[32 * half + i] >> (2 * quarter) & 3;
                int one = mask[i] >> (4 * half + quarter) & 1;
                codes->value[128 * half + 32 * quarter + i] = (int8_t)(two | one << 2);
            }
    for (int i = 0; i < 16; i++) {
        int four = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
        int two = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        codes->scale[i] = (int8_t)((four | two << 4) - 32);
    }
    codes->d = bytes_u16(block + 108);
    codes->m = 0;
}

static void codes_read_q2_k(const uint8_t *block, struct quant_codes *codes) {
    const uint8_t *low = block + 16;
    for (int i = 0; i < 16; i++) {
        codes->scale[i] = (int8_t)(block[i] & 15);
        codes->min[i] = block[i] >> 4;
    }
    for (int half = 0; half < 2; half++)
        for (int quarter = 0; quarter < 4; quarter++)
            for (int i = 0; i < 32; i++)
                codes->value[128 * half + 32 * quarter + i] =
                    (int8_t)(low[32 * half + i] >> (2 * quarter) & 3);
    codes->d = bytes_u16(block + 80);
    codes->m = bytes_u16(block + 82);
}

static void codes_read_iq4_xs(const uint8_t *block, struct quant_codes *codes) {
    uint16_t high = bytes_u16(block + 2);
    const uint8_t *low = block + 4, *nibbles = block + 8;
    for (int sub = 0; sub < 8; sub++) {
        int four = low[sub / 2] >> (4 * (sub % 2)) & 15;
        codes->scale[sub] = (int8_t)((four | (high >> (2 * sub) & 3) << 4) - 32);
        for (int i = 0; i < 16; i++) {
            codes->value[32 * sub + i] = (int8_t)(nibbles[16 * sub + i] & 15);
            codes->value[32 * sub + 16 + i] = (int8_t)(nibbles[16 * sub + i] >> 4);
        }
    }
    codes->d = bytes_u16(block);
    codes->m = 0;
}

static const struct quant_scheme schemes[QUANT_TYPES] = {
    /*                 unit sub bits zero min  looked up    read */
    [QUANT_Q4_0] = {32, 32, 4, 8, false, false, codes_read_q4_0},
    [QUANT_Q4_1] = {32, 32, 4, 0, true, false, codes_read_q4_1},
    [QUANT_Q5_0] = {32, 32, 5, 16, false, false, codes_read_q5_0},
    [QUANT_Q5_1] = {32, 32, 5, 0, true, false, codes_read_q5_1},
    [QUANT_Q8_0] = {32, 32, 8, 0, false, false, codes_read_q8_0},
    [QUANT_Q2_K] = {256, 16, 2, 0, true, false, codes_read_q2_k},
    [QUANT_Q3_K] = {256, 16, 3, 4, false, false, codes_read_q3_k},
    [QUANT_Q4_K] = {256, 32, 4, 0, true, false, codes_read_q4_k},
    [QUANT_Q5_K] = {256, 32, 5, 0, true, false, codes_read_q5_k},
    [QUANT_Q6_K] = {256, 16, 6, 32, false, false, codes_read_q6_k},
    [QUANT_IQ4_NL] = {32, 32, 4, 0, false, true, codes_read_q4_0},
    [QUANT_IQ4_XS] = {256, 32, 4, 0, false, true, codes_read_iq4_xs},
};

const struct quant_scheme *quant_scheme(enum quant_type type) {
    return (unsigned)type < QUANT_TYPES && schemes[type].unit != 0 ? &schemes[type] : NULL;
}
