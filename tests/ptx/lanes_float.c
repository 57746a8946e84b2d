/* F32 and F64 arithmetic. The host's rounding mode and flush to zero are set by the machine where
 * an instruction asks for them; all that is here rounds as the host is told.
 *
 * A NaN result of an F32 instruction is 0x7FFFFFFF, as GPUs write it. The approximate functions
 * are computed in F64 and rounded once, which is closer than the ISA promises (2 ulp for div.full,
 * 2^-22 relative for ex2, 2^-22 absolute for lg2 near 1, 2^-20.9 absolute for sin and cos,
 * 2^-22.9 relative for rsqrt, 1 ulp for rcp, 2^-11 relative for tanh): a kernel must not rely on
 * either's last bits. */

#include <math.h>
#include <string.h>

#include "tests/ptx/lanes.h"

#define CANONICAL_NAN 0x7FFFFFFFu

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline uint64_t bits_of_double(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline uint32_t canonical(float value) {
    return value != value ? CANONICAL_NAN : bits_of(value);
}

#define FLOAT_1(name, expression) LANES_1(name, uint32_t, float, canonical((float)(expression)))
#define FLOAT_2(name, expression)                                                                  \
    LANES_2(name, uint32_t, float, float, canonical((float)(expression)))
#define FLOAT_3(name, expression)                                                                  \
    LANES_3(name, uint32_t, float, float, float, canonical((float)(expression)))
#define DOUBLE_1(name, expression) LANES_1(name, double, double, expression)
#define DOUBLE_2(name, expression) LANES_2(name, double, double, double, expression)
#define DOUBLE_3(name, expression) LANES_3(name, double, double, double, double, expression)

FLOAT_2(add_f, a + b)
FLOAT_2(sub_f, a - b)
FLOAT_2(mul_f, a *b)
FLOAT_2(div_f, a / b)
FLOAT_3(fma_f, __builtin_fmaf(a, b, c))
FLOAT_1(rcp_f, 1 / a)
FLOAT_1(sqrt_f, __builtin_sqrtf(a))
DOUBLE_2(add_g, a + b)
DOUBLE_2(sub_g, a - b)
DOUBLE_2(mul_g, a *b)
DOUBLE_2(div_g, a / b)
DOUBLE_3(fma_g, __builtin_fma(a, b, c))
DOUBLE_1(rcp_g, 1 / a)
DOUBLE_1(sqrt_g, __builtin_sqrt(a))

LANES_1(abs_f, uint32_t, uint32_t, a & 0x7FFFFFFF)
LANES_1(neg_f, uint32_t, uint32_t, a ^ 0x80000000)
LANES_1(abs_g, uint64_t, uint64_t, a &INT64_MAX)
LANES_1(neg_g, uint64_t, uint64_t, a ^ (uint64_t)1 << 63)
/* A subnormal flushed is a zero of its sign. */
static inline uint32_t flush(uint32_t bits) {
    return bits & 0x7F800000 ? bits : bits & 0x80000000;
}
LANES_1(abs_flush, uint32_t, uint32_t, flush(a) & 0x7FFFFFFF)
LANES_1(neg_flush, uint32_t, uint32_t, flush(a) ^ 0x80000000)
/* copysign d, a, b: the sign of a on the magnitude of b. */
LANES_2(copysign_f, uint32_t, uint32_t, uint32_t, (a & 0x80000000) | (b & 0x7FFFFFFF))
LANES_2(copysign_g, uint64_t, uint64_t, uint64_t, (a & (uint64_t)1 << 63) | (b & INT64_MAX))

/* One NaN loses; +0 is larger than -0. */
static inline float smaller_number(float a, float b) {
    if (a != a) return b;
    if (b != b) return a;
    return a < b || (a == b && bits_of(a) >> 31) ? a : b;
}
static inline float larger_number(float a, float b) {
    if (a != a) return b;
    if (b != b) return a;
    return a > b || (a == b && !(bits_of(a) >> 31)) ? a : b;
}
static inline double smaller_double(double a, double b) {
    if (a != a) return b;
    if (b != b) return a;
    return a < b || (a == b && bits_of_double(a) >> 63) ? a : b;
}
static inline double larger_double(double a, double b) {
    if (a != a) return b;
    if (b != b) return a;
    return a > b || (a == b && !(bits_of_double(a) >> 63)) ? a : b;
}
FLOAT_2(min_f, smaller_number(a, b))
FLOAT_2(max_f, larger_number(a, b))
LANES_2(min_flush, uint32_t, float, float, flush(canonical(smaller_number(a, b))))
LANES_2(max_flush, uint32_t, float, float, flush(canonical(larger_number(a, b))))
FLOAT_2(min_nan, a != a || b != b ? NAN : smaller_number(a, b))
FLOAT_2(max_nan, a != a || b != b ? NAN : larger_number(a, b))
DOUBLE_2(min_g, smaller_double(a, b))
DOUBLE_2(max_g, larger_double(a, b))

FLOAT_1(ex2_f, exp2((double)a))
FLOAT_1(lg2_f, log2((double)a))
FLOAT_1(rsqrt_f, 1 / sqrt((double)a))
FLOAT_1(sin_f, sin((double)a))
FLOAT_1(cos_f, cos((double)a))
FLOAT_1(tanh_f, tanh((double)a))
FLOAT_2(div_wide, (double)a / (double)b)
/* div.approx: a divisor in (2^126, 2^128) gives 0, or NaN for an infinite a. */
static inline float divide_approximately(float a, float b) {
    float magnitude = fabsf(b);
    if (magnitude > 0x1p126f && magnitude < INFINITY) return a * 0;
    return (float)((double)a / (double)b);
}
FLOAT_2(div_approx, divide_approximately(a, b))
DOUBLE_1(rsqrt_g, 1 / sqrt(a))
/* The gross forms take and give the upper words of an F64 and flush subnormals. */
static inline double upper_word(double value) {
    uint64_t bits = bits_of_double(value) & 0xFFFFFFFF00000000;
    if (!(bits & 0x7FF0000000000000)) bits &= (uint64_t)1 << 63;
    memcpy(&value, &bits, sizeof value);
    return value;
}
DOUBLE_1(rcp_gross, upper_word(1 / upper_word(a)))
DOUBLE_1(rsqrt_gross, upper_word(1 / sqrt(upper_word(a))))

#define ARITHMETIC (LANES_ROUND | LANES_FTZ | LANES_SAT)

const struct lanes_operation lanes_float[] = {{"add.f32", "fff", add_f, ARITHMETIC},
                                              {"sub.f32", "fff", sub_f, ARITHMETIC},
                                              {"mul.f32", "fff", mul_f, ARITHMETIC},
                                              {"fma.f32", "ffff", fma_f, ARITHMETIC},
                                              {"mad.f32", "ffff", fma_f, ARITHMETIC},
                                              {"div.f32", "fff", div_f, LANES_ROUND | LANES_FTZ},
                                              {"rcp.f32", "ff", rcp_f, LANES_ROUND | LANES_FTZ},
                                              {"sqrt.f32", "ff", sqrt_f, LANES_ROUND | LANES_FTZ},
                                              {"add.f64", "ggg", add_g, LANES_ROUND},
                                              {"sub.f64", "ggg", sub_g, LANES_ROUND},
                                              {"mul.f64", "ggg", mul_g, LANES_ROUND},
                                              {"fma.f64", "gggg", fma_g, LANES_ROUND},
                                              {"mad.f64", "gggg", fma_g, LANES_ROUND},
                                              {"div.f64", "ggg", div_g, LANES_ROUND},
                                              {"rcp.f64", "gg", rcp_g, LANES_ROUND},
                                              {"sqrt.f64", "gg", sqrt_g, LANES_ROUND},
                                              {"abs.f32", "ff", abs_f, 0},
                                              {"abs.ftz.f32", "ff", abs_flush, 0},
                                              {"neg.f32", "ff", neg_f, 0},
                                              {"neg.ftz.f32", "ff", neg_flush, 0},
                                              {"abs.f64", "gg", abs_g, 0},
                                              {"neg.f64", "gg", neg_g, 0},
                                              {"copysign.f32", "fff", copysign_f, 0},
                                              {"copysign.f64", "ggg", copysign_g, 0},
                                              {"min.f32", "fff", min_f, 0},
                                              {"max.f32", "fff", max_f, 0},
                                              {"min.ftz.f32", "fff", min_flush, LANES_FTZ},
                                              {"max.ftz.f32", "fff", max_flush, LANES_FTZ},
                                              {"min.NaN.f32", "fff", min_nan, 0},
                                              {"max.NaN.f32", "fff", max_nan, 0},
                                              {"min.f64", "ggg", min_g, 0},
                                              {"max.f64", "ggg", max_g, 0},
                                              {"rcp.approx.f32", "ff", rcp_f, LANES_FTZ},
                                              {"sqrt.approx.f32", "ff", sqrt_f, LANES_FTZ},
                                              {"rsqrt.approx.f32", "ff", rsqrt_f, LANES_FTZ},
                                              {"rsqrt.approx.f64", "gg", rsqrt_g, 0},
                                              {"rsqrt.approx.ftz.f64", "gg", rsqrt_gross, 0},
                                              {"rcp.approx.ftz.f64", "gg", rcp_gross, 0},
                                              {"ex2.approx.f32", "ff", ex2_f, LANES_FTZ},
                                              {"lg2.approx.f32", "ff", lg2_f, LANES_FTZ},
                                              {"sin.approx.f32", "ff", sin_f, LANES_FTZ},
                                              {"cos.approx.f32", "ff", cos_f, LANES_FTZ},
                                              {"tanh.approx.f32", "ff", tanh_f, 0},
                                              {"div.approx.f32", "fff", div_approx, LANES_FTZ},
                                              {"div.full.f32", "fff", div_wide, LANES_FTZ},
                                              {0}};

/* --- comparisons ------------------------------------------------------------------------------ */

/* The u forms hold also when either is NaN; num: neither is, nan: one is. */
#define COMPARE_ALL(T)                                                                             \
    LANES_COMPARE(eq_##T, T, a == b)                                                               \
    LANES_COMPARE(ne_##T, T, a<b || a> b)                                                          \
    LANES_COMPARE(lt_##T, T, a < b)                                                                \
    LANES_COMPARE(le_##T, T, a <= b)                                                               \
    LANES_COMPARE(gt_##T, T, a > b)                                                                \
    LANES_COMPARE(ge_##T, T, a >= b)                                                               \
    LANES_COMPARE(equ_##T, T, !(a < b || a > b))                                                   \
    LANES_COMPARE(neu_##T, T, a != b)                                                              \
    LANES_COMPARE(ltu_##T, T, !(a >= b))                                                           \
    LANES_COMPARE(leu_##T, T, !(a > b))                                                            \
    LANES_COMPARE(gtu_##T, T, !(a <= b))                                                           \
    LANES_COMPARE(geu_##T, T, !(a < b))                                                            \
    LANES_COMPARE(num_##T, T, a == a && b == b)                                                    \
    LANES_COMPARE(nan_##T, T, a != a || b != b)
COMPARE_ALL(float)
COMPARE_ALL(double)

#define ROWS_ALL(name, letter, T)                                                                  \
    {"eq." name, letter, eq_##T}, {"ne." name, letter, ne_##T}, {"lt." name, letter, lt_##T},      \
        {"le." name, letter, le_##T}, {"gt." name, letter, gt_##T}, {"ge." name, letter, ge_##T},  \
        {"equ." name, letter, equ_##T}, {"neu." name, letter, neu_##T},                            \
        {"ltu." name, letter, ltu_##T}, {"leu." name, letter, leu_##T},                            \
        {"gtu." name, letter, gtu_##T}, {"geu." name, letter, geu_##T},                            \
        {"num." name, letter, num_##T}, {                                                          \
        "nan." name, letter, nan_##T                                                               \
    }

const struct lanes_comparison lanes_compare_float[] = {
    ROWS_ALL("f32", 'f', float), ROWS_ALL("f64", 'g', double), {0}};
