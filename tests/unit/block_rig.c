#include "block_rig.h"

#include <string.h>

const enum quant_type block_rig_types[] = {QUANT_F32,    QUANT_F16,    QUANT_Q4_0, QUANT_Q4_1,
                                           QUANT_Q5_0,   QUANT_Q5_1,   QUANT_Q8_0, QUANT_Q2_K,
                                           QUANT_Q3_K,   QUANT_Q4_K,   QUANT_Q5_K, QUANT_Q6_K,
                                           QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_BF16};
const size_t block_rig_n_types = sizeof block_rig_types / sizeof block_rig_types[0];

uint64_t block_rig_next(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

float block_rig_real(uint64_t *state) {
    return (float)(block_rig_next(state) >> 40) / (float)(1 << 23) - 1;
}

/* Where a block keeps its binary16 scales (-1: none), and how large they are to be. */
static const struct scales {
    int d, m;
    float size;
} scales[QUANT_TYPES] = {
    [QUANT_Q4_0] = {0, -1, 0.01f},    [QUANT_Q4_1] = {0, 2, 0.01f},
    [QUANT_Q5_0] = {0, -1, 0.005f},   [QUANT_Q5_1] = {0, 2, 0.005f},
    [QUANT_Q8_0] = {0, -1, 0.001f},   [QUANT_Q2_K] = {80, 82, 0.003f},
    [QUANT_Q3_K] = {108, -1, 0.001f}, [QUANT_Q4_K] = {0, 2, 0.0002f},
    [QUANT_Q5_K] = {0, 2, 0.0001f},   [QUANT_Q6_K] = {208, -1, 0.00005f},
    [QUANT_IQ4_NL] = {0, -1, 0.001f}, [QUANT_IQ4_XS] = {0, -1, 0.00005f},
};

static void put_half(uint8_t *at, float value) {
    uint16_t half = quant_f32_to_f16(value);
    memcpy(at, &half, 2);
}

void block_rig_fill(enum quant_type type, uint8_t *blocks, size_t n_values, uint64_t *state) {
    const struct quant_info *info = quant_info(type);
    for (size_t i = 0; i < n_values / info->block_values; i++) {
        uint8_t *block = blocks + i * info->block_bytes;
        for (size_t b = 0; b < info->block_bytes; b++) block[b] = (uint8_t)block_rig_next(state);
        float real = block_rig_real(state) / 10, size = scales[type].size;
        if (type == QUANT_F32) memcpy(block, &real, 4);
        if (type == QUANT_F16) put_half(block, real);
        if (type == QUANT_BF16) memcpy(block, (uint8_t *)&real + 2, 2);
        if (size == 0) continue;
        put_half(block + scales[type].d, size * (1 + 5 * real));
        if (scales[type].m >= 0) put_half(block + scales[type].m, size * 10 * real);
    }
}
