/* F16 and BF16 arithmetic, one value or two in a register.
 *
 * An operation is done in F64 and rounded once: products of two are exact there, and where a sum
 * is not, it is rounded to odd, so that the last rounding sees on which side of a tie it lies. */

#include <math.h>
#include <string.h>

#include "tests/ptx/lanes.h"
#include "tests/ptx/number.h"

typedef uint16_t u16;
typedef uint32_t u32;

/* x + y to F64 with the last bit set where anything was lost. */
static double add_to_odd(double x, double y) {
    double sum = x + y;
    if (!isfinite(sum)) return sum;
    double part = sum - x;
    double lost = (x - (sum - part)) + (y - part);
    if (lost == 0) return sum;
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (bits & 1) return sum;
    /* Towards the true value, which lies beyond sum if lost has sum's sign. */
    bits = (lost > 0) == (sum > 0) ? bits + 1 : bits - 1;
    memcpy(&sum, &bits, sizeof sum);
    return sum;
}

static u16 to_f16(double value) {
    return (u16)number_round(number_of_f64(value), &format_f16, ROUND_NEAREST);
}
static u16 to_bf16(double value) {
    return (u16)number_round(number_of_f64(value), &format_bf16, ROUND_NEAREST);
}
static double of_f16(u16 half) {
    return (double)f16_value(half);
}
static double of_bf16(u16 half) {
    return (double)bf16_value(half);
}

typedef double function_1(double a);
typedef double function_2(double a, double b);
typedef double function_3(double a, double b, double c);

static double add(double a, double b) {
    return add_to_odd(a, b);
}
static double subtract(double a, double b) {
    return add_to_odd(a, -b);
}
static double multiply(double a, double b) {
    return a * b;
}
static double multiply_add(double a, double b, double c) {
    return add_to_odd(a * b, c);
}
static double saturate(double value) {
    return value > 0 ? (value < 1 ? value : 1) : 0;
}
static double add_saturate(double a, double b) {
    return saturate(add(a, b));
}
static double subtract_saturate(double a, double b) {
    return saturate(subtract(a, b));
}
static double multiply_saturate(double a, double b) {
    return saturate(a * b);
}
static double multiply_add_saturate(double a, double b, double c) {
    return saturate(multiply_add(a, b, c));
}
static double multiply_add_relu(double a, double b, double c) {
    double value = multiply_add(a, b, c);
    return value < 0 ? 0 : value;
}
/* One NaN loses; +0 is larger than -0. */
static double minimum(double a, double b) {
    if (isnan(a)) return b;
    if (isnan(b)) return a;
    return a < b || (a == b && signbit(a)) ? a : b;
}
static double maximum(double a, double b) {
    if (isnan(a)) return b;
    if (isnan(b)) return a;
    return a > b || (a == b && !signbit(a)) ? a : b;
}
static double minimum_nan(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : minimum(a, b);
}
static double maximum_nan(double a, double b) {
    return isnan(a) || isnan(b) ? NAN : maximum(a, b);
}

/* For each function: f16, f16x2, bf16, bf16x2. */
#define HALF_FORMAT(name, function, to, of, arguments)                                             \
    static void name(void *result, const void *const *s) {                                         \
        u16 *r = result;                                                                           \
        for (int i = 0; i < LANES; i++) r[i] = to(function arguments(s, i, of));                   \
    }                                                                                              \
    static void name##x2(void *result, const void *const *s) {                                     \
        u16 *r = result;                                                                           \
        for (int i = 0; i < 2 * LANES; i++) r[i] = to(function arguments(s, i, of));               \
    }
#define VALUE(s, n, i, of) of(((const u16 *)s[n])[i])
#define ONE(s, i, of) (VALUE(s, 0, i, of))
#define TWO(s, i, of) (VALUE(s, 0, i, of), VALUE(s, 1, i, of))
#define THREE(s, i, of) (VALUE(s, 0, i, of), VALUE(s, 1, i, of), VALUE(s, 2, i, of))
#define HALF(name, function, arguments)                                                            \
    HALF_FORMAT(name##_f16, function, to_f16, of_f16, arguments)                                   \
    HALF_FORMAT(name##_bf16, function, to_bf16, of_bf16, arguments)

/* A sum, difference or product of two F16 may be rounded to F32 first: it has the 2 * 11 + 2 bits
 * that make the second rounding harmless. */
#define F16_FAST(name, expression)                                                                 \
    LANES_2(name##_f16, u16, u16, u16,                                                             \
            f16_nearest(float_bits(f16_value(a) expression f16_value(b))))                         \
    LANES_CODE static void name##_f16x2(void *result, const void *const *s) {                      \
        u16 *r = result;                                                                           \
        const u16 *a = s[0], *b = s[1];                                                            \
        _Pragma("GCC ivdep") for (int i = 0; i < 2 * LANES; i++) r[i] =                            \
            f16_nearest(float_bits(f16_value(a[i]) expression f16_value(b[i])));                   \
    }
F16_FAST(add, +)
F16_FAST(sub, -)
F16_FAST(mul, *)

HALF_FORMAT(add_bf16, add, to_bf16, of_bf16, TWO)
HALF_FORMAT(sub_bf16, subtract, to_bf16, of_bf16, TWO)
HALF_FORMAT(mul_bf16, multiply, to_bf16, of_bf16, TWO)
HALF(fma, multiply_add, THREE)
HALF(add_sat, add_saturate, TWO)
HALF(sub_sat, subtract_saturate, TWO)
HALF(mul_sat, multiply_saturate, TWO)
HALF(fma_sat, multiply_add_saturate, THREE)
HALF(fma_relu, multiply_add_relu, THREE)
HALF(min, minimum, TWO)
HALF(max, maximum, TWO)
HALF(min_nan, minimum_nan, TWO)
HALF(max_nan, maximum_nan, TWO)
HALF(ex2, exp2, ONE)
HALF(tanh, tanh, ONE)

LANES_1(neg_one, u16, u16, a ^ 0x8000)
LANES_1(neg_two, u32, u32, a ^ 0x80008000)
LANES_1(abs_one, u16, u16, a & 0x7FFF)
LANES_1(abs_two, u32, u32, a & 0x7FFF7FFF)

/* Comparisons through F32, where every F16 and BF16 is exact. */
#define HALF_COMPARE(name, expression)                                                             \
    static uint32_t name##_f16(const void *left, const void *right) {                              \
        uint32_t mask = 0;                                                                         \
        for (int i = 0; i < LANES; i++) {                                                          \
            float a = f16_value(((const u16 *)left)[i]), b = f16_value(((const u16 *)right)[i]);   \
            mask |= (uint32_t)(expression) << i;                                                   \
        }                                                                                          \
        return mask;                                                                               \
    }                                                                                              \
    static uint32_t name##_bf16(const void *left, const void *right) {                             \
        uint32_t mask = 0;                                                                         \
        for (int i = 0; i < LANES; i++) {                                                          \
            float a = bf16_value(((const u16 *)left)[i]), b = bf16_value(((const u16 *)right)[i]); \
            mask |= (uint32_t)(expression) << i;                                                   \
        }                                                                                          \
        return mask;                                                                               \
    }
HALF_COMPARE(eq, a == b)
HALF_COMPARE(ne, a<b || a> b)
HALF_COMPARE(lt, a < b)
HALF_COMPARE(le, a <= b)
HALF_COMPARE(gt, a > b)
HALF_COMPARE(ge, a >= b)
HALF_COMPARE(equ, !(a < b || a > b))
HALF_COMPARE(neu, !(a == b))
HALF_COMPARE(ltu, !(a >= b))
HALF_COMPARE(leu, !(a > b))
HALF_COMPARE(gtu, !(a <= b))
HALF_COMPARE(geu, !(a < b))
HALF_COMPARE(num, a == a && b == b)
HALF_COMPARE(nan, a != a || b != b)

#define ROWS_HALF(name)                                                                            \
    {#name ".f16", 'e', name##_f16}, {                                                             \
#name ".bf16", 'b', name##_bf16                                                            \
    }

const struct lanes_comparison lanes_compare_half[] = {
    ROWS_HALF(eq),  ROWS_HALF(ne),  ROWS_HALF(lt),  ROWS_HALF(le),  ROWS_HALF(gt),
    ROWS_HALF(ge),  ROWS_HALF(equ), ROWS_HALF(neu), ROWS_HALF(ltu), ROWS_HALF(leu),
    ROWS_HALF(gtu), ROWS_HALF(geu), ROWS_HALF(num), ROWS_HALF(nan), {0}};

#define FORMATS(op, suffix, name, arity, modifiers)                                                \
    {op ".f16" suffix, &"eeee"[3 - (arity)], name##_f16, modifiers},                               \
        {op ".f16x2" suffix, &"EEEE"[3 - (arity)], name##_f16x2, modifiers},                       \
        {op ".bf16" suffix, &"bbbb"[3 - (arity)], name##_bf16, modifiers}, {                       \
        op ".bf16x2" suffix, &"BBBB"[3 - (arity)], name##_bf16x2, modifiers                        \
    }

const struct lanes_operation lanes_half[] = {FORMATS("add", "", add, 2, LANES_RN),
                                             FORMATS("sub", "", sub, 2, LANES_RN),
                                             FORMATS("mul", "", mul, 2, LANES_RN),
                                             FORMATS("fma", "", fma, 3, LANES_RN),
                                             FORMATS("add.sat", "", add_sat, 2, LANES_RN),
                                             FORMATS("sub.sat", "", sub_sat, 2, LANES_RN),
                                             FORMATS("mul.sat", "", mul_sat, 2, LANES_RN),
                                             FORMATS("fma.sat", "", fma_sat, 3, LANES_RN),
                                             FORMATS("fma.relu", "", fma_relu, 3, LANES_RN),
                                             FORMATS("min", "", min, 2, 0),
                                             FORMATS("max", "", max, 2, 0),
                                             FORMATS("min.NaN", "", min_nan, 2, 0),
                                             FORMATS("max.NaN", "", max_nan, 2, 0),
                                             {"ex2.approx.f16", "ee", ex2_f16, 0},
                                             {"ex2.approx.f16x2", "EE", ex2_f16x2, 0},
                                             {"ex2.approx.ftz.bf16", "bb", ex2_bf16, 0},
                                             {"ex2.approx.ftz.bf16x2", "BB", ex2_bf16x2, 0},
                                             {"tanh.approx.f16", "ee", tanh_f16, 0},
                                             {"tanh.approx.f16x2", "EE", tanh_f16x2, 0},
                                             {"tanh.approx.bf16", "bb", tanh_bf16, 0},
                                             {"tanh.approx.bf16x2", "BB", tanh_bf16x2, 0},
                                             {"neg.f16", "ee", neg_one, 0},
                                             {"neg.bf16", "bb", neg_one, 0},
                                             {"neg.f16x2", "EE", neg_two, 0},
                                             {"neg.bf16x2", "BB", neg_two, 0},
                                             {"abs.f16", "ee", abs_one, 0},
                                             {"abs.bf16", "bb", abs_one, 0},
                                             {"abs.f16x2", "EE", abs_two, 0},
                                             {"abs.bf16x2", "BB", abs_two, 0},
                                             {0}};
