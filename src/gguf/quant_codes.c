#include "gguf/quant_codes.h"

#include <emmintrin.h>
#include <string.h>

#include "base/bytes.h"

/* Blocks as ggml's definitions have them; a number is a length in bytes, a crumb two bits, d, m and
 * dmin are F16:
 *
 *   Q4_0    | d 2 | nibbles 16 |                              IQ4_NL likewise
 *   Q4_1    | d 2 | m 2 | nibbles 16 |
 *   Q5_0    | d 2 | fifth bits 4 | nibbles 16 |
 *   Q5_1    | d 2 | m 2 | fifth bits 4 | nibbles 16 |
 *   Q8_0    | d 2 | int8 32 |
 *   Q2_K    | scales, mins 16 | crumbs 64 | d 2 | dmin 2 |    16 sub-blocks of 16
 *   Q3_K    | high bits 32 | crumbs 64 | scales 12 | d 2 |    16 sub-blocks of 16
 *   Q4_K    | d 2 | dmin 2 | scales, mins 12 | nibbles 128 |  8 sub-blocks of 32
 *   Q5_K    | d 2 | dmin 2 | scales, mins 12 | fifth bits 32 | nibbles 128 |
 *   Q6_K    | nibbles 128 | crumbs 64 | scales 16 | d 2 |     16 sub-blocks of 16
 *   IQ4_XS  | d 2 | scales, upper 2 | scales, lower 4 | nibbles 128 |  8 sub-blocks of 32
 *
 * Values are made in runs of 32: lower bits from one place, and in some formats upper bits from
 * another. */

const int8_t quant_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

struct codes_run {
    __m128i first, last; /* 16 values each */
};

static inline __m128i codes_bits(__m128i bytes, int at, int width) {
    return _mm_and_si128(_mm_srl_epi16(bytes, _mm_cvtsi32_si128(at)),
                         _mm_set1_epi8((char)((1 << width) - 1)));
}

/* Bits at .. at + width - 1 of each of 32 bytes. */
static inline struct codes_run codes_take(const uint8_t *from, int at, int width) {
    const __m128i *bytes = (const __m128i *)from;
    return (struct codes_run){codes_bits(_mm_loadu_si128(bytes), at, width),
                              codes_bits(_mm_loadu_si128(bytes + 1), at, width)};
}

/* Lower halves of 16 bytes, then upper ones. */
static inline struct codes_run codes_nibbles(const uint8_t *from) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)from);
    return (struct codes_run){codes_bits(bytes, 0, 4), codes_bits(bytes, 4, 4)};
}

/* Values of `width` bits get `upper` above them. */
static inline struct codes_run codes_join(struct codes_run lower, int width,
                                          struct codes_run upper) {
    return (struct codes_run){_mm_or_si128(lower.first, _mm_slli_epi16(upper.first, width)),
                              _mm_or_si128(lower.last, _mm_slli_epi16(upper.last, width))};
}

static inline void codes_put(int8_t *value, struct codes_run run) {
    _mm_storeu_si128((__m128i *)value, run.first);
    _mm_storeu_si128((__m128i *)(value + 16), run.last);
}

static void codes_read_q4_0(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = 0;
    codes_put(codes->value, codes_nibbles(block + 2));
}

static void codes_read_q4_1(const uint8_t *block, struct quant_codes *codes) {
    codes_read_q4_0(block + 2, codes); /* the same nibbles behind one more scale */
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
}

/* Sixteen bits as bytes of 0 and 1. */
static inline __m128i codes_spread(uint32_t sixteen) {
    const __m128i each = _mm_set1_epi64x((int64_t)0x8040201008040201);
    __m128i bits = _mm_cvtsi32_si128((int)sixteen);
    bits = _mm_unpacklo_epi8(bits, bits);
    bits = _mm_shuffle_epi32(_mm_unpacklo_epi16(bits, bits), 0x50); /* each byte eight times */
    bits = _mm_cmpeq_epi8(_mm_and_si128(bits, each), each);
    return _mm_and_si128(bits, _mm_set1_epi8(1));
}

/* Fifth bits: bit i belongs to value i. */
static void codes_read_5_bits(const uint8_t *nibbles, uint32_t high, int8_t *value) {
    struct codes_run fifth = {codes_spread(high), codes_spread(high >> 16)};
    codes_put(value, codes_join(codes_nibbles(nibbles), 4, fifth));
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

/* Eight 6-bit scales and eight 6-bit mins in 12 bytes of Q4_K and Q5_K: of the first four the low 6
 * bits of a byte each; of the others low nibbles in the last four bytes, upper bits on top of the
 * first four's. */
static void codes_read_k_scales(const uint8_t *packed, struct quant_codes *codes) {
    const uint32_t six = 0x3F3F3F3F, four = 0x0F0F0F0F, two = 0x03030303; /* bits of four bytes */
    const uint32_t a = bytes_u32(packed), b = bytes_u32(packed + 4), c = bytes_u32(packed + 8);
    const uint32_t scales[2] = {a & six, (c & four) | (a >> 6 & two) << 4};
    const uint32_t mins[2] = {b & six, (c >> 4 & four) | (b >> 6 & two) << 4};
    memcpy(codes->scale, scales, sizeof scales);
    memcpy(codes->min, mins, sizeof mins);
}

/* The nibbles of a run of Q4_K and Q5_K: two runs share 32 bytes. */
static inline struct codes_run codes_take_k_nibbles(const uint8_t *nibbles, int run) {
    return codes_take(nibbles + 32 * (run / 2), 4 * (run % 2), 4);
}

static void codes_read_q4_k(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
    codes_read_k_scales(block + 4, codes);
    for (int run = 0; run < 8; run++)
        codes_put(codes->value + 32 * run, codes_take_k_nibbles(block + 16, run));
}

static void codes_read_q5_k(const uint8_t *block, struct quant_codes *codes) {
    codes->d = bytes_u16(block);
    codes->m = bytes_u16(block + 2);
    codes_read_k_scales(block + 4, codes);
    for (int run = 0; run < 8; run++)
        codes_put(codes->value + 32 * run, codes_join(codes_take_k_nibbles(block + 48, run), 4,
                                                      codes_take(block + 16, run, 1)));
}

/* Two bits of each value of a run: four runs share 32 bytes. */
static inline struct codes_run codes_take_k_pairs(const uint8_t *pairs, int run) {
    return codes_take(pairs + 32 * (run / 4), 2 * (run % 4), 2);
}

static void codes_read_q6_k(const uint8_t *block, struct quant_codes *codes) {
    for (int run = 0; run < 8; run++) { /* runs 0 and 2 share 32 bytes of nibbles, 1 and 3, ... */
        struct codes_run lower =
            codes_take(block + 64 * (run / 4) + 32 * (run % 2), 4 * (run / 2 % 2), 4);
        codes_put(codes->value + 32 * run,
                  codes_join(lower, 4, codes_take_k_pairs(block + 128, run)));
    }
    memcpy(codes->scale, block + 192, 16);
    codes->d = bytes_u16(block + 208);
    codes->m = 0;
}

/* Values 0..7 (zero 4): two low bits, and a high bit from the mask. */
static void codes_read_q3_k(const uint8_t *block, struct quant_codes *codes) {
    const uint8_t *mask = block, *packed = block + 96;
    for (int run = 0; run < 8; run++)
        codes_put(codes->value + 32 * run,
                  codes_join(codes_take_k_pairs(block + 32, run), 2, codes_take(mask, run, 1)));
    const __m128i eight = _mm_loadl_epi64((const __m128i *)packed); /* of scales: lower bits */
    const uint32_t two = bytes_u32(packed + 8); /* upper bits: four scales share four bytes */
    __m128i scales = _mm_setr_epi32((int)(two << 4), (int)(two << 2), (int)two, (int)(two >> 2));
    scales = _mm_and_si128(scales, _mm_set1_epi8(0x30));
    scales =
        _mm_or_si128(scales, _mm_unpacklo_epi64(codes_bits(eight, 0, 4), codes_bits(eight, 4, 4)));
    _mm_storeu_si128((__m128i *)codes->scale, _mm_sub_epi8(scales, _mm_set1_epi8(32)));
    codes->d = bytes_u16(block + 108);
    codes->m = 0;
}

static void codes_read_q2_k(const uint8_t *block, struct quant_codes *codes) {
    struct codes_run scales_mins = codes_nibbles(block);
    _mm_storeu_si128((__m128i *)codes->scale, scales_mins.first);
    _mm_storeu_si128((__m128i *)codes->min, scales_mins.last);
    for (int run = 0; run < 8; run++)
        codes_put(codes->value + 32 * run, codes_take_k_pairs(block + 16, run));
    codes->d = bytes_u16(block + 80);
    codes->m = bytes_u16(block + 82);
}

static void codes_read_iq4_xs(const uint8_t *block, struct quant_codes *codes) {
    uint16_t high = bytes_u16(block + 2);
    const uint8_t *low = block + 4, *nibbles = block + 8;
    for (int sub = 0; sub < 8; sub++) {
        int four = low[sub / 2] >> (4 * (sub % 2)) & 15;
        codes->scale[sub] = (int8_t)((four | (high >> (2 * sub) & 3) << 4) - 32);
        codes_put(codes->value + 32 * sub, codes_nibbles(nibbles + 16 * sub));
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

void quant_codes_expand(const struct quant_scheme *scheme, const struct quant_codes *codes,
                        float *out) {
    const float d = quant_f16_to_f32(codes->d), m = quant_f16_to_f32(codes->m);
    const bool has_min = scheme->has_min;
    for (uint32_t i = 0; i < scheme->unit; i++) {
        const int8_t raw = codes->value[i];
        const float n = (float)(scheme->looked_up ? quant_iq4_values[raw] : raw - scheme->zero);
        const uint32_t sub = i / scheme->sub;
        out[i] = scheme->unit == 32
                     ? quant_flat_value(n, d, m, has_min)
                     : quant_super_value(n, d, codes->scale[sub], m, codes->min[sub], has_min);
    }
}
