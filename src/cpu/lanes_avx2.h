/* lanes_avx2: sixteen lanes in two registers. See lanes_sse2.h for what each word means. */
#ifndef WICK_CPU_LANES_AVX2_H
#define WICK_CPU_LANES_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#include "base/bytes.h"
#include "gguf/quant_codes.h"

#define LANES_NAME "avx2"
#define LANES_KERNELS cpu_kernels_avx2
#define LANES_LONG static inline

enum {
    LANES_TOKENS = 4,
    LANES_FLOATS = 2,
    LANES_READ = 4,
    LANES_DIRECT = 1,
    LANES_PAIRS = 1,
    LANES_PANELS = 1,
    LANES_ROWS = 2,
    LANES_WIDEN = 1,
    LANES_UNROLL = 8,
    LANES_PAGES = 1,
    LANES_QUERIES = 4,
    LANES_VALUES = 1
};

struct lf {
    __m256 a, b;
};
struct li {
    __m256i a, b;
};
struct lw {
    __m256i a, b;
};

static inline struct lf lf_set(float x) {
    return (struct lf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
static inline struct lf lf_load(const float *p) {
    return (struct lf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void lf_store(float *p, struct lf x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
static inline struct lf lf_add(struct lf x, struct lf y) {
    return (struct lf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
static inline struct lf lf_sub(struct lf x, struct lf y) {
    return (struct lf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
static inline struct lf lf_mul(struct lf x, struct lf y) {
    return (struct lf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
static inline struct lf lf_div(struct lf x, struct lf y) {
    return (struct lf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
static inline struct lf lf_fma(struct lf x, struct lf y, struct lf z) {
    return (struct lf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
static inline struct lf lf_fnma(struct lf x, struct lf y, struct lf z) {
    return (struct lf){_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)};
}
static inline struct lf lf_max(struct lf x, struct lf y) {
    return (struct lf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}
static inline struct lf lf_min(struct lf x, struct lf y) {
    return (struct lf){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
static inline struct lf lf_abs(struct lf x) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (struct lf){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
static inline struct lf lf_swap(struct lf x) {
    return (struct lf){_mm256_permute_ps(x.a, 0xB1), _mm256_permute_ps(x.b, 0xB1)};
}
static inline float lf_largest(struct lf x) {
    __m256 half = _mm256_max_ps(x.a, x.b);
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}
static inline struct lf lf_zero_below(struct lf x, struct lf limit, struct lf y) {
    return (struct lf){_mm256_and_ps(_mm256_cmp_ps(x.a, limit.a, _CMP_NLT_UQ), y.a),
                       _mm256_and_ps(_mm256_cmp_ps(x.b, limit.b, _CMP_NLT_UQ), y.b)};
}
static inline struct lf lf_from_f16(const uint16_t *p) {
    return (struct lf){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                       _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
static inline void lf_to_f16(uint16_t *p, struct lf x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
static inline struct lf lf_bf16_even(const uint16_t *p) {
    const __m256i *pairs = (const __m256i *)p;
    return (struct lf){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(pairs), 16)),
                       _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(pairs + 1), 16))};
}
static inline struct lf lf_bf16_odd(const uint16_t *p) {
    const __m256i *pairs = (const __m256i *)p, upper = _mm256_set1_epi32((int)0xFFFF0000);
    return (struct lf){_mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(pairs), upper)),
                       _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(pairs + 1), upper))};
}
static inline struct lf lf_from_s8(const int8_t *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    return (struct lf){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)),
                       _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(x, x)))};
}
static inline struct lf lf_from_u8(const uint8_t *p) {
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    return (struct lf){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x)),
                       _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(x, x)))};
}
static inline struct lf lf_from_int(struct li x) {
    return (struct lf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}
static inline struct li li_round(struct lf x) {
    return (struct li){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}
static inline struct lf lf_scale_exponent(struct lf x, struct li n) {
    __m256i bias = _mm256_set1_epi32(127);
    __m256i a = _mm256_slli_epi32(_mm256_add_epi32(n.a, bias), 23);
    __m256i b = _mm256_slli_epi32(_mm256_add_epi32(n.b, bias), 23);
    return (struct lf){_mm256_mul_ps(x.a, _mm256_castsi256_ps(a)),
                       _mm256_mul_ps(x.b, _mm256_castsi256_ps(b))};
}
static inline void li_store_s8(int8_t *p, struct li x) {
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xD8);
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)p, bytes);
}

static inline int32_t li_sum(struct li x) {
    __m256i half = _mm256_add_epi32(x.a, x.b);
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}
static inline struct li li_set(int32_t x) {
    return (struct li){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
static inline struct lw lw_load(const uint8_t *p) {
    return (struct lw){_mm256_load_si256((const __m256i *)p),
                       _mm256_load_si256((const __m256i *)(p + 32))};
}
static inline void lw_store(uint8_t *p, struct lw w) {
    _mm256_store_si256((__m256i *)p, w.a);
    _mm256_store_si256((__m256i *)(p + 32), w.b);
}
static inline __m256i lw_shift(__m256i w, int right) {
    return right > 0 ? _mm256_srli_epi16(w, right) : _mm256_slli_epi16(w, -right);
}
static inline struct lw lw_field(struct lw w, int right, int mask) {
    const __m256i keep = _mm256_set1_epi8((char)mask);
    return (struct lw){_mm256_and_si256(lw_shift(w.a, right), keep),
                       _mm256_and_si256(lw_shift(w.b, right), keep)};
}
static inline struct lw lw_or_field(struct lw a, struct lw w, int right, int mask) {
    const struct lw some = lw_field(w, right, mask);
    return (struct lw){_mm256_or_si256(a.a, some.a), _mm256_or_si256(a.b, some.b)};
}
static inline struct lw lw_sub(struct lw w, int zero) {
    const __m256i z = _mm256_set1_epi8((char)zero);
    return (struct lw){_mm256_sub_epi8(w.a, z), _mm256_sub_epi8(w.b, z)};
}
static inline struct lw lw_look_up(struct lw w) {
    const __m256i values =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)quant_iq4_values));
    return (struct lw){_mm256_shuffle_epi8(values, w.a), _mm256_shuffle_epi8(values, w.b)};
}
static inline struct lw lw_of_s8(struct lw w) {
    return w;
}
static inline struct li li_start_s8(int32_t sum_x) {
    (void)sum_x;
    return li_set(0);
}
/* VPMADDUBSW adds two products of unsigned by signed bytes into int16. |w| <= 128 and |x| <= 127
 * keep the sum at 32512 or less, so it never saturates. */
static inline __m256i li_dot_half(__m256i acc, __m256i w, __m256i x) {
    __m256i pairs = _mm256_maddubs_epi16(w, x);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static inline struct lw lw_four(const int8_t *x) {
    __m256i four = _mm256_set1_epi32((int32_t)bytes_u32(x));
    return (struct lw){four, four};
}
static inline struct li li_dots_s8(struct li acc, struct lw w, struct lw x) {
    acc.a = li_dot_half(acc.a, _mm256_abs_epi8(w.a), _mm256_sign_epi8(x.a, w.a));
    acc.b = li_dot_half(acc.b, _mm256_abs_epi8(w.b), _mm256_sign_epi8(x.b, w.b));
    __asm__("" : "+x"(acc.a), "+x"(acc.b)); /* in this order: no more products than registers */
    return acc;
}
static inline struct li li_dots_u8(struct li pairs, struct lw w, struct lw x) {
    pairs.a = _mm256_add_epi16(pairs.a, _mm256_maddubs_epi16(w.a, x.a));
    pairs.b = _mm256_add_epi16(pairs.b, _mm256_maddubs_epi16(w.b, x.b));
    __asm__("" : "+x"(pairs.a), "+x"(pairs.b)); /* in this order: no more products than registers */
    return pairs;
}
static inline struct li li_of_pairs(struct li acc, struct li pairs) {
    const __m256i ones = _mm256_set1_epi16(1);
    return (struct li){_mm256_add_epi32(acc.a, _mm256_madd_epi16(pairs.a, ones)),
                       _mm256_add_epi32(acc.b, _mm256_madd_epi16(pairs.b, ones))};
}
static inline struct li li_dot_s8(struct li acc, struct lw w, const int8_t *x) {
    return li_dots_s8(acc, w, lw_four(x));
}
static inline struct li li_dot_u8(struct li acc, struct lw w, const int8_t *x) {
    return li_dots_u8(acc, w, lw_four(x));
}

#endif
