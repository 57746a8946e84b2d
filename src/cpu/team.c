#include "cpu/team.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"
#include "base/sandbox.h"

/* How long a member spins for the next phase before it sleeps. Phases of one step follow each other
 * within microseconds; sampling and sending between two steps takes tens of them. */
enum { TEAM_SPIN_NS = 100 * 1000 };
/* Pauses between two looks at the clock; one pause is some 40 to 140 cycles. */
enum { TEAM_PAUSES = 32 };
/* How long the caller spins for members that still work before it offers its processor to them. */
enum { TEAM_YIELD_NS = 50 * 1000 };
/* How much of what comes next a member fetches at most: part of its second cache. */
enum { TEAM_FETCH_BYTES = 128 * 1024 };

struct team_member {
    struct team *team;
    uint32_t index;
    pthread_t thread;
    uint8_t *stack;
    /* Its items of the open phase that nobody has claimed: first << 32 | end. A range that a claim
     * has found unchanged is of the phase open now, whatever that member has slept through. */
    _Alignas(64) _Atomic uint64_t left;
};

struct team {
    uint32_t threads;
    struct processors cpus; /* of each thread; none: anywhere */
    bool started;
    struct team_member member[TEAM_THREADS_MAX];

    /* The open phase. Written by the caller before any member's range; stable while any item of the
     * phase is unfinished. */
    team_work *work;
    void *context;
    uint32_t n_items;
    bool alone; /* its only item, the caller's, is still to be computed */
    uint64_t waited_ns;
    _Atomic uint32_t grain;

    /* What comes after the open phase, see team_look_ahead. Hints: read at any time. */
    _Atomic(const uint8_t *) ahead;
    _Atomic size_t ahead_item_bytes;
    _Atomic uint32_t ahead_items;

    _Alignas(64) _Atomic uint32_t finished; /* items */
    _Alignas(64) _Atomic uint32_t opened;   /* phases of more than one item; futex word */
    _Atomic uint32_t sleepers;
    _Atomic bool stop;
};

struct team *team_carve(uint32_t threads, const struct processors *cpus, struct arena *arena) {
    wick_assert(threads >= 1 && threads <= TEAM_THREADS_MAX);
    wick_assert(cpus == NULL || cpus->n == threads);
    struct team *team = arena_take(arena, sizeof *team, ARENA_ALIGN);
    uint8_t *stacks = arena_take(arena, (size_t)(threads - 1) * TEAM_STACK_BYTES, ARENA_PAGE);
    if (team == NULL) return NULL;
    team->threads = threads;
    if (cpus != NULL) team->cpus = *cpus;
    for (uint32_t i = 0; i < threads; i++) {
        team->member[i].team = team;
        team->member[i].index = i;
        if (i > 0) team->member[i].stack = stacks + (size_t)(i - 1) * TEAM_STACK_BYTES;
    }
    return team;
}

/* The first of n_items that are a member's own; they end where the next one's begin. */
static uint32_t team_first(const struct team *team, uint32_t n_items, uint32_t member) {
    return (uint32_t)(((uint64_t)n_items * member + team->threads - 1) / team->threads);
}

/* Claims items of a member's range: `grain` of them, or half of what is left, so that all members
 * end together. The member itself claims the first ones, another one the last: each reads on where
 * it has read. Returns how many; 0: none left. */
static uint32_t team_claim(struct team *team, struct team_member *of, bool own, uint32_t *first) {
    uint64_t range = atomic_load_explicit(&of->left, memory_order_acquire);
    for (;;) {
        uint32_t begin = (uint32_t)(range >> 32), end = (uint32_t)range;
        if (begin == end) return 0;
        uint32_t grain = atomic_load_explicit(&team->grain, memory_order_relaxed);
        uint32_t half = (end - begin + 1) / 2, take = grain < half ? grain : half;
        *first = own ? begin : end - take;
        if (own)
            begin += take;
        else
            end -= take;
        if (atomic_compare_exchange_weak_explicit(&of->left, &range, (uint64_t)begin << 32 | end,
                                                  memory_order_acquire, memory_order_acquire))
            return take;
    }
}

/* Claims and computes once: of its own range, or else of another member's. False: nothing was
 * left. */
static bool team_work_once(struct team *team, uint32_t member) {
    uint32_t first = 0, count = 0;
    if (member == 0 && team->alone) {
        team->alone = false;
        count = 1;
    }
    for (uint32_t i = 0; count == 0 && i < team->threads; i++)
        count = team_claim(team, &team->member[(member + i) % team->threads], i == 0, &first);
    if (count == 0) return false;
    team->work(team->context, member, first, count);
    atomic_fetch_add_explicit(&team->finished, count, memory_order_release);
    return true;
}

static void team_sleep(struct team *team, uint32_t opened) {
    atomic_fetch_add(&team->sleepers, 1);
    syscall(SYS_futex, &team->opened, FUTEX_WAIT_PRIVATE, opened, NULL, NULL, 0);
    atomic_fetch_sub(&team->sleepers, 1);
}

static void team_wake(struct team *team) {
    atomic_fetch_add(&team->opened, 1);
    if (atomic_load(&team->sleepers) > 0)
        syscall(SYS_futex, &team->opened, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static uint32_t team_opened(const struct team *team) {
    return atomic_load_explicit(&team->opened, memory_order_acquire);
}

static bool team_finished(const struct team *team) {
    return atomic_load_explicit(&team->finished, memory_order_acquire) == team->n_items;
}

/* Brings what this member claims first of the phase to come into its second cache, until there is
 * something else to do: for the caller when all have finished, for others when more than `opened`
 * phases were opened. */
static void team_fetch(const struct team *team, uint32_t member, uint32_t opened) {
    const uint8_t *from = atomic_load_explicit(&team->ahead, memory_order_relaxed);
    if (from == NULL) return;
    size_t item_bytes = atomic_load_explicit(&team->ahead_item_bytes, memory_order_relaxed);
    uint32_t n_items = atomic_load_explicit(&team->ahead_items, memory_order_relaxed);
    uint32_t first = team_first(team, n_items, member);
    size_t bytes = (team_first(team, n_items, member + 1) - first) * item_bytes;
    if (bytes > TEAM_FETCH_BYTES) bytes = TEAM_FETCH_BYTES;
    from += first * item_bytes;
    for (size_t at = 0; at < bytes; at += 256) {
        if (member == 0 ? team_finished(team) : team_opened(team) != opened) return;
        for (size_t line = 0; line < 256; line += 64) __builtin_prefetch(from + at + line, 0, 2);
    }
}

static void *team_member_main(void *argument) {
    struct team_member *member = argument;
    struct team *team = member->team;
    if (sandbox_supported()) sandbox_compute();
    while (!atomic_load_explicit(&team->stop, memory_order_relaxed)) {
        uint32_t opened = team_opened(team);
        while (team_work_once(team, member->index)) {
        }
        team_fetch(team, member->index, opened);
        uint64_t start = clock_ns();
        while (team_opened(team) == opened) {
            for (int i = 0; i < TEAM_PAUSES && team_opened(team) == opened; i++)
                __builtin_ia32_pause();
            if (clock_ns() - start > TEAM_SPIN_NS) team_sleep(team, opened);
        }
    }
    return NULL;
}

/* To its own processor: cpu_choose has seen that it may run there. */
static void team_pin(const struct team *team, pthread_t thread, uint32_t member) {
    if (team->cpus.n == 0) return;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(team->cpus.number[member], &one);
    pthread_setaffinity_np(thread, sizeof one, &one); /* unpinned is slower, not wrong */
}

bool team_start(struct team *team, struct fault *fault) {
    wick_assert(!team->started);
    sigset_t all, before;
    /* Signals are the main loop's; faults are whose they are, and a blocked one ends the process
     * without a word. */
    static const int faults[] = {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGSYS, SIGABRT};
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (uint32_t i = 1; i < team->threads; i++) {
        struct team_member *member = &team->member[i];
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        mprotect(member->stack, ARENA_PAGE, PROT_NONE); /* guard */
        pthread_attr_setstack(&attributes, member->stack + ARENA_PAGE,
                              TEAM_STACK_BYTES - ARENA_PAGE);
        int error = pthread_create(&member->thread, &attributes, team_member_main, member);
        if (error != 0) {
            pthread_sigmask(SIG_SETMASK, &before, NULL);
            return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES,
                             "cannot start thread %u of %u: %s; try a smaller threads=", i + 1,
                             team->threads, strerror(error));
        }
        team_pin(team, member->thread, i);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    team_pin(team, pthread_self(), 0);
    team->started = true;
    return true;
}

uint32_t team_threads(const struct team *team) {
    return team->threads;
}

void team_look_ahead(struct team *team, const void *items, size_t item_bytes, uint32_t n_items) {
    atomic_store_explicit(&team->ahead, items, memory_order_relaxed);
    atomic_store_explicit(&team->ahead_item_bytes, item_bytes, memory_order_relaxed);
    atomic_store_explicit(&team->ahead_items, n_items, memory_order_relaxed);
}

void team_open(struct team *team, team_work *work, void *context, uint32_t n_items,
               uint32_t grain) {
    wick_assert(team_finished(team));
    wick_assert(grain > 0);
    team->work = work;
    team->context = context;
    team->n_items = n_items;
    atomic_store_explicit(&team->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&team->finished, 0, memory_order_relaxed);
    team->alone = n_items == 1;
    if (n_items <= 1) return; /* all ranges are empty */
    for (uint32_t i = 0; i < team->threads; i++)
        atomic_store_explicit(&team->member[i].left,
                              (uint64_t)team_first(team, n_items, i) << 32 |
                                  team_first(team, n_items, i + 1),
                              memory_order_release);
    team_wake(team);
}

bool team_join(struct team *team, uint64_t deadline_ns) {
    while (team_work_once(team, 0))
        if (clock_ns() >= deadline_ns) return team_finished(team);
    if (team_finished(team)) return true;
    uint64_t start = clock_ns(), now = start;
    team_fetch(team, 0, 0);
    bool finished;
    do {
        if (now - start > TEAM_YIELD_NS) sched_yield();
        __builtin_ia32_pause();
        finished = team_finished(team);
        now = clock_ns();
    } while (!finished && now < deadline_ns);
    team->waited_ns += now - start;
    return finished;
}

uint64_t team_waited_ns(const struct team *team) {
    return team->waited_ns;
}

void team_run(struct team *team, team_work *work, void *context, uint32_t n_items, uint32_t grain) {
    team_open(team, work, context, n_items, grain);
    while (!team_join(team, UINT64_MAX)) {
    }
}

void team_stop(struct team *team) {
    if (!team->started) return;
    atomic_store(&team->stop, true);
    team_wake(team);
    for (uint32_t i = 1; i < team->threads; i++) pthread_join(team->member[i].thread, NULL);
    team->started = false;
}
