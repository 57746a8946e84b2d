#include "tests/ptx/access.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/ptx/families.h"

static const char *access_verb(enum access access) {
    return access == ACCESS_READ ? "reads" : access == ACCESS_WRITE ? "writes" : "updates";
}

/* --- checks ----------------------------------------------------------------------------------- */

static struct place fault_outside(struct warp *w, const struct instruction *in, int lane,
                                  uint64_t address, unsigned bytes, enum access access) {
    const struct ptx_memory *memory = w->block->grid->launch->memory;
    const struct allocation *a = memory_before(memory, address);
    char near[160] = "";
    if (a)
        snprintf(near, sizeof near,
                 " (below it lies '%s', %" PRIu64 " bytes at 0x%" PRIx64 ": %" PRIu64
                 " past its end)",
                 a->name, a->size, a->base, address + bytes - a->base - a->size);
    warp_fault(w, in, lane, "%s %u bytes at 0x%" PRIx64 ", outside every allocation%s",
               access_verb(access), bytes, address, near);
    return (struct place){0};
}

/* Why the shadow forbids it. */
static struct place fault_shadow(struct warp *w, const struct instruction *in, int lane,
                                 const struct allocation *a, uint64_t address, unsigned bytes,
                                 enum access access) {
    const uint8_t *shadow = a->shadow + (address - a->base);
    unsigned i = 0;
    while (i < bytes && !(shadow[i] & SHADOW_GUARD)) i++;
    if (i < bytes) {
        warp_fault(w, in, lane,
                   "%s %u bytes at 0x%" PRIx64 ", in a guarded gap (byte %" PRIu64 " of '%s')",
                   access_verb(access), bytes, address, address + i - a->base, a->name);
        return (struct place){0};
    }
    for (i = 0; i < bytes && shadow[i] & SHADOW_WRITTEN;) i++;
    warp_fault(w, in, lane,
               "%s %u bytes at 0x%" PRIx64 ", which nobody has written (byte %" PRIu64 " of '%s')",
               access_verb(access), bytes, address, address + i - a->base, a->name);
    return (struct place){0};
}

static inline bool all_written(const uint8_t *shadow, unsigned bytes) {
    uint64_t s[2] = {0x0101010101010101, 0x0101010101010101};
    switch (bytes) {
    case 1:
        return *shadow == SHADOW_WRITTEN;
    case 2:
        memcpy(s, shadow, 2);
        break;
    case 4:
        memcpy(s, shadow, 4);
        break;
    case 8:
        memcpy(s, shadow, 8);
        break;
    default:
        memcpy(s, shadow, 16);
        break;
    }
    return s[0] == 0x0101010101010101 && s[1] == 0x0101010101010101;
}

static inline bool any_guarded(const uint8_t *shadow, unsigned bytes) {
    uint64_t s[2] = {0, 0};
    memcpy(s, shadow, bytes);
    return ((s[0] | s[1]) & 0x0202020202020202) != 0;
}

static inline struct place check_global(struct warp *w, const struct instruction *in, int lane,
                                        uint64_t address, unsigned bytes, enum access access) {
    const struct allocation *a = w->recent;
    if (!a || address < a->base || address - a->base > a->size - 1) {
        a = memory_allocation(w->block->grid->launch->memory, address);
        if (!a) return fault_outside(w, in, lane, address, bytes, access);
        w->recent = a;
    }
    if (bytes > a->size - (address - a->base))
        return fault_outside(w, in, lane, address, bytes, access);
    struct place place = {.bytes = (uint8_t *)(uintptr_t)address, .space = SPACE_GLOBAL};
    if (!a->shadow) return place;
    place.shadow = a->shadow + (address - a->base);
    if (access != ACCESS_WRITE && !all_written(place.shadow, bytes))
        return fault_shadow(w, in, lane, a, address, bytes, access);
    if (access != ACCESS_READ && any_guarded(place.shadow, bytes))
        return fault_shadow(w, in, lane, a, address, bytes, access);
    if (access == ACCESS_WRITE) memset(place.shadow, SHADOW_WRITTEN, bytes);
    return place;
}

enum step access_fault_shared(struct warp *w, const struct instruction *in, int lane,
                              unsigned bytes, enum access access, struct shared_conflict c) {
    if (c.trouble == SHARED_UNWRITTEN) {
        warp_fault(w, in, lane, "%s %u bytes of shared memory; byte %u was never written",
                   access_verb(access), bytes, c.byte);
    } else if (c.trouble == SHARED_IN_FLIGHT) {
        warp_fault(w, in, lane,
                   "%s %u bytes of shared memory; a cp.async of warp %u to byte %u is under way",
                   access_verb(access), bytes, c.other_warp, c.byte);
    } else {
        char who[64];
        if (c.other == UINT32_MAX)
            snprintf(who, sizeof who, "several threads of warp %u", c.other_warp);
        else
            snprintf(who, sizeof who, "thread %u of the block", c.other);
        warp_fault(w, in, lane,
                   "a race in shared memory: %s %u bytes; %s %s byte %u, with no barrier between",
                   access_verb(access), bytes, who, c.other_writes ? "wrote" : "read", c.byte);
    }
    return STEP_FAULT;
}

static inline struct place check_shared(struct warp *w, const struct instruction *in, int lane,
                                        uint64_t address, unsigned bytes, enum access access,
                                        bool strong) {
    struct shared *s = &w->block->shared;
    if (address > s->size || bytes > s->size - address) {
        warp_fault(w, in, lane, "%s %u bytes at %" PRIu64 " of shared memory, which has %u bytes",
                   access_verb(access), bytes, address, s->size);
        return (struct place){0};
    }
    enum shared_access kind = access == ACCESS_UPDATE           ? SHARED_ATOMIC
                              : strong && access == ACCESS_READ ? SHARED_ATOMIC_READ
                              : strong                          ? SHARED_ATOMIC_WRITE
                              : access == ACCESS_READ           ? SHARED_READ
                                                                : SHARED_WRITE;
    struct shared_conflict c =
        shared_touch(s, w->index, (uint32_t)lane, (uint32_t)address, bytes, kind);
    if (c.trouble) {
        access_fault_shared(w, in, lane, bytes, access, c);
        return (struct place){0};
    }
    return (struct place){.bytes = s->bytes + address, .space = SPACE_SHARED};
}

static struct place check_local(struct warp *w, const struct instruction *in, int lane,
                                uint64_t address, unsigned bytes, enum access access) {
    uint32_t size = w->block->grid->kernel->local_bytes;
    if (address > size || bytes > size - address) {
        warp_fault(w, in, lane, "%s %u bytes at %" PRIu64 " of local memory, which has %u bytes",
                   access_verb(access), bytes, address, size);
        return (struct place){0};
    }
    size_t at = (size_t)lane * size + address;
    struct place place = {
        .bytes = w->local + at, .shadow = w->local_shadow + at, .space = SPACE_LOCAL};
    if (access == ACCESS_WRITE) {
        memset(place.shadow, SHADOW_WRITTEN, bytes);
    } else if (!all_written(place.shadow, bytes)) {
        warp_fault(w, in, lane, "%s %u bytes at %" PRIu64 " of local memory, not all written",
                   access_verb(access), bytes, address);
        return (struct place){0};
    }
    return place;
}

static struct place check_param(struct warp *w, const struct instruction *in, int lane,
                                uint64_t address, unsigned bytes, enum access access) {
    const struct grid *grid = w->block->grid;
    uint64_t size = grid->kernel->facts.param_bytes;
    if (access != ACCESS_READ || address > size || bytes > size - address) {
        warp_fault(w, in, lane, "%s %u bytes at %" PRIu64 " of the parameters, which have %" PRIu64,
                   access_verb(access), bytes, address, size);
        return (struct place){0};
    }
    return (struct place){.bytes = (uint8_t *)(uintptr_t)(grid->params + address),
                          .space = SPACE_PARAM};
}

static inline enum space space_of(uint64_t *address) {
    switch (*address & WINDOW_MASK) {
    case WINDOW_SHARED:
        *address &= ~WINDOW_MASK;
        return SPACE_SHARED;
    case WINDOW_LOCAL:
        *address &= ~WINDOW_MASK;
        return SPACE_LOCAL;
    case WINDOW_PARAM:
        *address &= ~WINDOW_MASK;
        return SPACE_PARAM;
    default:
        return SPACE_GLOBAL;
    }
}

struct place access_check(struct warp *w, const struct instruction *in, int lane, enum space space,
                          uint64_t address, unsigned bytes, enum access access, bool strong) {
    if (address & (bytes - 1)) {
        warp_fault(w, in, lane, "%s %u bytes at 0x%" PRIx64 ", which is misaligned",
                   access_verb(access), bytes, address);
        return (struct place){0};
    }
    if (space == SPACE_GENERIC) space = space_of(&address);
    switch (space) {
    case SPACE_SHARED:
        return check_shared(w, in, lane, address, bytes, access, strong);
    case SPACE_LOCAL:
    case SPACE_CALL:
        return check_local(w, in, lane, address, bytes, access);
    case SPACE_PARAM:
        return check_param(w, in, lane, address, bytes, access);
    default:
        return check_global(w, in, lane, address, bytes, access);
    }
}

void access_addresses(struct warp *w, const struct instruction *in, uint64_t addresses[LANES]) {
    const void *row = warp_row(w, &in->a);
    uint64_t offset = (uint64_t)in->offset;
    if (in->a.bytes == 8) {
        const uint64_t *a = row;
        for (int i = 0; i < LANES; i++) addresses[i] = a[i] + offset;
    } else { /* an address of 32 bits stays within them */
        const uint32_t *a = row;
        for (int i = 0; i < LANES; i++) addresses[i] = (uint32_t)(a[i] + (uint32_t)offset);
    }
}

/* --- ld and st -------------------------------------------------------------------------------- */

static inline void element_load(uint8_t *row, unsigned row_bytes, int lane, const uint8_t *from,
                                unsigned bytes, bool sign) {
    uint8_t *to = row + (unsigned)lane * row_bytes;
    if (row_bytes > bytes) {
        bool negative = sign && from[bytes - 1] & 0x80;
        memset(to, negative ? 0xFF : 0, row_bytes);
    }
    memcpy(to, from, bytes);
}

static inline enum step load_lane(struct warp *w, const struct instruction *in, int lane,
                                  uint64_t address, unsigned bytes) {
    struct place p =
        access_check(w, in, lane, in->space, address, bytes, ACCESS_READ, in->order != ORDER_WEAK);
    if (!p.bytes) return STEP_FAULT;
    for (uint32_t i = 0; i < in->row_count; i++)
        if (!in->rows[i].sink)
            element_load(warp_row(w, &in->rows[i]), in->rows[i].bytes, lane,
                         p.bytes + i * in->element_bytes, in->element_bytes, in->sign_extend);
    return STEP_NEXT;
}

static enum step execute_load(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint64_t addresses[LANES];
    unsigned bytes = in->element_bytes * in->row_count;
    access_addresses(w, in, addresses);
    for (uint32_t m = mask; m; m &= m - 1)
        if (load_lane(w, in, lane_first(m), addresses[lane_first(m)], bytes) == STEP_FAULT)
            return STEP_FAULT;
    return in->order == ORDER_WEAK ? STEP_NEXT : STEP_YIELD;
}

/* The address is a constant and so is the value: one for all. */
static enum step execute_load_param(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint64_t *base = warp_row(w, &in->a);
    unsigned bytes = in->element_bytes * in->row_count;
    struct place p = access_check(w, in, lane_first(mask), SPACE_PARAM,
                                  *base + (uint64_t)in->offset, bytes, ACCESS_READ, false);
    if (!p.bytes) return STEP_FAULT;
    for (uint32_t i = 0; i < in->row_count; i++) {
        if (in->rows[i].sink) continue;
        uint8_t *row = warp_row(w, &in->rows[i]);
        for (uint32_t m = mask; m; m &= m - 1)
            element_load(row, in->rows[i].bytes, lane_first(m), p.bytes + i * in->element_bytes,
                         in->element_bytes, in->sign_extend);
    }
    return STEP_NEXT;
}

static enum step execute_store(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint64_t addresses[LANES];
    unsigned bytes = in->element_bytes * in->row_count;
    access_addresses(w, in, addresses);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        struct place p = access_check(w, in, lane, in->space, addresses[lane], bytes, ACCESS_WRITE,
                                      in->order != ORDER_WEAK);
        if (!p.bytes) return STEP_FAULT;
        for (uint32_t i = 0; i < in->row_count; i++) {
            const uint8_t *row = warp_row(w, &in->rows[i]);
            memcpy(p.bytes + i * in->element_bytes, row + (unsigned)lane * in->rows[i].bytes,
                   in->element_bytes);
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

size_t access_decode_hints(struct decoder *d) {
    static const char *const hints[] = {"L1::no_allocate",
                                        "L1::evict_normal",
                                        "L1::evict_unchanged",
                                        "L1::evict_first",
                                        "L1::evict_last",
                                        "L2::evict_normal",
                                        "L2::evict_first",
                                        "L2::evict_last",
                                        "L2::64B",
                                        "L2::128B",
                                        "L2::256B",
                                        "ca",
                                        "cg",
                                        "cs",
                                        "lu",
                                        "wb",
                                        "nc",
                                        NULL};
    while (decode_take_one(d, hints) >= 0) {
    }
    return decode_take(d, "L2::cache_hint") ? 1 : 0;
}

enum order access_decode_order(struct decoder *d) {
    static const char *const orders[] = {"weak",    "volatile", "relaxed", "acquire",
                                         "release", "acq_rel",  NULL};
    static const char *const scopes[] = {"cta", "gpu", "sys", "cluster", NULL};
    int order = decode_take_one(d, orders);
    if (decode_take(d, "cv") || decode_take(d, "wt")) order = ORDER_VOLATILE;
    if (order > ORDER_VOLATILE && decode_take_one(d, scopes) < 0)
        decode_fail(d, "a scope is missing");
    return order < 0 ? ORDER_WEAK : (enum order)order;
}

enum space access_decode_space(struct decoder *d) {
    static const char *const names[] = {"global",       "const",       "shared",
                                        "local",        "param",       "shared::cta",
                                        "param::entry", "param::func", NULL};
    static const enum space spaces[] = {SPACE_GLOBAL, SPACE_CONST,  SPACE_SHARED, SPACE_LOCAL,
                                        SPACE_PARAM,  SPACE_SHARED, SPACE_PARAM,  SPACE_PARAM};
    int space = decode_take_one(d, names);
    return space < 0 ? SPACE_GENERIC : spaces[space];
}

static void decode_access(struct decoder *d, bool load) {
    struct instruction *in = d->in;
    in->order = (uint8_t)access_decode_order(d);
    in->space = (uint8_t)access_decode_space(d);
    size_t policy = access_decode_hints(d);
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
