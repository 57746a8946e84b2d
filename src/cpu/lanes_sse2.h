/* lanes_sse2: sixteen lanes in four registers, for every x86-64.
 *
 * The vocabulary is the same in lanes_avx2.h and lanes_avx512.h; a new instruction set is one more
 * such file. Integer sums are exact and therefore the same everywhere; only lf_fma tells
 * instruction sets apart.
 *
 *   struct lf, li               sixteen floats, sixteen int32
 *   struct lw                   64 weight bytes: lane r has columns 4 g .. 4 g + 3 of row r
 *   lf_fma(a, b, c)             a * b + c, fused where the instruction set can (SSE2 rounds twice)
 *   lf_fnma(a, b, c)            c - a * b, likewise
 *   lf_bf16_even, lf_bf16_odd   of 32 values: 2 r, 2 r + 1 in lane r
 *   lf_zero_below(x, limit, a)  a, but 0 in lanes with x < limit
 *   lf_scale_exponent(a, n)     a * 2^n, n in -126 .. 127
 *   lf_largest(a), li_sum(a)    of all lanes
 *   li_round(a)                 to nearest, ties to even
 *   lw_field(w, n, mask)        (w >> n) & mask of each byte, where no more than a byte's own bits
 *                               are left; n < 0: << -n
 *   lw_or_field(a, w, n, mask)  a | lw_field(w, n, mask)
 *   lw_sub(w, n)               w - n of each byte
 *   lw_look_up(w)               quant_iq4_values[w], w < 16
 *   lw_of_s8(w)                 int8 weights for li_dot_s8
 *   li_start_s8(sum of x)       what the sum of a block starts at then
 *   li_dot_s8(sum, w, x)        adds four columns of int8 weights with the four int8 at x
 *   li_dot_u8(sum, w, x)        the same for weights 0 .. 255 as they are; with LANES_PAIRS for raw
 *                               ones, and sums, from zero on, are pairs of int16, which hold those
 *                               of pairs_chain() groups
 *   lw_four(x)                  the four int8 at x, for ...
 *   li_dots_s8, li_dots_u8      ... the same from a register: for several w
 *   li_of_pairs(sum, pairs)     sum + what pairs hold */
#ifndef WICK_CPU_LANES_SSE2_H
#define WICK_CPU_LANES_SSE2_H

#include <emmintrin.h>
#include <stdint.h>

#include "base/bytes.h"
#include "gguf/quant_codes.h"

#define LANES_NAME "sse2"
#define LANES_KERNELS cpu_kernels_sse2
/* How what is long is compiled: out of line, where lanes take four registers. */
#define LANES_LONG static __attribute__((noinline))

/* GCC would keep some of these out of line besides, for 10 KB of kernels. */
#define LANE static inline __attribute__((always_inline))

/* The four registers: left to itself GCC takes them through memory, for half of the speed. */
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a name, declared here */
#define EACH(i) _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++)

enum {
    LANES_TOKENS = 1, /* rows multiplied at once with a panel as it lies, at most: ... */
    LANES_FLOATS = 1, /* ... of floats, ... */
    LANES_READ = 0,   /* ... of integers of the commonest kinds (0: never), ... */
    LANES_DIRECT = 0, /* ... of the other kinds */
    LANES_PAIRS = 0,  /* whether li_dot_u8 adds in pairs: where that is cheaper */
    LANES_PANELS = 1, /* beyond: as bytes, so many panels with ... */
    LANES_ROWS = 1,   /* ... so many rows in registers */
    LANES_WIDEN = 1,  /* groups of values at once where they are made bytes */
    LANES_UNROLL = 1, /* sixteen registers hold one step of a loop; more is only bigger */
    LANES_PAGES = 1,  /* attention: pages of keys, queries, and lanes of their values, at once */
    LANES_QUERIES = 4,
    LANES_VALUES = 1
};

struct lf {
    __m128 v[4];
};
struct li {
    __m128i v[4];
};
struct lw {
    __m128i v[4];
};

LANE struct lf lf_set(float x) {
    __m128 v = _mm_set1_ps(x);
    return (struct lf){{v, v, v, v}};
}
LANE struct lf lf_load(const float *p) {
    return (struct lf){
        {_mm_loadu_ps(p), _mm_loadu_ps(p + 4), _mm_loadu_ps(p + 8), _mm_loadu_ps(p + 12)}};
}
LANE void lf_store(float *p, struct lf a) {
    EACH(i) _mm_storeu_ps(p + 4 * i, a.v[i]);
}
LANE struct lf lf_add(struct lf a, struct lf b) {
    EACH(i) a.v[i] = _mm_add_ps(a.v[i], b.v[i]);
    return a;
}
LANE struct lf lf_sub(struct lf a, struct lf b) {
    EACH(i) a.v[i] = _mm_sub_ps(a.v[i], b.v[i]);
    return a;
}
LANE struct lf lf_mul(struct lf a, struct lf b) {
    EACH(i) a.v[i] = _mm_mul_ps(a.v[i], b.v[i]);
    return a;
}
LANE struct lf lf_div(struct lf a, struct lf b) {
    EACH(i) a.v[i] = _mm_div_ps(a.v[i], b.v[i]);
    return a;
}
LANE struct lf lf_fma(struct lf a, struct lf b, struct lf c) {
    EACH(i) a.v[i] = _mm_add_ps(_mm_mul_ps(a.v[i], b.v[i]), c.v[i]);
    return a;
}
LANE struct lf lf_fnma(struct lf a, struct lf b, struct lf c) {
    EACH(i) a.v[i] = _mm_sub_ps(c.v[i], _mm_mul_ps(a.v[i], b.v[i]));
    return a;
}
LANE struct lf lf_max(struct lf a, struct lf b) {
    EACH(i) a.v[i] = _mm_max_ps(a.v[i], b.v[i]);
    return a;
}
LANE struct lf lf_min(struct lf a, struct lf b) {
    EACH(i) a.v[i] = _mm_min_ps(a.v[i], b.v[i]);
    return a;
}
LANE struct lf lf_abs(struct lf a) {
    EACH(i) a.v[i] = _mm_andnot_ps(_mm_set1_ps(-0.0f), a.v[i]);
    return a;
}
LANE struct lf lf_swap(struct lf a) {
    EACH(i) a.v[i] = _mm_shuffle_ps(a.v[i], a.v[i], 0xB1);
    return a;
}
LANE float lf_largest(struct lf a) {
    __m128 m = _mm_max_ps(_mm_max_ps(a.v[0], a.v[1]), _mm_max_ps(a.v[2], a.v[3]));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}
LANE struct lf lf_zero_below(struct lf x, struct lf limit, struct lf a) {
    EACH(i) a.v[i] = _mm_and_ps(_mm_cmpnlt_ps(x.v[i], limit.v[i]), a.v[i]);
    return a;
}
/* binary16 -> binary32 in integer arithmetic: move exponent and mantissa into place as a
 * subnormal-safe product with 2^112; infinities and NaNs get the largest exponent. */
LANE __m128 lf_f16_quarter(__m128i halves) {
    __m128i wide = _mm_unpacklo_epi16(halves, _mm_setzero_si128());
    __m128i sign = _mm_slli_epi32(_mm_and_si128(wide, _mm_set1_epi32(0x8000)), 16);
    __m128i body = _mm_slli_epi32(_mm_and_si128(wide, _mm_set1_epi32(0x7FFF)), 13);
    __m128i special = _mm_cmpgt_epi32(body, _mm_set1_epi32(0x0F7FFFFF)); /* exponent 31 */
    __m128i large = _mm_and_si128(special, _mm_set1_epi32(0x7F800000));
    /* Subnormal halves: value = body as float bits would be denormal, so convert the integer
     * instead. */
    __m128i tiny = _mm_cmplt_epi32(body, _mm_set1_epi32(0x00800000));
    __m128 small = _mm_mul_ps(_mm_cvtepi32_ps(_mm_srli_epi32(body, 13)), _mm_set1_ps(0x1p-24f));
    __m128i normal = _mm_or_si128(_mm_add_epi32(body, _mm_set1_epi32(112 << 23)), large);
    __m128i picked =
        _mm_or_si128(_mm_and_si128(tiny, _mm_castps_si128(small)), _mm_andnot_si128(tiny, normal));
    return _mm_castsi128_ps(_mm_or_si128(picked, sign));
}
LANES_LONG struct lf lf_from_f16(const uint16_t *p) {
    struct lf out;
    EACH(i) out.v[i] = lf_f16_quarter(_mm_loadl_epi64((const __m128i *)(p + 4 * i)));
    return out;
}
LANE void lf_to_f16(uint16_t *p, struct lf a) {
    float values[16];
    lf_store(values, a);
    for (int i = 0; i < 16; i++) p[i] = quant_f32_to_f16(values[i]);
}
LANE struct lf lf_bf16_even(const uint16_t *p) {
    struct lf out;
    EACH(i) {
        __m128i pairs = _mm_loadu_si128((const __m128i *)p + i);
        out.v[i] = _mm_castsi128_ps(_mm_slli_epi32(pairs, 16));
    }
    return out;
}
LANE struct lf lf_bf16_odd(const uint16_t *p) {
    struct lf out;
    EACH(i) {
        __m128i pairs = _mm_loadu_si128((const __m128i *)p + i);
        out.v[i] = _mm_castsi128_ps(_mm_and_si128(pairs, _mm_set1_epi32((int)0xFFFF0000)));
    }
    return out;
}
LANE struct lf lf_from_words(__m128i low, __m128i high) {
    return (struct lf){{_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(low, low), 16)),
                        _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpackhi_epi16(low, low), 16)),
                        _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(high, high), 16)),
                        _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpackhi_epi16(high, high), 16))}};
}
LANE struct lf lf_from_s8(const int8_t *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    return lf_from_words(_mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8),
                         _mm_srai_epi16(_mm_unpackhi_epi8(x, x), 8));
}
LANE struct lf lf_from_u8(const uint8_t *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)p), zero = _mm_setzero_si128();
    return lf_from_words(_mm_unpacklo_epi8(x, zero), _mm_unpackhi_epi8(x, zero));
}
LANE struct lf lf_from_int(struct li a) {
    struct lf out;
    EACH(i) out.v[i] = _mm_cvtepi32_ps(a.v[i]);
    return out;
}
LANE struct li li_round(struct lf a) {
    struct li out;
    EACH(i) out.v[i] = _mm_cvtps_epi32(a.v[i]);
    return out;
}
LANE struct lf lf_scale_exponent(struct lf a, struct li n) {
    EACH(i) {
        __m128i bits = _mm_slli_epi32(_mm_add_epi32(n.v[i], _mm_set1_epi32(127)), 23);
        a.v[i] = _mm_mul_ps(a.v[i], _mm_castsi128_ps(bits));
    }
    return a;
}
LANE void li_store_s8(int8_t *p, struct li a) {
    __m128i low = _mm_packs_epi32(a.v[0], a.v[1]), high = _mm_packs_epi32(a.v[2], a.v[3]);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(low, high));
}

LANE int32_t li_sum(struct li a) {
    __m128i s = _mm_add_epi32(_mm_add_epi32(a.v[0], a.v[1]), _mm_add_epi32(a.v[2], a.v[3]));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}
LANE struct li li_set(int32_t x) {
    __m128i v = _mm_set1_epi32(x);
    return (struct li){{v, v, v, v}};
}
LANE struct lw lw_load(const uint8_t *p) {
    const __m128i *quarter = (const __m128i *)p;
    return (struct lw){{_mm_load_si128(quarter), _mm_load_si128(quarter + 1),
                        _mm_load_si128(quarter + 2), _mm_load_si128(quarter + 3)}};
}
LANE void lw_store(uint8_t *p, struct lw w) {
    EACH(i) _mm_store_si128((__m128i *)p + i, w.v[i]);
}
LANE struct lw lw_field(struct lw w, int right, int mask) {
    EACH(i) {
        __m128i moved = right > 0 ? _mm_srli_epi16(w.v[i], right) : _mm_slli_epi16(w.v[i], -right);
        w.v[i] = _mm_and_si128(moved, _mm_set1_epi8((char)mask));
    }
    return w;
}
LANE struct lw lw_or_field(struct lw a, struct lw w, int right, int mask) {
    w = lw_field(w, right, mask);
    EACH(i) a.v[i] = _mm_or_si128(a.v[i], w.v[i]);
    return a;
}
LANE struct lw lw_sub(struct lw w, int zero) {
    EACH(i) w.v[i] = _mm_sub_epi8(w.v[i], _mm_set1_epi8((char)zero));
    return w;
}
/* Byte by byte: the instruction for it came later. */
LANE struct lw lw_look_up(struct lw w) {
    _Alignas(16) uint8_t bytes[64];
    lw_store(bytes, w);
    for (int i = 0; i < 64; i++) bytes[i] = (uint8_t)quant_iq4_values[bytes[i]];
    return lw_load(bytes);
}
LANE struct lw lw_of_s8(struct lw w) {
    return w;
}
LANE struct li li_start_s8(int32_t sum_x) {
    (void)sum_x;
    return li_set(0);
}
/* PMADDWD leaves columns 0+1 and 2+3 of a row in neighbouring lanes: fold them. */
LANE __m128i li_dot_quarter(__m128i acc, __m128i low, __m128i high, __m128i x) {
    __m128 a = _mm_castsi128_ps(_mm_madd_epi16(low, x));
    __m128 b = _mm_castsi128_ps(_mm_madd_epi16(high, x));
    __m128i even = _mm_castps_si128(_mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)));
    __m128i odd = _mm_castps_si128(_mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
    return _mm_add_epi32(acc, _mm_add_epi32(even, odd));
}
/* Each byte as a word: four columns twice. */
LANE struct lw lw_four(const int8_t *x) {
    __m128i four = _mm_set1_epi32((int32_t)bytes_u32(x));
    four = _mm_srai_epi16(_mm_unpacklo_epi8(four, four), 8);
    return (struct lw){{four, four, four, four}};
}
LANE struct li li_dots_s8(struct li acc, struct lw w, struct lw x) {
    EACH(i) {
        __m128i low = _mm_srai_epi16(_mm_unpacklo_epi8(w.v[i], w.v[i]), 8);
        __m128i high = _mm_srai_epi16(_mm_unpackhi_epi8(w.v[i], w.v[i]), 8);
        acc.v[i] = li_dot_quarter(acc.v[i], low, high, x.v[i]);
    }
    return acc;
}
LANE struct li li_dots_u8(struct li acc, struct lw w, struct lw x) {
    const __m128i zero = _mm_setzero_si128();
    EACH(i)
        acc.v[i] = li_dot_quarter(acc.v[i], _mm_unpacklo_epi8(w.v[i], zero),
                                  _mm_unpackhi_epi8(w.v[i], zero), x.v[i]);
    return acc;
}
LANE struct li li_of_pairs(struct li acc, struct li pairs) {
    EACH(i) acc.v[i] = _mm_add_epi32(acc.v[i], pairs.v[i]);
    return acc;
}
LANE struct li li_dot_s8(struct li acc, struct lw w, const int8_t *x) {
    return li_dots_s8(acc, w, lw_four(x));
}
LANE struct li li_dot_u8(struct li acc, struct lw w, const int8_t *x) {
    return li_dots_u8(acc, w, lw_four(x));
}

#endif
