#include "tests/ptx/conflict.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static inline struct conflict_record *record_at(const struct allocation *a, uint64_t address) {
    return &a->records[address / 4 - a->base / 4];
}

static const struct allocation *conflict_allocation(struct warp *w, uint64_t address) {
    const struct allocation *a = w->recent;
    if (a && address - a->base < a->size) return a;
    return memory_allocation(w->block->grid->launch->memory, address);
}

/* Which bytes of the word an access of this width touches. */
static inline uint8_t word_bytes(uint64_t address, unsigned bytes) {
    return bytes >= 4 ? 15 : (uint8_t)(((1u << bytes) - 1) << (address & 3));
}

static bool conflict_ordered(struct warp *w, int lane, const struct conflict_record *r) {
    return r->block == w->block->index &&
           shared_ordered(&w->block->shared, w->index, (uint32_t)lane, r->thread);
}

static bool conflict_fault(struct warp *w, const struct instruction *in, int lane,
                           const struct allocation *a, uint64_t address, unsigned bytes,
                           const struct conflict_record *r, const char *verb) {
    char who[64];
    if (r->block != w->block->index)
        snprintf(who, sizeof who, "block %u of the grid", r->block);
    else
        snprintf(who, sizeof who, "thread %u of the block", shared_thread(r->thread));
    warp_fault(w, in, lane,
               "a race in global memory: %s %u bytes at 0x%" PRIx64 " (byte %" PRIu64
               " of '%s'), which %s wrote in this launch",
               verb, bytes, address, address - a->base, a->name, who);
    return false;
}

static bool read_word(struct warp *w, const struct instruction *in, int lane,
                      const struct allocation *a, uint64_t address, unsigned bytes, bool nc) {
    const struct grid *grid = w->block->grid;
    const struct conflict_record *r = record_at(a, address);
    if (r->launch != grid->number || !(r->bytes & word_bytes(address, bytes))) return true;
    if (nc) {
        warp_fault(w, in, lane,
                   "reads %u bytes at 0x%" PRIx64 " (byte %" PRIu64
                   " of '%s') as if they were constant; this launch has written them",
                   bytes, address, address - a->base, a->name);
        return false;
    }
    if (r->several || grid->kernel->exchanges || conflict_ordered(w, lane, r)) return true;
    return conflict_fault(w, in, lane, a, address, bytes, r, "reads");
}

bool conflict_read_lane(struct warp *w, const struct instruction *in, int lane, uint64_t address,
                        unsigned bytes, bool nc) {
    const struct allocation *a = conflict_allocation(w, address);
    if (!a || !a->records) return true;
    const struct conflict_record *r = record_at(a, address);
    uint32_t number = w->block->grid->number;
    for (unsigned i = 0; i < bytes; i += 4, r++)
        if (r->launch == number && !read_word(w, in, lane, a, address + i, bytes, nc)) return false;
    return true;
}

bool conflict_read(struct warp *w, const struct instruction *in, uint32_t mask,
                   uint8_t *const places[LANES], unsigned bytes, bool nc) {
    for (uint32_t m = mask; m; m &= m - 1) {
        uint64_t address = (uint64_t)(uintptr_t)places[lane_first(m)];
        if (!conflict_read_lane(w, in, lane_first(m), address, bytes, nc)) return false;
    }
    return true;
}

static bool write_word(struct warp *w, const struct instruction *in, int lane,
                       const struct allocation *a, uint64_t address, const uint8_t *from,
                       unsigned bytes) {
    const struct grid *grid = w->block->grid;
    struct conflict_record *r = record_at(a, address);
    struct conflict_record now = {.launch = grid->number,
                                  .block = w->block->index,
                                  .thread =
                                      shared_record(&w->block->shared, w->index, (uint32_t)lane),
                                  .bytes = word_bytes(address, bytes)};
    if (r->launch == grid->number && r->bytes != 15 && !(r->bytes & now.bytes)) {
        r->several |= r->thread != now.thread || r->block != now.block;
        r->bytes |= now.bytes;
        return true;
    }
    bool theirs = r->launch == grid->number && !r->several && !grid->kernel->exchanges &&
                  !conflict_ordered(w, lane, r);
    unsigned length = bytes < 4 ? bytes : 4;
    if (theirs && memcmp((const void *)(uintptr_t)address, from, length) != 0)
        return conflict_fault(w, in, lane, a, address, bytes, r, "writes");
    now.bytes |= r->launch == grid->number ? r->bytes : 0;
    now.several = r->launch == grid->number && now.bytes != word_bytes(address, bytes);
    *r = now;
    return true;
}

bool conflict_write(struct warp *w, const struct instruction *in, uint32_t mask,
                    uint8_t *const places[LANES], const uint8_t (*from)[16], unsigned bytes) {
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint64_t address = (uint64_t)(uintptr_t)places[lane];
        const struct allocation *a = conflict_allocation(w, address);
        if (!a || !a->records) continue;
        for (unsigned i = 0; i < bytes; i += 4)
            if (!write_word(w, in, lane, a, address + i, from[lane] + i, bytes)) return false;
    }
    return true;
}
