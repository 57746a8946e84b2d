/* replay: the lines of a job, kept until the client says that they have come (ACK), to be sent
 * again when it asks (REPLAY). Only where a CRC was agreed: on a bad cable.
 *
 * A fixed pool of rings. A ring that has no room for one more token holds its job: nothing is
 * overwritten that has not been acknowledged. */
#ifndef WICK_WIRE_REPLAY_H
#define WICK_WIRE_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

struct output;

enum {
    REPLAY_PLACES_MAX = 16,
    REPLAY_WINDOW_BYTES = 8 * 1024, /* not acknowledged, beside the longest token */
    REPLAY_INDEX_LAST = INT32_MAX   /* of a job's last line */
};

struct replay_ring {
    uint32_t client; /* 0: free */
    uint32_t tag;
    bool ended;       /* its job is over; kept until it is acknowledged or the place is needed */
    uint64_t ended_n; /* how many had ended before: the eldest goes first */
    uint32_t from;    /* lines below this index have come */
    size_t head, used;
    char *bytes; /* (replay.size): records of length, index, line */
};

struct replay {
    uint32_t n_rings;
    size_t size;
    uint64_t n_ended;
    struct replay_ring ring[REPLAY_PLACES_MAX];
};

void replay_carve(struct replay *replay, uint32_t n_rings, struct arena *arena);

/* NULL: nothing is kept of such a job. */
struct replay_ring *replay_find(struct replay *replay, uint32_t client, uint32_t tag);

/* A ring for a new job: a free one, or the one whose job ended longest ago. NULL: all are in use.
 */
struct replay_ring *replay_take(struct replay *replay, uint32_t client, uint32_t tag);

/* Keeps a line, LF included. There must be room. */
void replay_keep(const struct replay *replay, struct replay_ring *ring, uint32_t index,
                 const char *line, size_t length);

/* Is there room for all that one more step can say? If not, the job has to wait. */
bool replay_has_room(const struct replay *replay, const struct replay_ring *ring);

void replay_end(struct replay *replay, struct replay_ring *ring);

/* Lines with an index below `from` are forgotten. */
void replay_acknowledge(const struct replay *replay, struct replay_ring *ring, uint32_t from);

/* Lines that would be sent again. */
uint32_t replay_count(const struct replay *replay, const struct replay_ring *ring);

/* Sends what is kept again, as many lines as leave `reserve` bytes of the output free. */
void replay_write(const struct replay *replay, const struct replay_ring *ring,
                  struct output *output, size_t reserve);

void replay_release(struct replay_ring *ring);
void replay_drop_client(struct replay *replay, uint32_t client);

#endif
