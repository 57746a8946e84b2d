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
/* Claims a member that what is left is shared in, at least: so all of them end together. */
enum { TEAM_LAST_CLAIMS = 2 };
/* How long the caller spins for members that still work before it offers its processor to them. */
enum { TEAM_YIELD_NS = 50 * 1000 };

struct team_member {
    struct team *team;
    uint32_t index;
    pthread_t thread;
    uint8_t *stack;
};

struct team {
    uint32_t threads;
    struct processors cpus; /* of each thread; none: anywhere */
    bool started;
    struct team_member member[TEAM_THREADS_MAX];

    /* The open phase. Written by the caller before the ticket is published; stable while any item
     * of the phase is unfinished. */
    team_work *work;
    void *context;
    uint32_t n_items;
    uint32_t n_opened; /* phases so far */
    uint64_t waited_ns;
    _Atomic uint32_t grain;

    /* What comes after the open phase, see team_look_ahead. Hints: read at any time. */
    _Atomic(const uint8_t *) ahead;
    _Atomic size_t ahead_stride, ahead_bytes;

    /* phase number << 32 | items nobody has claimed yet. Counting down makes the claim safe against
     * a member that sleeps through a phase: with nothing left there is nothing to claim, whatever
     * else it read. */
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic uint32_t finished; /* items */
    _Alignas(64) _Atomic uint32_t wake;     /* futex word, one up at each phase */
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

/* Claims items of the open phase: `grain` of them, or fewer where few are left. Returns how many;
 * 0: none left. */
static uint32_t team_claim(struct team *team, uint32_t *first) {
    uint64_t ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    for (;;) {
        uint32_t left = (uint32_t)ticket;
        if (left == 0) return 0;
        uint32_t grain = atomic_load_explicit(&team->grain, memory_order_relaxed);
        uint32_t share = left / (team->threads * TEAM_LAST_CLAIMS) + 1;
        uint32_t take = grain < share ? grain : share;
        if (atomic_compare_exchange_weak_explicit(&team->ticket, &ticket, ticket - take,
                                                  memory_order_acquire, memory_order_acquire)) {
            *first = team->n_items - left;
            return take;
        }
    }
}

/* Claims and computes once. False: nothing was left. */
static bool team_work_once(struct team *team, uint32_t member) {
    uint32_t first;
    uint32_t count = team_claim(team, &first);
    if (count == 0) return false;
    team->work(team->context, member, first, count);
    atomic_fetch_add_explicit(&team->finished, count, memory_order_release);
    return true;
}

static void team_sleep(struct team *team) {
    uint32_t seen = atomic_load(&team->wake);
    atomic_fetch_add(&team->sleepers, 1);
    if ((uint32_t)atomic_load(&team->ticket) == 0 && !atomic_load(&team->stop))
        syscall(SYS_futex, &team->wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&team->sleepers, 1);
}

static void team_wake(struct team *team) {
    atomic_fetch_add(&team->wake, 1);
    if (atomic_load(&team->sleepers) > 0)
        syscall(SYS_futex, &team->wake, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool team_has_work(const struct team *team) {
    return (uint32_t)atomic_load_explicit(&team->ticket, memory_order_relaxed) != 0;
}

static bool team_finished(const struct team *team) {
    return atomic_load_explicit(&team->finished, memory_order_acquire) == team->n_items;
}

/* Brings what this member may claim first of the phase to come into its second cache, until there
 * is something else to do. */
static void team_fetch(const struct team *team, uint32_t member) {
    const uint8_t *from = atomic_load_explicit(&team->ahead, memory_order_relaxed);
    if (from == NULL) return;
    from += member * atomic_load_explicit(&team->ahead_stride, memory_order_relaxed);
    size_t bytes = atomic_load_explicit(&team->ahead_bytes, memory_order_relaxed);
    for (size_t at = 0; at < bytes; at += 256) {
        if (member == 0 ? team_finished(team) : team_has_work(team)) return;
        for (size_t line = 0; line < 256; line += 64) __builtin_prefetch(from + at + line, 0, 2);
    }
}

static void *team_member_main(void *argument) {
    struct team_member *member = argument;
    struct team *team = member->team;
    if (sandbox_supported()) sandbox_compute();
    while (!atomic_load_explicit(&team->stop, memory_order_relaxed)) {
        if (team_work_once(team, member->index)) continue;
        team_fetch(team, member->index);
        uint64_t start = clock_ns();
        while (!team_has_work(team)) {
            for (int i = 0; i < TEAM_PAUSES && !team_has_work(team); i++) __builtin_ia32_pause();
            if (clock_ns() - start > TEAM_SPIN_NS) {
                team_sleep(team);
                break;
            }
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

void team_look_ahead(struct team *team, const void *first, size_t stride, size_t bytes) {
    atomic_store_explicit(&team->ahead, first, memory_order_relaxed);
    atomic_store_explicit(&team->ahead_stride, stride, memory_order_relaxed);
    atomic_store_explicit(&team->ahead_bytes, bytes, memory_order_relaxed);
}

void team_open(struct team *team, team_work *work, void *context, uint32_t n_items,
               uint32_t grain) {
    wick_assert((uint32_t)atomic_load_explicit(&team->ticket, memory_order_relaxed) == 0);
    wick_assert(atomic_load_explicit(&team->finished, memory_order_relaxed) == team->n_items);
    wick_assert(grain > 0);
    team->work = work;
    team->context = context;
    team->n_items = n_items;
    team->n_opened++;
    atomic_store_explicit(&team->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&team->finished, 0, memory_order_relaxed);
    atomic_store(&team->ticket, (uint64_t)team->n_opened << 32 | n_items);
    if (team->started && team->threads > 1 && n_items > grain) team_wake(team);
}

bool team_join(struct team *team, uint64_t deadline_ns) {
    while (team_work_once(team, 0))
        if (team_has_work(team) && clock_ns() >= deadline_ns) return false;
    if (team_finished(team)) return true;
    uint64_t start = clock_ns(), now = start;
    team_fetch(team, 0);
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
