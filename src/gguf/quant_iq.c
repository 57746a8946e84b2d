/* The non-linear four-bit formats: a nibble selects one of 16 values that stand closer near zero.
 *
 *   IQ4_NL  | d 2 | nibbles 16 |                                         32 values
 *   IQ4_XS  | d 2 | scales, upper 2 | scales, lower 4 | nibbles 128 |  8 x 32 values
 */
#include "base/bytes.h"
#include "base/panic.h"
#include "gguf/quant.h"
#include "gguf/quant_blocks.h"

const int8_t quant_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

/* 32 values from 16 bytes: byte j holds value j below and value j + 16 above. */
static void expand_nibbles(const uint8_t *nibbles, float scale, float *out) {
    for (int j = 0; j < 16; j++) {
        out[j] = scale * (float)quant_iq4_values[nibbles[j] & 0xF];
        out[j + 16] = scale * (float)quant_iq4_values[nibbles[j] >> 4];
    }
}

void quant_expand_iq4_nl(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SMALL == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SMALL, block += 18, out += QUANT_SMALL)
        expand_nibbles(block + 2, quant_f16_to_f32(bytes_u16(block)), out);
}

/* Sub-block s is scaled by d * (scale - 32); the 6-bit scale has its low nibble in byte s / 2 of
 * the lower scales (even s below) and its upper two bits at bit 2 s of the u16 of upper ones. */
void quant_expand_iq4_xs(const void *blocks, float *out, size_t n) {
    wick_assert(n % QUANT_SUPER == 0);
    const uint8_t *block = blocks;
    for (size_t i = 0; i < n; i += QUANT_SUPER, block += 136, out += QUANT_SUPER) {
        float d = quant_f16_to_f32(bytes_u16(block));
        uint32_t upper = bytes_u16(block + 2);
        const uint8_t *lower = block + 4;
        for (int s = 0; s < 8; s++) {
            int scale = (lower[s / 2] >> (s % 2 * 4) & 0xF) | (int)(upper >> (2 * s) & 3) << 4;
            expand_nibbles(block + 8 + s * 16, d * (float)(scale - 32), out + s * 32);
        }
    }
}
