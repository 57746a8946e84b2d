/* scales_amx: what the values of a panel are multiplied with, read for kernels that take a panel in
 * slices of 256 columns. */
#ifndef WICK_CPU_SCALES_AMX_H
#define WICK_CPU_SCALES_AMX_H

#include <stdint.h>

#include "cpu/kernels.h"
#include "model/pack.h"

enum { SLICE_STEPS = 2 * SLICE_BLOCKS /* at most: a step is the columns of a scale, 32 or 16 */ };

/* Of each step of a slice and each of the 16 rows. A weight is scale * (value - zero) + min. */
struct panel_scales {
    _Alignas(64) float scale[SLICE_STEPS][PACK_ROWS];
    _Alignas(64) float min[SLICE_STEPS][PACK_ROWS]; /* 0 where the format has none */
};

/* How many blocks a slice has that begins with block `first`. */
static inline uint32_t slice_blocks(uint32_t n_blocks, uint32_t first) {
    return n_blocks - first < SLICE_BLOCKS ? n_blocks - first : SLICE_BLOCKS;
}

/* Where the values of a block of a quantised panel lie, `bytes` of them a block. */
static inline const uint8_t *block_values(const struct pack_format *format, const uint8_t *panel,
                                          uint32_t block, size_t bytes) {
    const uint32_t mask = format->unit_columns == 64 ? 1 : 7; /* block within its unit */
    const uint8_t *unit = panel + (size_t)(block / (mask + 1)) * format->unit_bytes;
    return unit + format->values_offset + (block & mask) * bytes;
}

/* `blocks` of them, from block `first` (a multiple of SLICE_BLOCKS) of a quantised panel on. */
void panel_scales_fill(struct panel_scales *scales, const struct pack_format *format,
                       const uint8_t *panel, uint32_t first, uint32_t blocks);

#endif
