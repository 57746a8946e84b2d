#ifndef WICK_TESTS_PTX_NUMBER_H
#define WICK_TESTS_PTX_NUMBER_H

/* Floating formats and one exact rounding for all of them. */

#include <stdbool.h>
#include <stdint.h>

/* (-1)^negative * mantissa * 2^exponent, exactly; or not a number, or infinite. */
struct number {
    bool negative, nan, infinite;
    uint64_t mantissa;
    int exponent;
};

struct format {
    int precision;       /* bits of the mantissa, the hidden one among them */
    int least, greatest; /* exponents of normal numbers */
    uint64_t nan;        /* what NaN becomes */
};

extern const struct format format_f16, format_bf16, format_f32, format_f64, format_tf32;

enum rounding {
    ROUND_NEAREST, /* ties to even: rn */
    ROUND_ZERO,    /* rz */
    ROUND_DOWN,    /* rm */
    ROUND_UP,      /* rp */
    ROUND_AWAY     /* nearest, ties away from zero: rna */
};

struct number number_of_f64(double value);
struct number number_of_f32(uint32_t bits);
struct number number_of_f16(uint16_t bits);
struct number number_of_bf16(uint16_t bits);
struct number number_of_unsigned(uint64_t value);
struct number number_of_signed(int64_t value);

/* The format's bits, at the low end (tf32: as an f32, its low 13 bits zero). */
uint64_t number_round(struct number n, const struct format *format, enum rounding rounding);
/* To an integer of `bits` bits: out of range clamps; NaN is 0 (the smallest f64 NaN result that
 * GPUs give for 64 bits is treated by the caller). */
int64_t number_to_signed(struct number n, int bits, enum rounding rounding);
uint64_t number_to_unsigned(struct number n, int bits, enum rounding rounding);
/* To an integral value, still a number. */
struct number number_to_integral(struct number n, enum rounding rounding);

static inline float float_of_bits(uint32_t bits) {
    union {
        uint32_t bits;
        float value;
    } both = {.bits = bits};
    return both.value;
}

static inline uint32_t float_bits(float value) {
    union {
        float value;
        uint32_t bits;
    } both = {.value = value};
    return both.bits;
}

/* Exact. NaN keeps its payload, made quiet. */
static inline float f16_value(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7FFF;
    if (rest >= 0x7C00) return float_of_bits(sign | 0x7F800000 | (rest & 0x3FF) << 13);
    /* As an f32 whose exponent is 112 too small; the product also normalises a subnormal. */
    float magnitude = float_of_bits(rest << 13) * 0x1p112f;
    return float_of_bits(sign | float_bits(magnitude));
}

/* The nearest F16, the even one of two equally near. Subnormal results by an addition whose unit is
 * theirs, the others by a carry into what stays. */
static inline uint16_t f16_nearest(uint32_t bits) {
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    uint32_t small = float_bits(float_of_bits(magnitude) + 0.5f) - 0x3F000000;
    uint32_t normal = (magnitude + 0xC8000FFF + (magnitude >> 13 & 1)) >> 13;
    uint32_t result = magnitude < 0x38800000 ? small : magnitude >= 0x47800000 ? 0x7C00 : normal;
    return magnitude > 0x7F800000 ? 0x7FFF : (uint16_t)(sign | (result & 0x7FFF));
}

static inline float bf16_value(uint16_t half) {
    return float_of_bits((uint32_t)half << 16);
}

#endif
