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
