/* Arithmetic of several words: add.cc, addc, sub.cc, subc, mad.cc, madc with the carry flag that
 * each lane has (after a subtraction it is the borrow). */

#include <string.h>

#include "tests/ptx/families.h"
#include "tests/ptx/warp.h"

enum { CARRY_ADD, CARRY_SUB, CARRY_MAD_LO, CARRY_MAD_HI };

struct carry {
    uint8_t kind, bytes;
    bool takes, gives, is_signed;
};

__extension__ typedef unsigned __int128 wide;
__extension__ typedef __int128 signed_wide;

static uint64_t value_of(struct warp *w, const struct row *row, int lane) {
    uint64_t value = 0;
    memcpy(&value, (uint8_t *)warp_row(w, row) + (unsigned)lane * row->bytes, row->bytes);
    return value;
}

/* The half of a * b that is added, in as many bits as a. */
static uint64_t product(const struct carry *c, uint64_t a, uint64_t b) {
    if (c->kind == CARRY_MAD_LO) return a * b;
    if (c->bytes == 4)
        return (c->is_signed ? (uint64_t)((int64_t)(int32_t)a * (int32_t)b) : a * b) >> 32;
    return c->is_signed ? (uint64_t)(((signed_wide)(int64_t)a * (int64_t)b) >> 64)
                        : (uint64_t)(((wide)a * b) >> 64);
}

static enum step execute_carry(struct warp *w, const struct instruction *in, uint32_t mask) {
    const struct carry *c = in->detail;
    uint32_t given = 0;
    unsigned bits = c->bytes * 8u;
    uint64_t all = c->bytes == 4 ? UINT32_MAX : UINT64_MAX;
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint64_t a = value_of(w, &in->s[0], lane), b = value_of(w, &in->s[1], lane);
        uint64_t carry = c->takes ? w->carry >> lane & 1 : 0;
        if (c->kind >= CARRY_MAD_LO) {
            a = product(c, a, b) & all;
            b = value_of(w, &in->s[2], lane);
        }
        wide sum = c->kind == CARRY_SUB ? (wide)a - b - carry : (wide)a + b + carry;
        given |= (uint32_t)(sum >> bits & 1) << lane;
        uint64_t d = (uint64_t)sum;
        if (!in->d.sink)
            memcpy((uint8_t *)warp_row(w, &in->d) + (unsigned)lane * c->bytes, &d, c->bytes);
    }
    if (c->gives) w->carry = (w->carry & ~mask) | given;
    return STEP_NEXT;
}

static void decode_carry(struct decoder *d) {
    struct instruction *in = d->in;
    struct carry *c = pool_take(&d->module->pool, sizeof *c);
    const char *name = d->parts[0];
    bool product = name[0] == 'm';
    c->takes = name[3] == 'c';
    c->gives = decode_take(d, "cc");
    c->kind = name[0] == 's' ? CARRY_SUB : CARRY_ADD;
    if (product) {
        static const char *const halves[] = {"lo", "hi", NULL};
        int half = decode_take_one(d, halves);
        if (half < 0) decode_fail(d, ".lo or .hi is missing");
        c->kind = (uint8_t)(CARRY_MAD_LO + half);
    }
    enum type type = decode_take_type(d);
    if (!(c->takes || c->gives) ||
        (type != TYPE_U32 && type != TYPE_S32 && type != TYPE_U64 && type != TYPE_S64))
        decode_fail(d, "this opcode is not known");
    c->bytes = (uint8_t)type_bytes(type);
    c->is_signed = type_is_signed(type);
    size_t sources = product ? 3 : 2;
    decode_operands(d, sources + 1, sources + 1);
    in->d = decode_result(d, decode_operand(d, 0), c->bytes);
    for (size_t i = 0; i < sources; i++)
        in->s[i] = decode_source(d, decode_operand(d, i + 1), type);
    in->detail = c;
    in->execute = execute_carry;
}

const struct family family_carry[] = {
    {"add", decode_carry}, {"addc", decode_carry}, {"sub", decode_carry}, {"subc", decode_carry},
    {"mad", decode_carry}, {"madc", decode_carry}, {NULL, NULL}};
