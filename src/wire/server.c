#include "wire/server.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "wire/line.h"
#include "wire/reply.h"
#include "wire/sessions.h"

enum { MS = 1000 * 1000 /* ns */ };

/* --- memory --------------------------------------------------------------------------------- */

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static struct scheduler *scheduler_take(const struct config *config, const struct engine *engine,
                                        struct arena *arena) {
    struct scheduler_limits limits = {.slots = config->slots,
                                      .ctx = engine->ctx,
                                      .queue = config->queue,
                                      .chunk = config->chunk,
                                      .candidates = engine->candidates,
                                      .deadline_ms = config->deadline_ms,
                                      .stall_ms = config->stall_ms};
    return scheduler_carve(&limits, engine->n_pages, engine->rows_max, engine->logits_max,
                           &engine->vocab, arena);
}

/* Everything a client's jobs can say before they are held, and the answer to one command. */
static size_t output_bytes(const struct config *config, const struct engine *engine) {
    size_t jobs = config->slots + config->queue;
    size_t bytes = 2 * (FRAME_LINE_MAX + FRAME_TRAILER_MAX); /* lines nobody asked for */
    bytes += (jobs + 1) * (REPLY_STARTED_MAX + REPLY_TERMINAL_MAX);
    bytes += (config->slots + (size_t)1) * REPLY_TOKEN_MAX;
    bytes += 2 * (size_t)engine->logits_max * REPLY_SCORE_MAX;
    return bytes + REPLY_ANSWER_MAX + FRAME_LINE_MAX + FRAME_TRAILER_MAX;
}

void server_carve(struct server *server, const struct config *config, struct engine *engine,
                  struct arena *arena) {
    memset(server, 0, sizeof *server);
    server->config = config;
    server->engine = engine;
    server->arena = arena;
    server->load = engine_load;
    server->signals = -1;
    server->cut_ns = UINT64_MAX;

    arena_section(arena, "scheduler");
    server->scheduler = scheduler_take(config, engine, arena);
    uint32_t jobs = config->slots + config->queue;
    server->ids = arena_take(arena, (engine->ctx + 1) * sizeof *server->ids, ARENA_ALIGN);
    jobs_carve(&server->jobs, jobs, arena);

    arena_section(arena, "wire buffers");
    size_t bytes = output_bytes(config, engine);
    server->client = arena_take(arena, WIRE_CLIENTS_MAX * sizeof *server->client, ARENA_ALIGN);
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        client_carve(server->client == NULL ? NULL : &server->client[i], bytes, arena);
    }
    staging_carve(&server->staging, least(jobs, STAGING_PLACES_MAX), arena);
    replay_carve(&server->replay, least(jobs, REPLAY_PLACES_MAX), arena);
    listing_carve(&server->listing, arena);
    door_clear(&server->door);
}

void server_measure(struct engine *engine, struct arena *arena) {
    static struct server trial; /* boot is single-threaded */
    struct config config = *engine->config;
    config.slots = engine->slots;
    server_carve(&trial, &config, engine, arena);
}

/* --- opening and closing -------------------------------------------------------------------- */

static bool signals_open(struct server *server, struct fault *fault) {
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    server->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (server->signals >= 0) return true;
    return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "signalfd: %s", strerror(errno));
}

/* Without entropy (early at boot) the clock must do: seeds are a convenience, not a secret. */
static void seeds_open(struct server *server) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) seed = clock_ns();
    sampler_rng_seed(&server->seeds, seed);
}

/* Whoever reaches a wire that has no door may do everything. */
static bool wire_allowed(const struct server *server, const char *spec, struct fault *fault) {
    if (door_is_locked(&server->door) || !wire_is_exposed(spec)) return true;
    return fault_set(fault, FAULT_INVALID_REQUEST,
                     "listen=%s: TCP beyond loopback needs a key: key=FILE, made by openssl rand "
                     "-hex 32 > FILE; docs/SECURITY.md",
                     spec);
}

bool server_open(struct server *server, struct fault *fault) {
    static const char default_listen[] = "tcp:127.0.0.1:7411";
    const struct config *config = server->config;
    server->opened_ns = clock_ns();
    seeds_open(server);
    if (!signals_open(server, fault)) return false;
    if (!door_open(&server->door, config, fault)) {
        if (server->host == NULL) return false;
        server->host->ops->complain(server->host, fault->text);
    }
    uint32_t n = config->n_listen > 0 ? config->n_listen : 1;
    for (uint32_t i = 0; i < n; i++) {
        const char *spec = config->n_listen > 0 ? config->listen[i] : default_listen;
        struct wire *wire = &server->wire[server->n_wires];
        if (!wire_allowed(server, spec, fault) || !wire_open(wire, spec, fault)) {
            if (server->host == NULL) return false;
            server->host->ops->complain(server->host, fault->text);
            continue;
        }
        server->n_wires++;
        log_event(LOG_INFO, "listen", "%s", wire->name);
    }
    sessions_open(server);
    return true;
}

void server_close(struct server *server) {
    const struct backend *backend = server->engine->backend;
    if (server->step) backend->ops->abort(server->engine->backend);
    server->step = false;
    for (uint32_t i = 0; server->client != NULL && i < WIRE_CLIENTS_MAX; i++) {
        struct client *client = &server->client[i];
        if (client->state != CLIENT_FREE) client_close(client);
    }
    door_close(&server->door);
    for (uint32_t i = 0; i < server->n_wires; i++) {
        struct wire *wire = &server->wire[i];
        if (wire->kind == WIRE_TCP || wire->kind == WIRE_UNIX) wire_close(wire->kind, wire->fd);
    }
    server->n_wires = 0;
    if (server->signals >= 0) close(server->signals);
    server->signals = -1;
}

/* --- events --------------------------------------------------------------------------------- */

/* Where the event's lines stand in a replay. */
static uint32_t event_index(const struct event *event) {
    switch (event->kind) {
    case EVENT_STARTED:
        return 0;
    case EVENT_TOKEN:
    case EVENT_SCORE:
        return event->index;
    case EVENT_END:
    case EVENT_ERROR:
        break;
    }
    return REPLAY_INDEX_LAST;
}

static void event_deliver(struct server *server, const struct event *event) {
    struct wire_job *job = jobs_find(&server->jobs, event->id);
    if (job == NULL) return; /* its client is gone */
    struct client *client = job->client;
    struct reply_job reply = {.tag = job->id.tag,
                              .kind = job->kind,
                              .logprobs = job->logprobs,
                              .model = server->engine->model.geo.name,
                              .stop = job->stop,
                              .n_stop = job->n_stop};
    client->output.replay = &server->replay;
    client->output.ring = job->ring;
    client->output.index = event_index(event);
    reply_event(&client->output, &reply, event);
    client->output.ring = NULL;
    if (event->kind != EVENT_END && event->kind != EVENT_ERROR) return;
    if (event->kind == EVENT_END) {
        metrics_observe(&server->metrics, event->prompt_ms + event->decode_ms);
    }
    if (job->ring != NULL) replay_end(&server->replay, job->ring);
    jobs_remove(&server->jobs, job);
}

/* Who asked DRAIN hears of the end. */
static void drained_tell(struct server *server) {
    if (!server->draining || server->jobs.n > 0) return;
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        struct client *client = &server->client[i];
        if (!client->wants_drained) continue;
        client->wants_drained = false;
        if (client->state == CLIENT_OPEN) reply_text(&client->output, 260, 0, "drained");
    }
}

void server_deliver(struct server *server) {
    while (scheduler_next_event(server->scheduler, &server->event)) {
        event_deliver(server, &server->event);
    }
}

void server_drain(struct server *server, bool shutdown) {
    if (!server->draining) log_event(LOG_INFO, "drain", "jobs=%u", server->jobs.n);
    server->draining = true;
    scheduler_drain(server->scheduler);
    if (!shutdown || server->cut_ns != UINT64_MAX) return;
    server->cut_ns = clock_ns() + (uint64_t)server->config->drain_ms * MS;
    log_event(LOG_INFO, "shutdown", "jobs=%u drain_ms=%u", server->jobs.n,
              server->config->drain_ms);
}

/* --- the turn ------------------------------------------------------------------------------- */

static void signals_read(struct server *server) {
    struct signalfd_siginfo info;
    while (read(server->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        log_event(LOG_INFO, "signal", "number=%u", info.ssi_signo);
        bool again = server->cut_ns != UINT64_MAX;
        server_drain(server, true);
        if (again) server->cut_ns = 0; /* whoever asks twice does not want to wait */
    }
}

static void jobs_cut(struct server *server, uint64_t now_ns) {
    struct fault fault;
    fault_set(&fault, FAULT_SHUTTING_DOWN, "the server ends; send the job to another one");
    scheduler_cut(server->scheduler, &fault, now_ns);
    server_deliver(server);
}

/* The end of SHUTDOWN: the last job has ended, or its time is over. */
static void server_settle(struct server *server, uint64_t now_ns) {
    drained_tell(server);
    if (server->cut_ns == UINT64_MAX || server->phase == SERVER_OVER) return;
    if (server->jobs.n > 0 && now_ns < server->cut_ns) return;
    if (server->jobs.n > 0) jobs_cut(server, now_ns);
    drained_tell(server);
    listing_end(&server->listing); /* nothing stands behind the last line */
    sessions_tell(server, 261, "shutdown");
    server->phase = SERVER_OVER;
}

/* The backend is unusable from here on: jobs end with its fault, new ones are refused. Who wants it
 * restarts after that. */
static void backend_lost(struct server *server, const struct fault *fault) {
    log_event(LOG_ERROR, "backend", "%s", fault->text);
    scheduler_fail(server->scheduler, fault, clock_ns());
    server->step = false;
    server->failed = true;
    fault_set(&server->failure, FAULT_WORKER_UNHEALTHY, "%s: %s", fault_kind(fault->code)->word,
              fault->text);
    server_deliver(server);
    if (server->config->on_gpu_fault != CONFIG_GPU_FAULT_RESTARTS) return;
    server->reboot = true;
    server_drain(server, true);
}

/* Between steps a backend may fail as well. */
static void backend_look(struct server *server) {
    struct backend *backend = server->engine->backend;
    struct fault fault;
    if (server->phase != SERVER_SERVING || server->failed || server->step) return;
    if (backend->ops->look == NULL || backend->ops->look(backend, &fault)) return;
    backend_lost(server, &fault);
}

/* The step in flight goes on for a slice. */
static void step_advance(struct server *server) {
    struct backend *backend = server->engine->backend;
    struct fault fault;
    if (scheduler_step_is_moot(server->scheduler)) {
        backend->ops->abort(backend);
        scheduler_absorb_abort(server->scheduler, clock_ns());
        server->step = false;
        return;
    }
    switch (backend->ops->advance(backend, clock_ns() + SERVER_SLICE_NS, &fault)) {
    case BACKEND_PENDING:
        return;
    case BACKEND_DONE:
        scheduler_absorb(server->scheduler, backend, clock_ns());
        server->step = false;
        return;
    case BACKEND_FAILED:
        backend_lost(server, &fault);
        return;
    }
}

/* False: there is nothing to compute. */
static bool server_compute(struct server *server) {
    struct backend *backend = server->engine->backend;
    if (!server->step) {
        if (server->failed) return false;
        uint64_t now_ns = clock_ns();
        sessions_hold(server, now_ns);
        server->step = scheduler_build(server->scheduler, now_ns, &server->batch);
        server_deliver(server); /* who was admitted hears that it has started */
        if (!server->step) return false;
        backend->ops->begin(backend, &server->batch);
        server->step_ns = now_ns;
    }
    step_advance(server);
    server_deliver(server);
    return true;
}

static void loading_tell(struct server *server, uint32_t percent) {
    char text[32];
    snprintf(text, sizeof text, "loading percent=%u", percent);
    sessions_tell(server, 110, text);
    log_event(LOG_INFO, "load", "percent=%u", percent);
    server->told = percent;
}

/* Loads for a slice; tells at 25, 50, 75 and 100 %. */
static bool server_load_slice(struct server *server) {
    enum { STEP = 25, SLICES = 5 };
    uint64_t deadline_ns = clock_ns() + (uint64_t)SLICES * SERVER_SLICE_NS;
    uint32_t percent = server->percent;
    enum engine_status status =
        server->load(server->engine, deadline_ns, &percent, &server->failure);
    if (status == ENGINE_FAILED) {
        server->failed = true;
        return false;
    }
    server->percent = status == ENGINE_READY ? 100 : least(percent, 99);
    while (server->told + STEP <= server->percent) loading_tell(server, server->told + STEP);
    if (status == ENGINE_READY) server->phase = SERVER_LOADED;
    return true;
}

static int poll_timeout(const struct server *server, uint64_t now_ns, uint64_t next_ns,
                        int timeout_ms) {
    if (server->more) return 0;
    uint64_t deadline_ns = scheduler_next_deadline_ns(server->scheduler);
    if (deadline_ns < next_ns) next_ns = deadline_ns;
    if (server->cut_ns < next_ns) next_ns = server->cut_ns;
    if (next_ns == UINT64_MAX) return timeout_ms;
    /* Rounded up: waking early would only mean to sleep again. */
    uint64_t ms = next_ns <= now_ns ? 0 : (next_ns - now_ns + MS - 1) / MS;
    if (timeout_ms >= 0 && ms > (uint64_t)timeout_ms) return timeout_ms;
    return ms > INT32_MAX ? INT32_MAX : (int)ms;
}

/* What the host waits for stands behind what the sessions wait for; returns how many. */
static uint32_t host_poll(struct server *server, uint64_t now_ns, uint64_t *next_ns) {
    if (server->host == NULL) return 0;
    wick_assert(server->n_polled + HOST_POLL_MAX <= SERVER_POLL_MAX);
    uint64_t host_ns = UINT64_MAX;
    uint32_t n =
        server->host->ops->poll(server->host, server->polled + server->n_polled, now_ns, &host_ns);
    wick_assert(n <= HOST_POLL_MAX);
    if (host_ns < *next_ns) *next_ns = host_ns;
    return n;
}

static void host_serve(struct server *server, uint32_t n, uint64_t now_ns) {
    if (server->host == NULL) return;
    const struct pollfd *polled = server->polled + server->n_polled;
    if (server->host->ops->serve(server->host, polled, n, now_ns) == HOST_SHUTDOWN) {
        server_drain(server, true);
    }
}

/* Tells the host, unless a step has been going on for so long that it must hang. */
static void host_progress(struct server *server, uint64_t now_ns) {
    if (server->host == NULL) return;
    uint64_t hangs_ns = server->step_ns + (uint64_t)SERVER_STEP_HANGS_S * 1000 * MS;
    if (server->step && now_ns >= hangs_ns) return;
    server->host->ops->progress(server->host, now_ns);
}

void server_turn(struct server *server, int timeout_ms) {
    wick_assert(server->phase != SERVER_OVER);
    uint64_t now_ns = clock_ns();
    uint64_t next_ns = sessions_poll(server, now_ns);
    uint32_t n_host = host_poll(server, now_ns, &next_ns);
    int wait_ms = poll_timeout(server, now_ns, next_ns, timeout_ms);
    int ready = poll(server->polled, server->n_polled + n_host, wait_ms);
    wick_assert(ready >= 0 || errno == EINTR);

    server->more = false;
    now_ns = clock_ns();
    backend_look(server);
    if (ready > 0 && server->polled[0].revents != 0) signals_read(server);
    if (ready >= 0) sessions_serve(server, now_ns);
    if (ready >= 0) host_serve(server, n_host, now_ns);
    scheduler_expire(server->scheduler, now_ns);
    server_deliver(server);
    server_settle(server, now_ns);
    sessions_flush(server, now_ns);
    if (server->phase == SERVER_LOADING) {
        server->more |= server_load_slice(server);
    } else if (server->phase == SERVER_SERVING) {
        server->more |= server_compute(server);
    }
    now_ns = clock_ns();
    sessions_flush(server, now_ns);
    host_progress(server, now_ns);
}

/* --- life ----------------------------------------------------------------------------------- */

void server_fail(struct server *server, const struct fault *fault) {
    wick_assert(fault->code != FAULT_NONE);
    server->phase = SERVER_DOWN;
    server->failed = true;
    server->failure = *fault;
}

enum server_result server_load(struct server *server, struct fault *fault) {
    wick_assert(server->phase == SERVER_LOADING);
    log_event(LOG_INFO, "load", "percent=0"); /* clients hear it in their greeting */
    while (server->phase == SERVER_LOADING && !server->failed) server_turn(server, 0);
    if (server->failed) {
        *fault = server->failure;
        server_fail(server, fault);
        sessions_tell_fault(server, fault);
        if (server->host == NULL) sessions_farewell(server);
        return SERVER_FAILED;
    }
    if (server->phase == SERVER_LOADED) return SERVER_READY;
    sessions_farewell(server);
    return SERVER_STOPPED;
}

void server_ready(struct server *server) {
    const struct engine *engine = server->engine;
    const struct backend_info *info = &engine->backend->info;
    wick_assert(server->phase == SERVER_LOADED);
    server->phase = SERVER_SERVING;
    struct line line;
    line.length = 0;
    line_add(&line, "ready model=");
    line_string(&line, engine->model.geo.name);
    line_add(&line, " ctx=%u slots=%u backend=%s isa=%s", engine->ctx, server->config->slots,
             info->name, info->isa);
    char text[FRAME_LINE_MAX];
    snprintf(text, sizeof text, "%.*s", (int)line.length, line.bytes);
    sessions_tell(server, 120, text);
    sessions_flush(server, clock_ns()); /* before the log, which may go to a slow console */
    log_event(LOG_INFO, "ready", "model=%s ctx=%u slots=%u backend=%s isa=%s ms=%llu",
              engine->model.geo.name, engine->ctx, server->config->slots, info->name, info->isa,
              (unsigned long long)((clock_ns() - server->opened_ns) / MS));
}

void server_run(struct server *server) {
    if (server->phase != SERVER_DOWN) server_ready(server);
    sessions_flush(server, clock_ns());
    while (server->phase != SERVER_OVER) server_turn(server, -1);
    log_event(LOG_INFO, "end", "connections=%u", server_connections(server));
    sessions_farewell(server);
}
