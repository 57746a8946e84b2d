#include "lab/roofline.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "cpu/cpu.h"
#include "cpu/isa.h"
#include "cpu/team.h"

enum { ITEM_BYTES = 256 << 10 }; /* claimed at a time */

struct roofline {
    struct arena arena;
    struct team *team;
    uint8_t *buffer;
    uint32_t items;
    const struct cpu_kernels *kernels;
    float sums[TEAM_THREADS_MAX]; /* so that the reads are needed */
    const struct peak *peak;
    double operations[TEAM_THREADS_MAX];
};

static void work_touch(void *context, uint32_t member, uint32_t first, uint32_t count) {
    (void)member;
    struct roofline *b = context;
    memset(b->buffer + (size_t)first * ITEM_BYTES, 1, (size_t)count * ITEM_BYTES);
}

static void work_read(void *context, uint32_t member, uint32_t first, uint32_t count) {
    struct roofline *b = context;
    b->sums[member] +=
        b->kernels->read(b->buffer + (size_t)first * ITEM_BYTES, (size_t)count * ITEM_BYTES);
}

static void work_multiply(void *context, uint32_t member, uint32_t first, uint32_t count) {
    (void)first;
    struct roofline *b = context;
    for (uint32_t i = 0; i < count; i++) b->operations[member] += b->peak->run();
}

/* The arena holds the buffer and the team's stacks. */
static void roofline_carve(struct roofline *b, const struct processors *cpus) {
    b->buffer = arena_take(&b->arena, (size_t)b->items * ITEM_BYTES, ARENA_PAGE);
    b->team = team_carve(cpus->n, cpus, &b->arena);
}

struct roofline *roofline_open(const struct config *config, uint64_t bytes, struct fault *fault) {
    struct processors cpus;
    if (!cpu_choose(&config->cpus, config->threads, &cpus, fault)) return NULL;
    struct roofline *b = calloc(1, sizeof *b);
    if (b == NULL) {
        fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
        return NULL;
    }
    b->kernels = isa_choose("auto", fault); /* one of them always works */
    b->items = (uint32_t)(bytes / ITEM_BYTES);
    arena_measure(&b->arena);
    roofline_carve(b, &cpus);
    size_t needed = b->arena.used;
    if (!arena_map(&b->arena, needed, fault)) {
        free(b);
        return NULL;
    }
    roofline_carve(b, &cpus);
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    bool started = team_start(b->team, fault);
    sched_setaffinity(0, sizeof allowed, &allowed); /* the next team pins by the mask it finds */
    if (!started) {
        free(b);
        return NULL;
    }
    team_run(b->team, work_touch, b, b->items, 1);
    return b;
}

double roofline_read(struct roofline *b) {
    uint64_t start_ns = clock_ns();
    team_run(b->team, work_read, b, b->items, 1);
    uint64_t took_ns = clock_ns() - start_ns;
    return (double)b->items * ITEM_BYTES / ((double)took_ns * 1e-9);
}

double roofline_multiply(struct roofline *b, const struct peak *peak) {
    enum { ITEMS = 16 }; /* a thread */
    uint32_t threads = team_threads(b->team);
    double done = 0;
    b->peak = peak;
    memset(b->operations, 0, sizeof b->operations);
    uint64_t start_ns = clock_ns();
    team_run(b->team, work_multiply, b, threads * ITEMS, 1);
    uint64_t took_ns = clock_ns() - start_ns;
    for (uint32_t i = 0; i < threads; i++) done += b->operations[i];
    return done / ((double)took_ns * 1e-9);
}

void roofline_close(struct roofline *b) {
    team_stop(b->team);
    free(b); /* the mapping lives as long as the process */
}
