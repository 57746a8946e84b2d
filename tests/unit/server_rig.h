/* server_rig: a server with a small vocabulary and a backend that obeys the test, driven one turn
 * at a time; its clients are socket pairs. */
#ifndef WICK_TESTS_SERVER_RIG_H
#define WICK_TESTS_SERVER_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/server.h"

enum { SERVER_RIG_VOCAB_MAX = 512, SERVER_RIG_LOGITS_MAX = 16 };

struct server_rig {
    struct config config; /* may be changed before server_rig_open */
    struct engine engine;
    struct server server;
    struct arena arena;
    struct backend backend;
    uint32_t pending; /* advances of each step that answer PENDING */
    uint32_t left;    /* of the step in flight */
    bool fails;       /* the next advance fails */
    bool asleep;      /* every advance answers PENDING */
    uint32_t aborted; /* steps */
    const struct batch *batch;
    uint32_t n_logits;
    float logits[SERVER_RIG_LOGITS_MAX][SERVER_RIG_VOCAB_MAX];
    uint32_t load_calls; /* loading takes that many */
    bool load_fails;     /* and then fails */
};

/* slots=2 queue=2 chunk=16 ctx=128, no wires. */
struct server_rig *server_rig_new(void);

/* Carves the server; it is loading. */
void server_rig_open(struct server_rig *rig);

/* The same, and it serves. */
struct server_rig *server_rig_serving(void);

/* Turns until there is nothing left to do. */
void server_rig_turns(struct server_rig *rig);

/* Our end of a new connection; its greeting has been read when the server serves. */
int server_rig_connect(struct server_rig *rig);

void server_rig_send(int fd, const char *text);

/* Everything that has come, terminated; valid until the next call. */
const char *server_rig_read(int fd);

/* Sends, turns until all is quiet, reads. */
const char *server_rig_ask(struct server_rig *rig, int fd, const char *text);

/* Has the other side closed? */
bool server_rig_is_closed(int fd);

/* Lines of `text` that begin so. */
uint32_t server_rig_count(const char *text, const char *beginning);

/* The number after `name` ("seed="), 0 when the name is not there. */
uint64_t server_rig_number(const char *text, const char *name);

#endif
