/* The conversions that kernels use all the time, 32 lanes at a time; the rest goes through exact
 * numbers in convert.c. Integers among themselves take two steps: to 64 bits, and from there. */

#include <math.h>

#include "tests/ptx/lanes.h"
#include "tests/ptx/number.h"

typedef int8_t s8;
typedef uint8_t u8;
typedef int16_t s16;
typedef uint16_t u16;
typedef int32_t s32;
typedef uint32_t u32;
typedef int64_t s64;
typedef uint64_t u64;

LANES_1(f32_of_s32, float, s32, a)
LANES_1(f32_of_u32, float, u32, a)
LANES_1(f32_of_s16, float, s16, a)
LANES_1(f32_of_u16, float, u16, a)
LANES_1(f32_of_s8_half, float, u16, (s8)a)
LANES_1(f32_of_u8_half, float, u16, (u8)a)
LANES_1(f32_of_s8_word, float, u32, (s8)a)
LANES_1(f32_of_u8_word, float, u32, (u8)a)
LANES_1(f32_of_s64, float, s64, a)
LANES_1(f32_of_f16, float, u16, (a & 0x7FFF) > 0x7C00 ? float_of_bits(0x7FFFFFFF) : f16_value(a))
LANES_1(f32_of_bf16, u32, u16, (a & 0x7FFF) > 0x7F80 ? 0x7FFFFFFF : (u32)a << 16)

static inline u16 bf16_of(u32 bits) {
    u32 magnitude = bits & 0x7FFFFFFF;
    return magnitude > 0x7F800000 ? 0x7FFF : (u16)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
LANES_1(f16_of_f32, u16, u32, f16_nearest(a))
LANES_1(bf16_of_f32, u16, u32, bf16_of(a))
LANES_2(f16x2_of_f32, u32, u32, u32, (u32)f16_nearest(a) << 16 | f16_nearest(b))
LANES_2(bf16x2_of_f32, u32, u32, u32, (u32)bf16_of(a) << 16 | bf16_of(b))

/* a is integral. 0x1p31 - 128 is the largest float below 2^31. */
static inline s32 s32_of(float a) {
    if (a != a) return 0;
    return a >= 0x1p31f ? INT32_MAX : a < -0x1p31f ? INT32_MIN : (s32)a;
}
LANES_1(s32_of_f32_nearest, s32, float, s32_of(__builtin_rintf(a)))
LANES_1(s32_of_f32_zero, s32, float, s32_of(__builtin_truncf(a)))
LANES_1(f32_integral_nearest, u32, float, a != a ? 0x7FFFFFFF : float_bits(__builtin_rintf(a)))

enum { NEAREST = 1, INTEGRAL_NEAREST, INTEGRAL_ZERO };

static const struct {
    u8 to, from, to_bytes, from_bytes, mode; /* bytes: of the registers */
    compute_function *compute;
} floats[] = {
    {TYPE_F32, TYPE_S32, 4, 4, NEAREST, f32_of_s32},
    {TYPE_F32, TYPE_U32, 4, 4, NEAREST, f32_of_u32},
    {TYPE_F32, TYPE_S16, 4, 2, NEAREST, f32_of_s16},
    {TYPE_F32, TYPE_U16, 4, 2, NEAREST, f32_of_u16},
    {TYPE_F32, TYPE_S8, 4, 2, NEAREST, f32_of_s8_half},
    {TYPE_F32, TYPE_U8, 4, 2, NEAREST, f32_of_u8_half},
    {TYPE_F32, TYPE_S8, 4, 4, NEAREST, f32_of_s8_word},
    {TYPE_F32, TYPE_U8, 4, 4, NEAREST, f32_of_u8_word},
    {TYPE_F32, TYPE_S64, 4, 8, NEAREST, f32_of_s64},
    {TYPE_F32, TYPE_F16, 4, 2, 0, f32_of_f16},
    {TYPE_F32, TYPE_BF16, 4, 2, 0, f32_of_bf16},
    {TYPE_F16, TYPE_F32, 2, 4, NEAREST, f16_of_f32},
    {TYPE_BF16, TYPE_F32, 2, 4, NEAREST, bf16_of_f32},
    {TYPE_F16X2, TYPE_F32, 4, 4, NEAREST, f16x2_of_f32},
    {TYPE_BF16X2, TYPE_F32, 4, 4, NEAREST, bf16x2_of_f32},
    {TYPE_S32, TYPE_F32, 4, 4, INTEGRAL_NEAREST, s32_of_f32_nearest},
    {TYPE_S32, TYPE_F32, 4, 4, INTEGRAL_ZERO, s32_of_f32_zero},
    {TYPE_F32, TYPE_F32, 4, 4, INTEGRAL_NEAREST, f32_integral_nearest},
};

compute_function *lanes_convert_find(enum type to, unsigned to_bytes, enum type from,
                                     unsigned from_bytes, bool integral, bool to_nearest) {
    bool rounds = to != TYPE_F32 || (from != TYPE_F16 && from != TYPE_BF16);
    u8 mode = integral ? (to_nearest ? INTEGRAL_NEAREST : INTEGRAL_ZERO) : rounds ? NEAREST : 0;
    if (mode == NEAREST && !to_nearest) return NULL;
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++)
        if (floats[i].to == to && floats[i].from == from && floats[i].to_bytes == to_bytes &&
            floats[i].from_bytes == from_bytes && floats[i].mode == mode)
            return floats[i].compute;
    return NULL;
}

/* --- integers --------------------------------------------------------------------------------- */

#define WIDEN(name, R, A, T) LANES_1(name, R, A, (R)(T)a)
WIDEN(read_s8_h, s64, u16, s8)
WIDEN(read_u8_h, s64, u16, u8)
WIDEN(read_16s_h, s64, u16, s16)
WIDEN(read_16u_h, s64, u16, u16)
WIDEN(read_s8_w, s64, u32, s8)
WIDEN(read_u8_w, s64, u32, u8)
WIDEN(read_16s_w, s64, u32, s16)
WIDEN(read_16u_w, s64, u32, u16)
WIDEN(read_32s_w, s64, u32, s32)
WIDEN(read_32u_w, s64, u32, u32)
WIDEN(read_s8_d, s64, u64, s8)
WIDEN(read_u8_d, s64, u64, u8)
WIDEN(read_16s_d, s64, u64, s16)
WIDEN(read_16u_d, s64, u64, u16)
WIDEN(read_32s_d, s64, u64, s32)
WIDEN(read_32u_d, s64, u64, u32)
WIDEN(read_64_d, s64, u64, s64)
/* Into a register: cut to the type, and that filled up. */
WIDEN(write_s8_h, u16, s64, s8)
WIDEN(write_u8_h, u16, s64, u8)
WIDEN(write_16s_h, u16, s64, s16)
WIDEN(write_s8_w, u32, s64, s8)
WIDEN(write_u8_w, u32, s64, u8)
WIDEN(write_16s_w, u32, s64, s16)
WIDEN(write_16u_w, u32, s64, u16)
WIDEN(write_32s_w, u32, s64, s32)
WIDEN(write_s8_d, u64, s64, s8)
WIDEN(write_u8_d, u64, s64, u8)
WIDEN(write_16s_d, u64, s64, s16)
WIDEN(write_16u_d, u64, s64, u16)
WIDEN(write_32s_d, u64, s64, s32)
WIDEN(write_32u_d, u64, s64, u32)
WIDEN(write_64_d, u64, s64, s64)

static const struct {
    u8 type_bytes, is_signed, bytes;
    compute_function *read, *write;
} integers[] = {
    {1, 1, 2, read_s8_h, write_s8_h},   {1, 0, 2, read_u8_h, write_u8_h},
    {2, 1, 2, read_16s_h, write_16s_h}, {2, 0, 2, read_16u_h, write_16s_h},
    {1, 1, 4, read_s8_w, write_s8_w},   {1, 0, 4, read_u8_w, write_u8_w},
    {2, 1, 4, read_16s_w, write_16s_w}, {2, 0, 4, read_16u_w, write_16u_w},
    {4, 1, 4, read_32s_w, write_32s_w}, {4, 0, 4, read_32u_w, write_32s_w},
    {1, 1, 8, read_s8_d, write_s8_d},   {1, 0, 8, read_u8_d, write_u8_d},
    {2, 1, 8, read_16s_d, write_16s_d}, {2, 0, 8, read_16u_d, write_16u_d},
    {4, 1, 8, read_32s_d, write_32s_d}, {4, 0, 8, read_32u_d, write_32u_d},
    {8, 1, 8, read_64_d, write_64_d},   {8, 0, 8, read_64_d, write_64_d},
};

compute_function *lanes_integer_step(enum type type, unsigned bytes, bool write) {
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++)
        if (integers[i].type_bytes == type_bytes(type) && integers[i].bytes == bytes &&
            integers[i].is_signed == type_is_signed(type))
            return write ? integers[i].write : integers[i].read;
    return NULL;
}
