#include "wire/replay.h"

#include <string.h>

#include "base/panic.h"
#include "wire/output.h"
#include "wire/reply.h"

/* In front of each line. */
struct record {
    uint32_t index;
    uint32_t length;
};

enum {
    RECORD_BYTES = sizeof(struct record),
    /* Lines of a job: started, one for each part of a token or each score, the terminal one. */
    STEP_LINES_MAX = REPLY_PARTS + 2,
    STEP_BYTES_MAX =
        REPLY_TOKEN_MAX + REPLY_STARTED_MAX + REPLY_TERMINAL_MAX + STEP_LINES_MAX * RECORD_BYTES
};

_Static_assert(SCHEDULER_SLOTS_MAX *(REPLY_SCORE_MAX + RECORD_BYTES) <= REPLY_TOKEN_MAX,
               "the scores of a step need no more than a token");

void replay_carve(struct replay *replay, uint32_t n_rings, struct arena *arena) {
    wick_assert(n_rings >= 1 && n_rings <= REPLAY_PLACES_MAX);
    replay->n_rings = n_rings;
    replay->size = STEP_BYTES_MAX + REPLAY_WINDOW_BYTES;
    for (uint32_t i = 0; i < n_rings; i++) {
        replay->ring[i].bytes = arena_take(arena, replay->size, ARENA_ALIGN);
    }
}

struct replay_ring *replay_find(struct replay *replay, uint32_t client, uint32_t tag) {
    wick_assert(client != 0);
    for (uint32_t i = 0; i < replay->n_rings; i++) {
        struct replay_ring *ring = &replay->ring[i];
        if (ring->client == client && ring->tag == tag) return ring;
    }
    return NULL;
}

struct replay_ring *replay_take(struct replay *replay, uint32_t client, uint32_t tag) {
    wick_assert(replay_find(replay, client, tag) == NULL);
    struct replay_ring *chosen = NULL;
    for (uint32_t i = 0; i < replay->n_rings; i++) {
        struct replay_ring *ring = &replay->ring[i];
        if (ring->client == 0) {
            chosen = ring;
            break;
        }
        if (!ring->ended) continue;
        if (chosen == NULL || ring->ended_n < chosen->ended_n) chosen = ring;
    }
    if (chosen == NULL) return NULL;
    char *bytes = chosen->bytes;
    *chosen = (struct replay_ring){.client = client, .tag = tag, .bytes = bytes};
    return chosen;
}

/* --- bytes of a ring ------------------------------------------------------------------------- */

static void ring_put(const struct replay *replay, struct replay_ring *ring, const void *from,
                     size_t n) {
    wick_assert(n <= replay->size - ring->used);
    size_t tail = (ring->head + ring->used) % replay->size;
    size_t first = replay->size - tail < n ? replay->size - tail : n;
    memcpy(ring->bytes + tail, from, first);
    memcpy(ring->bytes, (const char *)from + first, n - first);
    ring->used += n;
}

/* n bytes from `offset` on, counted from the oldest one. */
static void ring_get(const struct replay *replay, const struct replay_ring *ring, size_t offset,
                     void *to, size_t n) {
    wick_assert(offset + n <= ring->used);
    size_t at = (ring->head + offset) % replay->size;
    size_t first = replay->size - at < n ? replay->size - at : n;
    memcpy(to, ring->bytes + at, first);
    memcpy((char *)to + first, ring->bytes, n - first);
}

void replay_keep(const struct replay *replay, struct replay_ring *ring, uint32_t index,
                 const char *line, size_t length) {
    struct record record = {.index = index, .length = (uint32_t)length};
    wick_assert(!ring->ended && length <= FRAME_LINE_MAX);
    ring_put(replay, ring, &record, sizeof record);
    ring_put(replay, ring, line, length);
}

bool replay_has_room(const struct replay *replay, const struct replay_ring *ring) {
    return replay->size - ring->used >= STEP_BYTES_MAX;
}

void replay_end(struct replay *replay, struct replay_ring *ring) {
    wick_assert(!ring->ended);
    ring->ended = true;
    ring->ended_n = replay->n_ended++;
}

void replay_acknowledge(const struct replay *replay, struct replay_ring *ring, uint32_t from) {
    if (from > ring->from) ring->from = from;
    while (ring->used > 0) {
        struct record record;
        ring_get(replay, ring, 0, &record, sizeof record);
        if (record.index >= from) return;
        size_t n = sizeof record + record.length;
        ring->head = (ring->head + n) % replay->size;
        ring->used -= n;
    }
}

uint32_t replay_count(const struct replay *replay, const struct replay_ring *ring) {
    uint32_t lines = 0;
    for (size_t at = 0; at < ring->used; lines++) {
        struct record record;
        ring_get(replay, ring, at, &record, sizeof record);
        at += sizeof record + record.length;
    }
    return lines;
}

void replay_write(const struct replay *replay, const struct replay_ring *ring,
                  struct output *output, size_t reserve) {
    for (size_t at = 0; at < ring->used;) {
        struct record record;
        char line[FRAME_LINE_MAX];
        ring_get(replay, ring, at, &record, sizeof record);
        wick_assert(record.length <= sizeof line);
        if (output_free(output) < reserve + record.length + FRAME_TRAILER_MAX) return;
        ring_get(replay, ring, at + sizeof record, line, record.length);
        output_put(output, line, record.length);
        at += sizeof record + record.length;
    }
}

void replay_release(struct replay_ring *ring) {
    ring->client = 0;
    ring->used = 0;
}

void replay_drop_client(struct replay *replay, uint32_t client) {
    for (uint32_t i = 0; i < replay->n_rings; i++) {
        if (replay->ring[i].client == client) replay_release(&replay->ring[i]);
    }
}
