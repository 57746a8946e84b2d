/* server: the one main loop: wires, clients, commands, jobs, steps.
 *
 *   server_carve (twice: plan, arena) -> server_open -> server_load -> (seal, sandbox) ->
 * server_run
 *              -> server_close
 *
 * It listens and answers from server_open on; jobs are taken from server_run on. Everything happens
 * in turns: wait for wires (not at all while there is work), read and answer, expire, compute for
 * about a millisecond, write. Nothing blocks but poll, nothing allocates after carve.
 *
 * System calls after server_load: read write poll accept4 setsockopt shutdown close fcntl
 * (stdin and stdout only) clock_gettime. */
#ifndef WICK_WIRE_SERVER_H
#define WICK_WIRE_SERVER_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/fault.h"
#include "engine/engine.h"
#include "engine/scheduler.h"
#include "wire/client.h"
#include "wire/command.h"
#include "wire/door.h"
#include "wire/host.h"
#include "wire/jobs.h"
#include "wire/listing.h"
#include "wire/metrics.h"
#include "wire/replay.h"
#include "wire/staging.h"
#include "wire/wire.h"

enum {
    SERVER_PROTO = 1,
    SERVER_SLICE_NS = 1000 * 1000, /* of computing, between two looks at the wires */
    SERVER_KNOCKS_MAX = 8,         /* strangers let to the door in one turn */
    SERVER_ACCEPT_PAUSE_MS = 1000, /* when descriptors have run out */
    SERVER_FAREWELL_MS = 1000,     /* for the last lines, at the end */
    /* signals, wires, two descriptors of every client, strangers, and those of the host */
    SERVER_POLL_MAX = 1 + CONFIG_LISTEN_MAX + 2 * WIRE_CLIENTS_MAX + DOOR_PLACES + HOST_POLL_MAX,
    /* A step that takes longer hangs: the host is told of no more progress. */
    SERVER_STEP_HANGS_S = 300
};

/* engine_load, or what a test puts in its place. */
typedef enum engine_status server_loader(struct engine *engine, uint64_t deadline_ns,
                                         uint32_t *percent, struct fault *fault);

enum server_phase {
    SERVER_LOADING,
    SERVER_LOADED, /* the model is there; jobs are not taken yet */
    SERVER_SERVING,
    SERVER_DOWN, /* there will be no model: `failure` says why; answers what needs none */
    SERVER_OVER
};

/* Big: make it static. */
struct server {
    const struct config *config;
    struct engine *engine;
    const struct arena *arena; /* for HEALTH: how much of it is used */
    struct host *host;         /* set after carve; NULL: a plain process */
    server_loader *load;
    struct scheduler *scheduler;

    enum server_phase phase;
    bool failed;          /* the backend broke, or the model did not load: */
    struct fault failure; /* why */
    bool draining;        /* DRAIN or SHUTDOWN: no new jobs */
    bool reboot;          /* what shall follow the end: REBOOT was asked, or a GPU has failed */
    uint64_t cut_ns;      /* SHUTDOWN: when jobs are cut; UINT64_MAX: no SHUTDOWN yet */
    uint64_t opened_ns;
    uint32_t percent; /* of loading */
    uint32_t told;    /* the last milestone that was announced */
    bool step;        /* the backend works on `batch` */
    uint64_t step_ns; /* since when */
    bool more;        /* the last turn left something to do: do not sleep */
    struct batch batch;
    struct event event; /* scratch */

    int signals; /* signalfd for SIGTERM and SIGINT */
    uint32_t n_wires;
    struct wire wire[CONFIG_LISTEN_MAX];
    struct client *client; /* (WIRE_CLIENTS_MAX) */
    uint32_t next_number;
    struct door door;
    struct jobs jobs;
    struct staging staging;
    struct replay replay;
    struct listing listing;
    struct metrics metrics;
    struct sampler_rng seeds;
    int32_t *ids; /* (engine->ctx + 1): of the prompt being submitted */

    uint32_t n_polled;
    struct pollfd polled[SERVER_POLL_MAX];
};

/* Measures or takes: scheduler, clients and their buffers. engine_carve comes first. */
void server_carve(struct server *server, const struct config *config, struct engine *engine,
                  struct arena *arena);

/* An engine_rest: how much that would be. */
void server_measure(struct engine *engine, struct arena *arena);

/* Opens the wires and the signal descriptor; ignores SIGPIPE, blocks SIGTERM and SIGINT. Before any
 * thread is started, so that all threads inherit that. With a host a wire that cannot be opened is
 * told to it, and the others are opened. */
bool server_open(struct server *server, struct fault *fault);

enum server_result {
    SERVER_READY,
    SERVER_STOPPED, /* somebody asked for SHUTDOWN while loading */
    SERVER_FAILED   /* *fault says why; clients have been told. With a host server_run is next:
                     * the server stays to tell it */
};

/* Loads the model, answering all the while. */
enum server_result server_load(struct server *server, struct fault *fault);

/* Announces that the server is ready and serves until SHUTDOWN or REBOOT. After server_fail it only
 * answers. */
void server_run(struct server *server);

/* There will be no model, for this reason: HEALTH tells it, jobs are refused with it. In place of
 * server_load, before server_open; the engine may be a blank one. */
void server_fail(struct server *server, const struct fault *fault);

/* One turn. Waits at most timeout_ms for something to happen; -1: until there is something to do.
 */
void server_turn(struct server *server, int timeout_ms);

/* Serving, from the next turn on. (server_run does this first.) */
void server_ready(struct server *server);

/* Ends the step in flight, closes clients and wires. */
void server_close(struct server *server);

/* --- for the verbs ------------------------------------------------------------------------- */

/* Bytes of a client's output that its jobs may need before they can be held, and must stay free. */
size_t server_reserve(const struct server *server, const struct client *client);

/* Lines for every event there is. */
void server_deliver(struct server *server);

/* DRAIN; SHUTDOWN as well when `shutdown`. A second SHUTDOWN changes nothing. */
void server_drain(struct server *server, bool shutdown);

/* Ends the client's session, jobs and staged texts included, and closes it; a tty stays. */
void server_drop(struct server *server, struct client *client);

/* The client will send no more: closes it once all is written. */
void server_finish(struct server *server, struct client *client);

/* In use by somebody. */
uint32_t server_connections(const struct server *server);

#endif
