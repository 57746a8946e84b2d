/* scales_amx: what the values of a panel are multiplied with, read for kernels that take a panel in
 * slices of 256 columns. */
#ifndef WICK_CPU_SCALES_AMX_H
#define WICK_CPU_SCALES_AMX_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#include "cpu/kernels.h"
#include "model/pack.h"

enum { SLICE_STEPS = 2 * SLICE_BLOCKS /* at most: a step is the columns of a scale, 32 or 16 */ };

/* Of each step of a slice and each of the 16 rows. A weight is scale * (value - zero) + min, or,
 * where d and m are wanted apart, d * scale * (value - zero) - m * min. */
struct panel_scales {
    _Alignas(64) float scale[SLICE_STEPS][PACK_ROWS];
    _Alignas(64) float min[SLICE_STEPS][PACK_ROWS]; /* 0 where the format has none */
    _Alignas(64) float d[PACK_ROWS], m[PACK_ROWS];
};

static inline __m512 scales_f16(const uint8_t *halves) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)halves));
}

/* What all steps of a slice have in common, from its unit of a panel: d and m of a super unit; of a
 * flat one, whose scales and mins are whole, 1 and -1. */
static inline __m512 slice_d(const struct pack_format *format, const uint8_t *unit) {
    return units_are_super(format) ? scales_f16(unit) : _mm512_set1_ps(1);
}
static inline __m512 slice_m(const struct pack_format *format, const uint8_t *unit) {
    return units_are_super(format) ? scales_f16(unit + 32) : _mm512_set1_ps(-1);
}

/* Where a unit has the scale of a step of its slice, and how many bytes behind it the min, if there
 * is one; `steps` are those of a super unit. */
static inline const uint8_t *step_at(bool super, const uint8_t *unit, uint32_t step) {
    return super ? unit + 64 + step * PACK_ROWS : unit + step % 2 * 32;
}
static inline size_t step_min_behind(bool super, uint32_t steps) {
    return super ? steps * PACK_ROWS : 64;
}

/* What is there: whole numbers in a super unit. */
static inline __m512 step_scale(bool super, const uint8_t *at) {
    if (!super) return scales_f16(at);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128((const __m128i *)at)));
}
static inline __m512 step_min(bool super, const uint8_t *at) {
    if (!super) return scales_f16(at);
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)at)));
}

/* `blocks` of them, from block `first` (a multiple of SLICE_BLOCKS) of a quantised panel on. */
void panel_scales_fill(struct panel_scales *scales, const struct pack_format *format,
                       const uint8_t *panel, uint32_t first, uint32_t blocks, bool apart);

#endif
