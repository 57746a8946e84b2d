#ifndef WICK_TESTS_PTX_SHARED_H
#define WICK_TESTS_PTX_SHARED_H

/* A block's shared memory and who has touched it.
 *
 * Every word has a record of its last writer and of two recent readers from different warps: warp,
 * lane and the warp's clock then. A warp's clock ticks at each barrier it takes part in; seen says
 * up to which tick of another warp (or lane) this one is ordered behind it. Two accesses to a byte
 * by different threads, one of them a write, with neither ordered behind the other, are a race.
 * Words that are accessed in parts have their records by bytes.
 *
 * shfl, vote and mma do not order memory; bar.warp.sync and bar.sync do. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARED_WARPS 32

/* Who has touched a word (or a byte): the last writer, and two recent readers. */
struct shared_cell {
    uint32_t writer, readers[2];
};

struct shared {
    uint8_t *bytes;
    uint32_t size;
    struct shared_cell *words;
    struct shared_cell *parts; /* of the bytes of words that are accessed in parts */
    uint32_t warps;
    uint32_t birth;                            /* records up to this clock are another block's */
    uint32_t clocks[SHARED_WARPS];             /* of each warp */
    uint32_t seen[SHARED_WARPS][SHARED_WARPS]; /* [who][of whom] */
    uint32_t arrived[SHARED_WARPS];            /* clock at bar.arrive; 0: not between the two */
    uint32_t full[SHARED_WARPS];               /* all lanes of the warp are in order up to */
    uint32_t (*lanes[SHARED_WARPS])[32];       /* [lane][of lane]; NULL: no partial sync yet */
};

enum shared_access {
    SHARED_READ,
    SHARED_WRITE,
    SHARED_ATOMIC_READ, /* volatile, relaxed, acquire */
    SHARED_ATOMIC_WRITE,
    SHARED_ATOMIC /* read and written in one */
};

enum shared_trouble {
    SHARED_FINE,
    SHARED_UNWRITTEN, /* read before anyone wrote */
    SHARED_RACE,      /* with the thread in other */
    SHARED_IN_FLIGHT  /* a cp.async to it has not been waited for */
};

struct shared_conflict {
    enum shared_trouble trouble;
    uint32_t byte;  /* offset */
    uint32_t lane;  /* whose access it is */
    uint32_t other; /* thread of the block; UINT32_MAX: several of a warp */
    uint32_t other_warp;
    bool other_writes;
};

/* False: no memory. */
bool shared_create(struct shared *shared, uint32_t size, uint32_t warps);
/* For the next block: nothing is written, nobody has come. */
void shared_reset(struct shared *shared);
void shared_free(struct shared *shared);

/* What a record of this thread now looks like; whether what one tells of is ordered before what
 * this thread does; whose it is: also used for global memory. */
uint32_t shared_record(const struct shared *shared, uint32_t warp, uint32_t lane);
bool shared_ordered(const struct shared *shared, uint32_t warp, uint32_t lane, uint32_t record);
uint32_t shared_thread(uint32_t record);

/* Checks and records an access of `bytes` bytes at `offset`, which lie within. */
struct shared_conflict shared_touch(struct shared *shared, uint32_t warp, uint32_t lane,
                                    uint32_t offset, uint32_t bytes, enum shared_access access);
/* The same for all lanes in mask. */
struct shared_conflict shared_touch_row(struct shared *shared, uint32_t warp, uint32_t mask,
                                        const uint64_t offsets[32], uint32_t bytes,
                                        enum shared_access access);
/* cp.async: from issue to landing nobody may touch the target. */
struct shared_conflict shared_flight_begin(struct shared *shared, uint32_t warp, uint32_t lane,
                                           uint32_t offset, uint32_t bytes);
void shared_flight_end(struct shared *shared, uint32_t warp, uint32_t lane, uint32_t offset,
                       uint32_t bytes);

/* bar.warp.sync of these lanes; full: they are all that live. */
void shared_sync_lanes(struct shared *shared, uint32_t warp, uint32_t lanes, bool full);
/* bar.arrive: what the warp does from now on is not ordered by the barrier. */
void shared_arrive(struct shared *shared, uint32_t warp);
/* A block barrier: those in `waiters` are ordered behind all in `comers`. */
void shared_sync_warps(struct shared *shared, uint32_t comers, uint32_t waiters);

#endif
