/* output: what one client has still to be sent: a ring of bytes, filled by whole lines. */
#ifndef WICK_WIRE_OUTPUT_H
#define WICK_WIRE_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "secret/seal.h"
#include "wire/replay.h"

struct output {
    char *bytes; /* (size), from the arena */
    size_t size;
    size_t head; /* of the oldest byte */
    size_t used;
    struct seal *seal;           /* puts the trailers on; NULL: none */
    const struct replay *replay; /* lines are kept there too, */
    struct replay_ring *ring;    /* in this ring; NULL: none, */
    uint32_t index;              /* under this index */
    bool overrun; /* a line did not fit: a reservation was wrong, the client has lost a line */
};

size_t output_free(const struct output *output);

void output_clear(struct output *output);

/* Appends a line, LF included, with its trailer, whole or not at all. */
void output_put(struct output *output, const char *line, size_t length);

/* The oldest bytes in one piece; *n may be fewer than used. NULL when there are none. */
const char *output_oldest(const struct output *output, size_t *n);

/* The oldest n bytes are gone. */
void output_take(struct output *output, size_t n);

#endif
