/* Random lives of many clients. Every text must be what its request gives alone, every accepted job
 * must end exactly once, nothing may leak. A failure names its seed: WICK_STORM_SEED=seed
 * WICK_STORM_COUNT=1 repeats it. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler_rig.h"

enum {
    CLIENTS = 6,
    TAGS = 4, /* of a client: few, so that they are used again soon */
    LIVE_MAX = CLIENTS * TAGS,
    FAMILIES = 5, /* of prompts with common beginnings */
    MS = 1000000
};

/* What the test knows of a job that was accepted and has not ended. */
struct watched {
    bool live, started, held;
    struct job_request request;
    int32_t tokens[RIG_CTX_MAX];
    struct rig_expected expected;
    uint64_t serial, deadline_ns, held_since_ns;
    uint32_t slot;
    uint32_t n_events;
    uint32_t text_bytes; /* shown so far */
    double logprob_sum;
};

struct storm {
    uint64_t seed;
    struct sampler_rng rng;
    struct scheduler_limits limits;
    uint32_t n_pages, rows_max, logits_max;
    struct scheduler *s;
    struct rig_backend rig;
    struct batch batch;
    bool in_flight, over, failed;
    uint64_t now_ns, serial, last_started;
    struct watched job[CLIENTS][TAGS];
    int32_t family[FAMILIES][RIG_CTX_MAX];
    uint64_t n_ended[STOP_ERROR + 1], n_errors, n_scores, n_refused, n_aborts;
};

static struct storm st;

static uint32_t below(uint32_t n) {
    return (uint32_t)(sampler_rng_next(&st.rng) % n);
}
static bool chance(uint32_t one_in) {
    return below(one_in) == 0;
}

#define HOLDS(condition) cr_assert(condition, "seed %llu: " #condition, (unsigned long long)st.seed)

/* --- what is said, against what is known -------------------------------------------------------
 */

static struct watched *watched_of(struct job_id id) {
    HOLDS(id.client >= 1 && id.client <= CLIENTS && id.tag >= 1 && id.tag <= TAGS);
    return &st.job[id.client - 1][id.tag - 1];
}

static void token_check(struct watched *job, const struct event *event) {
    const struct rig_expected *expected = &job->expected;
    bool beyond = event->index == expected->n_tokens;
    HOLDS(job->request.kind == JOB_GENERATE && !job->held);
    HOLDS(event->index == job->n_events++ && event->index <= expected->n_tokens);
    HOLDS(event->token == (beyond ? expected->end_token : expected->token[event->index]));
    HOLDS(job->text_bytes + event->text_bytes <= expected->text_bytes);
    HOLDS(memcmp(expected->text + job->text_bytes, event->text, event->text_bytes) == 0);
    job->text_bytes += event->text_bytes;
}

static void score_check(struct watched *job, const struct event *event) {
    float logits[RIG_VOCAB];
    HOLDS(job->request.kind == JOB_SCORE && !job->held);
    HOLDS(event->index == ++job->n_events && event->token == job->tokens[event->index]);
    rig_logits(job->tokens, event->index, logits);
    HOLDS(event->logprob == sampler_logprob(logits, RIG_VOCAB, event->token));
    job->logprob_sum += event->logprob;
    st.n_scores++;
}

static void end_check(struct watched *job, const struct event *event) {
    const struct rig_expected *expected = &job->expected;
    st.n_ended[event->reason]++;
    job->live = false;
    if (event->reason == STOP_CANCELLED) return;
    if (job->request.kind == JOB_SCORE) {
        HOLDS(event->tokens == job->request.n_tokens - 1 && event->tokens == job->n_events);
        HOLDS(event->logprob_sum == job->logprob_sum);
        return;
    }
    HOLDS(event->reason == expected->reason && event->tokens == expected->n_tokens);
    HOLDS(event->stop_index == expected->stop_index);
    HOLDS(job->n_events >= expected->n_tokens && job->text_bytes == expected->text_bytes);
}

static void error_check(struct watched *job, const struct event *event) {
    uint64_t stall_ns = job->held_since_ns + st.limits.stall_ms * (uint64_t)MS;
    bool late = st.now_ns >= job->deadline_ns || (job->held && st.now_ns >= stall_ns);
    job->live = false;
    st.n_errors++;
    HOLDS(event->fault.code == (st.failed ? FAULT_CUDA_ERROR : FAULT_INFERENCE_TIMEOUT));
    HOLDS(late || st.failed);
}

static void started_check(struct watched *job, const struct event *event) {
    HOLDS(!job->started && event->seed == job->request.sampling.seed);
    HOLDS(job->serial > st.last_started); /* first in, first out */
    HOLDS(event->slot < st.limits.slots && event->reused_tokens < job->request.n_tokens);
    for (uint32_t i = 0; i < LIVE_MAX; i++) {
        const struct watched *other = &st.job[i / TAGS][i % TAGS];
        HOLDS(!other->live || !other->started || other->slot != event->slot);
    }
    st.last_started = job->serial;
    job->started = true;
    job->slot = event->slot;
}

static void listen_all(void) {
    static struct event event;
    while (scheduler_next_event(st.s, &event)) {
        struct watched *job = watched_of(event.id);
        HOLDS(job->live);
        switch (event.kind) {
        case EVENT_STARTED:
            started_check(job, &event);
            break;
        case EVENT_TOKEN:
            token_check(job, &event);
            break;
        case EVENT_SCORE:
            score_check(job, &event);
            break;
        case EVENT_END:
            end_check(job, &event);
            break;
        case EVENT_ERROR:
            error_check(job, &event);
            break;
        }
    }
    const char *wrong = scheduler_check(st.s);
    cr_assert_null(wrong, "seed %llu: %s", (unsigned long long)st.seed, wrong);
}

/* --- what clients do ---------------------------------------------------------------------------
 */

static struct sampler_params random_sampling(void) {
    static const double temperature[] = {0, 0.5, 1, 1.5};
    static const double penalty[] = {1, 1, 1.3, 0.8};
    return (struct sampler_params){.temperature = temperature[below(4)],
                                   .top_p = chance(2) ? 0.9 : 1,
                                   .top_k = chance(2) ? 20 : 0,
                                   .min_p = chance(3) ? 0.05 : 0,
                                   .repetition_penalty = penalty[below(4)],
                                   .seed = below(50)};
}

static void random_prompt(struct watched *job) {
    uint32_t n = 1 + below(chance(4) ? 90 : 40), common = below(n + 1);
    memcpy(job->tokens, st.family[below(FAMILIES)], sizeof job->tokens);
    for (uint32_t i = common; i < n && chance(2); i++) job->tokens[i] = (int32_t)below(RIG_VOCAB);
    job->request.tokens = job->tokens;
    job->request.n_tokens = n;
}

static void random_request(struct watched *job, struct job_id id) {
    static const char *const stops[] = {"a", "ab", "bab", "\n", " once", "zz", "\xC3", "xyzx"};
    memset(job, 0, sizeof *job);
    random_prompt(job);
    job->request.id = id;
    job->request.kind = chance(8) ? JOB_SCORE : JOB_GENERATE;
    job->request.max_tokens = 1 + below(chance(3) ? 60 : 12);
    job->request.sampling = random_sampling();
    job->request.n_stop = chance(2) ? below(JOB_STOP_MAX + 1) : 0;
    for (uint32_t k = 0; k < job->request.n_stop; k++) {
        const char *text = stops[below(8)];
        job->request.stop[k].length = (uint8_t)strlen(text);
        memcpy(job->request.stop[k].text, text, strlen(text));
    }
    job->request.logprobs = chance(5) ? below(JOB_LOGPROBS_MAX + 1) : 0;
    job->request.bytes = chance(3);
    job->request.ignore_eos = chance(3);
    job->request.deadline_ms = chance(4) ? 1 + below(300) : 0;
}

static void refusal_check(const struct watched *job, bool in_use, enum fault_code code) {
    struct scheduler_counts counts;
    uint32_t length = job->request.n_tokens;
    if (job->request.kind == JOB_GENERATE) length += job->request.max_tokens;
    scheduler_counts(st.s, &counts);
    st.n_refused++;
    switch (code) {
    case FAULT_TAG_IN_USE:
        HOLDS(in_use);
        return;
    case FAULT_PROMPT_TOO_LONG:
        HOLDS(length > st.limits.ctx || length > st.n_pages * KV_PAGE_TOKENS);
        return;
    case FAULT_BUSY:
        HOLDS(counts.queued == st.limits.queue);
        return;
    default:
        HOLDS(false);
    }
}

static void client_submits(struct job_id id) {
    static struct watched fresh;
    struct watched *job = watched_of(id);
    bool in_use = job->live;
    struct fault fault = {0};
    random_request(&fresh, id);
    if (!in_use) { /* watched before the call: STARTED may come at once */
        *job = fresh;
        job->request.tokens = job->tokens;
        job->live = true;
        job->serial = ++st.serial;
        uint32_t deadline_ms = fresh.request.deadline_ms;
        if (deadline_ms == 0) deadline_ms = st.limits.deadline_ms;
        job->deadline_ns = deadline_ms == 0 ? UINT64_MAX : st.now_ns + deadline_ms * (uint64_t)MS;
        bool fits = fresh.request.n_tokens + fresh.request.max_tokens <= st.limits.ctx;
        if (fits && fresh.request.kind == JOB_GENERATE) rig_expect(&job->request, &job->expected);
    }
    bool accepted = scheduler_submit(st.s, &fresh.request, st.now_ns, &fault);
    memset(fresh.tokens, 0xFF, sizeof fresh.tokens); /* they were copied */
    if (!accepted) {
        refusal_check(&fresh, in_use, fault.code);
        if (!in_use) job->live = false;
    } else {
        HOLDS(!in_use);
    }
}

static void client_drops(uint32_t client) {
    scheduler_drop_client(st.s, client);
    for (uint32_t tag = 0; tag < TAGS; tag++) st.job[client - 1][tag].live = false;
}

static void client_cancels(struct job_id id) {
    bool live = watched_of(id)->live;
    HOLDS(scheduler_cancel(st.s, id, st.now_ns) == live);
    listen_all();
    HOLDS(!watched_of(id)->live);
}

static void client_holds(struct job_id id, bool held) {
    struct watched *job = watched_of(id);
    scheduler_hold(st.s, id, held, st.now_ns);
    if (!job->live || job->held == held) return;
    job->held = held;
    job->held_since_ns = st.now_ns;
}

static void client_acts(void) {
    struct job_id id = {1 + below(CLIENTS), 1 + below(TAGS)};
    uint32_t what = below(20);
    if (what < 11)
        client_submits(id);
    else if (what < 13)
        client_cancels(id);
    else if (what < 15)
        client_holds(id, true);
    else if (what < 19)
        client_holds(id, false);
    else if (chance(4))
        client_drops(id.client);
    listen_all();
}

/* --- what the main loop does -------------------------------------------------------------------
 */

static void time_passes(uint64_t ns) {
    st.now_ns += ns;
    scheduler_expire(st.s, st.now_ns);
    listen_all();
    HOLDS(scheduler_next_deadline_ns(st.s) > st.now_ns);
}

static void step_ends(bool given_up) {
    struct fault fault;
    st.in_flight = false;
    if (given_up) {
        st.rig.backend.ops->abort(&st.rig.backend);
        scheduler_absorb_abort(st.s, st.now_ns);
        st.n_aborts++;
    } else {
        st.rig.backend.ops->advance(&st.rig.backend, 0, &fault);
        scheduler_absorb(st.s, &st.rig.backend, st.now_ns);
    }
    listen_all();
}

static bool step_begins(void) {
    st.in_flight = scheduler_build(st.s, st.now_ns, &st.batch);
    if (st.in_flight) st.rig.backend.ops->begin(&st.rig.backend, &st.batch);
    listen_all();
    return st.in_flight;
}

static void loop_acts(void) {
    if (!st.in_flight)
        (void)step_begins();
    else if (scheduler_step_is_moot(st.s))
        step_ends(chance(2));
    else
        step_ends(chance(40));
    time_passes(below(2 * MS));
    if (chance(400)) time_passes(below(400) * (uint64_t)MS);
}

static void backend_fails(void) {
    struct fault fault = {.code = FAULT_CUDA_ERROR, .text = "lost"};
    st.failed = true;
    st.in_flight = false;
    scheduler_fail(st.s, &fault, st.now_ns);
    listen_all();
}

/* Everybody reads again, nobody asks for more: all must come to its end by itself. */
static void calm(void) {
    struct scheduler_counts counts;
    for (uint32_t i = 0; i < LIVE_MAX; i++)
        client_holds((struct job_id){1 + i / TAGS, 1 + i % TAGS}, false);
    if (st.in_flight) step_ends(false);
    uint32_t steps = 0;
    while (step_begins()) {
        step_ends(false);
        HOLDS(++steps < 20000);
    }
    for (uint32_t i = 0; i < LIVE_MAX; i++) HOLDS(!st.job[i / TAGS][i % TAGS].live);
    scheduler_counts(st.s, &counts);
    HOLDS(counts.slots_free == counts.slots && counts.queued == 0);
    HOLDS(counts.pages_free + counts.pages_cached == counts.pages);
}

static void storm_run(uint64_t seed, uint32_t rounds) {
    static struct vocab vocab;
    uint64_t deadlines[] = {0, 0, 200, 1000};
    st.seed = seed;
    sampler_rng_seed(&st.rng, seed);
    memset(st.job, 0, sizeof st.job);
    st.in_flight = st.failed = false;
    st.now_ns = seed % 1000 * MS;
    st.serial = st.last_started = 0;
    st.limits = (struct scheduler_limits){.slots = 1 + below(6),
                                          .ctx = 100 + below(30),
                                          .queue = below(8),
                                          .chunk = 1 + below(40),
                                          .deadline_ms = (uint32_t)deadlines[below(4)],
                                          .stall_ms = 20 + below(60)};
    st.limits.candidates = chance(2) ? 0 : 1 + below(50);
    st.n_pages = 6 + below(50); /* sometimes less than one longest job needs */
    st.rows_max = st.limits.slots + below(60);
    st.logits_max = st.limits.slots + below(20);
    for (int f = 0; f < FAMILIES; f++)
        for (int i = 0; i < RIG_CTX_MAX; i++) st.family[f][i] = (int32_t)below(RIG_VOCAB);
    rig_vocab(&vocab);
    rig_backend_open(&st.rig, st.n_pages, st.rows_max, st.logits_max);
    st.rig.backend.info.candidates = st.limits.candidates;
    st.s = rig_scheduler(&st.limits, st.n_pages, st.rows_max, st.logits_max, &vocab);
    for (uint32_t i = 0; i < rounds; i++) {
        if (chance(5)) client_acts();
        loop_acts();
    }
    if (chance(3)) backend_fails();
    calm();
}

static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

Test(scheduler_storm, random_clients_get_what_they_would_get_alone) {
    uint64_t first = number_from("WICK_STORM_SEED", 1);
    uint64_t storms = number_from("WICK_STORM_COUNT", 80);
    for (uint64_t seed = first; seed < first + storms; seed++) storm_run(seed, 600);
    if (storms < 80) return;
    for (int reason = 0; reason < STOP_ERROR; reason++)
        cr_assert(st.n_ended[reason] > 10, "%s is never seen", stop_reason_word(reason));
    cr_assert(st.n_errors > 10 && st.n_scores > 100 && st.n_refused > 100 && st.n_aborts > 100);
}
