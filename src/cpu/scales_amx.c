#include "cpu/scales_amx.h"

#include <immintrin.h>

static __m512 scales_f16(const uint8_t *halves) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)halves));
}

/* Two blocks a unit, a scale of their own for each. */
static void scales_flat(struct panel_scales *scales, bool has_min, uint32_t unit_bytes,
                        const uint8_t *unit, uint32_t blocks) {
    for (uint32_t b = 0; b < blocks; b++, unit += b % 2 == 0 ? unit_bytes : 0) {
        const uint8_t *d = unit + 32 * (b % 2);
        _mm512_store_ps(scales->scale[b], scales_f16(d));
        _mm512_store_ps(scales->min[b], has_min ? scales_f16(d + 64) : _mm512_setzero_ps());
    }
}

/* A unit is a slice: integers of each step, and what they are all multiplied with. */
static void scales_super(struct panel_scales *scales, const struct pack_format *format,
                         const uint8_t *unit, uint32_t steps) {
    const __m512 d = scales_f16(unit), none = _mm512_setzero_ps();
    const __m512 m = _mm512_sub_ps(none, scales_f16(unit + 32));
    const __m128i *scale = (const __m128i *)(unit + 64), *min = scale + 256 / format->sub;
    for (uint32_t s = 0; s < steps; s++) {
        __m512 n = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(scale + s)));
        _mm512_store_ps(scales->scale[s], _mm512_mul_ps(d, n));
        n = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_load_si128(min + s)));
        _mm512_store_ps(scales->min[s], format->has_min ? _mm512_mul_ps(m, n) : none);
    }
}

void panel_scales_fill(struct panel_scales *scales, const struct pack_format *format,
                       const uint8_t *panel, uint32_t first, uint32_t blocks) {
    const uint8_t *unit =
        panel + (size_t)(first * PACK_BLOCK / format->unit_columns) * format->unit_bytes;
    if (format->unit_columns == 2 * PACK_BLOCK)
        scales_flat(scales, format->has_min, format->unit_bytes, unit, blocks);
    else
        scales_super(scales, format, unit, blocks * PACK_BLOCK / format->sub);
}
