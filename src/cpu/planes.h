/* planes: the values of a quantised panel (model/pack.h) as the kernels multiply them, in the words
 * of lanes_<isa>.h, which is included first. */
#ifndef WICK_CPU_PLANES_H
#define WICK_CPU_PLANES_H

#include <stdbool.h>
#include <stdint.h>

#include "model/pack.h"

#define PLANES static inline __attribute__((always_inline))

/* Group g (0..7) of a block, columns 4 g to 4 g + 3, raw. `bits` is a constant wherever this is
 * called; g is one where the loop over it is unrolled. */
PLANES struct lw group_load(int bits, const uint8_t *block, int g) {
    if (bits == 8) return lw_load(block + 64 * g);
    const int lowest = bits >= 4 ? 4 : 2;
    int at = lowest;
    struct lw w =
        lw_field(lw_load(block + 64 * (g % lowest)), lowest * (g / lowest), (1 << lowest) - 1);
    block += 64 * lowest;
#pragma GCC unroll 2
    for (int width = 2; width > 0; width /= 2) {
        if (width >= lowest || (bits & width) == 0) continue;
        struct lw some = lw_load(block + 64 * (g % width));
        w = lw_or_field(w, some, width * (g / width) - at, ((1 << width) - 1) << at);
        block += 64 * width, at += width;
    }
    return w;
}

PLANES void planes_widen(int bits, bool looked_up, int zero, const uint8_t *block, uint8_t *out) {
#pragma GCC unroll LANES_WIDEN
    for (int g = 0; g < 8; g++) {
        struct lw w = group_load(bits, block, g);
        lw_store(out + 64 * g, lw_sub(looked_up ? lw_look_up(w) : w, zero));
    }
}

/* A block of values of fewer than 8 bits, a byte each: raw or looked up, less zero. (8, 16, 4). */
PLANES void block_widen(const struct pack_format *format, int zero, const uint8_t *block,
                        uint8_t *out) {
    switch (format->bits) {
    case 2:
        planes_widen(2, false, zero, block, out);
        return;
    case 3:
        planes_widen(3, false, zero, block, out);
        return;
    case 4:
        if (format->looked_up)
            planes_widen(4, true, zero, block, out);
        else
            planes_widen(4, false, zero, block, out);
        return;
    case 5:
        planes_widen(5, false, zero, block, out);
        return;
    default:
        planes_widen(6, false, zero, block, out);
    }
}

#endif
