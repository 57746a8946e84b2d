/* atom and red: one lane after another, each a compare and swap on the host's memory, as other
 * host threads may run other blocks. */

#include <string.h>

#include "tests/ptx/access.h"
#include "tests/ptx/families.h"
#include "tests/ptx/number.h"

enum operation { OP_ADD, OP_MIN, OP_MAX, OP_AND, OP_OR, OP_XOR, OP_EXCH, OP_CAS, OP_INC, OP_DEC };

static const char *const operation_names[] = {"add",  "min", "max", "and", "or", "xor",
                                              "exch", "cas", "inc", "dec", NULL};

static uint64_t sign_extend(uint64_t value, unsigned bytes) {
    unsigned shift = 64 - bytes * 8;
    return (uint64_t)((int64_t)(value << shift) >> shift);
}

static uint16_t half_add(uint16_t a, uint16_t b, enum type type) {
    bool brain = type == TYPE_BF16 || type == TYPE_BF16X2;
    double x = (double)(brain ? bf16_value(a) : f16_value(a));
    double y = (double)(brain ? bf16_value(b) : f16_value(b));
    /* Exact for F16; BF16 operands that far apart give the larger one either way. */
    return (uint16_t)number_round(number_of_f64(x + y), brain ? &format_bf16 : &format_f16,
                                  ROUND_NEAREST);
}

/* On global memory add.f32 flushes subnormals, on shared memory it does not. */
static uint32_t float_add(uint32_t a, uint32_t b, bool flush) {
    if (flush && !(a & 0x7F800000)) a &= 0x80000000;
    if (flush && !(b & 0x7F800000)) b &= 0x80000000;
    float sum = float_of_bits(a) + float_of_bits(b);
    uint32_t bits = sum != sum ? 0x7FFFFFFF : float_bits(sum);
    return flush && !(bits & 0x7F800000) ? bits & 0x80000000 : bits;
}

static uint64_t operation_add(uint64_t old, uint64_t b, enum type type, bool global) {
    double x, y;
    switch (type) {
    case TYPE_F32:
        return float_add((uint32_t)old, (uint32_t)b, global);
    case TYPE_F64:
        memcpy(&x, &old, sizeof x);
        memcpy(&y, &b, sizeof y);
        x += y;
        memcpy(&old, &x, sizeof x);
        return old;
    case TYPE_F16:
    case TYPE_BF16:
        return half_add((uint16_t)old, (uint16_t)b, type);
    case TYPE_F16X2:
    case TYPE_BF16X2:
        return half_add((uint16_t)old, (uint16_t)b, type) |
               (uint64_t)half_add((uint16_t)(old >> 16), (uint16_t)(b >> 16), type) << 16;
    default:
        return old + b;
    }
}

static uint64_t operation_run(const struct instruction *in, uint64_t old, uint64_t b, uint64_t c,
                              bool global) {
    enum type type = in->kind2;
    uint64_t x = old, y = b;
    if (type_is_signed(type)) {
        x = sign_extend(old, in->element_bytes) ^ (uint64_t)1 << 63;
        y = sign_extend(b, in->element_bytes) ^ (uint64_t)1 << 63;
    }
    switch ((enum operation)in->kind) {
    case OP_ADD:
        return operation_add(old, b, type, global);
    case OP_MIN:
        return x < y ? old : b;
    case OP_MAX:
        return x > y ? old : b;
    case OP_AND:
        return old & b;
    case OP_OR:
        return old | b;
    case OP_XOR:
        return old ^ b;
    case OP_EXCH:
        return b;
    case OP_CAS:
        return old == b ? c : old;
    case OP_INC:
        return old >= b ? 0 : old + 1;
    case OP_DEC:
        return old == 0 || old > b ? b : old - 1;
    }
    return old;
}

/* Returns what was there before. */
static uint64_t operation_swap(const struct instruction *in, struct place p, uint64_t b,
                               uint64_t c) {
    bool global = p.space == SPACE_GLOBAL;
    if (in->element_bytes == 2) {
        uint16_t *at = (uint16_t *)(void *)p.bytes, old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
        while (!__atomic_compare_exchange_n(at, &old,
                                            (uint16_t)operation_run(in, old, b, c, global), false,
                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        }
        return old;
    }
    if (in->element_bytes == 4) {
        uint32_t *at = (uint32_t *)(void *)p.bytes, old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
        while (!__atomic_compare_exchange_n(at, &old,
                                            (uint32_t)operation_run(in, old, b, c, global), false,
                                            __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        }
        return old;
    }
    uint64_t *at = (uint64_t *)(void *)p.bytes, old = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(at, &old, operation_run(in, old, b, c, global), false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return old;
}

static uint64_t lane_value(struct warp *w, const struct row *row, int lane) {
    uint64_t value = 0;
    memcpy(&value, (uint8_t *)warp_row(w, row) + (unsigned)lane * row->bytes, row->bytes);
    return value;
}

static enum step execute_atomic(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint64_t addresses[LANES];
    access_addresses(w, in, addresses);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        struct place p = access_check(w, in, lane, in->space, addresses[lane], in->element_bytes,
                                      ACCESS_UPDATE, true);
        if (!p.bytes) return STEP_FAULT;
        uint64_t b = lane_value(w, &in->s[0], lane);
        uint64_t c = in->source_count > 1 ? lane_value(w, &in->s[1], lane) : 0;
        uint64_t old = operation_swap(in, p, b, c);
        if (!in->d.sink)
            memcpy((uint8_t *)warp_row(w, &in->d) + (unsigned)lane * in->d.bytes, &old,
                   in->d.bytes);
    }
    return STEP_YIELD;
}

static bool operation_allows(enum operation op, enum type type) {
    unsigned bytes = type_bytes(type);
    bool sized = type == TYPE_B32 || type == TYPE_B64;
    switch (op) {
    case OP_ADD:
        return type == TYPE_U32 || type == TYPE_S32 || type == TYPE_U64 || type == TYPE_F32 ||
               type == TYPE_F64 || type == TYPE_F16 || type == TYPE_F16X2 || type == TYPE_BF16 ||
               type == TYPE_BF16X2;
    case OP_MIN:
    case OP_MAX:
        return bytes >= 4 && !type_is_float(type) && !sized && type < TYPE_B128 &&
               type != TYPE_F16X2 && type != TYPE_BF16X2;
    case OP_INC:
    case OP_DEC:
        return type == TYPE_U32;
    case OP_CAS:
        return sized || type == TYPE_B16 || type == TYPE_U32 || type == TYPE_S32 ||
               type == TYPE_U64;
    case OP_EXCH:
        return sized || type == TYPE_U32 || type == TYPE_S32 || type == TYPE_U64 ||
               type == TYPE_F32;
    default:
        return sized || type == TYPE_U32 || type == TYPE_S32 || type == TYPE_U64;
    }
}

static void decode_atomic(struct decoder *d, bool returns) {
    struct instruction *in = d->in;
    static const char *const scopes[] = {"cta", "gpu", "sys", NULL};
    in->order = (uint8_t)access_decode_order(d);
    (void)decode_take_one(d, scopes);
    in->space = (uint8_t)access_decode_space(d);
    if (in->space == SPACE_CONST || in->space == SPACE_LOCAL || in->space == SPACE_PARAM)
        decode_fail(d, "that state space has no atomics");
    size_t policy = decode_take(d, "L2::cache_hint") ? 1 : 0;
    int op = decode_take_one(d, operation_names);
    if (op < 0) decode_fail(d, "this operation is not known");
    (void)decode_take(d, "noftz");
    enum type type = decode_take_type(d);
    if (!operation_allows((enum operation)op, type))
        decode_fail(d, "not with .%s", type_name(type));
    in->kind = (uint8_t)op;
    in->kind2 = (uint8_t)type;
    in->element_bytes = (uint8_t)type_bytes(type);
    in->source_count = op == OP_CAS ? 2 : 1;
    size_t first = returns ? 1 : 0;
    decode_operands(d, first + 1 + in->source_count + policy,
                    first + 1 + in->source_count + policy);
    in->d.sink = true;
    if (returns) in->d = decode_result(d, decode_operand(d, 0), in->element_bytes);
    decode_address(d, decode_operand(d, first));
    for (size_t i = 0; i < in->source_count; i++)
        in->s[i] = decode_source(d, decode_operand(d, first + 1 + i), type);
    if (in->space <= SPACE_GLOBAL) d->kernel->exchanges = true;
    in->execute = execute_atomic;
}

static void decode_atom(struct decoder *d) {
    decode_atomic(d, true);
}

static void decode_red(struct decoder *d) {
    decode_atomic(d, false);
}

const struct family family_atomic[] = {{"atom", decode_atom}, {"red", decode_red}, {NULL, NULL}};
