/* cvt: through an exact number and one rounding; integers among themselves directly. */

#include <string.h>

#include "tests/ptx/families.h"
#include "tests/ptx/lanes.h"
#include "tests/ptx/number.h"
#include "tests/ptx/warp.h"

struct conversion {
    enum type to, from;
    enum rounding rounding;
    bool integral; /* a floating value is rounded to an integral one */
    bool ftz, sat, relu;
    const struct format *format;    /* of the result */
    compute_function *read, *write; /* integers among themselves */
};

static const struct format *format_of(enum type type) {
    switch (type) {
    case TYPE_F16:
    case TYPE_F16X2:
        return &format_f16;
    case TYPE_BF16:
    case TYPE_BF16X2:
        return &format_bf16;
    case TYPE_F32:
        return &format_f32;
    case TYPE_F64:
        return &format_f64;
    case TYPE_TF32:
        return &format_tf32;
    default:
        return NULL;
    }
}

/* --- one value -------------------------------------------------------------------------------- */

static uint64_t value_read(const uint8_t *row, unsigned row_bytes, int lane, enum type type) {
    uint64_t value = 0;
    unsigned bytes = type_bytes(type);
    memcpy(&value, row + (unsigned)lane * row_bytes, bytes);
    if (type_is_signed(type) && bytes < 8 && value >> (bytes * 8 - 1) & 1)
        value |= UINT64_MAX << (bytes * 8);
    return value;
}

static struct number number_read(uint64_t bits, const struct conversion *c) {
    double wide;
    struct number n;
    switch (c->from) {
    case TYPE_F16:
        return number_of_f16((uint16_t)bits);
    case TYPE_BF16:
        return number_of_bf16((uint16_t)bits);
    case TYPE_F32:
    case TYPE_TF32:
        n = number_of_f32((uint32_t)bits);
        if (c->ftz && !(bits & 0x7F800000)) n.mantissa = 0;
        return n;
    case TYPE_F64:
        memcpy(&wide, &bits, sizeof wide);
        return number_of_f64(wide);
    default:
        return type_is_signed(c->from) ? number_of_signed((int64_t)bits) : number_of_unsigned(bits);
    }
}

static uint64_t integer_clamp(uint64_t value, enum type from, enum type to) {
    int bits = (int)type_bytes(to) * 8;
    struct number n =
        type_is_signed(from) ? number_of_signed((int64_t)value) : number_of_unsigned(value);
    return type_is_signed(to) ? (uint64_t)number_to_signed(n, bits, ROUND_ZERO)
                              : number_to_unsigned(n, bits, ROUND_ZERO);
}

static uint64_t float_convert(uint64_t bits, const struct conversion *c) {
    struct number n = number_read(bits, c);
    int width = (int)type_bytes(c->to) * 8;
    if (!c->format) { /* to an integer: NaN is 0, or with 64 bits on either side the highest bit */
        if (n.nan && (width == 64 || c->from == TYPE_F64)) return (uint64_t)1 << (width - 1);
        return type_is_signed(c->to) ? (uint64_t)number_to_signed(n, width, c->rounding)
                                     : number_to_unsigned(n, width, c->rounding);
    }
    if (c->integral) n = number_to_integral(n, c->rounding);
    if ((c->sat || c->relu) && n.negative && !n.nan) n = (struct number){0};
    if (c->sat && n.nan) n = (struct number){0};
    if (c->sat &&
        (n.infinite || (n.mantissa && 63 - __builtin_clzll(n.mantissa) + n.exponent >= 0)))
        n = (struct number){.mantissa = 1};
    uint64_t result = number_round(n, c->format, c->rounding);
    if (c->ftz && c->to == TYPE_F32 && !(result & 0x7F800000)) result &= 0x80000000;
    return result;
}

static uint64_t value_convert(uint64_t bits, const struct conversion *c) {
    if (c->format || type_is_float(c->from)) return float_convert(bits, c);
    return c->sat ? integer_clamp(bits, c->from, c->to) : bits;
}

/* Into a register that may be wider: the sign fills it up. */
static void value_write(uint8_t *row, unsigned row_bytes, int lane, uint64_t value,
                        enum type type) {
    unsigned bytes = type_bytes(type);
    if (bytes < 8) {
        value &= ((uint64_t)1 << bytes * 8) - 1;
        if (type_is_signed(type) && value >> (bytes * 8 - 1)) value |= UINT64_MAX << (bytes * 8);
    }
    memcpy(row + (unsigned)lane * row_bytes, &value, row_bytes < 8 ? row_bytes : 8);
}

/* --- rows ------------------------------------------------------------------------------------- */

static enum step execute_convert(struct warp *w, const struct instruction *in, uint32_t mask) {
    const struct conversion *c = in->detail;
    const uint8_t *a = warp_row(w, &in->s[0]);
    if (in->d.sink) return STEP_NEXT;
    uint8_t *d = warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint64_t bits = value_read(a, in->s[0].bytes, lane, c->from);
        value_write(d, in->d.bytes, lane, value_convert(bits, c), c->to);
    }
    return STEP_NEXT;
}

static enum step execute_convert_integer(struct warp *w, const struct instruction *in,
                                         uint32_t mask) {
    const struct conversion *c = in->detail;
    _Alignas(64) uint64_t wide[LANES];
    _Alignas(64) uint8_t result[LANES * 8];
    const void *a = warp_row(w, &in->s[0]), *source = wide;
    if (in->d.sink) return STEP_NEXT;
    uint8_t *d = warp_row(w, &in->d);
    c->read(wide, &a);
    bool whole = (mask | ~w->live) == ALL_LANES;
    c->write(whole ? d : result, &source);
    for (uint32_t m = whole ? 0 : mask; m; m &= m - 1) {
        unsigned at = (unsigned)lane_first(m) * in->d.bytes;
        memcpy(d + at, result + at, in->d.bytes);
    }
    return STEP_NEXT;
}

/* Two F32 into one register; the first is the upper half. */
static enum step execute_convert_pair(struct warp *w, const struct instruction *in, uint32_t mask) {
    const struct conversion *c = in->detail;
    const uint32_t *a = warp_row(w, &in->s[0]), *b = warp_row(w, &in->s[1]);
    uint32_t *d = warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint64_t high = float_convert(a[lane], c), low = float_convert(b[lane], c);
        d[lane] = (uint32_t)(high << 16 | low);
    }
    return STEP_NEXT;
}

/* cvt.pack.sat: two 32-bit integers clamp to 16 or 8 bits; a above b, and for 8 bits the lower
 * half of c above both. */
static enum step execute_convert_pack(struct warp *w, const struct instruction *in, uint32_t mask) {
    const struct conversion *c = in->detail;
    const uint32_t *a = warp_row(w, &in->s[0]), *b = warp_row(w, &in->s[1]);
    const uint32_t *rest = in->source_count > 2 ? warp_row(w, &in->s[2]) : NULL;
    uint32_t *d = warp_row(w, &in->d);
    unsigned width = type_bytes(c->to) * 8;
    uint32_t low = (1u << width) - 1;
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint32_t high = (uint32_t)integer_clamp((uint64_t)(int32_t)a[lane], TYPE_S32, c->to) & low;
        uint32_t value = (uint32_t)integer_clamp((uint64_t)(int32_t)b[lane], TYPE_S32, c->to) & low;
        value |= high << width;
        if (rest) value |= rest[lane] << 2 * width;
        d[lane] = value;
    }
    return STEP_NEXT;
}

/* --- decoding --------------------------------------------------------------------------------- */

static void decode_rounding(struct decoder *d, struct conversion *c) {
    static const char *const names[] = {"rn", "rz", "rm", "rp", "rna", NULL};
    static const char *const integral[] = {"rni", "rzi", "rmi", "rpi", NULL};
    static const enum rounding modes[] = {ROUND_NEAREST, ROUND_ZERO, ROUND_DOWN, ROUND_UP,
                                          ROUND_AWAY};
    int f = decode_take_one(d, names), i = decode_take_one(d, integral);
    bool to_float = c->format != NULL, from_float = type_is_float(c->from);
    c->integral = i >= 0;
    c->rounding = i >= 0 ? modes[i] : f >= 0 ? modes[f] : ROUND_NEAREST;
    if (!to_float && from_float && i < 0) decode_fail(d, "an integer rounding is missing");
    if (!to_float && !from_float && (f >= 0 || i >= 0)) decode_fail(d, "nothing is rounded here");
    if (to_float && !from_float && f < 0) decode_fail(d, "a rounding is missing");
    if (to_float && from_float && f < 0 && i < 0 && type_bytes(c->to) < type_bytes(c->from))
        decode_fail(d, "a rounding is missing");
    if (f == 4 && c->to != TYPE_TF32) decode_fail(d, ".rna is not known here");
}

static void decode_pack(struct decoder *d, struct conversion *c) {
    struct instruction *in = d->in;
    c->sat = decode_take(d, "sat");
    c->to = decode_take_type(d);
    c->from = decode_take_type(d);
    bool third = decode_take(d, "b32");
    unsigned bytes = type_bytes(c->to);
    if (!c->sat || c->from != TYPE_S32 || bytes == 0 || bytes > 2 || type_is_float(c->to) ||
        third != (bytes == 1))
        decode_fail(d, "this packing is not known");
    in->source_count = third ? 3 : 2;
    decode_operands(d, in->source_count + 1u, in->source_count + 1u);
    in->d = decode_result(d, decode_operand(d, 0), 4);
    for (size_t i = 0; i < in->source_count; i++)
        in->s[i] = decode_source(d, decode_operand(d, i + 1), TYPE_B32);
    in->execute = execute_convert_pack;
}

/* Takes a function made for the conversion where there is one. */
static void decode_fast(struct decoder *d, struct conversion *c) {
    struct instruction *in = d->in;
    bool plain = !c->ftz && !c->sat && !c->relu && !in->d.sink;
    bool rounding = c->rounding == ROUND_NEAREST || (c->integral && c->rounding == ROUND_ZERO);
    if (!plain || !rounding) return;
    if (!c->format && !type_is_float(c->from)) {
        c->read = lanes_integer_step(c->from, in->s[0].bytes, false);
        c->write = lanes_integer_step(c->to, in->d.bytes, true);
        if (c->read && c->write) in->execute = execute_convert_integer;
        return;
    }
    compute_function *compute = lanes_convert_find(c->to, in->d.bytes, c->from, in->s[0].bytes,
                                                   c->integral, c->rounding == ROUND_NEAREST);
    if (!compute) return;
    in->compute = compute;
    in->source_count = in->execute == execute_convert_pair ? 2 : 1;
    in->result_bytes = in->d.bytes;
    in->execute = arithmetic_execute;
}

static void decode_cvt(struct decoder *d) {
    struct instruction *in = d->in;
    struct conversion *c = pool_take(&d->module->pool, sizeof *c);
    in->detail = c;
    if (decode_take(d, "pack")) {
        decode_pack(d, c);
        return;
    }
    c->ftz = decode_take(d, "ftz");
    c->sat = decode_take(d, "sat");
    c->relu = decode_take(d, "relu");
    c->to = decode_take_type(d);
    c->from = decode_take_type(d);
    c->format = format_of(c->to);
    if (c->to == TYPE_PRED || c->from == TYPE_PRED || !type_bytes(c->to) || c->from == TYPE_F16X2 ||
        c->from == TYPE_BF16X2 || type_bytes(c->to) > 8 || type_bytes(c->from) > 8)
        decode_fail(d, "this conversion is not known");
    bool pair = c->to == TYPE_F16X2 || c->to == TYPE_BF16X2;
    if (pair && c->from != TYPE_F32) decode_fail(d, "this conversion is not known");
    if (c->ftz && c->to != TYPE_F32 && c->from != TYPE_F32) decode_fail(d, ".ftz without .f32");
    decode_rounding(d, c);
    decode_operands(d, pair ? 3 : 2, pair ? 3 : 2);
    in->d = decode_result_wide(d, decode_operand(d, 0), type_bytes(c->to));
    in->s[0] = decode_source_wide(d, decode_operand(d, 1), c->from);
    in->execute = execute_convert;
    if (pair) {
        in->s[1] = decode_source(d, decode_operand(d, 2), c->from);
        in->execute = execute_convert_pair;
    }
    decode_fast(d, c);
}

const struct family family_convert[] = {{"cvt", decode_cvt}, {NULL, NULL}};
