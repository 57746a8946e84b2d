/* Integer arithmetic. Wrapping is unsigned arithmetic; what is narrower than int is widened first,
 * as a product of two 16-bit numbers would overflow int. */

#include "tests/ptx/lanes.h"

typedef uint16_t u16;
typedef int16_t s16;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;
__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;

LANES_2(add_h, u16, u16, u16, a + b)
LANES_2(add_w, u32, u32, u32, a + b)
LANES_2(add_d, u64, u64, u64, a + b)
LANES_2(sub_h, u16, u16, u16, a - b)
LANES_2(sub_w, u32, u32, u32, a - b)
LANES_2(sub_d, u64, u64, u64, a - b)

static inline s32 saturate(s64 value) {
    return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (s32)value;
}
LANES_2(add_sat, s32, s32, s32, saturate((s64)a + b))
LANES_2(sub_sat, s32, s32, s32, saturate((s64)a - b))

LANES_2(mul_lo_h, u16, u16, u16, (u32)a *b)
LANES_2(mul_lo_w, u32, u32, u32, a *b)
LANES_2(mul_lo_d, u64, u64, u64, a *b)
LANES_2(mul_hi_u16, u16, u16, u16, (u32)a *b >> 16)
LANES_2(mul_hi_s16, s16, s16, s16, (s32)a *b >> 16)
LANES_2(mul_hi_u32, u32, u32, u32, (u64)a *b >> 32)
LANES_2(mul_hi_s32, s32, s32, s32, (s64)a *b >> 32)
LANES_2(mul_hi_u64, u64, u64, u64, (u128)a *b >> 64)
LANES_2(mul_hi_s64, s64, s64, s64, (s128)a *b >> 64)
LANES_2(mul_wide_u16, u32, u16, u16, (u32)a *b)
LANES_2(mul_wide_s16, s32, s16, s16, (s32)a *b)
LANES_2(mul_wide_u32, u64, u32, u32, (u64)a *b)
LANES_2(mul_wide_s32, s64, s32, s32, (s64)a *b)

static inline u32 low24(u32 a) {
    return a & 0xFFFFFF;
}
static inline s32 low24_signed(u32 a) {
    return (s32)(a << 8) >> 8;
}
LANES_2(mul24_lo_u32, u32, u32, u32, low24(a) * low24(b))
LANES_2(mul24_lo_s32, u32, u32, u32, (u32)low24_signed(a) * (u32)low24_signed(b))

LANES_3(mad_lo_h, u16, u16, u16, u16, (u32)a *b + c)
LANES_3(mad_lo_w, u32, u32, u32, u32, a *b + c)
LANES_3(mad_lo_d, u64, u64, u64, u64, a *b + c)
LANES_3(mad_hi_u16, u16, u16, u16, u16, ((u32)a * b >> 16) + c)
LANES_3(mad_hi_s16, u16, s16, s16, u16, (u32)((s32)a *b >> 16) + c)
LANES_3(mad_hi_u32, u32, u32, u32, u32, (u32)((u64)a *b >> 32) + c)
LANES_3(mad_hi_s32, u32, s32, s32, u32, (u32)((u64)((s64)a *b) >> 32) + c)
LANES_3(mad_hi_sat, s32, s32, s32, s32, saturate(((s64)a * b >> 32) + c))
LANES_3(mad_hi_u64, u64, u64, u64, u64, (u64)((u128)a *b >> 64) + c)
LANES_3(mad_hi_s64, u64, s64, s64, u64, (u64)((s128)a *b >> 64) + c)
LANES_3(mad_wide_u16, u32, u16, u16, u32, (u32)a *b + c)
LANES_3(mad_wide_s16, u32, s16, s16, u32, (u32)((s32)a *b) + c)
LANES_3(mad_wide_u32, u64, u32, u32, u64, (u64)a *b + c)
LANES_3(mad_wide_s32, u64, s32, s32, u64, (u64)((s64)a *b) + c)

/* By zero: the machine has refused it for the lanes that count; the smallest by -1 wraps. */
LANES_2(div_u16, u16, u16, u16, b ? a / b : 0xFFFF)
LANES_2(div_s16, u16, s16, s16, b ? (u16)(a / b) : 0xFFFF)
LANES_2(div_u32, u32, u32, u32, b ? a / b : UINT32_MAX)
LANES_2(div_s32, u32, s32, s32, b ? (u32)((s64)a / b) : UINT32_MAX)
LANES_2(div_u64, u64, u64, u64, b ? a / b : UINT64_MAX)
LANES_2(div_s64, u64, s64, s64, b == 0 ? UINT64_MAX : b == -1 ? -(u64)a : (u64)(a / b))
LANES_2(rem_u16, u16, u16, u16, b ? a % b : a)
LANES_2(rem_s16, s16, s16, s16, b ? a % b : a)
LANES_2(rem_u32, u32, u32, u32, b ? a % b : a)
LANES_2(rem_s32, s32, s32, s32, b ? (s64)a % b : a)
LANES_2(rem_u64, u64, u64, u64, b ? a % b : a)
LANES_2(rem_s64, s64, s64, s64, b == 0 ? a : b == -1 ? 0 : a % b)

LANES_2(min_u16, u16, u16, u16, a < b ? a : b)
LANES_2(min_s16, s16, s16, s16, a < b ? a : b)
LANES_2(min_u32, u32, u32, u32, a < b ? a : b)
LANES_2(min_s32, s32, s32, s32, a < b ? a : b)
LANES_2(min_u64, u64, u64, u64, a < b ? a : b)
LANES_2(min_s64, s64, s64, s64, a < b ? a : b)
LANES_2(max_u16, u16, u16, u16, a > b ? a : b)
LANES_2(max_s16, s16, s16, s16, a > b ? a : b)
LANES_2(max_u32, u32, u32, u32, a > b ? a : b)
LANES_2(max_s32, s32, s32, s32, a > b ? a : b)
LANES_2(max_u64, u64, u64, u64, a > b ? a : b)
LANES_2(max_s64, s64, s64, s64, a > b ? a : b)

LANES_1(abs_h, u16, s16, a < 0 ? -a : a)
LANES_1(abs_w, u32, s32, a < 0 ? -(u32)a : (u32)a)
LANES_1(abs_d, u64, s64, a < 0 ? -(u64)a : (u64)a)
LANES_1(neg_h, u16, u16, -a)
LANES_1(neg_w, u32, u32, -a)
LANES_1(neg_d, u64, u64, -a)

LANES_3(sad_u16, u16, u16, u16, u16, c + (a < b ? b - a : a - b))
LANES_3(sad_s16, u16, s16, s16, u16, c + (a < b ? b - a : a - b))
LANES_3(sad_u32, u32, u32, u32, u32, c + (a < b ? b - a : a - b))
LANES_3(sad_s32, u32, s32, s32, u32, c + (a < b ? (u32)b - (u32)a : (u32)a - (u32)b))
LANES_3(sad_u64, u64, u64, u64, u64, c + (a < b ? b - a : a - b))
LANES_3(sad_s64, u64, s64, s64, u64, c + (a < b ? (u64)b - (u64)a : (u64)a - (u64)b))

/* Sums of products of bytes, into 32 bits that wrap. */
#define BYTE(x, i, T) ((s32)(T)((x) >> (8 * (i))))
#define HALF(x, i, T) ((s32)(T)((x) >> (16 * (i))))
#define DP4(A, B)                                                                                  \
    c + (u32)(BYTE(a, 0, A) * BYTE(b, 0, B) + BYTE(a, 1, A) * BYTE(b, 1, B) +                      \
              BYTE(a, 2, A) * BYTE(b, 2, B) + BYTE(a, 3, A) * BYTE(b, 3, B))
#define DP2(A, B, first)                                                                           \
    c + (u32)(HALF(a, 0, A) * BYTE(b, first, B) + HALF(a, 1, A) * BYTE(b, first + 1, B))
LANES_3(dp4a_ss, u32, u32, u32, u32, DP4(int8_t, int8_t))
LANES_3(dp4a_su, u32, u32, u32, u32, DP4(int8_t, uint8_t))
LANES_3(dp4a_us, u32, u32, u32, u32, DP4(uint8_t, int8_t))
LANES_3(dp4a_uu, u32, u32, u32, u32, DP4(uint8_t, uint8_t))
LANES_3(dp2a_lo_ss, u32, u32, u32, u32, DP2(int16_t, int8_t, 0))
LANES_3(dp2a_lo_su, u32, u32, u32, u32, DP2(int16_t, uint8_t, 0))
LANES_3(dp2a_lo_us, u32, u32, u32, u32, DP2(uint16_t, int8_t, 0))
LANES_3(dp2a_lo_uu, u32, u32, u32, u32, DP2(uint16_t, uint8_t, 0))
LANES_3(dp2a_hi_ss, u32, u32, u32, u32, DP2(int16_t, int8_t, 2))
LANES_3(dp2a_hi_su, u32, u32, u32, u32, DP2(int16_t, uint8_t, 2))
LANES_3(dp2a_hi_us, u32, u32, u32, u32, DP2(uint16_t, int8_t, 2))
LANES_3(dp2a_hi_uu, u32, u32, u32, u32, DP2(uint16_t, uint8_t, 2))

/* Two 16-bit integers in a register. */
static inline u32 pair(u32 low, u32 high) {
    return (low & 0xFFFF) | high << 16;
}
LANES_2(add_x2, u32, u32, u32, pair(a + b, (a >> 16) + (b >> 16)))
#define EACH_HALF(T, less, a_, b_) ((T)(a_)less(T)(b_) ? (a_) : (b_))
LANES_2(min_u16x2, u32, u32, u32,
        pair(EACH_HALF(u16, <, a, b), EACH_HALF(u16, <, a >> 16, b >> 16)))
LANES_2(min_s16x2, u32, u32, u32,
        pair(EACH_HALF(s16, <, a, b), EACH_HALF(s16, <, a >> 16, b >> 16)))
LANES_2(max_u16x2, u32, u32, u32,
        pair(EACH_HALF(u16, >, a, b), EACH_HALF(u16, >, a >> 16, b >> 16)))
LANES_2(max_s16x2, u32, u32, u32,
        pair(EACH_HALF(s16, >, a, b), EACH_HALF(s16, >, a >> 16, b >> 16)))

#define BOTH(op, bits, types, function)                                                            \
    {op ".u" bits, types, function, 0}, {                                                          \
        op ".s" bits, types, function, 0                                                           \
    }

const struct lanes_operation lanes_integer[] = {BOTH("add", "16", "hhh", add_h),
                                                BOTH("add", "32", "www", add_w),
                                                BOTH("add", "64", "ddd", add_d),
                                                {"add.sat.s32", "www", add_sat, 0},
                                                BOTH("sub", "16", "hhh", sub_h),
                                                BOTH("sub", "32", "www", sub_w),
                                                BOTH("sub", "64", "ddd", sub_d),
                                                {"sub.sat.s32", "www", sub_sat, 0},
                                                BOTH("mul.lo", "16", "hhh", mul_lo_h),
                                                BOTH("mul.lo", "32", "www", mul_lo_w),
                                                BOTH("mul.lo", "64", "ddd", mul_lo_d),
                                                {"mul.hi.u16", "hhh", mul_hi_u16, 0},
                                                {"mul.hi.s16", "hhh", mul_hi_s16, 0},
                                                {"mul.hi.u32", "www", mul_hi_u32, 0},
                                                {"mul.hi.s32", "www", mul_hi_s32, 0},
                                                {"mul.hi.u64", "ddd", mul_hi_u64, 0},
                                                {"mul.hi.s64", "ddd", mul_hi_s64, 0},
                                                {"mul.wide.u16", "whh", mul_wide_u16, 0},
                                                {"mul.wide.s16", "whh", mul_wide_s16, 0},
                                                {"mul.wide.u32", "dww", mul_wide_u32, 0},
                                                {"mul.wide.s32", "dww", mul_wide_s32, 0},
                                                {"mul24.lo.u32", "www", mul24_lo_u32, 0},
                                                {"mul24.lo.s32", "www", mul24_lo_s32, 0},
                                                BOTH("mad.lo", "16", "hhhh", mad_lo_h),
                                                BOTH("mad.lo", "32", "wwww", mad_lo_w),
                                                BOTH("mad.lo", "64", "dddd", mad_lo_d),
                                                {"mad.hi.u16", "hhhh", mad_hi_u16, 0},
                                                {"mad.hi.s16", "hhhh", mad_hi_s16, 0},
                                                {"mad.hi.u32", "wwww", mad_hi_u32, 0},
                                                {"mad.hi.s32", "wwww", mad_hi_s32, 0},
                                                {"mad.hi.sat.s32", "wwww", mad_hi_sat, 0},
                                                {"mad.hi.u64", "dddd", mad_hi_u64, 0},
                                                {"mad.hi.s64", "dddd", mad_hi_s64, 0},
                                                {"mad.wide.u16", "whhw", mad_wide_u16, 0},
                                                {"mad.wide.s16", "whhw", mad_wide_s16, 0},
                                                {"mad.wide.u32", "dwwd", mad_wide_u32, 0},
                                                {"mad.wide.s32", "dwwd", mad_wide_s32, 0},
                                                {"div.u16", "hhh", div_u16, LANES_DIVIDES},
                                                {"div.s16", "hhh", div_s16, LANES_DIVIDES},
                                                {"div.u32", "www", div_u32, LANES_DIVIDES},
                                                {"div.s32", "www", div_s32, LANES_DIVIDES},
                                                {"div.u64", "ddd", div_u64, LANES_DIVIDES},
                                                {"div.s64", "ddd", div_s64, LANES_DIVIDES},
                                                {"rem.u16", "hhh", rem_u16, LANES_DIVIDES},
                                                {"rem.s16", "hhh", rem_s16, LANES_DIVIDES},
                                                {"rem.u32", "www", rem_u32, LANES_DIVIDES},
                                                {"rem.s32", "www", rem_s32, LANES_DIVIDES},
                                                {"rem.u64", "ddd", rem_u64, LANES_DIVIDES},
                                                {"rem.s64", "ddd", rem_s64, LANES_DIVIDES},
                                                {"min.u16", "hhh", min_u16, 0},
                                                {"min.s16", "hhh", min_s16, 0},
                                                {"min.u32", "www", min_u32, 0},
                                                {"min.s32", "www", min_s32, 0},
                                                {"min.u64", "ddd", min_u64, 0},
                                                {"min.s64", "ddd", min_s64, 0},
                                                {"max.u16", "hhh", max_u16, 0},
                                                {"max.s16", "hhh", max_s16, 0},
                                                {"max.u32", "www", max_u32, 0},
                                                {"max.s32", "www", max_s32, 0},
                                                {"max.u64", "ddd", max_u64, 0},
                                                {"max.s64", "ddd", max_s64, 0},
                                                {"add.u16x2", "www", add_x2, 0},
                                                {"add.s16x2", "www", add_x2, 0},
                                                {"min.u16x2", "www", min_u16x2, 0},
                                                {"min.s16x2", "www", min_s16x2, 0},
                                                {"max.u16x2", "www", max_u16x2, 0},
                                                {"max.s16x2", "www", max_s16x2, 0},
                                                {"abs.s16", "hh", abs_h, 0},
                                                {"abs.s32", "ww", abs_w, 0},
                                                {"abs.s64", "dd", abs_d, 0},
                                                {"neg.s16", "hh", neg_h, 0},
                                                {"neg.s32", "ww", neg_w, 0},
                                                {"neg.s64", "dd", neg_d, 0},
                                                {"sad.u16", "hhhh", sad_u16, 0},
                                                {"sad.s16", "hhhh", sad_s16, 0},
                                                {"sad.u32", "wwww", sad_u32, 0},
                                                {"sad.s32", "wwww", sad_s32, 0},
                                                {"sad.u64", "dddd", sad_u64, 0},
                                                {"sad.s64", "dddd", sad_s64, 0},
                                                {"dp4a.s32.s32", "wwww", dp4a_ss, 0},
                                                {"dp4a.s32.u32", "wwww", dp4a_su, 0},
                                                {"dp4a.u32.s32", "wwww", dp4a_us, 0},
                                                {"dp4a.u32.u32", "wwww", dp4a_uu, 0},
                                                {"dp2a.lo.s32.s32", "wwww", dp2a_lo_ss, 0},
                                                {"dp2a.lo.s32.u32", "wwww", dp2a_lo_su, 0},
                                                {"dp2a.lo.u32.s32", "wwww", dp2a_lo_us, 0},
                                                {"dp2a.lo.u32.u32", "wwww", dp2a_lo_uu, 0},
                                                {"dp2a.hi.s32.s32", "wwww", dp2a_hi_ss, 0},
                                                {"dp2a.hi.s32.u32", "wwww", dp2a_hi_su, 0},
                                                {"dp2a.hi.u32.s32", "wwww", dp2a_hi_us, 0},
                                                {"dp2a.hi.u32.u32", "wwww", dp2a_hi_uu, 0},
                                                {0}};

/* --- comparisons ------------------------------------------------------------------------------ */

#define COMPARE_ALL(T)                                                                             \
    LANES_COMPARE(eq_##T, T, a == b)                                                               \
    LANES_COMPARE(ne_##T, T, a != b)                                                               \
    LANES_COMPARE(lt_##T, T, a < b)                                                                \
    LANES_COMPARE(le_##T, T, a <= b)                                                               \
    LANES_COMPARE(gt_##T, T, a > b)                                                                \
    LANES_COMPARE(ge_##T, T, a >= b)
COMPARE_ALL(u16)
COMPARE_ALL(s16)
COMPARE_ALL(u32)
COMPARE_ALL(s32)
COMPARE_ALL(u64)
COMPARE_ALL(s64)

#define ROWS_EQUAL(name, letter, T)                                                                \
    {"eq." name, letter, eq_##T}, {                                                                \
        "ne." name, letter, ne_##T                                                                 \
    }
#define ROWS_ORDERED(name, letter, T)                                                              \
    ROWS_EQUAL(name, letter, T), {"lt." name, letter, lt_##T}, {"le." name, letter, le_##T},       \
        {"gt." name, letter, gt_##T}, {                                                            \
        "ge." name, letter, ge_##T                                                                 \
    }
#define ROWS_UNSIGNED(name, letter, T)                                                             \
    {"lo." name, letter, lt_##T}, {"ls." name, letter, le_##T}, {"hi." name, letter, gt_##T}, {    \
        "hs." name, letter, ge_##T                                                                 \
    }

const struct lanes_comparison lanes_compare_integer[] = {ROWS_EQUAL("b16", 'h', u16),
                                                         ROWS_EQUAL("b32", 'w', u32),
                                                         ROWS_EQUAL("b64", 'd', u64),
                                                         ROWS_ORDERED("u16", 'h', u16),
                                                         ROWS_ORDERED("u32", 'w', u32),
                                                         ROWS_ORDERED("u64", 'd', u64),
                                                         ROWS_ORDERED("s16", 'h', s16),
                                                         ROWS_ORDERED("s32", 'w', s32),
                                                         ROWS_ORDERED("s64", 'd', s64),
                                                         ROWS_UNSIGNED("u16", 'h', u16),
                                                         ROWS_UNSIGNED("u32", 'w', u32),
                                                         ROWS_UNSIGNED("u64", 'd', u64),
                                                         {0}};
