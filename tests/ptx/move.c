/* Comparisons, predicates, vectors in a register, and addresses. */

#include <string.h>
#include <xmmintrin.h>

#include "tests/ptx/families.h"
#include "tests/ptx/lanes.h"
#include "tests/ptx/warp.h"

enum { LOGIC_NONE, LOGIC_AND, LOGIC_OR, LOGIC_XOR, LOGIC_NOT };

static uint32_t logic(int kind, uint32_t a, uint32_t b) {
    switch (kind) {
    case LOGIC_AND:
        return a & b;
    case LOGIC_OR:
        return a | b;
    case LOGIC_XOR:
        return a ^ b;
    case LOGIC_NOT:
        return ~a;
    default:
        return a;
    }
}

/* --- setp, set -------------------------------------------------------------------------------- */

/* Every second 16-bit element, from `first` on. */
static void halves(uint16_t *to, const uint16_t *pairs, int first) {
    for (int i = 0; i < LANES; i++) to[i] = pairs[2 * i + first];
}

/* which: of a pair of halves, the lower (0) or the upper (1). */
static uint32_t compare(struct warp *w, const struct instruction *in, int which) {
    const void *a = warp_row(w, &in->s[0]), *b = warp_row(w, &in->s[1]);
    uint16_t part_a[LANES], part_b[LANES];
    if (in->vector == 2) {
        halves(part_a, a, which);
        halves(part_b, b, which);
        a = part_a;
        b = part_b;
    }
    if (in->float_control) _mm_setcsr(in->float_control);
    uint32_t result = in->compare(a, b);
    if (in->float_control) _mm_setcsr(0x1F80);
    return result;
}

/* p|q = (a cmp b) op c | !(a cmp b) op c; of pairs, q is for the upper halves. */
static enum step execute_setp(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint32_t result = compare(w, in, 0);
    uint32_t second = in->vector == 2 ? compare(w, in, 1) : ~result;
    if (in->kind) {
        uint32_t c = warp_predicate(w, &in->s[2]);
        result = logic(in->kind, result, c);
        second = logic(in->kind, second, c);
    }
    warp_predicate_set(w, &in->d, result, mask);
    if (in->row_count) warp_predicate_set(w, &in->rows[0], second, mask);
    return STEP_NEXT;
}

static uint32_t set_value(enum type type, bool holds) {
    if (!holds) return 0;
    switch (type) {
    case TYPE_F32:
        return 0x3F800000;
    case TYPE_F16:
    case TYPE_F16X2:
        return 0x3C00;
    case TYPE_BF16:
    case TYPE_BF16X2:
        return 0x3F80;
    default:
        return UINT32_MAX;
    }
}

/* The result of a pair of halves lies in the halves of the result. */
static enum step execute_set(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint32_t low = compare(w, in, 0), high = in->vector == 2 ? compare(w, in, 1) : 0;
    uint32_t c = in->kind ? warp_predicate(w, &in->s[2]) : 0;
    enum type type = in->kind2;
    uint8_t *d = warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint32_t value = set_value(type, logic(in->kind, low, c) >> lane & 1);
        if (in->vector == 2)
            value = (value & 0xFFFF) | set_value(type, logic(in->kind, high, c) >> lane & 1) << 16;
        memcpy(d + (unsigned)lane * in->result_bytes, &value, in->result_bytes);
    }
    return STEP_NEXT;
}

static void decode_comparison(struct decoder *d, enum type source) {
    static const char *const comparisons[] = {"eq",  "ne",  "lt",  "le",  "gt",  "ge",  "lo",
                                              "ls",  "hi",  "hs",  "equ", "neu", "ltu", "leu",
                                              "gtu", "geu", "num", "nan", NULL};
    static const char *const logics[] = {"and", "or", "xor", NULL};
    struct instruction *in = d->in;
    int which = decode_take_one(d, comparisons);
    if (which < 0) decode_fail(d, "a comparison is missing");
    in->kind = (uint8_t)(decode_take_one(d, logics) + 1);
    if (decode_take(d, "ftz")) {
        if (source != TYPE_F32) decode_fail(d, ".ftz is not known here");
        in->float_control = 0x1F80 | 0x8040;
    }
    enum type element = source == TYPE_F16X2    ? TYPE_F16
                        : source == TYPE_BF16X2 ? TYPE_BF16
                                                : source;
    in->vector = element == source ? 1 : 2;
    char name[16] = "";
    strcat(strcat(strcpy(name, comparisons[which]), "."), type_name(element));
    const struct lanes_comparison *c = lanes_compare_find(name);
    if (!c) decode_fail(d, "this comparison is not known");
    in->compare = c->compare;
    decode_operands(d, in->kind ? 4 : 3, in->kind ? 4 : 3);
    in->s[0] = decode_source(d, decode_operand(d, 1), source);
    in->s[1] = decode_source(d, decode_operand(d, 2), source);
    if (in->kind) in->s[2] = decode_predicate(d, decode_operand(d, 3));
}

static void decode_setp(struct decoder *d) {
    struct instruction *in = d->in;
    decode_comparison(d, decode_take_type(d));
    const struct operand *o = decode_operand(d, 0);
    in->d = decode_predicate_result(d, o);
    in->execute = execute_setp;
    if (!o->second) return;
    struct row *second = pool_take(&d->module->pool, sizeof *second);
    *second = decode_predicate_result(d, o->second);
    in->rows = second;
    in->row_count = 1;
}

static void decode_set(struct decoder *d) {
    enum type result = decode_take_type(d), source = decode_take_type(d);
    bool pair = source == TYPE_F16X2 || source == TYPE_BF16X2;
    bool word = result == TYPE_U32 || result == TYPE_S32 || result == TYPE_F32;
    bool half = result == source && (result == TYPE_F16 || result == TYPE_BF16);
    if (pair ? result != source && (!word || result == TYPE_F32) : !word && !half)
        decode_fail(d, "a result of .%s is not known", type_name(result));
    decode_comparison(d, source);
    d->in->result_bytes = half ? 2 : 4;
    d->in->d = decode_result(d, decode_operand(d, 0), d->in->result_bytes);
    d->in->kind2 = (uint8_t)result;
    d->in->execute = execute_set;
}

/* --- predicates ------------------------------------------------------------------------------- */

static enum step execute_logic(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint32_t a = warp_predicate(w, &in->s[0]);
    uint32_t b = in->source_count > 1 ? warp_predicate(w, &in->s[1]) : 0;
    warp_predicate_set(w, &in->d, logic(in->kind, a, b), mask);
    return STEP_NEXT;
}

static void decode_logic(struct decoder *d) {
    static const char *const names[] = {"mov", "and", "or", "xor", "not"};
    struct instruction *in = d->in;
    if (!decode_take(d, "pred")) decode_fail(d, "this form is not known");
    for (uint8_t i = 0; i < 5; i++)
        if (strcmp(d->parts[0], names[i]) == 0) in->kind = i;
    bool unary = in->kind == LOGIC_NONE || in->kind == LOGIC_NOT;
    decode_operands(d, unary ? 2 : 3, unary ? 2 : 3);
    in->d = decode_predicate_result(d, decode_operand(d, 0));
    in->s[0] = decode_predicate(d, decode_operand(d, 1));
    in->source_count = unary ? 1 : 2;
    if (!unary) in->s[1] = decode_predicate(d, decode_operand(d, 2));
    in->execute = execute_logic;
}

/* --- mov -------------------------------------------------------------------------------------- */

/* d = {r0, r1, ...}, the first lowest. */
static enum step execute_pack(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint8_t *d = warp_row(w, &in->d);
    for (uint32_t i = 0; i < in->row_count; i++) {
        const uint8_t *s = warp_row(w, &in->rows[i]);
        unsigned part = in->rows[i].bytes;
        for (uint32_t m = mask; m; m &= m - 1) {
            unsigned lane = (unsigned)lane_first(m);
            memcpy(d + lane * in->result_bytes + i * part, s + lane * part, part);
        }
    }
    return STEP_NEXT;
}

/* {r0, r1, ...} = a. A source may be among the results: read first. */
static enum step execute_unpack(struct warp *w, const struct instruction *in, uint32_t mask) {
    _Alignas(64) uint8_t source[LANES * 16];
    unsigned whole = in->s[0].bytes;
    memcpy(source, warp_row(w, &in->s[0]), LANES * whole);
    for (uint32_t i = 0; i < in->row_count; i++) {
        if (in->rows[i].sink) continue;
        uint8_t *d = warp_row(w, &in->rows[i]);
        unsigned part = in->rows[i].bytes;
        for (uint32_t m = mask; m; m &= m - 1) {
            unsigned lane = (unsigned)lane_first(m);
            memcpy(d + lane * part, source + lane * whole + i * part, part);
        }
    }
    return STEP_NEXT;
}

static enum step execute_pack_pair(struct warp *w, const struct instruction *in, uint32_t mask) {
    _Alignas(64) uint8_t parts[2][LANES * 8];
    unsigned part = in->rows[0].bytes;
    for (int i = 0; i < 2; i++) memcpy(parts[i], warp_row(w, &in->rows[i]), LANES * part);
    uint8_t *d = warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) {
        unsigned lane = (unsigned)lane_first(m);
        memcpy(d + lane * 2 * part, parts[0] + lane * part, part);
        memcpy(d + (lane * 2 + 1) * part, parts[1] + lane * part, part);
    }
    return STEP_NEXT;
}

static void decode_mov(struct decoder *d) {
    const struct operand *to = decode_operand(d, 0), *from = decode_operand(d, 1);
    if (to->kind != OPERAND_VECTOR && from->kind != OPERAND_VECTOR) {
        decode_logic(d);
        return;
    }
    struct instruction *in = d->in;
    bool pack = from->kind == OPERAND_VECTOR;
    const struct operand *vector = pack ? from : to, *whole = pack ? to : from;
    enum type type = decode_take_type(d);
    unsigned bytes = type_bytes(type);
    decode_operands(d, 2, 2);
    if (vector->part_count != 2 && vector->part_count != 4)
        decode_fail(d, "a vector of %zu elements", vector->part_count);
    unsigned part = bytes / (unsigned)vector->part_count;
    if (part < 2) decode_fail(d, "elements of one byte are not known");
    decode_rows(d, vector, part, !pack);
    for (uint32_t i = 0; i < in->row_count; i++)
        if (!in->rows[i].sink && in->rows[i].bytes != part)
            decode_fail(d, "element %u has %u bits", i, in->rows[i].bytes * 8u);
    in->result_bytes = (uint8_t)bytes;
    if (pack) {
        in->d = decode_result(d, whole, bytes);
        in->execute = in->row_count == 2 ? execute_pack_pair : execute_pack;
    } else {
        in->s[0] = decode_source(d, whole, type);
        in->execute = execute_unpack;
    }
}

/* --- addresses -------------------------------------------------------------------------------- */

static enum step execute_offset(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint64_t *a = warp_row(w, &in->s[0]);
    uint64_t *d = warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        d[lane] = a[lane] + (uint64_t)in->offset;
    }
    return STEP_NEXT;
}

static void decode_cvta(struct decoder *d) {
    static const char *const spaces[] = {"global", "const", "shared", "local", "param", NULL};
    static const uint64_t windows[] = {0, 0, WINDOW_SHARED, WINDOW_LOCAL, WINDOW_PARAM};
    struct instruction *in = d->in;
    bool to = decode_take(d, "to");
    int space = decode_take_one(d, spaces);
    if (space < 0) decode_fail(d, "this state space is not known");
    if (space == 2) (void)decode_take(d, ":cta");
    if (decode_take_type(d) != TYPE_U64) decode_fail(d, "only .u64 is known");
    decode_operands(d, 2, 2);
    in->offset = (int64_t)(to ? -windows[space] : windows[space]);
    in->d = decode_result(d, decode_operand(d, 0), 8);
    in->s[0] = decode_source(d, decode_operand(d, 1), TYPE_U64);
    in->execute = execute_offset;
}

static enum step execute_isspacep(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint64_t *a = warp_row(w, &in->s[0]);
    uint32_t result = 0;
    for (int i = 0; i < LANES; i++)
        result |= (uint32_t)((a[i] & WINDOW_MASK) == (uint64_t)in->offset) << i;
    warp_predicate_set(w, &in->d, result, mask);
    return STEP_NEXT;
}

static void decode_isspacep(struct decoder *d) {
    static const char *const spaces[] = {"global", "shared", "local", "param", NULL};
    static const uint64_t windows[] = {0, WINDOW_SHARED, WINDOW_LOCAL, WINDOW_PARAM};
    int space = decode_take_one(d, spaces);
    if (space < 0) decode_fail(d, "this state space is not known");
    decode_operands(d, 2, 2);
    d->in->offset = (int64_t)windows[space];
    d->in->d = decode_predicate_result(d, decode_operand(d, 0));
    d->in->s[0] = decode_source(d, decode_operand(d, 1), TYPE_U64);
    d->in->execute = execute_isspacep;
}

const struct family family_move[] = {{"mov", decode_mov},           {"and", decode_logic},
                                     {"or", decode_logic},          {"xor", decode_logic},
                                     {"not", decode_logic},         {"setp", decode_setp},
                                     {"set", decode_set},           {"cvta", decode_cvta},
                                     {"isspacep", decode_isspacep}, {NULL, NULL}};
