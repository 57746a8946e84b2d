#include "engine/event_queue.h"

#include <string.h>

#include "base/panic.h"

void event_queue_carve(struct event_queue *queue, uint32_t capacity, struct arena *arena) {
    queue->capacity = capacity;
    queue->first = queue->n = 0;
    queue->event = arena_take(arena, capacity * sizeof(struct event), ARENA_ALIGN);
}

struct event *event_queue_append(struct event_queue *queue, enum event_kind kind,
                                 struct job_id id) {
    wick_assert(queue->n < queue->capacity);
    struct event *event = &queue->event[(queue->first + queue->n++) % queue->capacity];
    memset(event, 0, sizeof *event);
    event->kind = kind;
    event->id = id;
    event->stop_index = -1;
    return event;
}

bool event_queue_take(struct event_queue *queue, struct event *event) {
    if (queue->n == 0) return false;
    *event = queue->event[queue->first];
    queue->first = (queue->first + 1) % queue->capacity;
    queue->n--;
    return true;
}
