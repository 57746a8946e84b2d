/* foreign: a thread that belongs to glibc, in a process that does not.
 *
 * libcuda.so.1 needs glibc's loader, its libc and its threads. foreign_start maps the loader and a
 * helper of 3 KB into this process and starts them on a thread of their own, as a fresh process
 * would be started. What we want from libcuda runs on that thread and comes through a mailbox.
 *
 *      our threads (musl)                        driver thread (glibc)
 *      foreign_post(call, context)  --mailbox-->  call(context)
 *      foreign_wait / foreign_poll  <---------    its result
 *
 * What runs there (a foreign_call) may call functions of libcuda and read and write memory of ours.
 * It must not touch musl: no errno, no libc, no wick_assert, no logging, no stack protector. So it
 * stands in a file named *_thread.c, which the Makefile compiles as freestanding code and whose
 * undefined symbols tests/build compares with a list. memcpy, memset and memmove are allowed.
 *
 * A driver that crashes, exits or hangs does not take us along (park.h, fence.h); it is dead from
 * then on, and there is one in the life of a process: a new one takes a new process. */
#ifndef WICK_CUDA_FOREIGN_H
#define WICK_CUDA_FOREIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "cuda/helper/handover.h"
#include "cuda/libraries.h"
#include "cuda/mailbox.h"

struct foreign_config {
    const char *cuda_path; /* NULL, or directories to look in first, separated by ':' */
    uint32_t timeout_ms;   /* for each step of the start; 0: FOREIGN_TIMEOUT_MS */
};

/* A cold disk gives up libcuda's 30 MB and what it links in a few seconds. */
enum { FOREIGN_TIMEOUT_MS = 20000, FOREIGN_DEATH_BYTES = 160 };

struct foreign {
    struct mailbox box;
    struct foreign_functions functions;
    void *library; /* libcuda.so.1, as dlopen calls it */
    struct libraries libraries;
    int32_t thread; /* id; 0: not started */
    uint32_t timeout_ms;
    bool no_tunables;   /* this glibc cannot take any (start_block.h) */
    uint64_t looked_ns; /* when the thread was last seen alive */
    char death[FOREIGN_DEATH_BYTES];
};

enum foreign_status { FOREIGN_PENDING, FOREIGN_DONE, FOREIGN_DEAD };

/* Brings the driver up: finds the libraries, guards the program break, tries it all in a child
 * first, then maps, starts the thread and opens libcuda.so.1. Before sandbox_enter. The fault names
 * the step that failed, what the loader said and every place that was looked in. *f must stay where
 * it is. */
bool foreign_start(struct foreign *f, const struct foreign_config *config, struct fault *fault);

/* There is a driver thread, alive or dead: the sandbox must know (SANDBOX_DRIVER). */
static inline bool foreign_started(const struct foreign *f) {
    return f->thread != 0;
}

/* A function of libcuda by its exported name ("cuMemAlloc_v2"); NULL: there is none, or the driver
 * is dead. Waits; for the start only. */
void *foreign_symbol(struct foreign *f, const char *name);

/* Hands over one job and returns at once. False: the driver is dead. One job at a time: the last
 * one must have been seen DONE. */
bool foreign_post(struct foreign *f, foreign_call *call, void *context);

/* DONE once for each job, with its result; PENDING; DEAD for ever once it is. With nothing in
 * flight: DONE, as long as the driver lives. */
enum foreign_status foreign_poll(struct foreign *f, int64_t *result);
/* Takes until the deadline (clock_ns) at most; spins for some microseconds before it sleeps. */
enum foreign_status foreign_wait(struct foreign *f, uint64_t deadline_ns, int64_t *result);

/* Post, and wait as long as the start allows for a step (FOREIGN_DEAD: also when it was late, and
 * the driver counts as dead from then on). For the start only. */
enum foreign_status foreign_run(struct foreign *f, foreign_call *call, void *context,
                                int64_t *result);

/* Why the driver is dead, one line: "signal 11 (SIGSEGV) at ... touching ... on thread 123". Empty
 * while it lives. */
const char *foreign_death(struct foreign *f);

/* Gives the driver up: its time is over, whatever it does. foreign_death tells so. */
void foreign_condemn(struct foreign *f, uint32_t late_ms);

/* Runs `last` (NULL: nothing) on the driver thread, waits for it until the deadline, and leaves the
 * thread asleep: it ends with the process. */
void foreign_stop(struct foreign *f, foreign_call *last, void *context, uint64_t deadline_ns);

#endif
