/* mailbox: how one of our threads hands work to the driver thread and learns that it is done.
 *
 * One job at a time. `posted` and `done` count jobs; equal: nothing is in flight. Both sides spin
 * for a little while before they sleep, so that work lists that follow each other closely cost no
 * system call. Every function may be called on any thread that its heading names, and on no other.
 */
#ifndef WICK_CUDA_MAILBOX_H
#define WICK_CUDA_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Runs on the driver thread (foreign.h says what it may do). */
typedef int64_t foreign_call(void *context);

/* How the driver ended. */
enum death_cause {
    DEATH_NONE,
    DEATH_SIGNAL, /* number: the signal */
    DEATH_EXIT,   /* number: the status */
    DEATH_GONE,   /* the thread is not there any more */
    DEATH_LATE    /* number: milliseconds that were waited */
};

struct death {
    enum death_cause cause;
    int32_t number;
    int32_t thread;   /* the driver thread or one that the driver started */
    uint64_t address; /* of a signal: what was touched */
    uint64_t at;      /* of a signal: the instruction */
};

struct mailbox {
    /* Written by our side. */
    _Alignas(64) _Atomic uint32_t posted;
    _Atomic uint32_t awaited; /* 1: we sleep on `bell` */
    foreign_call *call;
    void *context;
    /* Written by the driver thread. */
    _Alignas(64) _Atomic uint32_t done;
    _Atomic uint32_t asleep; /* 1: the driver thread sleeps on `posted` */
    int64_t result;
    /* Written by both: futex word, counts jobs done and deaths. */
    _Alignas(64) _Atomic uint32_t bell;
    _Atomic uint32_t dead; /* 0: lives; 1: `death` is being written; 2: it can be read */
    struct death death;
};

/* --- driver thread (freestanding) --- */

/* Says that job `posted` is done. */
void mailbox_answer(struct mailbox *box, int64_t result);

/* Runs the jobs that come after the one answered last; never returns. */
_Noreturn void mailbox_serve(struct mailbox *box);

/* --- any thread, also in a signal handler (freestanding) --- */

/* The first death counts; the others are forgotten. */
void mailbox_bury(struct mailbox *box, const struct death *death);

/* --- our side --- */

/* Nothing may be in flight. */
void mailbox_post(struct mailbox *box, foreign_call *call, void *context);

static inline bool mailbox_idle(const struct mailbox *box) {
    return atomic_load_explicit(&box->done, memory_order_acquire) ==
           atomic_load_explicit(&box->posted, memory_order_relaxed);
}

static inline bool mailbox_dead(const struct mailbox *box) {
    return atomic_load_explicit(&box->dead, memory_order_acquire) == 2;
}

/* Returns when the mailbox is idle or dead, or about when the deadline (clock_ns) has passed. */
void mailbox_wait(struct mailbox *box, uint64_t deadline_ns);

#endif
