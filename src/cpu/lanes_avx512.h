/* lanes_avx512: sixteen lanes in one register. The vocabulary of lanes is the same in every
 * lanes_*.h; the kernels (*.inc) are written in it once and compiled for each instruction set. See
 * lanes_sse2.h for what each word means. */
#ifndef WICK_CPU_LANES_AVX512_H
#define WICK_CPU_LANES_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "cpu/vnni.h"
#include "gguf/quant_codes.h"

#define LANES_NAME "avx512"
#define LANES_KERNELS cpu_kernels_avx512
#define LANES_LONG static inline

enum {
    LANES_TOKENS = 8,
    LANES_FLOATS = 8,
    LANES_READ = 8,
    LANES_DIRECT = 2,
    LANES_PAIRS = 0,
    LANES_PANELS = 2,
    LANES_ROWS = 6,
    LANES_WIDEN = 8,
    LANES_UNROLL = 8,
    LANES_PAGES = 2,
    LANES_QUERIES = 8,
    LANES_VALUES = 2
};

struct lf {
    __m512 v;
};
struct li {
    __m512i v;
};
struct lw {
    __m512i v;
};

static inline struct lf lf_set(float x) {
    return (struct lf){_mm512_set1_ps(x)};
}
static inline struct lf lf_load(const float *p) {
    return (struct lf){_mm512_loadu_ps(p)};
}
static inline void lf_store(float *p, struct lf a) {
    _mm512_storeu_ps(p, a.v);
}
static inline struct lf lf_add(struct lf a, struct lf b) {
    return (struct lf){_mm512_add_ps(a.v, b.v)};
}
static inline struct lf lf_sub(struct lf a, struct lf b) {
    return (struct lf){_mm512_sub_ps(a.v, b.v)};
}
static inline struct lf lf_mul(struct lf a, struct lf b) {
    return (struct lf){_mm512_mul_ps(a.v, b.v)};
}
static inline struct lf lf_div(struct lf a, struct lf b) {
    return (struct lf){_mm512_div_ps(a.v, b.v)};
}
static inline struct lf lf_fma(struct lf a, struct lf b, struct lf c) {
    return (struct lf){_mm512_fmadd_ps(a.v, b.v, c.v)};
}
static inline struct lf lf_fnma(struct lf a, struct lf b, struct lf c) {
    return (struct lf){_mm512_fnmadd_ps(a.v, b.v, c.v)};
}
static inline struct lf lf_max(struct lf a, struct lf b) {
    return (struct lf){_mm512_max_ps(a.v, b.v)};
}
static inline struct lf lf_min(struct lf a, struct lf b) {
    return (struct lf){_mm512_min_ps(a.v, b.v)};
}
static inline struct lf lf_abs(struct lf a) {
    return (struct lf){_mm512_abs_ps(a.v)};
}
static inline struct lf lf_swap(struct lf a) {
    return (struct lf){_mm512_permute_ps(a.v, 0xB1)};
}
static inline float lf_largest(struct lf a) {
    return _mm512_reduce_max_ps(a.v);
}
static inline struct lf lf_zero_below(struct lf x, struct lf limit, struct lf a) {
    return (struct lf){_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, limit.v, _CMP_NLT_UQ), a.v)};
}
static inline struct lf lf_from_f16(const uint16_t *p) {
    return (struct lf){_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p))};
}
static inline void lf_to_f16(uint16_t *p, struct lf a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
static inline struct lf lf_bf16_even(const uint16_t *p) {
    return (struct lf){_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
static inline struct lf lf_bf16_odd(const uint16_t *p) {
    __m512i upper = _mm512_set1_epi32((int)0xFFFF0000);
    return (struct lf){_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), upper))};
}
static inline struct lf lf_from_s8(const int8_t *p) {
    return (struct lf){
        _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)))};
}
static inline struct lf lf_from_u8(const uint8_t *p) {
    return (struct lf){
        _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)))};
}
static inline struct lf lf_from_int(struct li a) {
    return (struct lf){_mm512_cvtepi32_ps(a.v)};
}
static inline struct li li_round(struct lf a) {
    return (struct li){_mm512_cvtps_epi32(a.v)};
}
static inline struct lf lf_scale_exponent(struct lf a, struct li n) {
    __m512i bits = _mm512_slli_epi32(_mm512_add_epi32(n.v, _mm512_set1_epi32(127)), 23);
    return (struct lf){_mm512_mul_ps(a.v, _mm512_castsi512_ps(bits))};
}
static inline void li_store_s8(int8_t *p, struct li a) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(a.v));
}

static inline int32_t li_sum(struct li a) {
    return _mm512_reduce_add_epi32(a.v);
}
static inline struct li li_set(int32_t x) {
    return (struct li){_mm512_set1_epi32(x)};
}
static inline struct lw lw_load(const uint8_t *p) {
    return (struct lw){_mm512_load_si512(p)};
}
static inline void lw_store(uint8_t *p, struct lw w) {
    _mm512_store_si512(p, w.v);
}
static inline __m512i lw_shift(struct lw w, int right) {
    if (right == 0) return w.v;
    return right > 0 ? _mm512_srli_epi16(w.v, right) : _mm512_slli_epi16(w.v, -right);
}
static inline struct lw lw_field(struct lw w, int right, int mask) {
    return (struct lw){_mm512_and_si512(lw_shift(w, right), _mm512_set1_epi8((char)mask))};
}
static inline struct lw lw_or_field(struct lw a, struct lw w, int right, int mask) {
    const __m512i keep = _mm512_set1_epi8((char)mask); /* a | (w & keep) */
    return (struct lw){_mm512_ternarylogic_epi32(a.v, lw_shift(w, right), keep, 0xF8)};
}
static inline struct lw lw_sub(struct lw w, int zero) {
    return (struct lw){_mm512_sub_epi8(w.v, _mm512_set1_epi8((char)zero))};
}
static inline struct lw lw_look_up(struct lw w) {
    const __m128i values = _mm_loadu_si128((const __m128i *)quant_iq4_values);
    return (struct lw){_mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), w.v)};
}
static inline struct lw lw_of_s8(struct lw w) {
    return (struct lw){_mm512_xor_si512(w.v, _mm512_set1_epi8((char)0x80))};
}
/* VPDPBUSD wants unsigned weights: int8 is taken as w + 128 and the sum starts at -128 sum(x). */
static inline struct li li_start_s8(int32_t sum_x) {
    return (struct li){_mm512_set1_epi32(-128 * sum_x)};
}
static inline struct lw lw_four(const int8_t *x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return (struct lw){_mm512_set1_epi32(four)};
}
static inline struct li li_dots_s8(struct li acc, struct lw w, struct lw x) {
    return (struct li){_mm512_dpbusd_epi32(acc.v, w.v, x.v)};
}
static inline struct li li_dots_u8(struct li acc, struct lw w, struct lw x) {
    return (struct li){_mm512_dpbusd_epi32(acc.v, w.v, x.v)};
}
static inline struct li li_of_pairs(struct li acc, struct li pairs) {
    return (struct li){_mm512_add_epi32(acc.v, pairs.v)};
}
static inline struct li li_dot_s8(struct li acc, struct lw w, const int8_t *x) {
    return (struct li){vnni_add(acc.v, w.v, x)};
}
static inline struct li li_dot_u8(struct li acc, struct lw w, const int8_t *x) {
    return (struct li){vnni_add(acc.v, w.v, x)};
}

#endif
