#include "gguf/quant.h"

#include <string.h>
#include <strings.h>

#include "base/bytes.h"
#include "gguf/quant_blocks.h"

/* binary16: 1 sign bit, 5 exponent bits biased by 15, 10 mantissa bits.
 * binary32: 1 sign bit, 8 exponent bits biased by 127, 23 mantissa bits. */
enum { BIAS_DIFFERENCE = 127 - 15, MANTISSA_DIFFERENCE = 23 - 10 };

static inline float half_expand(uint16_t half) {
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

float quant_f16_to_f32(uint16_t half) {
    return half_expand(half);
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

static void expand_f32(const void *blocks, float *out, size_t n) {
    memcpy(out, blocks, n * sizeof *out);
}

static void expand_f16(const void *blocks, float *out, size_t n) {
    const uint8_t *half = blocks;
    for (size_t i = 0; i < n; i++) out[i] = half_expand(bytes_u16(half + 2 * i));
}

/* bfloat16 is the upper half of a binary32. */
static void expand_bf16(const void *blocks, float *out, size_t n) {
    const uint8_t *upper = blocks;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)bytes_u16(upper + 2 * i) << 16;
        memcpy(out + i, &bits, sizeof bits);
    }
}

/* The one list of types; ids and names are those of ggml's enum ggml_type. An entry without expand
 * is there so that an error can call the type by its name. */
static const struct quant_info quant_infos[QUANT_TYPES] = {
    [QUANT_F32] = {"F32", 4, 1, expand_f32},
    [QUANT_F16] = {"F16", 2, 1, expand_f16},
    [QUANT_Q4_0] = {"Q4_0", 18, QUANT_SMALL, quant_expand_q4_0},
    [QUANT_Q4_1] = {"Q4_1", 20, QUANT_SMALL, quant_expand_q4_1},
    [4] = {"Q4_2", 0, 0, NULL}, /* withdrawn in 2023 */
    [5] = {"Q4_3", 0, 0, NULL}, /* withdrawn in 2023 */
    [QUANT_Q5_0] = {"Q5_0", 22, QUANT_SMALL, quant_expand_q5_0},
    [QUANT_Q5_1] = {"Q5_1", 24, QUANT_SMALL, quant_expand_q5_1},
    [QUANT_Q8_0] = {"Q8_0", 34, QUANT_SMALL, quant_expand_q8_0},
    [9] = {"Q8_1", 0, 0, NULL},
    [QUANT_Q2_K] = {"Q2_K", 84, QUANT_SUPER, quant_expand_q2_k},
    [QUANT_Q3_K] = {"Q3_K", 110, QUANT_SUPER, quant_expand_q3_k},
    [QUANT_Q4_K] = {"Q4_K", 144, QUANT_SUPER, quant_expand_q4_k},
    [QUANT_Q5_K] = {"Q5_K", 176, QUANT_SUPER, quant_expand_q5_k},
    [QUANT_Q6_K] = {"Q6_K", 210, QUANT_SUPER, quant_expand_q6_k},
    [15] = {"Q8_K", 0, 0, NULL},
    [16] = {"IQ2_XXS", 0, 0, NULL},
    [17] = {"IQ2_XS", 0, 0, NULL},
    [18] = {"IQ3_XXS", 0, 0, NULL},
    [19] = {"IQ1_S", 0, 0, NULL},
    [QUANT_IQ4_NL] = {"IQ4_NL", 18, QUANT_SMALL, quant_expand_iq4_nl},
    [21] = {"IQ3_S", 0, 0, NULL},
    [22] = {"IQ2_S", 0, 0, NULL},
    [QUANT_IQ4_XS] = {"IQ4_XS", 136, QUANT_SUPER, quant_expand_iq4_xs},
    [24] = {"I8", 0, 0, NULL},
    [25] = {"I16", 0, 0, NULL},
    [26] = {"I32", 0, 0, NULL},
    [27] = {"I64", 0, 0, NULL},
    [28] = {"F64", 0, 0, NULL},
    [29] = {"IQ1_M", 0, 0, NULL},
    [QUANT_BF16] = {"BF16", 2, 1, expand_bf16},
    [31] = {"Q4_0_4_4", 0, 0, NULL}, /* 31 to 33: repacked Q4_0, withdrawn in 2024 */
    [32] = {"Q4_0_4_8", 0, 0, NULL},
    [33] = {"Q4_0_8_8", 0, 0, NULL},
    [34] = {"TQ1_0", 0, 0, NULL},
    [35] = {"TQ2_0", 0, 0, NULL},
    [36] = {"IQ4_NL_4_4", 0, 0, NULL}, /* 36 to 38: repacked IQ4_NL, withdrawn */
    [37] = {"IQ4_NL_4_8", 0, 0, NULL},
    [38] = {"IQ4_NL_8_8", 0, 0, NULL},
    [39] = {"MXFP4", 0, 0, NULL},
    [40] = {"NVFP4", 0, 0, NULL},
    [41] = {"Q1_0", 0, 0, NULL},
    [42] = {"Q2_0", 0, 0, NULL},
};

const struct quant_info *quant_info(uint32_t type) {
    if (type >= QUANT_TYPES || quant_infos[type].name == NULL) return NULL;
    return &quant_infos[type];
}

int quant_by_name(const char *name) {
    for (int type = 0; type < QUANT_TYPES; type++) {
        const struct quant_info *info = &quant_infos[type];
        if (info->expand != NULL && strcasecmp(info->name, name) == 0) return type;
    }
    return -1;
}
