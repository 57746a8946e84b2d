#include "gguf/quant.h"

#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "gguf/quant_codes.h"

/* binary16: 1 sign bit, 5 exponent bits biased by 15, 10 mantissa bits.
 * binary32: 1 sign bit, 8 exponent bits biased by 127, 23 mantissa bits. */
enum { BIAS_DIFFERENCE = 127 - 15, MANTISSA_DIFFERENCE = 23 - 10 };

float quant_f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 0x1F;
    uint32_t mantissa = half & 0x3FF;
    uint32_t bits;
    if (exponent == 0x1F) { /* infinity, NaN */
        bits = sign | 0x7F800000 | mantissa << MANTISSA_DIFFERENCE;
    } else if (exponent != 0) {
        bits = sign | (exponent + BIAS_DIFFERENCE) << 23 | mantissa << MANTISSA_DIFFERENCE;
    } else if (mantissa == 0) {
        bits = sign;
    } else { /* mantissa * 2^-24, a normal number in binary32: bring its leading one to bit 10 */
        uint32_t shift = (uint32_t)__builtin_clz(mantissa) - 21;
        bits = sign | (BIAS_DIFFERENCE + 1 - shift) << 23 |
               (mantissa << shift & 0x3FF) << MANTISSA_DIFFERENCE;
    }
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t quant_f32_to_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7FFFFFFF;
    uint32_t half;
    if (magnitude > 0x7F800000) { /* NaN stays one, and quiet */
        half = 0x7E00 | (magnitude >> MANTISSA_DIFFERENCE & 0x1FF);
    } else if (magnitude >= 0x47800000) { /* from 2^16 on: infinity */
        half = 0x7C00;
    } else if (magnitude >= 0x38800000) { /* from 2^-14 on: normal; a carry may reach infinity */
        uint32_t even = magnitude >> MANTISSA_DIFFERENCE & 1;
        half =
            (magnitude + 0xFFF + even - ((uint32_t)BIAS_DIFFERENCE << 23)) >> MANTISSA_DIFFERENCE;
    } else { /* a multiple of 2^-24: m * 2^(e - 150) = (m >> (126 - e)) * 2^-24, m of 24 bits */
        uint32_t shift = 126 - (magnitude >> 23);
        uint32_t m = (magnitude & 0x7FFFFF) | 0x800000;
        half = 0;
        if (shift <= 24) { /* else under half of the smallest */
            uint32_t rest = m & ((1u << shift) - 1);
            uint32_t tie = 1u << (shift - 1);
            half = m >> shift;
            half += rest > tie || (rest == tie && (half & 1));
        }
    }
    return (uint16_t)(sign | half);
}

/* The one list of types; ids and names are those of ggml's enum ggml_type. An entry without
 * blocks is there so that an error can call the type by its name. */
static const struct quant_info quant_infos[QUANT_TYPES] = {
    [QUANT_F32] = {"F32", 4, 1},
    [QUANT_F16] = {"F16", 2, 1},
    [QUANT_Q4_0] = {"Q4_0", 18, 32},
    [QUANT_Q4_1] = {"Q4_1", 20, 32},
    [4] = {"Q4_2", 0, 0}, /* withdrawn in 2023 */
    [5] = {"Q4_3", 0, 0}, /* withdrawn in 2023 */
    [QUANT_Q5_0] = {"Q5_0", 22, 32},
    [QUANT_Q5_1] = {"Q5_1", 24, 32},
    [QUANT_Q8_0] = {"Q8_0", 34, 32},
    [9] = {"Q8_1", 0, 0},
    [QUANT_Q2_K] = {"Q2_K", 84, 256},
    [QUANT_Q3_K] = {"Q3_K", 110, 256},
    [QUANT_Q4_K] = {"Q4_K", 144, 256},
    [QUANT_Q5_K] = {"Q5_K", 176, 256},
    [QUANT_Q6_K] = {"Q6_K", 210, 256},
    [15] = {"Q8_K", 0, 0},
    [16] = {"IQ2_XXS", 0, 0},
    [17] = {"IQ2_XS", 0, 0},
    [18] = {"IQ3_XXS", 0, 0},
    [19] = {"IQ1_S", 0, 0},
    [QUANT_IQ4_NL] = {"IQ4_NL", 18, 32},
    [21] = {"IQ3_S", 0, 0},
    [22] = {"IQ2_S", 0, 0},
    [QUANT_IQ4_XS] = {"IQ4_XS", 136, 256},
    [24] = {"I8", 0, 0},
    [25] = {"I16", 0, 0},
    [26] = {"I32", 0, 0},
    [27] = {"I64", 0, 0},
    [28] = {"F64", 0, 0},
    [29] = {"IQ1_M", 0, 0},
    [QUANT_BF16] = {"BF16", 2, 1},
    [31] = {"Q4_0_4_4", 0, 0}, /* 31 to 33: repacked Q4_0, withdrawn in 2024 */
    [32] = {"Q4_0_4_8", 0, 0},
    [33] = {"Q4_0_8_8", 0, 0},
    [34] = {"TQ1_0", 0, 0},
    [35] = {"TQ2_0", 0, 0},
    [36] = {"IQ4_NL_4_4", 0, 0}, /* 36 to 38: repacked IQ4_NL, withdrawn */
    [37] = {"IQ4_NL_4_8", 0, 0},
    [38] = {"IQ4_NL_8_8", 0, 0},
    [39] = {"MXFP4", 0, 0},
    [40] = {"NVFP4", 0, 0},
    [41] = {"Q1_0", 0, 0},
    [42] = {"Q2_0", 0, 0},
};

const struct quant_info *quant_info(uint32_t type) {
    if (type >= QUANT_TYPES || quant_infos[type].name == NULL) return NULL;
    return &quant_infos[type];
}

int quant_by_name(const char *name) {
    for (int type = 0; type < QUANT_TYPES; type++) {
        const struct quant_info *info = &quant_infos[type];
        if (info->block_bytes > 0 && strcasecmp(info->name, name) == 0) return type;
    }
    return -1;
}

/* binary16, and bfloat16, which is the upper half of a binary32. */
static void expand_halves(enum quant_type type, const uint8_t *halves, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const uint16_t half = bytes_u16(halves + 2 * i);
        const uint32_t bits = (uint32_t)half << 16;
        if (type == QUANT_F16)
            out[i] = quant_f16_to_f32(half);
        else
            memcpy(out + i, &bits, sizeof bits);
    }
}

void quant_expand(enum quant_type type, const void *blocks, float *out, size_t n) {
    const struct quant_scheme *scheme = quant_scheme(type);
    struct quant_codes codes;
    if (type == QUANT_F32) {
        memcpy(out, blocks, n * sizeof *out);
    } else if (scheme == NULL) {
        wick_assert(type == QUANT_F16 || type == QUANT_BF16);
        expand_halves(type, blocks, out, n);
    } else {
        wick_assert(n % scheme->unit == 0);
        const uint8_t *block = blocks;
        for (size_t i = 0; i < n; i += scheme->unit, block += quant_infos[type].block_bytes) {
            scheme->read(block, &codes);
            quant_codes_expand(scheme, &codes, out + i);
        }
    }
}
