/* team: a fixed set of pinned threads that work through phases together. The caller is member 0.
 *
 * A phase is a function and a number of items. Each member has a range of them, which it claims
 * from the front: what it reads is one stream, and the same one whenever the phase comes again. Who
 * has no more claims from the end of others' ranges, so a slow or disturbed thread computes fewer.
 * What an item computes must not depend on who computes it. Members spin between phases for a short
 * while, then sleep in a futex: an idle team costs nothing. */
#ifndef WICK_CPU_TEAM_H
#define WICK_CPU_TEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/fault.h"
#include "base/processors.h"

enum { TEAM_THREADS_MAX = PROCESSORS_MAX, TEAM_STACK_BYTES = 256 * 1024 };

/* Computes items [first, first + count) as member `member`. */
typedef void team_work(void *context, uint32_t member, uint32_t first, uint32_t count);

struct team; /* team.c */

/* Measures or takes (stacks included). threads: 1 .. TEAM_THREADS_MAX, the caller included. cpus:
 * the processor of each of them; NULL: they run anywhere. */
struct team *team_carve(uint32_t threads, const struct processors *cpus, struct arena *arena);

/* Creates the threads, and pins each and the caller, who gets the first processor. */
bool team_start(struct team *team, struct fault *fault);

uint32_t team_threads(const struct team *team);

/* Says what a phase to come of n_items reads: item_bytes for each, one behind the other from
 * `items` on. Who waits fetches the beginning of its range meanwhile. It must stay readable; NULL:
 * nothing. */
void team_look_ahead(struct team *team, const void *items, size_t item_bytes, uint32_t n_items);

/* Opens a phase of n_items, claimed grain at a time, and the last of a range in smaller pieces. One
 * item is the caller's own: nobody else hears of it. The previous phase must be finished. */
void team_open(struct team *team, team_work *work, void *context, uint32_t n_items, uint32_t grain);

/* The caller takes its part in the open phase. True: the phase is finished, by everyone. False: the
 * deadline passed first; call again. */
bool team_join(struct team *team, uint64_t deadline_ns);

/* open + join without a deadline. */
void team_run(struct team *team, team_work *work, void *context, uint32_t n_items, uint32_t grain);

/* Nanoseconds the caller has waited, its own part done, for the other members. */
uint64_t team_waited_ns(const struct team *team);

/* Ends the threads. */
void team_stop(struct team *team);

#endif
