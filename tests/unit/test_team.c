#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cpu/team.h"

enum { ITEMS = 1000 };

struct counts {
    _Atomic uint32_t seen[ITEMS];
    _Atomic uint32_t largest_member;
    uint32_t sleep_ns;
};

static struct team *team_make(uint32_t threads) {
    struct arena arena;
    struct fault fault;
    arena_measure(&arena);
    cr_assert_null(team_carve(threads, NULL, &arena));
    size_t bytes = arena.used;
    cr_assert(arena_map(&arena, bytes, &fault));
    struct team *team = team_carve(threads, NULL, &arena);
    cr_assert(team_start(team, &fault));
    return team;
}

static void work_count(void *context, uint32_t member, uint32_t first, uint32_t count) {
    struct counts *c = context;
    for (uint32_t i = first; i < first + count; i++) atomic_fetch_add(&c->seen[i], 1);
    uint32_t largest = atomic_load(&c->largest_member);
    while (member > largest &&
           !atomic_compare_exchange_weak(&c->largest_member, &largest, member)) {
    }
    if (c->sleep_ns > 0) nanosleep(&(struct timespec){.tv_nsec = c->sleep_ns}, NULL);
}

Test(team, computes_every_item_once_in_every_phase) {
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct team *team = team_make(threads);
        for (uint32_t phase = 0; phase < 200; phase++) {
            struct counts c = {0};
            uint32_t items = phase * 7 % ITEMS, grain = 1 + phase % 9;
            team_run(team, work_count, &c, items, grain);
            for (uint32_t i = 0; i < ITEMS; i++)
                cr_assert_eq(c.seen[i], i < items ? 1 : 0, "item %u of %u", i, items);
            cr_assert_lt(c.largest_member, threads);
        }
        team_stop(team);
    }
}

static void work_record(void *context, uint32_t member, uint32_t first, uint32_t count) {
    (void)member;
    uint32_t *claimed = context; /* by first item; one thread */
    claimed[first] = count;
}

Test(team, claims_grain_items_and_fewer_at_the_end) {
    struct team *team = team_make(1);
    uint32_t claimed[40] = {0}, last = 0, at = 0;
    team_run(team, work_record, claimed, 40, 8);
    cr_assert_eq(claimed[0], 8);
    for (; at < 40; at += last) {
        cr_assert(claimed[at] > 0 && claimed[at] <= 8, "%u at %u", claimed[at], at);
        cr_assert(last == 0 || claimed[at] <= last, "%u at %u, after %u", claimed[at], at, last);
        last = claimed[at];
    }
    cr_assert_eq(at, 40);
    cr_assert_eq(last, 1);
    team_stop(team);
}

struct ways {
    _Atomic uint32_t n[2]; /* claims by member */
    uint32_t first[2][ITEMS], count[2][ITEMS];
};

/* Member 0 holds on to its first claim until the other has claimed all that is left; the other one
 * waits with its first until member 0 has that claim. */
static void work_follow(void *context, uint32_t member, uint32_t first, uint32_t count) {
    struct ways *w = context;
    while (member == 1 && atomic_load(&w->n[0]) == 0) {
    }
    uint32_t i = w->n[member];
    w->first[member][i] = first;
    w->count[member][i] = count;
    atomic_store(&w->n[member], i + 1);
    while (member == 0) {
        uint32_t others = 0, n = atomic_load(&w->n[1]);
        for (uint32_t at = 0; at < n; at++) others += w->count[1][at];
        if (others + count == 100) break;
    }
}

Test(team, a_member_reads_its_own_range_forward_and_then_helps_from_the_end, .timeout = 30) {
    struct team *team = team_make(2);
    static struct ways w;
    team_run(team, work_follow, &w, 100, 8);
    cr_assert_eq(w.n[0], 1);
    cr_assert_eq(w.first[0][0], 0);
    cr_assert_eq(w.count[0][0], 8);
    uint32_t next = 50, end = 50, i = 0;
    for (; next < 100; next += w.count[1][i++]) cr_assert_eq(w.first[1][i], next);
    cr_assert_eq(next, 100);
    for (; i < w.n[1]; i++) {
        cr_assert_eq(w.first[1][i] + w.count[1][i], end, "claim %u", i);
        end = w.first[1][i];
    }
    cr_assert_eq(end, 8);
    team_stop(team);
}

static void work_alone(void *context, uint32_t member, uint32_t first, uint32_t count) {
    (void)first, (void)count;
    *(uint32_t *)context += member == 0;
}

Test(team, one_item_is_the_callers) {
    struct team *team = team_make(3);
    uint32_t by_caller = 0;
    for (int i = 0; i < 1000; i++) team_run(team, work_alone, &by_caller, 1, 1);
    cr_assert_eq(by_caller, 1000);
    team_stop(team);
}

Test(team, members_that_fell_asleep_are_woken) {
    struct team *team = team_make(3);
    for (int i = 0; i < 5; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL); /* far beyond the spin */
        struct counts c = {.sleep_ns = 200000};
        team_run(team, work_count, &c, 30, 1);
        cr_assert_gt(c.largest_member, 0, "somebody helped");
    }
    team_stop(team);
}

Test(team, join_returns_at_the_deadline_and_goes_on) {
    struct team *team = team_make(2);
    struct counts c = {.sleep_ns = 1000000};
    team_open(team, work_count, &c, 40, 1);
    int returns = 0;
    while (!team_join(team, clock_ns() + 1)) returns++;
    cr_assert_gt(returns, 2);
    for (uint32_t i = 0; i < 40; i++) cr_assert_eq(c.seen[i], 1);
    team_stop(team);
}

Test(team, an_idle_team_sleeps) {
    struct team *team = team_make(3);
    struct counts c = {0};
    team_run(team, work_count, &c, 10, 1);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double used =
        (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) * 1e-9;
    cr_assert_lt(used, 0.03, "a tenth of the time that passed, at most; used %f s", used);
    team_stop(team);
}
