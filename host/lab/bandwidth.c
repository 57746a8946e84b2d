#include "lab/bandwidth.h"

#include <emmintrin.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "cpu/team.h"

enum {
    ITEM_BYTES = 2 << 20,  /* claimed at a time */
    PREFETCH_BYTES = 2048, /* ahead; the kernels do the same, so the comparison is fair */
    LINE = 64
};

struct bandwidth {
    struct arena arena;
    struct team *team;
    uint8_t *buffer;
    uint32_t items;
    uint64_t sums[TEAM_THREADS_MAX]; /* so that the reads are needed */
};

static void work_touch(void *context, uint32_t member, uint32_t first, uint32_t count) {
    (void)member;
    struct bandwidth *b = context;
    memset(b->buffer + (size_t)first * ITEM_BYTES, 1, (size_t)count * ITEM_BYTES);
}

static void work_read(void *context, uint32_t member, uint32_t first, uint32_t count) {
    struct bandwidth *b = context;
    const uint8_t *p = b->buffer + (size_t)first * ITEM_BYTES;
    const uint8_t *end = p + (size_t)count * ITEM_BYTES;
    __m128i sum[4] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128(),
                      _mm_setzero_si128()};
    for (; p < end; p += LINE) {
        _mm_prefetch((const char *)p + PREFETCH_BYTES, _MM_HINT_T0);
        for (int i = 0; i < 4; i++)
            sum[i] = _mm_add_epi64(sum[i], _mm_load_si128((const __m128i *)p + i));
    }
    sum[0] = _mm_add_epi64(_mm_add_epi64(sum[0], sum[1]), _mm_add_epi64(sum[2], sum[3]));
    b->sums[member] += (uint64_t)_mm_cvtsi128_si64(sum[0]);
}

/* The arena holds the buffer and the team's stacks. */
static void bandwidth_carve(struct bandwidth *b, uint32_t threads) {
    b->buffer = arena_take(&b->arena, (size_t)b->items * ITEM_BYTES, ARENA_PAGE);
    b->team = team_carve(threads, &b->arena);
}

struct bandwidth *bandwidth_open(uint32_t threads, uint64_t bytes, struct fault *fault) {
    struct bandwidth *b = calloc(1, sizeof *b);
    if (b == NULL) {
        fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
        return NULL;
    }
    b->items = (uint32_t)(bytes / ITEM_BYTES);
    arena_measure(&b->arena);
    bandwidth_carve(b, threads);
    size_t needed = b->arena.used;
    if (!arena_map(&b->arena, needed, fault)) {
        free(b);
        return NULL;
    }
    bandwidth_carve(b, threads);
    if (!team_start(b->team, fault)) {
        free(b);
        return NULL;
    }
    team_run(b->team, work_touch, b, b->items, 1);
    return b;
}

double bandwidth_measure(struct bandwidth *b) {
    uint64_t start_ns = clock_ns();
    team_run(b->team, work_read, b, b->items, 1);
    uint64_t took_ns = clock_ns() - start_ns;
    return (double)b->items * ITEM_BYTES / ((double)took_ns * 1e-9);
}

void bandwidth_close(struct bandwidth *b) {
    team_stop(b->team);
    free(b); /* the mapping lives as long as the process */
}
