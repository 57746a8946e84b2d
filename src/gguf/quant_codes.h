/* quant_codes: a quantised block taken apart into its integers, and what they mean.
 *
 * A unit is 32 values (flat formats) or 256 (super-blocks). With n = raw - zero of the format, or
 * quant_iq4_values[raw] where it looks values up, a value is, every product, sum and difference
 * rounded to F32 as ggml's definitions do,
 *
 *   flat:   n * d            or  n * d + m (Q4_1, Q5_1)
 *   super:  (d * scale) * n  or  (d * scale) * n - m * min
 *
 * scale and min belong to sub-blocks of `sub` values. */
#ifndef WICK_GGUF_QUANT_CODES_H
#define WICK_GGUF_QUANT_CODES_H

#include <stdbool.h>
#include <stdint.h>

#include "gguf/quant.h"

enum { QUANT_UNIT_MAX = 256, QUANT_SUBS_MAX = 16 };

struct quant_codes {
    int8_t value[QUANT_UNIT_MAX]; /* raw: without sign unless it has 8 bits */
    uint16_t d, m;                /* binary16; m is 0 where the format has none */
    int8_t scale[QUANT_SUBS_MAX]; /* super-blocks: 6-bit unsigned or signed, all fit int8 */
    uint8_t min[QUANT_SUBS_MAX];
};

struct quant_scheme {
    uint16_t unit; /* values of a unit: 32 or 256 */
    uint8_t sub;   /* values that share a scale: 32 or 16 */
    uint8_t bits;  /* of a raw value: 2 to 6 without sign, or 8 with one */
    int8_t zero;   /* subtracted from a raw value */
    bool has_min;
    bool looked_up; /* raw values are places in quant_iq4_values */
    /* One block of the file, of quant_info(type)->block_bytes, -> codes. */
    void (*read)(const uint8_t *block, struct quant_codes *codes);
};

/* -> `unit` values. */
void quant_codes_expand(const struct quant_scheme *scheme, const struct quant_codes *codes,
                        float *out);

/* The same of one value of a flat unit, */
static inline float quant_flat_value(float n, float d, float m, bool has_min) {
    return has_min ? n * d + m : n * d;
}
/* and of a super-block. */
static inline float quant_super_value(float n, float d, int8_t scale, float m, uint8_t min,
                                      bool has_min) {
    const float scaled = d * (float)scale * n;
    return has_min ? scaled - m * (float)min : scaled;
}

/* The 16 int8 values that the nibbles of IQ4_NL and IQ4_XS select: closer near zero. */
extern const int8_t quant_iq4_values[16];

/* NULL for F32, F16, BF16 and types we cannot run. */
const struct quant_scheme *quant_scheme(enum quant_type type);

#endif
