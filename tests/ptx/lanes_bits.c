/* Logic, shifts, bit fields, permutations, selections. */

#include "tests/ptx/lanes.h"

typedef uint16_t u16;
typedef int16_t s16;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;

LANES_1(mov_h, u16, u16, a)
LANES_1(mov_w, u32, u32, a)
LANES_1(mov_d, u64, u64, a)

LANES_2(and_h, u16, u16, u16, a &b)
LANES_2(and_w, u32, u32, u32, a &b)
LANES_2(and_d, u64, u64, u64, a &b)
LANES_2(or_h, u16, u16, u16, a | b)
LANES_2(or_w, u32, u32, u32, a | b)
LANES_2(or_d, u64, u64, u64, a | b)
LANES_2(xor_h, u16, u16, u16, a ^ b)
LANES_2(xor_w, u32, u32, u32, a ^ b)
LANES_2(xor_d, u64, u64, u64, a ^ b)
LANES_1(not_h, u16, u16, ~a)
LANES_1(not_w, u32, u32, ~a)
LANES_1(not_d, u64, u64, ~a)
LANES_1(cnot_h, u16, u16, a == 0)
LANES_1(cnot_w, u32, u32, a == 0)
LANES_1(cnot_d, u64, u64, a == 0)

/* Amounts beyond the width clamp to it. */
LANES_2(shl_h, u16, u16, u32, b > 15 ? 0 : (u32)a << b)
LANES_2(shl_w, u32, u32, u32, b > 31 ? 0 : a << (b & 31))
LANES_2(shl_d, u64, u64, u32, b > 63 ? 0 : a << (b & 63))
LANES_2(shr_u16, u16, u16, u32, b > 15 ? 0 : a >> b)
LANES_2(shr_u32, u32, u32, u32, b > 31 ? 0 : a >> (b & 31))
LANES_2(shr_u64, u64, u64, u32, b > 63 ? 0 : a >> (b & 63))
LANES_2(shr_s16, s16, s16, u32, a >> (b > 15 ? 15 : b))
LANES_2(shr_s32, s32, s32, u32, a >> (b > 31 ? 31 : b))
LANES_2(shr_s64, s64, s64, u32, a >> (b > 63 ? 63 : b))

/* c = 0 would shift by 32: b (left) or a (right) as it is. */
static inline u32 funnel_left(u32 a, u32 b, u32 n) {
    return (u32)(((u64)b << 32 | a) << n >> 32);
}
static inline u32 funnel_right(u32 a, u32 b, u32 n) {
    return (u32)(((u64)b << 32 | a) >> n);
}
LANES_3(shf_l_wrap, u32, u32, u32, u32, funnel_left(a, b, c & 31))
LANES_3(shf_r_wrap, u32, u32, u32, u32, funnel_right(a, b, c & 31))
LANES_3(shf_l_clamp, u32, u32, u32, u32, funnel_left(a, b, c > 32 ? 32 : c))
LANES_3(shf_r_clamp, u32, u32, u32, u32, funnel_right(a, b, c > 32 ? 32 : c))

LANES_1(popc_w, u32, u32, __builtin_popcount(a))
LANES_1(popc_d, u32, u64, __builtin_popcountll(a))
LANES_1(clz_w, u32, u32, a ? __builtin_clz(a) : 32)
LANES_1(clz_d, u32, u64, a ? __builtin_clzll(a) : 64)

static inline u32 reverse(u32 a) {
    a = (a >> 1 & 0x55555555) | (a & 0x55555555) << 1;
    a = (a >> 2 & 0x33333333) | (a & 0x33333333) << 2;
    a = (a >> 4 & 0x0F0F0F0F) | (a & 0x0F0F0F0F) << 4;
    return __builtin_bswap32(a);
}
LANES_1(brev_w, u32, u32, reverse(a))
LANES_1(brev_d, u64, u64, (u64)reverse((u32)a) << 32 | reverse((u32)(a >> 32)))

/* The highest bit that differs from the sign; none: all ones. */
static inline u32 highest(u64 a) {
    return a ? 63 - (u32)__builtin_clzll(a) : UINT32_MAX;
}
static inline u32 highest_shift(u64 a, u32 top) {
    return a ? top - highest(a) : UINT32_MAX;
}
LANES_1(bfind_u32, u32, u32, highest(a))
LANES_1(bfind_s32, u32, s32, highest((u32)(a < 0 ? ~a : a)))
LANES_1(bfind_u64, u32, u64, highest(a))
LANES_1(bfind_s64, u32, s64, highest((u64)(a < 0 ? ~a : a)))
LANES_1(bfind_shift_u32, u32, u32, highest_shift(a, 31))
LANES_1(bfind_shift_s32, u32, s32, highest_shift((u32)(a < 0 ? ~a : a), 31))
LANES_1(bfind_shift_u64, u32, u64, highest_shift(a, 63))
LANES_1(bfind_shift_s64, u32, s64, highest_shift((u64)(a < 0 ? ~a : a), 63))

static inline u64 low_bits(u32 count) {
    return count > 63 ? UINT64_MAX : ((u64)1 << count) - 1;
}

/* Bits above the field repeat its highest bit, or that of a where the field reaches past it. */
static inline u64 field_extract(u64 a, u32 start, u32 length, u32 top, bool with_sign) {
    start &= 255;
    length &= 255;
    u64 field = start > top ? 0 : a >> start & low_bits(length);
    if (!with_sign || length == 0) return field;
    u32 last = start + length - 1 > top ? top : start + length - 1;
    bool negative = a >> last & 1;
    u32 present = start > top ? 0 : last - start + 1;
    return negative ? field | ~low_bits(present) : field;
}
LANES_3(bfe_u32, u32, u32, u32, u32, field_extract(a, b, c, 31, false))
LANES_3(bfe_s32, u32, u32, u32, u32, field_extract(a, b, c, 31, true))
LANES_3(bfe_u64, u64, u64, u32, u32, field_extract(a, b, c, 63, false))
LANES_3(bfe_s64, u64, u64, u32, u32, field_extract(a, b, c, 63, true))

static inline u64 field_insert(u64 a, u64 b, u32 start, u32 length, u32 top) {
    start &= 255;
    length &= 255;
    if (start > top) return b;
    u64 mask = low_bits(length) << start;
    return (b & ~mask) | (a << start & mask);
}
LANES_4(bfi_w, u32, u32, u32, u32, u32, field_insert(a, b, c, d, 31))
LANES_4(bfi_d, u64, u64, u64, u32, u32, field_insert(a, b, c, d, 63))

static inline u32 byte_mask(u32 start, u32 length) {
    return start > 31 ? 0 : (u32)(low_bits(length > 32 ? 32 : length) << start);
}
LANES_2(bmsk_clamp, u32, u32, u32, byte_mask(a, b))
LANES_2(bmsk_wrap, u32, u32, u32, byte_mask(a & 31, b & 31))

static inline u32 extend(u32 a, u32 bits, bool with_sign) {
    if (bits > 31) return a;
    u32 low = a & (u32)low_bits(bits);
    return with_sign && bits > 0 && low >> (bits - 1) & 1 ? low | ~(u32)low_bits(bits) : low;
}
LANES_2(szext_clamp_u, u32, u32, u32, extend(a, b, false))
LANES_2(szext_clamp_s, u32, u32, u32, extend(a, b, true))
LANES_2(szext_wrap_u, u32, u32, u32, extend(a, b & 31, false))
LANES_2(szext_wrap_s, u32, u32, u32, extend(a, b & 31, true))

static inline u32 truth_table(u32 a, u32 b, u32 c, u32 table) {
    u32 d = 0;
    if (table & 0x01) d |= ~a & ~b & ~c;
    if (table & 0x02) d |= ~a & ~b & c;
    if (table & 0x04) d |= ~a & b & ~c;
    if (table & 0x08) d |= ~a & b & c;
    if (table & 0x10) d |= a & ~b & ~c;
    if (table & 0x20) d |= a & ~b & c;
    if (table & 0x40) d |= a & b & ~c;
    if (table & 0x80) d |= a & b & c;
    return d;
}
LANES_4(lop3, u32, u32, u32, u32, u32, truth_table(a, b, c, d))

/* prmt: each result byte is one of the eight of b:a, or that byte's sign spread over it. */
static inline u32 permute_byte(u64 bytes, u32 selector) {
    u32 byte = (u32)(bytes >> (8 * (selector & 7))) & 255;
    return selector & 8 ? (byte & 128 ? 255 : 0) : byte;
}
static inline u32 permute(u32 a, u32 b, u32 s0, u32 s1, u32 s2, u32 s3) {
    u64 bytes = (u64)b << 32 | a;
    return permute_byte(bytes, s0) | permute_byte(bytes, s1) << 8 | permute_byte(bytes, s2) << 16 |
           permute_byte(bytes, s3) << 24;
}
static inline u32 larger(u32 a, u32 b) {
    return a > b ? a : b;
}
static inline u32 smaller(u32 a, u32 b) {
    return a < b ? a : b;
}
LANES_3(prmt, u32, u32, u32, u32, permute(a, b, c & 15, c >> 4 & 15, c >> 8 & 15, c >> 12 & 15))
LANES_3(prmt_f4e, u32, u32, u32, u32, permute(a, b, c & 3, (c & 3) + 1, (c & 3) + 2, (c & 3) + 3))
LANES_3(prmt_b4e, u32, u32, u32, u32,
        permute(a, b, c & 3, ((c & 3) + 7) & 7, ((c & 3) + 6) & 7, ((c & 3) + 5) & 7))
LANES_3(prmt_rc8, u32, u32, u32, u32, permute(a, b, c & 3, c & 3, c & 3, c & 3))
LANES_3(prmt_ecl, u32, u32, u32, u32, permute(a, b, c & 3, larger(c & 3, 1), larger(c & 3, 2), 3))
LANES_3(prmt_ecr, u32, u32, u32, u32, permute(a, b, 0, smaller(c & 3, 1), smaller(c & 3, 2), c & 3))
LANES_3(prmt_rc16, u32, u32, u32, u32,
        permute(a, b, (c & 1) * 2, (c & 1) * 2 + 1, (c & 1) * 2, (c & 1) * 2 + 1))

#define LANES_SELECT(name, T)                                                                      \
    LANES_CODE static void name(void *result, const void *const *s) {                              \
        T *r = result;                                                                             \
        const T *a = s[0], *b = s[1];                                                              \
        u32 mask = *(const u32 *)s[2];                                                             \
        LANES_LOOP r[i] = mask >> i & 1 ? a[i] : b[i];                                             \
    }
LANES_SELECT(selp_h, u16)
LANES_SELECT(selp_w, u32)
LANES_SELECT(selp_d, u64)

LANES_3(slct_h_s, u16, u16, u16, s32, c >= 0 ? a : b)
LANES_3(slct_w_s, u32, u32, u32, s32, c >= 0 ? a : b)
LANES_3(slct_d_s, u64, u64, u64, s32, c >= 0 ? a : b)
LANES_3(slct_h_f, u16, u16, u16, float, c >= 0 ? a : b)
LANES_3(slct_w_f, u32, u32, u32, float, c >= 0 ? a : b)
LANES_3(slct_d_f, u64, u64, u64, float, c >= 0 ? a : b)

#define ANY_16(op, types, f)                                                                       \
    {op ".b16", types, f, 0}, {op ".u16", types, f, 0}, {                                          \
        op ".s16", types, f, 0                                                                     \
    }
#define ANY_32(op, types, f)                                                                       \
    {op ".b32", types, f, 0}, {op ".u32", types, f, 0}, {op ".s32", types, f, 0}, {                \
        op ".f32", types, f, 0                                                                     \
    }
#define ANY_64(op, types, f)                                                                       \
    {op ".b64", types, f, 0}, {op ".u64", types, f, 0}, {op ".s64", types, f, 0}, {                \
        op ".f64", types, f, 0                                                                     \
    }
#define ANY_SLCT(from, letter, suffix)                                                             \
    {"slct.b16." from, "hhh" letter, slct_h_##suffix, 0},                                          \
        {"slct.u16." from, "hhh" letter, slct_h_##suffix, 0},                                      \
        {"slct.s16." from, "hhh" letter, slct_h_##suffix, 0},                                      \
        {"slct.b32." from, "www" letter, slct_w_##suffix, 0},                                      \
        {"slct.u32." from, "www" letter, slct_w_##suffix, 0},                                      \
        {"slct.s32." from, "www" letter, slct_w_##suffix, 0},                                      \
        {"slct.f32." from, "www" letter, slct_w_##suffix, 0},                                      \
        {"slct.b64." from, "ddd" letter, slct_d_##suffix, 0},                                      \
        {"slct.u64." from, "ddd" letter, slct_d_##suffix, 0},                                      \
        {"slct.s64." from, "ddd" letter, slct_d_##suffix, 0}, {                                    \
        "slct.f64." from, "ddd" letter, slct_d_##suffix, 0                                         \
    }

const struct lanes_operation lanes_bits[] = {ANY_16("mov", "hh", mov_h),
                                             ANY_32("mov", "ww", mov_w),
                                             ANY_64("mov", "dd", mov_d),
                                             {"and.b16", "hhh", and_h, 0},
                                             {"and.b32", "www", and_w, 0},
                                             {"and.b64", "ddd", and_d, 0},
                                             {"or.b16", "hhh", or_h, 0},
                                             {"or.b32", "www", or_w, 0},
                                             {"or.b64", "ddd", or_d, 0},
                                             {"xor.b16", "hhh", xor_h, 0},
                                             {"xor.b32", "www", xor_w, 0},
                                             {"xor.b64", "ddd", xor_d, 0},
                                             {"not.b16", "hh", not_h, 0},
                                             {"not.b32", "ww", not_w, 0},
                                             {"not.b64", "dd", not_d, 0},
                                             {"cnot.b16", "hh", cnot_h, 0},
                                             {"cnot.b32", "ww", cnot_w, 0},
                                             {"cnot.b64", "dd", cnot_d, 0},
                                             {"shl.b16", "hhw", shl_h, 0},
                                             {"shl.b32", "www", shl_w, 0},
                                             {"shl.b64", "ddw", shl_d, 0},
                                             {"shr.b16", "hhw", shr_u16, 0},
                                             {"shr.b32", "www", shr_u32, 0},
                                             {"shr.b64", "ddw", shr_u64, 0},
                                             {"shr.u16", "hhw", shr_u16, 0},
                                             {"shr.u32", "www", shr_u32, 0},
                                             {"shr.u64", "ddw", shr_u64, 0},
                                             {"shr.s16", "hhw", shr_s16, 0},
                                             {"shr.s32", "www", shr_s32, 0},
                                             {"shr.s64", "ddw", shr_s64, 0},
                                             {"shf.l.wrap.b32", "wwww", shf_l_wrap, 0},
                                             {"shf.r.wrap.b32", "wwww", shf_r_wrap, 0},
                                             {"shf.l.clamp.b32", "wwww", shf_l_clamp, 0},
                                             {"shf.r.clamp.b32", "wwww", shf_r_clamp, 0},
                                             {"popc.b32", "ww", popc_w, 0},
                                             {"popc.b64", "wd", popc_d, 0},
                                             {"clz.b32", "ww", clz_w, 0},
                                             {"clz.b64", "wd", clz_d, 0},
                                             {"brev.b32", "ww", brev_w, 0},
                                             {"brev.b64", "dd", brev_d, 0},
                                             {"bfind.u32", "ww", bfind_u32, 0},
                                             {"bfind.s32", "ww", bfind_s32, 0},
                                             {"bfind.u64", "wd", bfind_u64, 0},
                                             {"bfind.s64", "wd", bfind_s64, 0},
                                             {"bfind.shiftamt.u32", "ww", bfind_shift_u32, 0},
                                             {"bfind.shiftamt.s32", "ww", bfind_shift_s32, 0},
                                             {"bfind.shiftamt.u64", "wd", bfind_shift_u64, 0},
                                             {"bfind.shiftamt.s64", "wd", bfind_shift_s64, 0},
                                             {"bfe.u32", "wwww", bfe_u32, 0},
                                             {"bfe.s32", "wwww", bfe_s32, 0},
                                             {"bfe.u64", "ddww", bfe_u64, 0},
                                             {"bfe.s64", "ddww", bfe_s64, 0},
                                             {"bfi.b32", "wwwww", bfi_w, 0},
                                             {"bfi.b64", "dddww", bfi_d, 0},
                                             {"bmsk.clamp.b32", "www", bmsk_clamp, 0},
                                             {"bmsk.wrap.b32", "www", bmsk_wrap, 0},
                                             {"szext.clamp.u32", "www", szext_clamp_u, 0},
                                             {"szext.clamp.s32", "www", szext_clamp_s, 0},
                                             {"szext.wrap.u32", "www", szext_wrap_u, 0},
                                             {"szext.wrap.s32", "www", szext_wrap_s, 0},
                                             {"lop3.b32", "wwwww", lop3, 0},
                                             {"prmt.b32", "wwww", prmt, 0},
                                             {"prmt.b32.f4e", "wwww", prmt_f4e, 0},
                                             {"prmt.b32.b4e", "wwww", prmt_b4e, 0},
                                             {"prmt.b32.rc8", "wwww", prmt_rc8, 0},
                                             {"prmt.b32.ecl", "wwww", prmt_ecl, 0},
                                             {"prmt.b32.ecr", "wwww", prmt_ecr, 0},
                                             {"prmt.b32.rc16", "wwww", prmt_rc16, 0},
                                             ANY_16("selp", "hhhp", selp_h),
                                             ANY_32("selp", "wwwp", selp_w),
                                             ANY_64("selp", "dddp", selp_d),
                                             ANY_SLCT("s32", "w", s),
                                             ANY_SLCT("f32", "w", f),
                                             {0}};
