/* event_queue: a ring of events, first in first out. */
#ifndef WICK_ENGINE_EVENT_QUEUE_H
#define WICK_ENGINE_EVENT_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "engine/scheduler.h"

struct event_queue {
    uint32_t capacity, first, n;
    struct event *event; /* (capacity) */
};

void event_queue_carve(struct event_queue *queue, uint32_t capacity, struct arena *arena);

/* A new last event of that kind and job, all else zero. Room is the caller's business (asserted).
 */
struct event *event_queue_append(struct event_queue *queue, enum event_kind kind, struct job_id id);

/* False: there is none. */
bool event_queue_take(struct event_queue *queue, struct event *event);

#endif
