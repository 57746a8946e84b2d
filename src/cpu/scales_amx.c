#include "cpu/scales_amx.h"

void panel_scales_fill(struct panel_scales *scales, const struct pack_format *format,
                       const uint8_t *panel, uint32_t first, uint32_t blocks, bool apart) {
    const bool super = units_are_super(format);
    const uint32_t in_block = (uint32_t)(PACK_BLOCK / format->sub);
    const size_t behind = step_min_behind(super, SLICE_BLOCKS * in_block);
    const uint8_t *unit = block_unit(format, panel, first);
    const __m512 d = slice_d(format, unit), m = slice_m(format, unit), none = _mm512_setzero_ps();
    const __m512 by = apart ? _mm512_set1_ps(1) : d;
    const __m512 min_by = apart ? _mm512_set1_ps(1) : _mm512_sub_ps(none, m);
    _mm512_store_ps(scales->d, d);
    _mm512_store_ps(scales->m, m);
    for (uint32_t s = 0; s < blocks * in_block; s++) {
        const uint8_t *at = step_at(super, block_unit(format, panel, first + s / in_block), s);
        const __m512 min = format->has_min ? step_min(super, at + behind) : none;
        _mm512_store_ps(scales->scale[s], _mm512_mul_ps(by, step_scale(super, at)));
        _mm512_store_ps(scales->min[s], format->has_min ? _mm512_mul_ps(min_by, min) : none);
    }
}
