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
    s->writers = calloc(words, sizeof(uint32_t));
    s->byte_writers = calloc(words * 4, sizeof(uint32_t));
    bool there = s->bytes && s->writers && s->byte_writers;
    for (int i = 0; i < 2; i++) {
        s->readers[i] = calloc(words, sizeof(uint32_t));
        s->byte_readers[i] = calloc(words * 4, sizeof(uint32_t));
        there = there && s->readers[i] && s->byte_readers[i];
    }
    shared_reset(s);
    return there;
}

void shared_reset(struct shared *s) {
    size_t words = s->size / 4 + 1;
    memset(s->bytes, 0xA5, s->size);
    memset(s->writers, 0, words * sizeof(uint32_t));
    for (int i = 0; i < 2; i++) memset(s->readers[i], 0, words * sizeof(uint32_t));
    memset(s->seen, 0, sizeof s->seen);
    memset(s->full, 0, sizeof s->full);
    memset(s->arrived, 0, sizeof s->arrived);
    for (uint32_t w = 0; w < s->warps; w++) {
        s->clocks[w] = 1;
        free(s->lanes[w]);
        s->lanes[w] = NULL;
    }
}

void shared_free(struct shared *s) {
    free(s->bytes);
    free(s->writers);
    free(s->byte_writers);
    for (int i = 0; i < 2; i++) {
        free(s->readers[i]);
        free(s->byte_readers[i]);
    }
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

static struct shared_conflict conflict_make(uint32_t record, uint32_t byte, bool writes) {
    uint32_t lane = record_lane(record);
    return (struct shared_conflict){.trouble = lane == LANE_FLIGHT ? SHARED_IN_FLIGHT : SHARED_RACE,
                                    .byte = byte,
                                    .other =
                                        lane < 32 ? record_warp(record) * 32 + lane : UINT32_MAX,
                                    .other_warp = record_warp(record),
                                    .other_writes = writes};
}

/* One cell of records: a word's or a byte's. */
static inline struct shared_conflict cell_touch(struct shared *s, uint32_t warp, uint32_t lane,
                                                uint32_t byte, enum shared_access access,
                                                uint32_t *writer, uint32_t *first,
                                                uint32_t *second) {
    bool strong = access >= SHARED_ATOMIC_READ;
    bool writes_only = access == SHARED_WRITE || access == SHARED_ATOMIC_WRITE;
    uint32_t record = record_make(warp, strong, lane, s->clocks[warp]);
    uint32_t w = *writer;
    if (w && record_lane(w) == LANE_FLIGHT) return conflict_make(w, byte, true);
    if (w && !(strong && record_strong(w)) && !ordered(s, warp, lane, w))
        return conflict_make(w, byte, true);
    if (!writes_only && !w)
        return (struct shared_conflict){.trouble = SHARED_UNWRITTEN, .byte = byte};
    if (access == SHARED_READ || access == SHARED_ATOMIC_READ) {
        if (*first == record) return (struct shared_conflict){0};
        if (*first && record_warp(*first) == warp) {
            bool same = record_clock(*first) == s->clocks[warp] && record_lane(*first) != lane;
            *first = same ? record_make(warp, strong && record_strong(*first), LANE_SEVERAL,
                                        s->clocks[warp])
                          : record;
        } else if (*first && !ordered(s, warp, lane, *first)) {
            *second = *first;
            *first = record;
        } else {
            *first = record;
        }
        return (struct shared_conflict){0};
    }
    for (int i = 0; i < 2; i++) {
        uint32_t r = i ? *second : *first;
        if (r && !(strong && record_strong(r)) && !ordered(s, warp, lane, r))
            return conflict_make(r, byte, false);
    }
    *writer = record;
    *first = *second = 0;
    return (struct shared_conflict){0};
}

/* A word whose bytes have their own records, from now on. */
static void word_divide(struct shared *s, uint32_t word) {
    for (uint32_t b = word * 4; b < word * 4 + 4; b++) {
        s->byte_writers[b] = s->writers[word];
        s->byte_readers[0][b] = s->readers[0][word];
        s->byte_readers[1][b] = s->readers[1][word];
    }
    s->writers[word] = record_make(0, false, LANE_PARTS, 0);
}

static struct shared_conflict byte_touch(struct shared *s, uint32_t warp, uint32_t lane,
                                         uint32_t byte, enum shared_access access) {
    return cell_touch(s, warp, lane, byte, access, &s->byte_writers[byte],
                      &s->byte_readers[0][byte], &s->byte_readers[1][byte]);
}

static bool word_divided(const struct shared *s, uint32_t word) {
    return record_lane(s->writers[word]) == LANE_PARTS;
}

struct shared_conflict shared_touch(struct shared *s, uint32_t warp, uint32_t lane, uint32_t offset,
                                    uint32_t bytes, enum shared_access access) {
    struct shared_conflict c = {0};
    if (bytes < 4) {
        if (!word_divided(s, offset / 4)) word_divide(s, offset / 4);
        for (uint32_t b = offset; b < offset + bytes && !c.trouble; b++)
            c = byte_touch(s, warp, lane, b, access);
        return c;
    }
    for (uint32_t word = offset / 4; word < (offset + bytes) / 4 && !c.trouble; word++) {
        if (!word_divided(s, word)) {
            c = cell_touch(s, warp, lane, word * 4, access, &s->writers[word], &s->readers[0][word],
                           &s->readers[1][word]);
            continue;
        }
        for (uint32_t b = word * 4; b < word * 4 + 4 && !c.trouble; b++)
            c = byte_touch(s, warp, lane, b, access);
        if (access != SHARED_READ && access != SHARED_ATOMIC_READ && !c.trouble) { /* one again */
            s->writers[word] = s->byte_writers[word * 4];
            s->readers[0][word] = s->readers[1][word] = 0;
        }
    }
    return c;
}

struct shared_conflict shared_flight_begin(struct shared *s, uint32_t warp, uint32_t lane,
                                           uint32_t offset, uint32_t bytes) {
    struct shared_conflict c = shared_touch(s, warp, lane, offset, bytes, SHARED_WRITE);
    for (uint32_t word = offset / 4; word < (offset + bytes) / 4; word++)
        s->writers[word] = record_make(warp, false, LANE_FLIGHT, s->clocks[warp]);
    return c;
}

void shared_flight_end(struct shared *s, uint32_t warp, uint32_t lane, uint32_t offset,
                       uint32_t bytes) {
    for (uint32_t word = offset / 4; word < (offset + bytes) / 4; word++)
        s->writers[word] = record_make(warp, false, lane, s->clocks[warp]);
}

/* --- order ------------------------------------------------------------------------------------ */

/* Clocks are about to overflow: everything so far counts as ordered. This can hide a race, once
 * in a million barriers. */
static void shared_forget(struct shared *s) {
    for (uint32_t w = 0; w < s->warps; w++) {
        s->clocks[w] = 1;
        s->full[w] = s->arrived[w] = 0;
        free(s->lanes[w]);
        s->lanes[w] = NULL;
    }
    memset(s->seen, 0, sizeof s->seen);
    uint32_t old = record_make(0, false, LANE_OLD, 0);
    for (size_t i = 0; i < s->size / 4 + 1; i++) {
        if (s->writers[i] && record_lane(s->writers[i]) < LANE_FLIGHT) s->writers[i] = old;
        s->readers[0][i] = s->readers[1][i] = 0;
    }
    for (size_t i = 0; i < (s->size / 4 + 1) * 4; i++) {
        if (s->byte_writers[i] && record_lane(s->byte_writers[i]) < LANE_FLIGHT)
            s->byte_writers[i] = old;
        s->byte_readers[0][i] = s->byte_readers[1][i] = 0;
    }
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
