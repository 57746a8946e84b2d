/* mailbox: how one of our threads hands work to the driver thread and learns that it is done.
 *
 * One job at a time. `posted` and `done` count jobs and are futex words: equal while nothing is in
 * flight. Both sides spin for a little while before they sleep, so that work lists that follow each
 * other closely cost no system call. */
#ifndef WICK_CUDA_MAILBOX_H
#define WICK_CUDA_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Runs on the driver thread (see foreign.h for what it may do). */
typedef int64_t foreign_call(void *context);

/* How the driver ended; 0 while it lives. */
enum death_cause {
    DEATH_NONE,
    DEATH_SIGNAL, /* number is the signal */
    DEATH_EXIT,   /* number is the status */
    DEATH_GONE,   /* the thread is not there any more */
    DEATH_LATE    /* number is the time-out in milliseconds */
};

struct death {
    enum death_cause cause;
    int32_t number;
    int32_t thread;   /* its id; the driver thread's or that of one of the driver's own threads */
    uint64_t address; /* of a signal: what was touched */
    uint64_t at;      /* of a signal: the instruction */
};

struct mailbox {
    _Alignas(64) _Atomic uint32_t posted;
    foreign_call *call;
    void *context;
    _Alignas(64) _Atomic uint32_t done;
    _Atomic uint32_t dead; /* 0: lives. 1: `death` is being written. 2: it can be read */
    int64_t result;
    struct death death;
};

/* Driver thread: waits for a job that is not `seen` yet, runs it and answers; never returns.
 * Freestanding. */
_Noreturn void mailbox_serve(struct mailbox *box);

/* From a signal handler, on any thread: the first death is the one that counts. Freestanding. */
void mailbox_bury(struct mailbox *box, const struct death *death);

/* Our side. */
void mailbox_post(struct mailbox *box, foreign_call *call, void *context);
bool mailbox_idle(const struct mailbox *box);
bool mailbox_dead(const struct mailbox *box);

/* Spins, then sleeps until the job is done, the driver is dead or the deadline has passed. */
void mailbox_wait(struct mailbox *box, uint64_t deadline_ns);

#endif
