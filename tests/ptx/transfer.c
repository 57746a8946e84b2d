/* ld and st. Where all lanes of a warp hit one allocation, or all shared memory, they are checked
 * and moved together; else one by one, which also finds the words for what is wrong. */

#include <string.h>

#include "tests/ptx/access.h"
#include "tests/ptx/conflict.h"
#include "tests/ptx/families.h"

/* --- checks of a whole row -------------------------------------------------------------------- */

/* Where each lane's bytes are on the host. */
struct row_places {
    uint8_t *bytes[LANES];
};

struct extent {
    uint64_t low, high, bits; /* of all addresses: smallest, largest, or-ed together */
};

static struct extent addresses_extent(const uint64_t *addresses, uint32_t mask) {
    uint64_t first = addresses[lane_first(mask)];
    struct extent e = {first, first, first};
    if (mask == ALL_LANES) {
        for (int i = 0; i < LANES; i++) {
            uint64_t a = addresses[i];
            e.low = a < e.low ? a : e.low;
            e.high = a > e.high ? a : e.high;
            e.bits |= a;
        }
        return e;
    }
    for (uint32_t m = mask; m; m &= m - 1) {
        uint64_t a = addresses[lane_first(m)];
        e.low = a < e.low ? a : e.low;
        e.high = a > e.high ? a : e.high;
        e.bits |= a;
    }
    return e;
}

static inline bool bytes_written(const uint8_t *shadow, unsigned bytes) {
    uint64_t s[2] = {0x0101010101010101, 0x0101010101010101};
    memcpy(s, shadow, bytes);
    return s[0] == 0x0101010101010101 && s[1] == 0x0101010101010101;
}

static inline bool bytes_guarded(const uint8_t *shadow, unsigned bytes) {
    uint64_t s[2] = {0, 0};
    memcpy(s, shadow, bytes);
    return ((s[0] | s[1]) & 0x0202020202020202) != 0;
}

/* With a constant number of bytes, which the callers below make it. */
static inline bool row_shadow(const struct allocation *a, const uint64_t *addresses, uint32_t mask,
                              unsigned bytes, bool write) {
    bool good = true;
    for (uint32_t m = mask; m; m &= m - 1) {
        uint8_t *shadow = a->shadow + (addresses[lane_first(m)] - a->base);
        if (!write) {
            good &= bytes_written(shadow, bytes);
        } else if (!bytes_guarded(shadow, bytes)) {
            memset(shadow, SHADOW_WRITTEN, bytes);
        } else {
            good = false;
        }
    }
    return good;
}

static bool row_shadow_check(const struct allocation *a, const uint64_t *addresses, uint32_t mask,
                             unsigned bytes, bool write) {
    if (!a->shadow) return true;
    switch (bytes) {
    case 1:
        return row_shadow(a, addresses, mask, 1, write);
    case 2:
        return row_shadow(a, addresses, mask, 2, write);
    case 4:
        return row_shadow(a, addresses, mask, 4, write);
    case 8:
        return row_shadow(a, addresses, mask, 8, write);
    default:
        return row_shadow(a, addresses, mask, 16, write);
    }
}

static bool row_global(struct warp *w, const uint64_t *addresses, uint32_t mask, unsigned bytes,
                       bool write, struct row_places *places) {
    struct extent e = addresses_extent(addresses, mask);
    if (e.bits & (bytes - 1) || e.bits & WINDOW_MASK) return false;
    const struct allocation *a = w->recent;
    if (!a || e.low - a->base >= a->size) {
        a = memory_allocation(w->block->grid->launch->memory, e.low);
        if (!a) return false;
        w->recent = a;
    }
    if (e.high - a->base > a->size - bytes || a->size < bytes) return false;
    if (!row_shadow_check(a, addresses, mask, bytes, write)) return false;
    for (int i = 0; i < LANES; i++) places->bytes[i] = (uint8_t *)(uintptr_t)addresses[i];
    return true;
}

static enum step row_shared(struct warp *w, const struct instruction *in, const uint64_t *addresses,
                            uint32_t mask, unsigned bytes, bool write, struct row_places *places) {
    struct shared *s = &w->block->shared;
    struct extent e = addresses_extent(addresses, mask);
    if (e.bits & (bytes - 1) || s->size < bytes || e.high > s->size - bytes) return STEP_JOIN;
    struct shared_conflict c =
        shared_touch_row(s, w->index, mask, addresses, bytes, write ? SHARED_WRITE : SHARED_READ);
    if (c.trouble)
        return access_fault_shared(w, in, (int)c.lane, bytes, write ? ACCESS_WRITE : ACCESS_READ,
                                   c);
    for (int i = 0; i < LANES; i++) places->bytes[i] = s->bytes + (uint32_t)addresses[i];
    return STEP_NEXT;
}

static enum step row_check(struct warp *w, const struct instruction *in, uint32_t mask,
                           enum access access, struct row_places *places) {
    uint64_t addresses[LANES];
    unsigned bytes = in->element_bytes * in->row_count;
    bool write = access == ACCESS_WRITE, strong = in->order != ORDER_WEAK;
    access_addresses(w, in, addresses);
    if (in->space <= SPACE_CONST && row_global(w, addresses, mask, bytes, write, places))
        return STEP_NEXT;
    if (in->space == SPACE_SHARED && !strong) {
        enum step step = row_shared(w, in, addresses, mask, bytes, write, places);
        if (step != STEP_JOIN) return step;
    }
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        struct place p =
            access_check(w, in, lane, in->space, addresses[lane], bytes, access, strong);
        if (!p.bytes) return STEP_FAULT;
        places->bytes[lane] = p.bytes;
    }
    return STEP_NEXT;
}

/* --- moving ----------------------------------------------------------------------------------- */

static inline void element_load(uint8_t *to, unsigned row_bytes, const uint8_t *from,
                                unsigned bytes, bool sign) {
    if (row_bytes > bytes) memset(to, sign && from[bytes - 1] & 0x80 ? 0xFF : 0, row_bytes);
    memcpy(to, from, bytes);
}

static inline void row_load(uint8_t *row, unsigned row_bytes, const struct row_places *places,
                            uint32_t mask, size_t offset, unsigned bytes, bool sign) {
    if (mask == ALL_LANES) {
        for (unsigned lane = 0; lane < LANES; lane++)
            element_load(row + lane * row_bytes, row_bytes, places->bytes[lane] + offset, bytes,
                         sign);
        return;
    }
    for (uint32_t m = mask; m; m &= m - 1) {
        unsigned lane = (unsigned)lane_first(m);
        element_load(row + lane * row_bytes, row_bytes, places->bytes[lane] + offset, bytes, sign);
    }
}

static enum step execute_load(struct warp *w, const struct instruction *in, uint32_t mask) {
    struct row_places places;
    enum step step = row_check(w, in, mask, ACCESS_READ, &places);
    if (step != STEP_NEXT) return step;
    if (in->space <= SPACE_GLOBAL &&
        !conflict_read(w, in, mask, places.bytes, in->element_bytes * in->row_count, in->constant))
        return STEP_FAULT;
    for (uint32_t i = 0; i < in->row_count; i++) {
        const struct row *row = &in->rows[i];
        if (row->sink) continue;
        uint8_t *to = warp_row(w, row);
        unsigned bytes = in->element_bytes;
        size_t offset = (size_t)i * bytes;
        if (bytes == 4 && row->bytes == 4)
            row_load(to, 4, &places, mask, offset, 4, false);
        else if (bytes == 8 && row->bytes == 8)
            row_load(to, 8, &places, mask, offset, 8, false);
        else if (bytes == 2 && row->bytes == 2)
            row_load(to, 2, &places, mask, offset, 2, false);
        else
            row_load(to, row->bytes, &places, mask, offset, bytes, in->sign_extend);
    }
    return in->order == ORDER_WEAK ? STEP_NEXT : STEP_YIELD;
}

/* The address is a constant and so is the value: one for all. */
static enum step execute_load_param(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint64_t *base = warp_row(w, &in->a);
    unsigned bytes = in->element_bytes * in->row_count;
    struct place p = access_check(w, in, lane_first(mask), SPACE_PARAM,
                                  *base + (uint64_t)in->offset, bytes, ACCESS_READ, false);
    if (!p.bytes) return STEP_FAULT;
    struct row_places places;
    for (int i = 0; i < LANES; i++) places.bytes[i] = p.bytes;
    for (uint32_t i = 0; i < in->row_count; i++)
        if (!in->rows[i].sink)
            row_load(warp_row(w, &in->rows[i]), in->rows[i].bytes, &places, mask,
                     (size_t)i * in->element_bytes, in->element_bytes, in->sign_extend);
    return STEP_NEXT;
}

/* What each lane stores, its elements together. */
static inline void row_collect(uint8_t (*to)[16], const uint8_t *row, unsigned row_bytes,
                               uint32_t mask, size_t offset, unsigned bytes) {
    for (uint32_t m = mask; m; m &= m - 1) {
        unsigned lane = (unsigned)lane_first(m);
        memcpy(to[lane] + offset, row + lane * row_bytes, bytes);
    }
}

static inline void row_store(uint8_t *const places[LANES], const uint8_t (*from)[16], uint32_t mask,
                             unsigned bytes) {
    for (uint32_t m = mask; m; m &= m - 1)
        memcpy(places[lane_first(m)], from[lane_first(m)], bytes);
}

static void values_store(const struct row_places *places, const uint8_t (*from)[16], uint32_t mask,
                         unsigned bytes) {
    switch (bytes) {
    case 2:
        row_store(places->bytes, from, mask, 2);
        break;
    case 4:
        row_store(places->bytes, from, mask, 4);
        break;
    case 8:
        row_store(places->bytes, from, mask, 8);
        break;
    case 16:
        row_store(places->bytes, from, mask, 16);
        break;
    default:
        row_store(places->bytes, from, mask, bytes);
    }
}

static enum step execute_store(struct warp *w, const struct instruction *in, uint32_t mask) {
    struct row_places places;
    uint8_t values[LANES][16];
    enum step step = row_check(w, in, mask, ACCESS_WRITE, &places);
    if (step != STEP_NEXT) return step;
    for (uint32_t i = 0; i < in->row_count; i++) {
        const uint8_t *row = warp_row(w, &in->rows[i]);
        unsigned bytes = in->element_bytes, width = in->rows[i].bytes;
        size_t offset = (size_t)i * bytes;
        if (bytes == 4 && width == 4)
            row_collect(values, row, 4, mask, offset, 4);
        else if (bytes == 2 && width == 2)
            row_collect(values, row, 2, mask, offset, 2);
        else
            row_collect(values, row, width, mask, offset, bytes);
    }
    const uint8_t(*from)[16] = (const uint8_t(*)[16])values;
    unsigned bytes = in->element_bytes * in->row_count;
    if (in->space > SPACE_GLOBAL) {
        values_store(&places, from, mask, bytes);
    } else { /* lane by lane, so that each sees what those before it have written */
        for (uint32_t m = mask; m; m &= m - 1) {
            uint32_t lane = m & -m;
            if (!conflict_write(w, in, lane, places.bytes, from, bytes)) return STEP_FAULT;
            values_store(&places, from, lane, bytes);
        }
    }
    return in->order == ORDER_WEAK ? STEP_NEXT : STEP_YIELD;
}

static enum step execute_copy_stack(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint32_t size = w->block->grid->kernel->local_bytes;
    for (uint32_t m = mask; m; m &= m - 1) {
        size_t lane = (size_t)lane_first(m) * size;
        size_t to = lane + (size_t)in->offset, from = lane + in->target;
        memcpy(w->local + to, w->local + from, in->row_count);
        memcpy(w->local_shadow + to, w->local_shadow + from, in->row_count);
    }
    return STEP_NEXT;
}

void access_copy_stack(struct instruction *in, uint32_t to, uint32_t from, uint32_t bytes) {
    in->offset = to;
    in->target = from;
    in->row_count = bytes;
    in->execute = execute_copy_stack;
}

/* --- decoding --------------------------------------------------------------------------------- */

static void decode_access(struct decoder *d, bool load) {
    struct instruction *in = d->in;
    in->order = (uint8_t)access_decode_order(d);
    in->space = (uint8_t)access_decode_space(d);
    size_t policy = access_decode_hints(d);
    in->constant = load && in->space == SPACE_GLOBAL && decode_take(d, "nc");
    static const char *const vectors[] = {"v2", "v4", "v8", NULL};
    int v = decode_take_one(d, vectors);
    in->vector = (uint8_t)(v < 0 ? 1 : 2 << v);
    enum type type = decode_take_type(d);
    if (type == TYPE_PRED || (in->vector == 8)) decode_fail(d, "this width is not known");
    in->element_bytes = (uint8_t)type_bytes(type);
    in->sign_extend = type_is_signed(type);
    if (in->element_bytes * in->vector > 16) decode_fail(d, "an access of more than 16 bytes");
    decode_operands(d, 2 + policy, 2 + policy);
    const struct operand *value = decode_operand(d, load ? 0 : 1);
    if ((value->kind == OPERAND_VECTOR ? value->part_count : 1) != in->vector)
        decode_fail(d, "the vector has another number of elements");
    decode_rows(d, value, in->element_bytes, load);
    decode_address(d, decode_operand(d, load ? 1 : 0));
    if (in->order != ORDER_WEAK && in->space <= SPACE_GLOBAL) d->kernel->exchanges = true;
}

static void decode_ld(struct decoder *d) {
    decode_access(d, true);
    bool uniform = d->in->space == SPACE_PARAM && d->in->a.base == BASE_CONSTANTS;
    d->in->execute = uniform ? execute_load_param : execute_load;
}

static void decode_ldu(struct decoder *d) {
    decode_ld(d);
}

static void decode_st(struct decoder *d) {
    decode_access(d, false);
    if (d->in->space == SPACE_PARAM || d->in->space == SPACE_CONST)
        decode_fail(d, "that state space cannot be written");
    d->in->execute = execute_store;
}

/* Prefetches and the like may name any address and change nothing. */
static enum step execute_hint(struct warp *w, const struct instruction *in, uint32_t mask) {
    (void)w, (void)in, (void)mask;
    return STEP_NEXT;
}

static void decode_prefetch(struct decoder *d) {
    static const char *const levels[] = {"L1", "L2", "L2::evict_last", "L2::evict_normal", NULL};
    d->in->space = (uint8_t)access_decode_space(d);
    (void)decode_take_one(d, levels);
    decode_operands(d, 1, 1);
    decode_address(d, decode_operand(d, 0));
    d->in->execute = execute_hint;
}

static void decode_createpolicy(struct decoder *d) {
    static const char *const words[] = {"fractional",          "L2::evict_last",
                                        "L2::evict_normal",    "L2::evict_first",
                                        "L2::evict_unchanged", NULL};
    while (decode_take_one(d, words) >= 0) {
    }
    if (decode_take_type(d) != TYPE_B64) decode_fail(d, "only .b64 is known");
    decode_operands(d, 1, 2);
    (void)decode_result(d, decode_operand(d, 0), 8);
    d->in->execute = execute_hint;
}

const struct family family_access[] = {{"ld", decode_ld},
                                       {"ldu", decode_ldu},
                                       {"st", decode_st},
                                       {"prefetch", decode_prefetch},
                                       {"prefetchu", decode_prefetch},
                                       {"createpolicy", decode_createpolicy},
                                       {NULL, NULL}};
