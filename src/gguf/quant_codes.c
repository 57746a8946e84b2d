#include "gguf/quant_codes.h"

#include <emmintrin.h>
#include <string.h>

#include "base/bytes.h"

/* Formats as in ggml's block definitions; offsets are bytes of one block. Sixteen values are made at
 * a time, a run: lower bits from sixteen bytes, and in some formats upper bits from sixteen more. */

/* Bits at .. at + width - 1 of each of sixteen bytes. */
static inline __m128i codes_take(const uint8_t *from, int at, int width) {
    __m128i bytes = _mm_srl_epi16(_mm_loadu_si128((const __m128i *)from), _mm_cvtsi32_si128(at));
    return _mm_and_si128(bytes, _mm_set1_epi8((char)((1 << width) - 1)));
}

static inline void codes_put(int8_t *run, __m128i values) {
    _mm_storeu_si128((__m128i *)run, values);
}

/* The same with `upper` above `width` lower bits. */
static inline void codes_join(int8_t *run, __m128i lower, int width, __m128i upper) {
    codes_put(run, _mm_or_si128(lower, _mm_slli_epi16(upper, width)));
}

static void codes_read_q4_0(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = 0;
    codes_put(codes->value, codes_take(block + 2, 0, 4));
    codes_put(codes->value + 16, codes_take(block + 2, 4, 4));
}

static void codes_read_q4_1(const uint8_t *block, struct quant_codes *codes) {
    codes_read_q4_0(block + 2, codes); /* the same nibbles behind one more scale */
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
}

/* Fifth bits: bit i belongs to value i. */
static void codes_read_5_bits(const uint8_t *nibbles, uint32_t high, int8_t *value) {
    const __m128i each = _mm_set1_epi64x((int64_t)0x8040201008040201), one = _mm_set1_epi8(1);
    for (int half = 0; half < 2; half++, high >>= 16) {
        __m128i bits = _mm_cvtsi32_si128((int)high);
        bits = _mm_unpacklo_epi8(bits, bits);
        bits = _mm_shuffle_epi32(_mm_unpacklo_epi16(bits, bits), 0x50); /* each byte 8 times */
        bits = _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(bits, each), each), one);
        codes_join(value + 16 * half, codes_take(nibbles, 4 * half, 4), 4, bits);
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

/* The nibbles of a run: of 64 values the first 32 are lower halves of 32 bytes. */
static inline __m128i codes_take_k_nibbles(const uint8_t *nibbles, int run) {
    return codes_take(nibbles + 32 * (run / 4) + 16 * (run % 2), 4 * (run / 2 % 2), 4);
}

static void codes_read_q4_k(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
    codes_read_k_scales(block + 4, codes);
    for (int run = 0; run < 16; run++)
        codes_put(codes->value + 16 * run, codes_take_k_nibbles(block + 16, run));
}

static void codes_read_q5_k(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
    codes_read_k_scales(block + 4, codes);
    for (int run = 0; run < 16; run++)
        codes_join(codes->value + 16 * run, codes_take_k_nibbles(block + 48, run), 4,
                   codes_take(block + 16 + 16 * (run % 2), run / 2, 1));
}

/* Two bits of each value of a run: of 128 values 32 share 32 bytes four times. */
static inline __m128i codes_take_k_pairs(const uint8_t *pairs, int run) {
    return codes_take(pairs + 32 * (run / 8) + 16 * (run % 2), 2 * (run / 2 % 4), 2);
}

static void codes_read_q6_k(const uint8_t *block, struct quant_codes *codes) {
    for (int run = 0; run < 16; run++) /* of 128 values the first 64 are lower halves */
        codes_join(codes->value + 16 * run,
                   codes_take(block + 64 * (run / 8) + 16 * (run % 4), 4 * (run / 4 % 2), 4), 4,
                   codes_take_k_pairs(block + 128, run));
    memcpy(codes->scale, block + 192, 16);
    codes->d = bytes_u16(block + 208);
    codes->m = 0;
}

/* Values 0..7 (zero 4): two low bits, and a high bit from the mask. */
static void codes_read_q3_k(const uint8_t *block, struct quant_codes *codes) {
    const uint8_t *mask = block, *packed = block + 96;
    for (int run = 0; run < 16; run++)
        codes_join(codes->value + 16 * run, codes_take_k_pairs(block + 32, run), 2,
                   codes_take(mask + 16 * (run % 2), run / 2, 1));
    for (int i = 0; i < 16; i++) {
        int four = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
        int two = packed[8 + i % 4] >> (2 * (i / 4)) & 3;
        codes->scale[i] = (int8_t)((four | two << 4) - 32);
    }
    codes->d = bytes_u16(block + 108);
    codes->m = 0;
}

static void codes_read_q2_k(const uint8_t *block, struct quant_codes *codes) {
    codes_put(codes->scale, codes_take(block, 0, 4));
    codes_put((int8_t *)codes->min, codes_take(block, 4, 4));
    for (int run = 0; run < 16; run++)
        codes_put(codes->value + 16 * run, codes_take_k_pairs(block + 16, run));
    codes->d = bytes_u16(block + 80);
    codes->m = bytes_u16(block + 82);
}

static void codes_read_iq4_xs(const uint8_t *block, struct quant_codes *codes) {
    uint16_t high = bytes_u16(block + 2);
    const uint8_t *low = block + 4, *nibbles = block + 8;
    for (int sub = 0; sub < 8; sub++) {
        int four = low[sub / 2] >> (4 * (sub % 2)) & 15;
        codes->scale[sub] = (int8_t)((four | (high >> (2 * sub) & 3) << 4) - 32);
        codes_put(codes->value + 32 * sub, codes_take(nibbles + 16 * sub, 0, 4));
        codes_put(codes->value + 32 * sub + 16, codes_take(nibbles + 16 * sub, 4, 4));
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
