/* The k-quants: 256 values a super-block, cut into sub-blocks whose scales are small integers times
 * d (and whose offsets are small integers times dmin), d and dmin in F16.
 *
 *   Q2_K  | scales 16 | crumbs 64 | d 2 | dmin 2 |              16 sub-blocks of 16
 *   Q3_K  | high bits 32 | crumbs 64 | scales 12 | d 2 |        16 sub-blocks of 16
 *   Q4_K  | d 2 | dmin 2 | scales 12 | nibbles 128 |             8 sub-blocks of 32
 *   Q5_K  | d 2 | dmin 2 | scales 12 | fifth bits 32 | nibbles 128 |
 *   Q6_K  | nibbles 128 | crumbs 64 | scales 16 (int8) | d 2 |  16 sub-blocks of 16
 *
 * A crumb is two bits. Every product and difference is rounded to F32 as written here: the scale
 * d * sc first, then scale * q, then - offset. */
#include "base/bytes.h"
#include "base/panic.h"
#include "gguf/quant.h"
#include "gguf/quant_blocks.h"

static float f16_at(const uint8_t *p) {
    return quant_f16_to_f32(bytes_u16(p));
}

/* value = (d * (s & 15)) * q - dmin * (s >> 4), q = 0..3. Each 128 values have 32 bytes of crumbs:
 * byte l holds values l, l + 32, l + 64 and l + 96, from the low bits up. */
void quant_expand_q2_k(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SUPER == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SUPER, block += 84, out += QUANT_SUPER) {
        const uint8_t *scales = block, *crumbs = block + 16;
        float d = f16_at(block + 80), dmin = f16_at(block + 82);
        for (int sub = 0; sub < 16; sub++) {
            int first = sub * 16;
            const uint8_t *q = crumbs + first / 128 * 32 + first % 32;
            int shift = first % 128 / 32 * 2;
            float scale = d * (float)(scales[sub] & 0xF);
            float offset = dmin * (float)(scales[sub] >> 4);
            for (int l = 0; l < 16; l++)
                out[first + l] = scale * (float)(q[l] >> shift & 3) - offset;
        }
    }
}

/* The sixteen 6-bit scales of Q3_K: low nibbles in bytes 0..7 (scales 0..7 below, 8..15 above), the
 * upper two bits in bytes 8..11 (scale s in byte 8 + s % 4, at bit s / 4 * 2). */
static int q3_k_scale(const uint8_t *packed, int s) {
    int low = s < 8 ? packed[s] & 0xF : packed[s - 8] >> 4;
    int high = packed[8 + s % 4] >> (s / 4 * 2) & 3;
    return low | high << 4;
}

/* value = (d * (s - 32)) * q, q = crumb - 4, or crumb where the high bit is set. High bit of value
 * i: bit i / 32 of byte i % 32. */
void quant_expand_q3_k(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SUPER == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SUPER, block += 110, out += QUANT_SUPER) {
        const uint8_t *crumbs = block + 32, *scales = block + 96;
        float d = f16_at(block + 108);
        for (int sub = 0; sub < 16; sub++) {
            int first = sub * 16;
            const uint8_t *q = crumbs + first / 128 * 32 + first % 32;
            const uint8_t *high = block + first % 32;
            int shift = first % 128 / 32 * 2, bit = first / 32;
            float scale = d * (float)(q3_k_scale(scales, sub) - 32);
            for (int l = 0; l < 16; l++) {
                int value = (q[l] >> shift & 3) - (high[l] >> bit & 1 ? 0 : 4);
                out[first + l] = scale * (float)value;
            }
        }
    }
}

/* Eight 6-bit scales and eight 6-bit minimums in 12 bytes, for Q4_K and Q5_K:
 *   s < 4:  scale = low 6 bits of byte s, minimum = low 6 bits of byte s + 4
 *   s >= 4: low nibbles from byte s + 4 (scale below, minimum above); their upper two bits are the
 *           top bits of byte s - 4 (scale) and byte s (minimum). */
static void scale_and_minimum(const uint8_t *packed, int s, int *scale, int *minimum) {
    if (s < 4) {
        *scale = packed[s] & 63;
        *minimum = packed[s + 4] & 63;
    } else {
        *scale = (packed[s + 4] & 0xF) | packed[s - 4] >> 6 << 4;
        *minimum = packed[s + 4] >> 4 | packed[s] >> 6 << 4;
    }
}

/* value = (d * scale) * q - dmin * minimum, q = 0..15. Sub-blocks 2k and 2k + 1 are the low and the
 * high nibbles of the same 32 bytes. */
void quant_expand_q4_k(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SUPER == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SUPER, block += 144, out += QUANT_SUPER) {
        float d = f16_at(block), dmin = f16_at(block + 2);
        for (int sub = 0; sub < 8; sub++) {
            const uint8_t *q = block + 16 + sub / 2 * 32;
            int shift = sub % 2 * 4;
            int sc, mn;
            scale_and_minimum(block + 4, sub, &sc, &mn);
            float scale = d * (float)sc, offset = dmin * (float)mn;
            for (int l = 0; l < 32; l++)
                out[sub * 32 + l] = scale * (float)(q[l] >> shift & 0xF) - offset;
        }
    }
}

/* As Q4_K, q = 0..31: the fifth bit of value l of sub-block s is bit s of byte l. */
void quant_expand_q5_k(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SUPER == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SUPER, block += 176, out += QUANT_SUPER) {
        const uint8_t *fifth = block + 16;
        float d = f16_at(block), dmin = f16_at(block + 2);
        for (int sub = 0; sub < 8; sub++) {
            const uint8_t *q = block + 48 + sub / 2 * 32;
            int shift = sub % 2 * 4;
            int sc, mn;
            scale_and_minimum(block + 4, sub, &sc, &mn);
            float scale = d * (float)sc, offset = dmin * (float)mn;
            for (int l = 0; l < 32; l++) {
                int value = (q[l] >> shift & 0xF) | (fifth[l] >> sub & 1) << 4;
                out[sub * 32 + l] = scale * (float)value - offset;
            }
        }
    }
}

/* value = (d * s) * (q - 32), q = 0..63. Of each 128 values, value i has its nibble in byte i % 64
 * (below for i < 64, above from there), its upper crumb in byte i % 32 at bit i / 32 * 2. */
void quant_expand_q6_k(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SUPER == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SUPER, block += 210, out += QUANT_SUPER) {
        float d = f16_at(block + 208);
        for (int sub = 0; sub < 16; sub++) {
            int first = sub * 16, half = first / 128, in_half = first % 128;
            const uint8_t *low = block + half * 64 + in_half % 64;
            const uint8_t *high = block + 128 + half * 32 + in_half % 32;
            int low_shift = in_half / 64 * 4, high_shift = in_half / 32 * 2;
            float scale = d * (float)(int8_t)block[192 + sub];
            for (int l = 0; l < 16; l++) {
                int value = (low[l] >> low_shift & 0xF) | (high[l] >> high_shift & 3) << 4;
                out[first + l] = scale * (float)(value - 32);
            }
        }
    }
}
