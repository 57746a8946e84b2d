#include "life.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "net.h"
#include "peer.h"
#include "secret/key.h"
#include "sim.h"
#include "wire/server.h"

enum {
    REST_TURNS = 40,     /* asleep and nobody moved: all timers have passed as well */
    CALM_TURNS = 200000, /* a server that has not come to rest by then never does */
};

static struct config config;
static struct engine engine;
static struct server server;
static struct arena arena;
static char keys[LOGIN_ROLES][65];

static struct {
    uint64_t storm_turns; /* then it is over */
    bool ends_in_storm;
    uint32_t signals; /* and with so many */
    uint32_t rest;
    bool rested;
    uint32_t loads, load_calls;
    bool load_fails;
} script;

/* --- what must hold, always ------------------------------------------------------------------ */

static const struct client *client_of(uint32_t number) {
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        const struct client *client = &server.client[i];
        if (client->state == CLIENT_OPEN && client->number == number) return client;
    }
    return NULL;
}

static void client_check(const struct client *client) {
    uint32_t jobs = 0;
    for (uint32_t i = 0; i < server.jobs.n; i++) jobs += server.jobs.job[i].client == client;
    sim_require(jobs == client_jobs(client), "client %u has %u jobs, counted as %u", client->number,
                jobs, client_jobs(client));
    sim_require(!client->output.overrun && client->output.used <= client->output.size,
                "the output of client %u is too small", client->number);
    sim_require(client->state == CLIENT_OPEN || jobs == 0, "jobs of a client that is gone");
}

/* Nothing belongs to somebody who is not there. */
static void owners_check(void) {
    for (uint32_t i = 0; i < server.jobs.n; i++) {
        const struct wire_job *job = &server.jobs.job[i];
        sim_require(job->client->number == job->id.client, "a job of another session");
    }
    for (uint32_t i = 0; i < server.staging.n_places; i++) {
        uint32_t number = server.staging.place[i].client;
        sim_require(number == 0 || client_of(number) != NULL, "a staged text of nobody");
    }
    for (uint32_t i = 0; i < server.replay.n_rings; i++) {
        const struct replay_ring *ring = &server.replay.ring[i];
        sim_require(ring->client == 0 || client_of(ring->client) != NULL, "a ring of nobody");
        sim_require(ring->used <= server.replay.size, "a ring is too full");
    }
    const struct client *reader = server.listing.client;
    sim_require(reader == NULL || reader->state == CLIENT_OPEN, "a long answer to nobody");
}

/* Who has work does not sleep. */
static void awake_check(const struct scheduler_counts *counts) {
    uint32_t held = 0, used = counts->slots - counts->slots_free;
    for (uint32_t i = 0; i < server.jobs.n; i++) held += server.jobs.job[i].held;
    sim_require(!brain_is_busy(), "the server sleeps while a step is in flight");
    if (server.phase != SERVER_SERVING || server.failed) return;
    sim_require(used <= held, "the server sleeps and %u jobs could go on", used - held);
    sim_require(used > 0 || counts->queued == 0, "the server sleeps and jobs wait for free slots");
}

static void server_check(bool sleeps) {
    struct scheduler_counts counts;
    const char *wrong = scheduler_check(server.scheduler);
    sim_require(wrong == NULL, "the scheduler: %s", wrong);
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) client_check(&server.client[i]);
    owners_check();
    scheduler_counts(server.scheduler, &counts);
    uint32_t jobs = counts.queued + counts.slots - counts.slots_free;
    sim_require(server.jobs.n <= jobs, "%u jobs are known, %u are there", server.jobs.n, jobs);
    sim_require(brain_is_busy() || server.jobs.n == jobs, "%u jobs are there, nobody knows %u",
                jobs, jobs - server.jobs.n);
    if (sleeps) awake_check(&counts);
}

/* Everything has come to its end: nothing is kept. */
static void rest_check(void) {
    struct scheduler_counts counts;
    peers_require_content();
    scheduler_counts(server.scheduler, &counts);
    sim_require(server.jobs.n == 0, "%u jobs never end", server.jobs.n);
    sim_require(counts.slots_free == counts.slots && counts.queued == 0, "a slot is stuck");
    sim_require(counts.pages_free + counts.pages_cached == counts.pages, "a KV page is lost");
}

/* Whoever is told something of a job has it and has not heard its end. */
bool __real_scheduler_next_event(struct scheduler *s, struct event *event);
bool __wrap_scheduler_next_event(struct scheduler *s, struct event *event) {
    if (!__real_scheduler_next_event(s, event)) return false;
    bool known = jobs_find(&server.jobs, event->id) != NULL;
    sim_require(known || client_of(event->id.client) == NULL,
                "client %u: job %u goes on after its end", event->id.client, event->id.tag);
    return true;
}

/* A job whose client does not read. */
void __real_scheduler_hold(struct scheduler *s, struct job_id id, bool held, uint64_t now_ns);
void __wrap_scheduler_hold(struct scheduler *s, struct job_id id, bool held, uint64_t now_ns) {
    if (held) sim_count(COUNT_PAUSES);
    __real_scheduler_hold(s, id, held, now_ns);
}

/* --- the script ------------------------------------------------------------------------------ */

static void end_begin(uint32_t n) {
    sim_note("--- SIGTERM, %u times", n);
    if (sim.season == SEASON_STORM) sim_count(COUNT_SHUTDOWNS);
    sim.season = SEASON_END;
    world.asked_drain = true;
    for (uint32_t i = 0; i < n; i++) net_signal();
}

static void season_change(bool sleeps, bool moved) {
    if (sim.season == SEASON_STORM && sim.turn >= script.storm_turns) {
        if (script.ends_in_storm) {
            end_begin(1);
            return;
        }
        sim_note("--- calm");
        sim.season = SEASON_CALM;
    }
    if (sim.season == SEASON_END && script.signals > 1 && sleeps) {
        script.signals--;
        net_signal();
    }
    if (sim.season != SEASON_CALM) return;
    script.rest = sleeps && !moved ? script.rest + 1 : 0;
    sim_require(sim.turn < script.storm_turns + CALM_TURNS, "the server does not come to rest");
    if (script.rest < REST_TURNS || server.phase != SERVER_SERVING) return;
    rest_check();
    script.rested = true;
    end_begin(1);
}

static bool life_turn(bool sleeps) {
    if (server.phase == SERVER_SERVING) world.ready = true;
    if (server.phase != SERVER_OVER) server_check(sleeps);
    bool moved = peers_act(sleeps);
    season_change(sleeps, moved);
    return moved;
}

static enum engine_status life_load(struct engine *loads, uint64_t deadline_ns, uint32_t *percent,
                                    struct fault *fault) {
    (void)loads;
    sim.now_ns = deadline_ns;
    script.loads++;
    if (script.loads < script.load_calls) {
        *percent = 100 * script.loads / script.load_calls;
        return ENGINE_LOADING;
    }
    if (!script.load_fails) return ENGINE_READY;
    sim_count(COUNT_LOAD_FAULTS);
    world.load_failed = true;
    fault_set(fault, FAULT_MODEL_LOAD_FAILED, "tiny.gguf: offset 0x10: the simulation broke it");
    return ENGINE_FAILED;
}

/* --- the beginning --------------------------------------------------------------------------- */

static uint32_t one_of(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t pick = dice_below(3);
    return pick == 0 ? a : pick == 1 ? b : c;
}

static void key_make(enum login_role role) {
    struct fault fault;
    for (int i = 0; i < 64; i++) keys[role][i] = "0123456789abcdef"[dice_below(16)];
    sim_require(key_read_hex(&world.key[role], "key=", keys[role], &fault), "%s", fault.text);
}

static void wires_choose(void) {
    uint32_t pick = dice_below(4);
    world.locked = dice_one_in(3);
    world.has_observer = world.locked && dice_one_in(2);
    world.has_tcp = pick != 0 || world.locked;
    world.has_unix = pick != 1;
    world.has_tty = dice_one_in(3);
    if (world.has_tcp)
        config.listen[config.n_listen++] = world.locked ? "tcp:0.0.0.0:7411" : "tcp:127.0.0.1:7411";
    if (world.has_unix) config.listen[config.n_listen++] = "unix:/simulated/wick";
    if (world.has_tty) config.listen[config.n_listen++] = "tty:" NET_TTY_PATH ",115200";
    if (world.locked) key_make(LOGIN_CONTROL), config.key = keys[LOGIN_CONTROL];
    if (world.has_observer) key_make(LOGIN_OBSERVER), config.observer_key = keys[LOGIN_OBSERVER];
}

static void config_choose(void) {
    config = (struct config){.slots = dice_between(1, 6),
                             .queue = dice_below(10),
                             .chunk = dice_between(1, 40),
                             .deadline_ms = one_of(0, 0, 400),
                             .stall_ms = one_of(0, 60, 500),
                             .drain_ms = one_of(0, 300, 5000)};
    wires_choose();
    world.slots = config.slots;
    world.queue = config.queue;
    world.deadline_ms = config.deadline_ms;
    world.stall_ms = config.stall_ms;
    world.ctx = dice_between(96, 240);
    world.n_pages = dice_between(8, 60); /* sometimes less than one longest job needs */
    world.crowd = one_of(4, 20, dice_between(1, PEERS_MAX));
    world.drains = dice_one_in(8);
    world.shuts = !world.drains && dice_one_in(8);
}

static void engine_prepare(void) {
    engine.config = &config;
    brain_vocab(&engine.vocab, &engine.scratch);
    engine.slots = config.slots;
    engine.ctx = world.ctx;
    engine.n_pages = world.n_pages;
    engine.rows_max = config.slots + dice_below(60);
    engine.logits_max = config.slots + dice_below(10);
    engine.candidates = dice_one_in(2) ? 0 : dice_between(1, 50);
    strcpy(engine.model.geo.name, "tiny");
    strcpy(engine.model.geo.architecture, "llama");
    strcpy(engine.model.geo.quantisation, "F32");
    uint32_t fails_at = dice_one_in(10) ? dice_between(1, 400) : 0;
    engine.backend = brain_backend(engine.n_pages, engine.rows_max, engine.logits_max,
                                   engine.candidates, fails_at);
}

static void server_prepare(void) {
    struct arena plan;
    struct fault fault;
    arena_measure(&plan);
    server_carve(&server, &config, &engine, &plan);
    sim_require(arena_map(&arena, plan.used, &fault), "%s", fault.text);
    server_carve(&server, &config, &engine, &arena);
    sim_require(arena.used == plan.used, "measured and taken differ");
    arena_seal(&arena);
    server.load = life_load;
}

static void script_write(void) {
    script.storm_turns = dice_between(100, 4000);
    script.ends_in_storm = dice_one_in(4);
    script.signals = dice_between(1, 2);
    script.load_calls = dice_one_in(2) ? 1 : dice_between(1, 300);
    script.load_fails = dice_one_in(25);
}

void life_run(void) {
    struct fault fault;
    log_open(NET_LOG_FD, (enum log_level)dice_below(LOG_DEBUG + 1));
    config_choose();
    engine_prepare();
    script_write();
    server_prepare();
    net_open();
    sim_require(server_open(&server, &fault), "%s", fault.text);
    peers_open();
    net_on_turn(life_turn);
    enum server_result result = server_load(&server, &fault);
    sim_require((result == SERVER_FAILED) == world.load_failed, "a load that fails is not told");
    if (result == SERVER_READY) server_run(&server);
    sim.season = SEASON_END;
    server_close(&server);
    sim_require(net_held() == 0, "the server leaves %u descriptors open", net_held());
    peers_part();
    sim.record->simulated_ns += sim.now_ns;
}
