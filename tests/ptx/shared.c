#include "tests/ptx/shared.h"

#include <stdlib.h>
#include <string.h>

/* A record: warp (5 bits), strong (1), lane or what stands for it (6), clock (20). 0: nobody. */
enum { LANE_SEVERAL = 32, LANE_FLIGHT = 33, LANE_PARTS = 34, LANE_OLD = 35 };
#define CLOCK_BITS 20
#define CLOCK_MAX ((1u << CLOCK_BITS) - 2)

static inline uint32_t record_make(uint32_t warp, bool strong, uint32_t lane, uint32_t clock) {
    return warp << 27 | (uint32_t)strong << 26 | lane << CLOCK_BITS | clock;
}
static inline uint32_t record_warp(uint32_t r) {
    return r >> 27;
}
static inline bool record_strong(uint32_t r) {
    return r >> 26 & 1;
}
static inline uint32_t record_lane(uint32_t r) {
    return r >> CLOCK_BITS & 63;
}
static inline uint32_t record_clock(uint32_t r) {
    return r & ((1u << CLOCK_BITS) - 1);
}

bool shared_create(struct shared *s, uint32_t size, uint32_t warps) {
    *s = (struct shared){.size = size, .warps = warps};
    size_t words = size / 4 + 1;
    s->bytes = malloc(size + 64);
    s->words = calloc(words, sizeof *s->words);
    s->parts = calloc(words * 4, sizeof *s->parts);
    shared_reset(s);
    return s->bytes && s->words && s->parts;
}

/* Nothing was written before `clock`, and everything up to then is in order. */
static void shared_begin(struct shared *s, uint32_t birth, uint32_t ordered) {
    s->birth = birth;
    for (uint32_t w = 0; w < s->warps; w++) {
        s->clocks[w] = ordered + 1;
        s->full[w] = ordered;
        s->arrived[w] = 0;
        for (uint32_t v = 0; v < s->warps; v++) s->seen[w][v] = ordered;
        free(s->lanes[w]);
        s->lanes[w] = NULL;
    }
}

void shared_reset(struct shared *s) {
    uint32_t latest = 0;
    for (uint32_t w = 0; w < s->warps; w++)
        if (s->clocks[w] > latest) latest = s->clocks[w];
    if (latest > CLOCK_MAX / 2) { /* a new count of time: old records must not look like new ones */
        size_t words = s->size / 4 + 1;
        memset(s->words, 0, words * sizeof *s->words);
        memset(s->parts, 0, words * 4 * sizeof *s->parts);
        latest = 0;
    }
    shared_begin(s, latest, latest);
}

void shared_free(struct shared *s) {
    free(s->bytes);
    free(s->words);
    free(s->parts);
    for (uint32_t w = 0; w < s->warps; w++) free(s->lanes[w]);
}

/* Is what the record tells of ordered before what this thread does now? */
static inline bool ordered(const struct shared *s, uint32_t warp, uint32_t lane, uint32_t record) {
    uint32_t other = record_warp(record), clock = record_clock(record);
    if (other != warp) return clock <= s->seen[warp][other];
    uint32_t other_lane = record_lane(record);
    if (other_lane == lane || clock <= s->full[warp]) return true;
    return other_lane < 32 && s->lanes[warp] && clock <= s->lanes[warp][lane][other_lane];
}

uint32_t shared_record(const struct shared *s, uint32_t warp, uint32_t lane) {
    return record_make(warp, false, lane, s->clocks[warp]);
}

bool shared_ordered(const struct shared *s, uint32_t warp, uint32_t lane, uint32_t record) {
    return ordered(s, warp, lane, record);
}

uint32_t shared_thread(uint32_t record) {
    return record_warp(record) * 32 + record_lane(record);
}

static struct shared_conflict conflict_make(uint32_t record, uint32_t byte, bool writes) {
    uint32_t lane = record_lane(record);
    return (struct shared_conflict){.trouble = lane == LANE_FLIGHT ? SHARED_IN_FLIGHT : SHARED_RACE,
                                    .byte = byte,
                                    .other =
                                        lane < 32 ? record_warp(record) * 32 + lane : UINT32_MAX,
                                    .other_warp = record_warp(record),
                                    .other_writes = writes};
}

static inline bool written(const struct shared *s, uint32_t record) {
    return record_clock(record) > s->birth;
}

static inline void cell_read(struct shared *s, struct shared_cell *c, uint32_t warp, uint32_t lane,
                             bool strong, uint32_t record) {
    uint32_t first = c->readers[0];
    if (first == record) return;
    if (record_warp(first) == warp && record_clock(first) == record_clock(record)) {
        if (record_lane(first) != lane)
            record = record_make(warp, strong && record_strong(first), LANE_SEVERAL,
                                 record_clock(record));
    } else if (record_warp(first) != warp && !ordered(s, warp, lane, first)) {
        c->readers[1] = first;
    }
    c->readers[0] = record;
}

/* One cell of records: a word's or a byte's. */
static inline struct shared_conflict cell_touch(struct shared *s, struct shared_cell *c,
                                                uint32_t warp, uint32_t lane, uint32_t byte,
                                                enum shared_access access) {
    bool strong = access >= SHARED_ATOMIC_READ;
    uint32_t record = record_make(warp, strong, lane, s->clocks[warp]);
    uint32_t w = c->writer;
    if (written(s, w)) {
        if (record_lane(w) == LANE_FLIGHT ||
            (!(strong && record_strong(w)) && !ordered(s, warp, lane, w)))
            return conflict_make(w, byte, true);
    } else if (access != SHARED_WRITE && access != SHARED_ATOMIC_WRITE) {
        return (struct shared_conflict){.trouble = SHARED_UNWRITTEN, .byte = byte};
    }
    if (access == SHARED_READ || access == SHARED_ATOMIC_READ) {
        cell_read(s, c, warp, lane, strong, record);
        return (struct shared_conflict){0};
    }
    for (int i = 0; i < 2; i++) {
        uint32_t r = c->readers[i];
        if (r && !(strong && record_strong(r)) && !ordered(s, warp, lane, r))
            return conflict_make(r, byte, false);
    }
    *c = (struct shared_cell){.writer = record};
    return (struct shared_conflict){0};
}

static bool word_divided(const struct shared *s, uint32_t word) {
    uint32_t w = s->words[word].writer;
    return record_lane(w) == LANE_PARTS && written(s, w);
}

/* A word whose bytes have their own records, from now on. */
static void word_divide(struct shared *s, uint32_t warp, uint32_t word) {
    for (uint32_t b = word * 4; b < word * 4 + 4; b++) s->parts[b] = s->words[word];
    s->words[word].writer = record_make(warp, false, LANE_PARTS, s->clocks[warp]);
}

static struct shared_conflict parts_touch(struct shared *s, uint32_t warp, uint32_t lane,
                                          uint32_t offset, uint32_t bytes,
                                          enum shared_access access) {
    struct shared_conflict c = {0};
    for (uint32_t b = offset; b < offset + bytes && !c.trouble; b++)
        c = cell_touch(s, &s->parts[b], warp, lane, b, access);
    return c;
}

static inline struct shared_conflict touch(struct shared *s, uint32_t warp, uint32_t lane,
                                           uint32_t offset, uint32_t bytes,
                                           enum shared_access access) {
    struct shared_conflict c = {0};
    if (bytes < 4) {
        if (!word_divided(s, offset / 4)) word_divide(s, warp, offset / 4);
        return parts_touch(s, warp, lane, offset, bytes, access);
    }
    for (uint32_t word = offset / 4; word < (offset + bytes) / 4 && !c.trouble; word++) {
        if (!word_divided(s, word)) {
            c = cell_touch(s, &s->words[word], warp, lane, word * 4, access);
            continue;
        }
        c = parts_touch(s, warp, lane, word * 4, 4, access);
        if (access != SHARED_READ && access != SHARED_ATOMIC_READ && !c.trouble)
            s->words[word] = s->parts[word * 4]; /* one record again */
    }
    return c;
}

struct shared_conflict shared_touch(struct shared *s, uint32_t warp, uint32_t lane, uint32_t offset,
                                    uint32_t bytes, enum shared_access access) {
    struct shared_conflict c = touch(s, warp, lane, offset, bytes, access);
    c.lane = lane;
    return c;
}

/* Ordered by a barrier of the block or of the warp, or one's own. */
static inline bool ordered_easily(const struct shared *s, const uint32_t *seen, uint32_t record,
                                  uint32_t warp, uint32_t lane) {
    uint32_t clock = record_clock(record);
    return clock <= seen[record_warp(record)] ||
           (record_warp(record) == warp && (clock <= s->full[warp] || record_lane(record) == lane));
}

/* What nearly every plain access finds: words that are whole, and in order. False: look closer. */
static inline bool touch_easily(struct shared *s, uint32_t warp, uint32_t lane, uint32_t offset,
                                uint32_t bytes, bool write) {
    const uint32_t *seen = s->seen[warp], own = warp << 27 | s->clocks[warp];
    const uint32_t record = own | lane << CLOCK_BITS, several = own | LANE_SEVERAL << CLOCK_BITS;
    for (uint32_t word = offset / 4; word < (offset + bytes) / 4; word++) {
        struct shared_cell *c = &s->words[word];
        uint32_t w = c->writer, first = c->readers[0], second = c->readers[1];
        if (record_lane(w) > 31 || !ordered_easily(s, seen, w, warp, lane)) return false;
        if (write) {
            if (!ordered_easily(s, seen, first, warp, lane) ||
                !ordered_easily(s, seen, second, warp, lane))
                return false;
            *c = (struct shared_cell){.writer = record};
            continue;
        }
        if (!written(s, w)) return false;
        if (first == record || first == several) continue;
        if (!ordered_easily(s, seen, first, warp, lane)) return false;
        c->readers[0] = record;
    }
    return true;
}

struct shared_conflict shared_touch_row(struct shared *s, uint32_t warp, uint32_t mask,
                                        const uint64_t offsets[32], uint32_t bytes,
                                        enum shared_access access) {
    struct shared_conflict c = {0};
    bool plain = bytes >= 4 && access <= SHARED_WRITE;
    for (; mask && !c.trouble; mask &= mask - 1) {
        uint32_t lane = (uint32_t)__builtin_ctz(mask);
        if (plain &&
            touch_easily(s, warp, lane, (uint32_t)offsets[lane], bytes, access == SHARED_WRITE))
            continue;
        c = touch(s, warp, lane, (uint32_t)offsets[lane], bytes, access);
        c.lane = lane;
    }
    return c;
}

struct shared_conflict shared_flight_begin(struct shared *s, uint32_t warp, uint32_t lane,
                                           uint32_t offset, uint32_t bytes) {
    struct shared_conflict c = shared_touch(s, warp, lane, offset, bytes, SHARED_WRITE);
    for (uint32_t word = offset / 4; word < (offset + bytes) / 4; word++)
        s->words[word].writer = record_make(warp, false, LANE_FLIGHT, s->clocks[warp]);
    return c;
}

void shared_flight_end(struct shared *s, uint32_t warp, uint32_t lane, uint32_t offset,
                       uint32_t bytes) {
    for (uint32_t word = offset / 4; word < (offset + bytes) / 4; word++)
        s->words[word].writer = record_make(warp, false, lane, s->clocks[warp]);
}

/* --- order ------------------------------------------------------------------------------------ */

/* Clocks are about to overflow: everything so far counts as ordered. This can hide a race, once
 * in a million barriers. */
static void shared_forget(struct shared *s) {
    uint32_t old = record_make(0, false, LANE_OLD, 1);
    for (size_t i = 0; i < s->size / 4 + 1; i++) {
        uint32_t w = s->words[i].writer;
        bool kept = record_lane(w) == LANE_FLIGHT || record_lane(w) == LANE_PARTS;
        uint32_t now = (w & ~(((uint32_t)1 << CLOCK_BITS) - 1)) | 1;
        s->words[i] = (struct shared_cell){.writer = !written(s, w) ? 0 : kept ? now : old};
    }
    for (size_t i = 0; i < (s->size / 4 + 1) * 4; i++)
        s->parts[i] = (struct shared_cell){.writer = written(s, s->parts[i].writer) ? old : 0};
    shared_begin(s, 0, 1);
}

static void clock_tick(struct shared *s, uint32_t warp) {
    if (++s->clocks[warp] >= CLOCK_MAX) shared_forget(s);
}

void shared_sync_lanes(struct shared *s, uint32_t warp, uint32_t lanes, bool full) {
    uint32_t now = s->clocks[warp];
    if (full) {
        s->full[warp] = now;
        clock_tick(s, warp);
        return;
    }
    if (!s->lanes[warp]) s->lanes[warp] = calloc(32, sizeof *s->lanes[warp]);
    if (!s->lanes[warp]) abort();
    uint32_t known[32] = {0}; /* what any of them has seen, all of them have */
    for (uint32_t i = 0; i < 32; i++)
        for (uint32_t j = 0; lanes >> i & 1 && j < 32; j++)
            if (s->lanes[warp][i][j] > known[j]) known[j] = s->lanes[warp][i][j];
    for (uint32_t i = 0; i < 32; i++)
        for (uint32_t j = 0; lanes >> i & 1 && j < 32; j++)
            s->lanes[warp][i][j] = lanes >> j & 1 ? now : known[j];
    clock_tick(s, warp);
}

void shared_arrive(struct shared *s, uint32_t warp) {
    s->arrived[warp] = s->clocks[warp];
    clock_tick(s, warp);
}

void shared_sync_warps(struct shared *s, uint32_t comers, uint32_t waiters) {
    uint32_t known[SHARED_WARPS] = {0};
    for (uint32_t v = 0; v < s->warps; v++) {
        if (!(comers >> v & 1)) continue;
        for (uint32_t x = 0; x < s->warps; x++)
            if (s->seen[v][x] > known[x]) known[x] = s->seen[v][x];
        known[v] = s->arrived[v] ? s->arrived[v] : s->clocks[v];
        s->arrived[v] = 0;
    }
    for (uint32_t v = 0; v < s->warps; v++) {
        if (!(waiters >> v & 1)) continue;
        for (uint32_t x = 0; x < s->warps; x++)
            if (known[x] > s->seen[v][x]) s->seen[v][x] = known[x];
        s->full[v] = s->clocks[v];
    }
    for (uint32_t v = 0; v < s->warps; v++)
        if (comers >> v & 1) clock_tick(s, v);
}
