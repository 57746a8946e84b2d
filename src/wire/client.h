/* client: one who talks to us: its descriptors, what came from it, what goes to it.
 *
 *   FREE -> OPEN --(EOF, BYE, too many bad lines)--> FLUSH --(all is written)--> LINGER -> FREE
 *
 * A tty is a client for ever: when its other side hangs up it is DORMANT and looked at again later.
 * Knows bytes and descriptors, not commands. */
#ifndef WICK_WIRE_CLIENT_H
#define WICK_WIRE_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "secret/login.h"
#include "secret/seal.h"
#include "wire/frame.h"
#include "wire/output.h"
#include "wire/wire.h"

enum {
    CLIENT_INPUT_BYTES = 4096, /* read at once */
    CLIENT_BAD_LINES_MAX = 20, /* in a row, then the connection is closed */
    CLIENT_LINGER_MS = 1000,   /* between our last byte and close(2), for the other side to read */
    CLIENT_FLUSH_MS = 10000,   /* for the last bytes of output, when stall_ms does not say */
    CLIENT_DORMANT_MS = 1000   /* between two looks at a tty that hung up */
};

enum client_state {
    CLIENT_FREE,
    CLIENT_OPEN,
    CLIENT_FLUSH,  /* takes no more commands; closes when all is written */
    CLIENT_LINGER, /* our side is closed; input is thrown away until the other side closes too */
    CLIENT_DORMANT
};

struct client {
    uint32_t number; /* names its jobs; a new one for each session */
    enum client_state state;
    enum wire_kind kind;
    int in, out;       /* the same descriptor, except on stdio */
    uint64_t until_ns; /* FLUSH, LINGER, DORMANT: when it ends at the latest */

    enum login_role role; /* where nobody has to log in: LOGIN_CONTROL */
    struct seal seal;
    struct frame_reader reader;
    char input[CLIENT_INPUT_BYTES]; /* read and not yet looked at: [input_at, input_end) */
    uint32_t input_at, input_end;
    bool input_over; /* the other side will send no more */
    bool eof_told;
    bool fresh; /* too little has come to tell which protocol this is */
    uint32_t bad_lines;

    struct output output;
    bool blocked; /* the last write would have blocked */

    uint32_t n_generate, n_score; /* jobs */
    bool wants_drained;           /* has asked DRAIN */
};

void client_carve(struct client *client, size_t output_bytes, struct arena *arena);

/* A new session on these descriptors. */
void client_open(struct client *client, uint32_t number, enum wire_kind kind, int in, int out);

/* Forgets the session; descriptors are left alone. */
void client_reset(struct client *client, uint32_t number);

/* From here on lines have trailers, both ways. */
void client_seal(struct client *client, const struct seal *seal);

/* Closes the descriptors; the place is free. */
void client_close(struct client *client);

enum client_status {
    CLIENT_FINE,
    CLIENT_EOF, /* no more input; the other side may still read */
    CLIENT_GONE /* nobody is there */
};

/* Reads what there is, up to the size of the input buffer, which must be empty. */
enum client_status client_receive(struct client *client);

/* Reads and throws away. */
enum client_status client_discard(struct client *client);

/* Writes what the descriptor takes. */
enum client_status client_flush(struct client *client);

/* No more commands from here on; what is in the output is still written until then. */
void client_finish(struct client *client, uint64_t until_ns);

/* May be closed when it misbehaves: a tty and stdin may not. */
bool client_is_connection(const struct client *client);

static inline uint32_t client_jobs(const struct client *client) {
    return client->n_generate + client->n_score;
}

static inline bool client_has_input(const struct client *client) {
    return client->input_at < client->input_end;
}

#endif
