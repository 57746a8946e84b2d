#include "tests/ptx/number.h"

#include <string.h>

const struct format format_f16 = {11, -14, 15, 0x7FFF};
const struct format format_bf16 = {8, -126, 127, 0x7FFF};
const struct format format_f32 = {24, -126, 127, 0x7FFFFFFF};
const struct format format_f64 = {53, -1022, 1023, 0x7FF8000000000000};
const struct format format_tf32 = {11, -126, 127, 0x7FFFFFFF};

/* From the fields of an IEEE format with `fraction` bits behind the hidden one. */
static struct number number_of_fields(uint64_t bits, int fraction, int exponent_bits) {
    int bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(bits >> fraction) & ((1 << exponent_bits) - 1);
    struct number n = {.negative = bits >> (fraction + exponent_bits) & 1};
    n.mantissa = bits & (((uint64_t)1 << fraction) - 1);
    if (exponent == (1 << exponent_bits) - 1) {
        n.nan = n.mantissa != 0;
        n.infinite = n.mantissa == 0;
    } else if (exponent == 0) {
        n.exponent = 1 - bias - fraction;
    } else {
        n.mantissa |= (uint64_t)1 << fraction;
        n.exponent = exponent - bias - fraction;
    }
    return n;
}

struct number number_of_f64(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return number_of_fields(bits, 52, 11);
}

struct number number_of_f32(uint32_t bits) {
    return number_of_fields(bits, 23, 8);
}

struct number number_of_f16(uint16_t bits) {
    return number_of_fields(bits, 10, 5);
}

struct number number_of_bf16(uint16_t bits) {
    return number_of_fields(bits, 7, 8);
}

struct number number_of_unsigned(uint64_t value) {
    return (struct number){.mantissa = value};
}

struct number number_of_signed(int64_t value) {
    return (struct number){.negative = value < 0,
                           .mantissa = value < 0 ? -(uint64_t)value : (uint64_t)value};
}

/* mantissa / 2^shift, rounded: the kept part may have grown by one. */
static uint64_t shift_round(uint64_t mantissa, int shift, bool negative, enum rounding rounding) {
    if (shift <= 0) return shift < -63 ? 0 : mantissa << -shift;
    uint64_t kept = shift > 63 ? 0 : mantissa >> shift;
    uint64_t lost = shift > 63 ? mantissa : mantissa & (((uint64_t)1 << shift) - 1);
    if (lost == 0) return kept;
    /* more, less or exactly half of the last place */
    uint64_t half = shift > 64 ? UINT64_MAX : (uint64_t)1 << (shift - 1);
    bool above = shift <= 64 && lost > half, tie = shift <= 64 && lost == half;
    switch (rounding) {
    case ROUND_NEAREST:
        return kept + (above || (tie && (kept & 1)));
    case ROUND_AWAY:
        return kept + (above || tie);
    case ROUND_DOWN:
        return kept + negative;
    case ROUND_UP:
        return kept + !negative;
    case ROUND_ZERO:
        break;
    }
    return kept;
}

uint64_t number_round(struct number n, const struct format *f, enum rounding rounding) {
    int pad = f == &format_tf32 ? 13 : 0;
    int fraction = f->precision - 1;
    uint64_t exponents = (uint64_t)(f->greatest - f->least + 2); /* the one of infinity */
    int width = f->greatest > 127 ? 64 : f->least < -14 ? (fraction > 7 ? 32 : 16) : 16;
    uint64_t sign = (uint64_t)n.negative << (width - 1);
    uint64_t infinity = exponents << fraction;
    if (n.nan) return f->nan;
    if (n.infinite) return sign | infinity << pad;
    if (n.mantissa == 0) return sign;
    int top = 63 - __builtin_clzll(n.mantissa);
    int exponent = n.exponent + top;
    int unit = (exponent < f->least ? f->least : exponent) - fraction;
    uint64_t kept = shift_round(n.mantissa, unit - n.exponent, n.negative, rounding);
    /* A kept part that has grown into the next power of two carries into the exponent. */
    uint64_t bits = kept;
    if (exponent >= f->least)
        bits =
            kept + ((uint64_t)((exponent < f->greatest + 1 ? exponent : f->greatest + 1) - f->least)
                    << fraction);
    if (exponent > f->greatest || bits >= infinity) {
        bool outward = rounding == ROUND_NEAREST || rounding == ROUND_AWAY ||
                       (rounding == ROUND_UP && !n.negative) ||
                       (rounding == ROUND_DOWN && n.negative);
        bits = outward ? infinity : infinity - 1;
    }
    return sign | bits << pad;
}

struct number number_to_integral(struct number n, enum rounding rounding) {
    if (n.nan || n.infinite || n.exponent >= 0) return n;
    n.mantissa = shift_round(n.mantissa, -n.exponent, n.negative, rounding);
    n.exponent = 0;
    return n;
}

/* The magnitude of an integral number, UINT64_MAX if it is larger. */
static uint64_t magnitude(struct number n) {
    if (n.infinite) return UINT64_MAX;
    if (n.mantissa == 0) return 0;
    if (n.exponent > __builtin_clzll(n.mantissa)) return UINT64_MAX;
    return n.mantissa << n.exponent;
}

int64_t number_to_signed(struct number n, int bits, enum rounding rounding) {
    if (n.nan) return 0;
    uint64_t value = magnitude(number_to_integral(n, rounding));
    uint64_t limit = (uint64_t)1 << (bits - 1);
    if (n.negative) return value >= limit ? (int64_t)-limit : -(int64_t)value;
    return value >= limit ? (int64_t)(limit - 1) : (int64_t)value;
}

uint64_t number_to_unsigned(struct number n, int bits, enum rounding rounding) {
    if (n.nan) return 0;
    uint64_t value = magnitude(number_to_integral(n, rounding));
    uint64_t limit = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
    if (n.negative) return 0;
    return value > limit ? limit : value;
}
