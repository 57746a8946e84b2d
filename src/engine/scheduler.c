#include "engine/scheduler.h"

#include <string.h>

#include "base/panic.h"
#include "engine/event_queue.h"
#include "engine/job.h"
#include "engine/kv_pages.h"

struct scheduler {
    struct scheduler_limits limits;
    uint32_t rows_max, logits_max;
    const struct vocab *vocab;
    uint32_t n_jobs;   /* slots + queue: a job is in one of both */
    struct job *jobs;  /* (n_jobs) */
    uint16_t *waiting; /* (n_jobs) QUEUED jobs, first in first out */
    uint16_t *active;  /* (slots) ACTIVE and OVER jobs in order of admission */
    uint32_t n_waiting, n_active;
    uint64_t slots_used; /* bit set */
    bool in_flight;      /* a batch was built and not absorbed yet */
    bool draining, failed;
    struct kv_pages kv;
    struct sampler sampler;
    struct event_queue events;
    struct scheduler_counts counts; /* the u64 ones */
};

static const char *const stop_words[] = {"MAX_TOKENS", "EOS", "STOP_SEQUENCE", "CANCELLED",
                                         "ERROR"};

const char *stop_reason_word(enum stop_reason reason) {
    wick_assert((uint32_t)reason < sizeof stop_words / sizeof stop_words[0]);
    return stop_words[reason];
}

/* Between two emptyings every job can get STARTED and its terminal event, and one step gives a
 * TOKEN or SCORE for each row of logits, and a TOKEN for the text held back at an end token, which
 * is a row of logits too. */
static uint32_t events_needed(uint32_t n_jobs, uint32_t logits_max) {
    return 2 * n_jobs + logits_max;
}

struct scheduler *scheduler_carve(const struct scheduler_limits *limits, uint32_t n_pages,
                                  uint32_t rows_max, uint32_t logits_max, const struct vocab *vocab,
                                  struct arena *arena) {
    wick_assert(limits->slots >= 1 && limits->slots <= SCHEDULER_SLOTS_MAX);
    wick_assert(limits->queue <= SCHEDULER_QUEUE_MAX && limits->chunk >= 1 && limits->ctx >= 1);
    wick_assert(rows_max >= limits->slots && rows_max <= BATCH_ROWS_MAX);
    wick_assert(logits_max >= limits->slots); /* else some decode row could never have its logits */
    uint32_t n_jobs = limits->slots + limits->queue, ctx_pages = kv_pages_for(limits->ctx);
    struct scheduler *s = arena_take(arena, sizeof *s, ARENA_ALIGN);
    struct job *jobs = arena_take(arena, n_jobs * sizeof *jobs, ARENA_ALIGN);
    uint16_t *lists = arena_take(arena, (n_jobs + limits->slots) * sizeof *lists, ARENA_ALIGN);
    int32_t *tokens = arena_take(arena, (size_t)n_jobs * limits->ctx * sizeof *tokens, ARENA_ALIGN);
    uint32_t *pages = arena_take(arena, (size_t)n_jobs * ctx_pages * sizeof *pages, ARENA_ALIGN);
    struct kv_pages kv;
    struct sampler sampler;
    struct event_queue events;
    kv_pages_carve(&kv, n_pages, arena);
    sampler_carve(&sampler, vocab->n_tokens, arena);
    event_queue_carve(&events, events_needed(n_jobs, logits_max), arena);
    if (s == NULL) return NULL; /* measuring */

    *s = (struct scheduler){.limits = *limits,
                            .rows_max = rows_max,
                            .logits_max = logits_max,
                            .vocab = vocab,
                            .n_jobs = n_jobs,
                            .jobs = jobs,
                            .waiting = lists,
                            .active = lists + n_jobs,
                            .kv = kv,
                            .sampler = sampler,
                            .events = events};
    for (uint32_t i = 0; i < n_jobs; i++) {
        jobs[i].state = JOB_FREE;
        jobs[i].tokens = tokens + (size_t)i * limits->ctx;
        jobs[i].pages = pages + (size_t)i * ctx_pages;
    }
    kv_pages_open(&s->kv);
    return s;
}

static void list_remove(uint16_t *list, uint32_t *n, uint32_t index) {
    wick_assert(index < *n);
    memmove(&list[index], &list[index + 1], (*n - index - 1) * sizeof *list);
    (*n)--;
}

static void list_remove_job(struct scheduler *s, uint16_t *list, uint32_t *n,
                            const struct job *job) {
    uint32_t i = 0;
    while (i < *n && &s->jobs[list[i]] != job) i++;
    list_remove(list, n, i);
}

/* The job is over and its rows are not in flight: slot and pages are free. */
static void slot_release(struct scheduler *s, struct job *job) {
    list_remove_job(s, s->active, &s->n_active, job);
    s->slots_used &= ~(1ULL << job->slot);
    job_close(job, &s->kv);
}

/* The end of every job, after its terminal event, if it gets one. */
static void job_finish(struct scheduler *s, struct job *job) {
    if (job->state == JOB_QUEUED) {
        list_remove_job(s, s->waiting, &s->n_waiting, job);
        job_close(job, &s->kv);
    } else if (job->flight.rows > 0) {
        job->state = JOB_OVER;
    } else {
        slot_release(s, job);
    }
}

static void inference_count(struct scheduler *s, const struct job *job, uint64_t now_ns) {
    if (job->state == JOB_ACTIVE && now_ns > job->admitted_ns)
        s->counts.inference_ns += now_ns - job->admitted_ns;
}

static void job_end(struct scheduler *s, struct job *job, enum stop_reason reason,
                    uint64_t now_ns) {
    job_emit_end(job, &s->events, reason, now_ns);
    inference_count(s, job, now_ns);
    if (reason == STOP_CANCELLED)
        s->counts.jobs_cancelled++;
    else
        s->counts.jobs_completed++;
    job_finish(s, job);
}

static void job_fail(struct scheduler *s, struct job *job, const struct fault *fault,
                     uint64_t now_ns) {
    job_emit_error(job, &s->events, fault);
    inference_count(s, job, now_ns);
    s->counts.jobs_failed++;
    job_finish(s, job);
}

static bool is_live(const struct job *job) {
    return job->state == JOB_QUEUED || job->state == JOB_ACTIVE;
}

static struct job *job_find(const struct scheduler *s, struct job_id id) {
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        struct job *job = &s->jobs[i];
        if (is_live(job) && job->request.id.client == id.client && job->request.id.tag == id.tag)
            return job;
    }
    return NULL;
}

/* Gives free slots to waiting jobs, strictly in order: a big job at the head is not overtaken. */
static void jobs_admit(struct scheduler *s, uint64_t now_ns) {
    while (s->n_waiting > 0 && s->n_active < s->limits.slots) {
        uint16_t index = s->waiting[0];
        struct job *job = &s->jobs[index];
        uint32_t slot = (uint32_t)__builtin_ctzll(~s->slots_used);
        wick_assert(slot < s->limits.slots);
        if (!job_admit(job, &s->kv, slot, now_ns)) return;
        list_remove(s->waiting, &s->n_waiting, 0);
        s->active[s->n_active++] = index;
        s->slots_used |= 1ULL << slot;
        s->counts.tokens_in += job->request.n_tokens;
        s->counts.tokens_reused += job->n_computed;
        struct event *event = event_queue_append(&s->events, EVENT_STARTED, job->request.id);
        event->seed = job->request.sampling.seed;
        event->prompt_tokens = job->request.n_tokens;
        event->reused_tokens = job->n_computed;
        event->slot = slot;
        bool nothing_to_score = job->request.kind == JOB_SCORE && job->request.n_tokens == 1;
        if (nothing_to_score) job_end(s, job, STOP_MAX_TOKENS, now_ns);
    }
}

static void request_check(const struct scheduler *s, const struct job_request *request) {
    wick_assert(request->n_tokens >= 1 && request->n_stop <= JOB_STOP_MAX);
    wick_assert(request->kind == JOB_SCORE || request->max_tokens >= 1);
    wick_assert(request->logprobs <= JOB_LOGPROBS_MAX);
    for (uint32_t i = 0; i < request->n_tokens; i++)
        wick_assert(request->tokens[i] >= 0 && (uint32_t)request->tokens[i] < s->vocab->n_tokens);
}

static bool length_accept(const struct scheduler *s, const struct job_request *request,
                          struct fault *fault) {
    uint64_t wanted = request->kind == JOB_SCORE ? 0 : request->max_tokens;
    uint64_t pool = (uint64_t)s->kv.n_pages * KV_PAGE_TOKENS;
    if (request->n_tokens + wanted > s->limits.ctx)
        return fault_set(fault, FAULT_PROMPT_TOO_LONG,
                         "%u prompt tokens and max_tokens=%u do not fit ctx=%u: shorten the prompt "
                         "or ask for fewer tokens",
                         request->n_tokens, (uint32_t)wanted, s->limits.ctx);
    if (request->n_tokens + wanted > pool)
        return fault_set(fault, FAULT_PROMPT_TOO_LONG,
                         "%u prompt tokens and max_tokens=%u do not fit the KV cache of %u tokens "
                         "(ctx=%u): shorten the prompt or ask for fewer tokens",
                         request->n_tokens, (uint32_t)wanted, (uint32_t)pool, s->limits.ctx);
    return true;
}

static struct job *job_free_find(const struct scheduler *s) {
    for (uint32_t i = 0; i < s->n_jobs; i++)
        if (s->jobs[i].state == JOB_FREE) return &s->jobs[i];
    return NULL;
}

static bool busy_say(const struct scheduler *s, struct fault *fault) {
    return fault_set(fault, FAULT_BUSY, "%u slots are taken and %u jobs wait: try again later",
                     s->n_active, s->n_waiting);
}

static bool job_enqueue(struct scheduler *s, const struct job_request *request, uint64_t now_ns,
                        struct fault *fault) {
    struct job *job = job_free_find(s);
    if (job == NULL) return busy_say(s, fault);
    uint32_t deadline_ms = request->deadline_ms != 0 ? request->deadline_ms : s->limits.deadline_ms;
    job_open(job, request);
    job->deadline_ns = deadline_ms != 0 ? now_ns + deadline_ms * 1000000ULL : UINT64_MAX;
    s->waiting[s->n_waiting++] = (uint16_t)(job - s->jobs);
    jobs_admit(s, now_ns);
    if (s->n_waiting <= s->limits.queue) return true;
    wick_assert(job->state == JOB_QUEUED && &s->jobs[s->waiting[s->n_waiting - 1]] == job);
    job_finish(s, job);
    return busy_say(s, fault);
}

bool scheduler_submit(struct scheduler *s, const struct job_request *request, uint64_t now_ns,
                      struct fault *fault) {
    request_check(s, request);
    bool accepted;
    if (s->failed)
        accepted =
            fault_set(fault, FAULT_WORKER_UNHEALTHY, "the backend has failed: restart this worker");
    else if (s->draining)
        accepted = fault_set(fault, FAULT_SHUTTING_DOWN,
                             "this worker takes no new jobs: send the job to another one");
    else if (job_find(s, request->id) != NULL)
        accepted = fault_set(fault, FAULT_TAG_IN_USE,
                             "tag %u runs already: wait for its end, or choose another tag",
                             request->id.tag);
    else
        accepted = length_accept(s, request, fault) && job_enqueue(s, request, now_ns, fault);
    if (!accepted) s->counts.jobs_refused++;
    return accepted;
}

bool scheduler_cancel(struct scheduler *s, struct job_id id, uint64_t now_ns) {
    struct job *job = job_find(s, id);
    if (job == NULL) return false;
    job_end(s, job, STOP_CANCELLED, now_ns);
    return true;
}

void scheduler_drop_client(struct scheduler *s, uint32_t client) {
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        struct job *job = &s->jobs[i];
        if (!is_live(job) || job->request.id.client != client) continue;
        s->counts.jobs_dropped++;
        job_finish(s, job);
    }
}

void scheduler_hold(struct scheduler *s, struct job_id id, bool held, uint64_t now_ns) {
    struct job *job = job_find(s, id);
    if (job == NULL || job->held == held) return;
    job->held = held;
    job->held_since_ns = now_ns;
}

static uint64_t stall_ns(const struct scheduler *s, const struct job *job) {
    if (!job->held || s->limits.stall_ms == 0) return UINT64_MAX;
    return job->held_since_ns + s->limits.stall_ms * 1000000ULL;
}

void scheduler_expire(struct scheduler *s, uint64_t now_ns) {
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        struct job *job = &s->jobs[i];
        if (!is_live(job)) continue;
        struct fault fault;
        if (now_ns >= job->deadline_ns)
            (void)fault_set(&fault, FAULT_INFERENCE_TIMEOUT,
                            "the deadline has passed after %u tokens: allow more time, or ask "
                            "for less",
                            job_generated(job));
        else if (now_ns >= stall_ns(s, job))
            (void)fault_set(&fault, FAULT_INFERENCE_TIMEOUT,
                            "client reads too slowly: it has taken nothing for %u ms",
                            s->limits.stall_ms);
        else
            continue;
        job_fail(s, job, &fault, now_ns);
    }
}

uint64_t scheduler_next_deadline_ns(const struct scheduler *s) {
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        const struct job *job = &s->jobs[i];
        if (!is_live(job)) continue;
        if (job->deadline_ns < next) next = job->deadline_ns;
        if (stall_ns(s, job) < next) next = stall_ns(s, job);
    }
    return next;
}

/* A chunk holds up whoever decodes: beside them it is a quarter. */
static uint32_t chunk_beside(const struct scheduler *s, uint32_t decode_rows) {
    enum { SHARE = 4 };
    return decode_rows == 0 ? s->limits.chunk : (s->limits.chunk + SHARE - 1) / SHARE;
}

bool scheduler_build(struct scheduler *s, uint64_t now_ns, struct batch *batch) {
    wick_assert(!s->in_flight);
    jobs_admit(s, now_ns);
    batch->n_rows = 0;
    uint32_t n_logits = 0;
    for (uint32_t i = 0; i < s->n_active; i++) {
        struct job *job = &s->jobs[s->active[i]];
        if (!job_in_prefill(job) && !job->held)
            job_fill(job, &s->kv, batch, 1, s->logits_max, s->limits.candidates, &n_logits);
    }
    uint32_t decode_rows = batch->n_rows, chunk = chunk_beside(s, decode_rows);
    for (uint32_t i = 0; i < s->n_active; i++) {
        struct job *job = &s->jobs[s->active[i]];
        uint32_t chunk_left = chunk - (batch->n_rows - decode_rows);
        uint32_t rows_left = s->rows_max - batch->n_rows;
        uint32_t rows = chunk_left < rows_left ? chunk_left : rows_left;
        if (rows == 0) break;
        if (job_in_prefill(job) && !job->held)
            job_fill(job, &s->kv, batch, rows, s->logits_max, s->limits.candidates, &n_logits);
    }
    wick_assert(n_logits <= s->logits_max && batch->n_rows <= s->rows_max);
    s->in_flight = batch->n_rows > 0;
    return s->in_flight;
}

bool scheduler_step_is_moot(const struct scheduler *s) {
    if (!s->in_flight) return false;
    for (uint32_t i = 0; i < s->n_active; i++) {
        const struct job *job = &s->jobs[s->active[i]];
        if (job->flight.rows > 0 && job->state != JOB_OVER) return false;
    }
    return true;
}

/* Takes the results of one job's rows. */
static void flight_absorb(struct scheduler *s, struct job *job, struct job_flight flight,
                          const struct backend *backend, uint64_t now_ns) {
    bool over = job->state == JOB_OVER;
    if (job->held && !over) { /* what may not become tokens now is computed again later */
        flight.rows -= flight.logits;
        flight.logits = 0;
    }
    uint32_t position = job->n_computed + flight.rows - flight.logits;
    job_advance(job, &s->kv, flight.rows);
    if (over) {
        slot_release(s, job);
        return;
    }
    struct job_output out = {.vocab = s->vocab, .sampler = &s->sampler, .events = &s->events};
    for (uint32_t i = 0; i < flight.logits; i++) {
        uint32_t index = flight.first_logit + i;
        struct job_view view = {.logits = NULL};
        if (flight.candidates)
            view.candidates = backend->ops->candidates(backend, index);
        else
            view.logits = backend->ops->logits(backend, index);
        bool score = job->request.kind == JOB_SCORE;
        struct job_end end = score ? job_score(job, &out, position + i, view.logits)
                                   : job_generate(job, &out, &view, now_ns);
        if (end.ended) job_end(s, job, end.reason, now_ns);
    }
}

void scheduler_absorb(struct scheduler *s, const struct backend *backend, uint64_t now_ns) {
    wick_assert(s->in_flight && backend->info.vocab >= s->sampler.vocab);
    s->in_flight = false;
    for (uint32_t i = 0; i < s->n_active;) {
        uint16_t index = s->active[i];
        struct job *job = &s->jobs[index];
        struct job_flight flight = job->flight;
        uint32_t generated = job_generated(job);
        job->flight = (struct job_flight){0};
        if (flight.rows > 0) flight_absorb(s, job, flight, backend, now_ns);
        s->counts.tokens_out += job_generated(job) - generated;
        if (i < s->n_active && s->active[i] == index) i++; /* else it has left the list */
    }
}

/* Nothing is in flight any more. */
static void flights_forget(struct scheduler *s) {
    s->in_flight = false;
    for (uint32_t i = 0; i < s->n_active;) {
        uint16_t index = s->active[i];
        struct job *job = &s->jobs[index];
        job->flight = (struct job_flight){0};
        if (job->state == JOB_OVER)
            slot_release(s, job);
        else
            i++;
    }
}

void scheduler_absorb_abort(struct scheduler *s, uint64_t now_ns) {
    (void)now_ns;
    wick_assert(s->in_flight);
    flights_forget(s);
}

void scheduler_fail(struct scheduler *s, const struct fault *fault, uint64_t now_ns) {
    s->failed = true;
    flights_forget(s);
    scheduler_cut(s, fault, now_ns);
}

void scheduler_drain(struct scheduler *s) {
    s->draining = true;
}

void scheduler_cut(struct scheduler *s, const struct fault *fault, uint64_t now_ns) {
    for (uint32_t i = 0; i < s->n_jobs; i++)
        if (is_live(&s->jobs[i])) job_fail(s, &s->jobs[i], fault, now_ns);
}

bool scheduler_next_event(struct scheduler *s, struct event *event) {
    return event_queue_take(&s->events, event);
}

void scheduler_counts(const struct scheduler *s, struct scheduler_counts *counts) {
    *counts = s->counts;
    counts->slots = s->limits.slots;
    counts->slots_free = s->limits.slots - s->n_active;
    counts->queued = s->n_waiting;
    counts->queue = s->limits.queue;
    counts->pages = s->kv.n_pages;
    counts->pages_free = s->kv.n_free;
    counts->pages_cached = s->kv.n_cached;
}

static const char *job_check(const struct scheduler *s, const struct job *job) {
    bool has_slot = job->state == JOB_ACTIVE || job->state == JOB_OVER;
    if (has_slot != (job->n_pages + job->n_promised > 0)) return "pages without a slot, or none";
    if (has_slot && (s->slots_used >> job->slot & 1) == 0) return "a job's slot is not marked";
    if (job->state == JOB_OVER && job->flight.rows == 0) return "a job that is over keeps its slot";
    if (job->flight.rows > 0 && !(has_slot && s->in_flight)) return "rows in flight of no step";
    if (has_slot && job->n_published != job->n_computed / KV_PAGE_TOKENS)
        return "a full page is not published";
    return NULL;
}

const char *scheduler_check(const struct scheduler *s) {
    uint32_t waiting = 0, active = 0, promised = 0;
    for (uint32_t i = 0; i < s->n_jobs; i++) {
        const struct job *job = &s->jobs[i];
        const char *wrong = job_check(s, job);
        if (wrong != NULL) return wrong;
        waiting += job->state == JOB_QUEUED;
        active += job->state == JOB_ACTIVE || job->state == JOB_OVER;
        promised += job->n_promised;
    }
    if (waiting != s->n_waiting || active != s->n_active) return "a list and its jobs disagree";
    if (waiting > s->limits.queue || active > s->limits.slots)
        return "more jobs than there is room";
    if ((uint32_t)__builtin_popcountll(s->slots_used) != active) return "a slot is stuck";
    if (promised != s->kv.promised) return "a promised page is lost";
    return kv_pages_check(&s->kv);
}
