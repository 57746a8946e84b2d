#include "tests/ptx/worker.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long a warp runs before another may: longer makes better use of the host's cache, shorter
 * shows more interleavings. */
#define QUANTUM_MAX 512u
#define QUANTUM_CALM 16384u
/* Blocks that a host thread interleaves when the grid does not ask for all. */
#define BLOCKS_RESIDENT 2u
/* Steps a worker keeps to itself before it adds them to the grid's. */
#define STEPS_PORTION 65536u

void worker_ready(struct worker *worker, struct warp *warp) {
    if (warp->queued) return;
    warp->queued = true;
    worker->ready[worker->ready_count++] = warp;
}

/* --- blocks ----------------------------------------------------------------------------------- */

static bool block_create(struct block *block, struct worker *worker) {
    struct grid *grid = worker->grid;
    const struct ptx_kernel *k = grid->kernel;
    block->worker = worker;
    block->grid = grid;
    block->warps = calloc(grid->warp_count, sizeof *block->warps);
    if (!block->warps || !shared_create(&block->shared, grid->shared_bytes, grid->warp_count))
        return false;
    size_t specials = (size_t)SPECIAL_COUNT * LANES * 8, local = (size_t)LANES * k->local_bytes;
    for (uint32_t i = 0; i < grid->warp_count; i++) {
        struct warp *w = &block->warps[i];
        w->block = block;
        w->index = i;
        /* 64 bytes more at the end: rows of wide vectors may be read whole */
        w->base[BASE_REGISTERS] = aligned_alloc(64, (k->register_bytes + 127) / 64 * 64);
        w->base[BASE_SPECIALS] = aligned_alloc(64, (specials + 63) / 64 * 64);
        w->base[BASE_CONSTANTS] = k->constants;
        w->local = malloc(local + 16);
        w->local_shadow = malloc(local + 16);
        if (!w->base[BASE_REGISTERS] || !w->base[BASE_SPECIALS] || !w->local || !w->local_shadow)
            return false;
    }
    return true;
}

static void block_free(struct block *block) {
    for (uint32_t i = 0; block->warps && i < block->grid->warp_count; i++) {
        struct warp *w = &block->warps[i];
        free(w->base[BASE_REGISTERS]);
        free(w->base[BASE_SPECIALS]);
        free(w->local);
        free(w->local_shadow);
        tensor_async_clear(&w->async);
    }
    free(block->warps);
    if (block->grid) shared_free(&block->shared);
}

/* The next block of the grid moves in. False: there is none left. */
static bool block_start(struct block *block) {
    struct grid *grid = block->grid;
    uint64_t n = __atomic_fetch_add(&grid->next_block, 1, __ATOMIC_RELAXED);
    if (n >= grid->block_count) return false;
    __extension__ typedef unsigned __int128 wide;
    uint64_t index =
        (uint64_t)(((wide)n * grid->block_stride + grid->block_first) % grid->block_count);
    const uint32_t *size = grid->launch->grid;
    block->id[0] = (uint32_t)(index % size[0]);
    block->id[1] = (uint32_t)(index / size[0] % size[1]);
    block->id[2] = (uint32_t)(index / size[0] / size[1]);
    block->index = (uint32_t)index;
    block->active = true;
    block->warps_left = grid->warp_count;
    memset(block->barriers, 0, sizeof block->barriers);
    shared_reset(&block->shared);
    for (uint32_t i = 0; i < grid->warp_count; i++) {
        warp_start(&block->warps[i]);
        worker_ready(block->worker, &block->warps[i]);
    }
    block->worker->active_blocks++;
    return true;
}

/* --- workers ---------------------------------------------------------------------------------- */

static bool worker_create(struct worker *worker, struct grid *grid, uint64_t blocks,
                          uint64_t seed) {
    *worker = (struct worker){.grid = grid, .random.state = seed};
    worker->block_room = (uint32_t)blocks;
    worker->blocks = calloc(blocks, sizeof *worker->blocks);
    worker->ready = calloc(blocks * grid->warp_count, sizeof(struct warp *));
    if (!worker->blocks || !worker->ready) return false;
    for (uint32_t i = 0; i < worker->block_room; i++)
        if (!block_create(&worker->blocks[i], worker)) return false;
    return true;
}

static void worker_free(struct worker *worker) {
    for (uint32_t i = 0; worker->blocks && i < worker->block_room; i++)
        block_free(&worker->blocks[i]);
    free(worker->blocks);
    free(worker->ready);
}

static void worker_deadlock(struct worker *worker) {
    for (uint32_t i = 0; i < worker->block_room; i++) {
        struct block *block = &worker->blocks[i];
        for (uint32_t n = 0; block->active && n < worker->grid->warp_count; n++) {
            struct warp *w = &block->warps[n];
            if (w->state != WARP_AT_BARRIER) continue;
            const struct barrier *b = &block->barriers[w->barrier];
            warp_fault(w, w->waiting, -1,
                       "a barrier that is never complete: barrier %u waits for %s, warps 0x%08x "
                       "have come",
                       w->barrier, b->all ? "the whole block" : "a number of threads", b->warps);
            return;
        }
    }
}

/* False: over the limit, or stopped. */
static bool worker_account(struct worker *worker, struct warp *w) {
    struct grid *grid = worker->grid;
    if (grid->launch->stop && *grid->launch->stop) {
        warp_fault(w, &grid->kernel->code[w->split_count ? w->splits[0].pc : 0], -1, "stopped");
        return false;
    }
    if (worker->steps < STEPS_PORTION && worker->steps < grid->step_limit) return true;
    uint64_t steps = __atomic_add_fetch(&grid->steps, worker->steps, __ATOMIC_RELAXED);
    worker->steps = 0;
    if (steps <= grid->step_limit) return true;
    warp_fault(w, &grid->kernel->code[w->split_count ? w->splits[0].pc : 0], -1,
               "the launch exceeds its limit of %" PRIu64 " warp instructions", grid->step_limit);
    return false;
}

static void warp_done(struct worker *worker, struct warp *w) {
    struct block *block = w->block;
    block->warps_left--;
    if (block->warps_left > 0) {
        (void)block_barriers_settle(block);
        return;
    }
    block->active = false;
    worker->active_blocks--;
    (void)block_start(block);
}

static void *worker_run(void *argument) {
    struct worker *worker = argument;
    struct grid *grid = worker->grid;
    bool calm = grid->launch->calm;
    for (uint32_t i = 0; i < worker->block_room; i++)
        if (!block_start(&worker->blocks[i])) break;
    while (worker->active_blocks && !__atomic_load_n(&grid->failed, __ATOMIC_RELAXED)) {
        if (worker->ready_count == 0) {
            worker_deadlock(worker);
            break;
        }
        uint32_t pick = random_below(&worker->random, worker->ready_count);
        struct warp *w = worker->ready[pick];
        worker->ready[pick] = worker->ready[--worker->ready_count];
        w->queued = false;
        uint32_t quantum = calm ? QUANTUM_CALM : 1 + random_below(&worker->random, QUANTUM_MAX);
        if (!warp_run(w, quantum) || !worker_account(worker, w)) break;
        if (w->state == WARP_READY) worker_ready(worker, w);
        if (w->state == WARP_DONE) warp_done(worker, w);
    }
    __atomic_add_fetch(&grid->steps, worker->steps, __ATOMIC_RELAXED);
    return NULL;
}

bool grid_run(struct grid *grid, uint32_t threads) {
    if (threads > grid->block_count) threads = (uint32_t)grid->block_count;
    struct worker *workers = calloc(threads, sizeof *workers);
    pthread_t *ids = calloc(threads, sizeof *ids);
    bool made = workers && ids;
    for (uint32_t i = 0; made && i < threads; i++) {
        uint64_t share = (grid->block_count + threads - 1) / threads;
        uint64_t room =
            grid->launch->cooperative || share < BLOCKS_RESIDENT ? share : BLOCKS_RESIDENT;
        made =
            worker_create(&workers[i], grid, room, grid->launch->seed * 0x9E3779B97F4A7C15 + i + 1);
    }
    uint32_t started = 1;
    for (; made && started < threads; started++)
        if (pthread_create(&ids[started], NULL, worker_run, &workers[started]) != 0) break;
    if (made && started == threads) (void)worker_run(&workers[0]);
    if (!made || started < threads) {
        grid->failed = 1;
        snprintf(grid->error->text, sizeof grid->error->text,
                 "kernel %s: the host has no memory or threads for it", grid->kernel->facts.name);
    }
    for (uint32_t i = 1; i < started; i++) pthread_join(ids[i], NULL);
    for (uint32_t i = 0; workers && i < threads; i++) worker_free(&workers[i]);
    free(workers);
    free(ids);
    return !grid->failed;
}
