#ifndef WICK_TESTS_PTX_WARP_H
#define WICK_TESTS_PTX_WARP_H

/* What runs: a grid, its resident blocks, their warps, and a warp's splits - lanes that have gone
 * different ways. The split that is furthest behind runs first, so that lanes meet again where
 * their ways join; now and then the seed prefers another. */

#include "tests/ptx/memory.h"
#include "tests/ptx/program.h"
#include "tests/ptx/shared.h"
#include "tests/ptx/tensor.h"

#define WARPS_MAX 32 /* of a block: 1024 threads */
#define BARRIERS_MAX 16

/* Where generic addresses find what is not global memory. No host has memory there. */
#define WINDOW_SHARED ((uint64_t)0x1000000000000000)
#define WINDOW_LOCAL ((uint64_t)0x2000000000000000)
#define WINDOW_PARAM ((uint64_t)0x3000000000000000)
#define WINDOW_MASK ((uint64_t)0xF000000000000000)

enum split_state { SPLIT_RUNS, SPLIT_JOINS };

struct split {
    uint32_t pc, lanes;
    enum split_state state;
};

enum warp_state { WARP_READY, WARP_AT_BARRIER, WARP_DONE };

struct random {
    uint64_t state;
};

struct grid {
    const struct ptx_launch *launch;
    const struct ptx_kernel *kernel;
    const uint8_t *params;
    uint32_t number;                     /* of the launch */
    uint32_t shared_bytes, static_bytes; /* a block's: whole, without the dynamic part */
    uint32_t warp_count, thread_count;   /* of a block */
    uint64_t block_count;
    uint64_t step_limit, steps; /* steps: taken together, in portions */
    uint64_t next_block;
    uint64_t block_first, block_stride; /* the order of the blocks */
    int failed;                         /* set once; error belongs to who set it */
    struct ptx_error *error;
};

struct barrier {
    uint32_t expected; /* threads; 0: nobody waits */
    uint32_t arrived;
    uint32_t warps;     /* that have come, waiting or not */
    uint32_t waiting;   /* that wait */
    uint32_t pc;        /* of the first who waits */
    uint32_t reduction; /* bar.red: what has come together */
    uint32_t count;     /* its population count */
    bool all;           /* no thread count was given */
};

struct block {
    struct worker *worker;
    struct grid *grid;
    uint32_t id[3], index; /* index: x fastest */
    bool active;
    uint32_t warps_left;
    struct warp *warps;
    struct barrier barriers[BARRIERS_MAX];
    struct shared shared;
};

struct warp {
    uint8_t *base[BASE_COUNT];
    struct block *block;
    uint32_t index;
    uint32_t born, live; /* lanes that the block has; that have not exited */
    enum warp_state state;
    struct split splits[LANES];
    uint32_t split_count, current; /* current: index of the one that runs */
    uint32_t carry;                /* CC.CF, a bit per lane */
    bool queued;                   /* among the worker's ready ones */
    uint32_t turns;                /* yields since another split ran */
    uint32_t barrier;              /* where it waits */
    const struct instruction *waiting;
    const struct allocation *recent; /* the last allocation an access hit */
    uint8_t *local, *local_shadow;   /* LANES times the kernel's local bytes */
    struct tensor_async async;
};

/* A host thread and the blocks it runs. */
struct worker {
    struct grid *grid;
    struct block *blocks;
    uint32_t block_room;
    struct warp **ready; /* those that can run */
    uint32_t ready_count, active_blocks;
    struct random random;
    uint64_t steps; /* not yet added to the grid's */
    uint64_t clock;
};

uint32_t random_below(struct random *random, uint32_t n);

/* --- inside handlers -------------------------------------------------------------------------- */

static inline void *warp_row(struct warp *w, const struct row *row) {
    return w->base[row->base] + row->offset;
}

static inline uint32_t warp_predicate(struct warp *w, const struct row *row) {
    uint32_t value = *(uint32_t *)warp_row(w, row);
    return row->negated ? ~value : value;
}

static inline void warp_predicate_set(struct warp *w, const struct row *row, uint32_t value,
                                      uint32_t mask) {
    if (row->sink) return;
    uint32_t *p = warp_row(w, row);
    *p = (*p & ~mask) | (value & mask);
}

/* Writes the error: kernel, line, opcode, block, thread. lane < 0: the warp as a whole. */
enum step warp_fault(struct warp *w, const struct instruction *in, int lane, const char *format,
                     ...) __attribute__((format(printf, 4, 5)));

static inline int lane_first(uint32_t mask) {
    return __builtin_ctz(mask);
}

/* The split that runs goes on at target with the lanes in taken, with the others behind it. */
enum step warp_branch(struct warp *w, uint32_t taken, uint32_t target);
enum step warp_exit(struct warp *w, uint32_t lanes);
/* True: every lane in wanted that has not exited is in mask. */
static inline bool warp_has(const struct warp *w, uint32_t mask, uint32_t wanted) {
    return ((wanted & w->live) & ~mask) == 0;
}

void warp_start(struct warp *w);
/* Runs up to `quantum` instructions. False: the launch has failed. */
bool warp_run(struct warp *w, uint32_t quantum);

/* A barrier's warps go on (sync.c); also asked when a warp is done. */
bool block_barriers_settle(struct block *block);

#endif
