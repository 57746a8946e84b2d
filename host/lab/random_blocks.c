#include "lab/random_blocks.h"

#include <math.h>
#include <string.h>

#include "base/panic.h"
#include "gguf/quant_codes.h"

/* How a format turns bits into values: value = d * scale * (q - centre), q uniform over 2^bits. For
 * the formats with an offset the centre is the middle, reached by m = offset_factor * d; the others
 * have the format's own zero, and a d of either sign keeps their mean at 0. */
struct random_recipe {
    enum quant_type type;
    uint8_t bits;                  /* of q; 0: the 16 values of the IQ4 formats */
    double centre;                 /* what is subtracted from q */
    uint8_t d_at;                  /* bytes from the start of the block */
    uint8_t m_at;                  /* 0: no offset */
    double m_factor;               /* m = m_factor * d */
    uint8_t scale_low, scale_high; /* scales of sub-blocks, uniform; 1 and 1: none */
    double scale_zero;             /* what is subtracted from them */
    void (*scales_set)(const struct random_blocks *random, uint8_t *block);
};

/* Q2_K: scale s in both nibbles, so that dmin = 1.5 d centres the values. s = 8 .. 15. */
static void q2_k_scales_set(const struct random_blocks *random, uint8_t *block) {
    (void)random;
    for (int i = 0; i < 16; i++) block[i] = (uint8_t)((8 | (block[i] & 7)) * 0x11);
}

/* Q4_K, Q5_K: one of the patterns made by patterns_make. */
static void q4_k_scales_set(const struct random_blocks *random, uint8_t *block) {
    memcpy(block + 4, random->pattern[block[4]], sizeof random->pattern[0]);
}

static const struct random_recipe recipes[] = {
    {QUANT_Q4_0, 4, 8, 0, 0, 0, 1, 1, 0, NULL},
    {QUANT_Q4_1, 4, 7.5, 0, 2, -7.5, 1, 1, 0, NULL},
    {QUANT_Q5_0, 5, 16, 0, 0, 0, 1, 1, 0, NULL},
    {QUANT_Q5_1, 5, 15.5, 0, 2, -15.5, 1, 1, 0, NULL},
    {QUANT_Q8_0, 8, 128, 0, 0, 0, 1, 1, 0, NULL},
    {QUANT_Q2_K, 2, 1.5, 80, 82, 1.5, 8, 15, 0, q2_k_scales_set},
    {QUANT_Q3_K, 3, 4, 108, 0, 0, 0, 63, 32, NULL},
    {QUANT_Q4_K, 4, 7.5, 0, 2, 7.5, 32, 63, 0, q4_k_scales_set},
    {QUANT_Q5_K, 5, 15.5, 0, 2, 15.5, 32, 63, 0, q4_k_scales_set},
    {QUANT_Q6_K, 6, 32, 208, 0, 0, 0, 255, 128, NULL},
    {QUANT_IQ4_NL, 0, 0, 0, 0, 0, 1, 1, 0, NULL},
    {QUANT_IQ4_XS, 0, 0, 0, 0, 0, 0, 63, 32, NULL},
};

static uint64_t next(uint64_t *state) { /* splitmix64, Steele, Lea, Flood 2014 */
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}

/* Root mean square of the integers low .. high minus zero. */
static double range_rms(int low, int high, double zero) {
    double sum = 0;
    for (int i = low; i <= high; i++) sum += (i - zero) * (i - zero);
    return sqrt(sum / (high - low + 1));
}

static double quant_rms(const struct random_recipe *recipe) {
    if (recipe->bits > 0) return range_rms(0, (1 << recipe->bits) - 1, recipe->centre);
    double sum = 0;
    for (int i = 0; i < 16; i++) sum += quant_iq4_values[i] * quant_iq4_values[i];
    return sqrt(sum / 16);
}

/* d = base * (3/4 .. 5/4), base chosen so that the values have the deviation. */
static void scales_make(struct random_blocks *random, double deviation) {
    const struct random_recipe *recipe = random->recipe;
    double sum = 0, factor[RANDOM_SCALES];
    for (int i = 0; i < RANDOM_SCALES; i++) {
        factor[i] = 0.75 + 0.5 * (i + 0.5) / RANDOM_SCALES;
        sum += factor[i] * factor[i];
    }
    double scale_rms = range_rms(recipe->scale_low, recipe->scale_high, recipe->scale_zero);
    double base = deviation / (quant_rms(recipe) * scale_rms * sqrt(sum / RANDOM_SCALES));
    for (int i = 0; i < RANDOM_SCALES; i++) {
        double d = base * factor[i];
        random->scale[i] = quant_f32_to_f16((float)d);
        random->offset[i] = quant_f32_to_f16((float)(recipe->m_factor * d));
    }
}

/* Eight scales of 32 .. 63, each minimum equal to its scale, packed as Q4_K packs them. */
static void patterns_make(struct random_blocks *random) {
    for (int p = 0; p < RANDOM_PATTERNS; p++) {
        uint8_t *packed = random->pattern[p];
        uint64_t bits = next(&random->state);
        uint8_t s[8];
        for (int i = 0; i < 8; i++) s[i] = (uint8_t)(32 | (bits >> (8 * i) & 31));
        for (int i = 0; i < 4; i++) {
            uint8_t top = (uint8_t)(s[i + 4] >> 4 << 6);
            packed[i] = s[i] | top;
            packed[i + 4] = s[i] | top;
            packed[i + 8] = (uint8_t)((s[i + 4] & 0xF) * 0x11);
        }
    }
}

static void halves_make(struct random_blocks *random) {
    for (int i = 0; i < RANDOM_HALVES; i++) {
        float value = random->span * ((float)(2 * i + 1) / RANDOM_HALVES - 1);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        random->half[i] =
            random->type == QUANT_F16 ? quant_f32_to_f16(value) : (uint16_t)(bits >> 16);
    }
}

void random_blocks_begin(struct random_blocks *random, enum quant_type type, double deviation,
                         uint64_t seed) {
    random->type = type;
    random->recipe = NULL;
    random->state = seed;
    random->span = (float)(sqrt(3) * deviation); /* a uniform -a .. a has deviation a / sqrt(3) */
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        if (recipes[i].type == type) random->recipe = &recipes[i];
    if (random->recipe != NULL)
        scales_make(random, deviation);
    else if (type != QUANT_F32)
        halves_make(random);
    patterns_make(random);
}

/* Turns random bytes into a block of the type. */
static void block_finish(const struct random_blocks *random, uint8_t *block) {
    const struct random_recipe *recipe = random->recipe;
    uint8_t chance = block[recipe->d_at];
    uint16_t d = random->scale[chance % RANDOM_SCALES];
    if (recipe->m_at == 0 && chance >= 128) d |= 0x8000; /* the other sign */
    memcpy(block + recipe->d_at, &d, 2);
    if (recipe->m_at != 0) memcpy(block + recipe->m_at, &random->offset[chance % RANDOM_SCALES], 2);
    if (recipe->scales_set != NULL) recipe->scales_set(random, block);
}

void random_blocks_fill(struct random_blocks *random, uint8_t *out, size_t length) {
    size_t block_bytes = quant_info((uint32_t)random->type)->block_bytes;
    wick_assert(length % block_bytes == 0);
    uint64_t bits = 0;
    for (size_t i = 0; i < length; i += 8) {
        bits = next(&random->state);
        memcpy(out + i, &bits, length - i < 8 ? length - i : 8);
    }
    if (random->recipe != NULL) {
        for (size_t i = 0; i < length; i += block_bytes) block_finish(random, out + i);
    } else if (random->type == QUANT_F32) {
        for (size_t i = 0; i < length; i += 4) {
            int32_t integer;
            memcpy(&integer, out + i, 4);
            float value = (float)integer * (random->span / 0x1p31f);
            memcpy(out + i, &value, 4);
        }
    } else {
        for (size_t i = 0; i < length; i += 2) {
            uint16_t index;
            memcpy(&index, out + i, 2);
            memcpy(out + i, &random->half[index], 2);
        }
    }
}
