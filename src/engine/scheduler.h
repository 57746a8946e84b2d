/* scheduler: jobs, slots, the queue, KV pages, deadlines; builds batches and turns logits into
 * events.
 *
 *   submit -> [queue] -> slot: PREFILL -> DECODE -> terminal event -> slot free
 *
 * Knows tokens and text, not lines or descriptors. All calls come from the one main loop; nothing
 * blocks, nothing allocates after carve. Every accepted job ends with exactly one terminal event
 * (EVENT_END or EVENT_ERROR) unless its client was dropped. Times are clock_ns() values handed in,
 * so tests own the clock.
 *
 * A job's tokens depend on (model, prompt, parameters, seed, backend and its instruction set) only.
 */
#ifndef WICK_ENGINE_SCHEDULER_H
#define WICK_ENGINE_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/arena.h"
#include "base/fault.h"
#include "engine/sampler.h"
#include "engine/text_stream.h"
#include "token/vocab.h"

enum {
    SCHEDULER_SLOTS_MAX = 64,
    SCHEDULER_QUEUE_MAX = 256,
    JOB_MAX_TOKENS = 2048, /* largest max_tokens */
    JOB_LOGPROBS_MAX = 20,
    EVENT_TEXT_MAX = TEXT_STREAM_OUT_MAX
};

enum job_kind {
    JOB_GENERATE,
    JOB_SCORE /* the log-probability of every token of the prompt after the first; no sampling */
};

/* `client` is a number of the server's that is never used twice in a row; tag is the client's, 1 ..
 * 9999. */
struct job_id {
    uint32_t client;
    uint32_t tag;
};

struct job_request {
    struct job_id id;
    enum job_kind kind;
    const int32_t *tokens; /* (n_tokens), copied; at least 1 */
    uint32_t n_tokens;
    uint32_t max_tokens; /* 1 .. JOB_MAX_TOKENS; ignored by JOB_SCORE */
    struct sampler_params sampling;
    uint32_t n_stop;
    struct job_stop stop[JOB_STOP_MAX];
    uint32_t logprobs; /* 0: none; 1: of the token; n > 1: and the n best */
    bool bytes; /* text events carry bytes as they come instead of waiting for whole characters */
    bool ignore_eos;      /* decode on to max_tokens */
    uint32_t deadline_ms; /* from submit; 0: the scheduler's default */
};

enum event_kind {
    EVENT_STARTED,
    EVENT_TOKEN, /* one for every generated token that is not an end token, in order, index rising
                    by one; one for an end token only if text was held back, which it carries */
    EVENT_SCORE, /* JOB_SCORE: one for every prompt token after the first */
    EVENT_END,   /* terminal */
    EVENT_ERROR  /* terminal */
};

enum stop_reason { STOP_MAX_TOKENS, STOP_EOS, STOP_SEQUENCE, STOP_CANCELLED, STOP_ERROR };
const char *stop_reason_word(enum stop_reason reason); /* "MAX_TOKENS" */

struct event {
    enum event_kind kind;
    struct job_id id;
    /* STARTED */
    uint64_t seed;
    uint32_t prompt_tokens;
    uint32_t reused_tokens; /* of the prompt, found in the KV cache */
    uint32_t slot;
    /* TOKEN, SCORE */
    uint32_t index; /* TOKEN: 0, 1, 2 ... SCORE: position of the token in the text */
    int32_t token;
    uint32_t text_bytes; /* may be 0: text held back appears with a later token */
    char text[EVENT_TEXT_MAX];
    double logprob; /* TOKEN: 0 unless request.logprobs; SCORE: always there */
    uint32_t n_top; /* 0 unless request.logprobs > 1 */
    struct sampler_candidate top[JOB_LOGPROBS_MAX]; /* weight = log-probability */
    /* END */
    enum stop_reason reason; /* of a SCORE that is done: STOP_MAX_TOKENS */
    int32_t stop_index;      /* which stop string matched, or -1 */
    uint32_t tokens;         /* generated (or scored), end token not counted */
    double
        prompt_ms; /* from getting a slot to the first token (or to the end, if there was none) */
    double decode_ms;   /* from the first token to the end */
    double logprob_sum; /* SCORE */
    /* ERROR */
    struct fault fault;
};

struct scheduler_limits {
    uint32_t slots;       /* 1 .. SCHEDULER_SLOTS_MAX */
    uint32_t ctx;         /* tokens of one sequence, prompt and output */
    uint32_t queue;       /* waiting jobs; 0: BUSY when no slot is free */
    uint32_t chunk;       /* prompt tokens of one step; a quarter of them beside decode rows */
    uint32_t candidates;  /* backend_info's */
    uint32_t deadline_ms; /* of a job, from submit; 0: none */
    uint32_t stall_ms;    /* how long a job may be held (slow client) before it ends; 0: for ever */
};

struct scheduler; /* scheduler.c holds the layout */

/* Measures or takes. Returns NULL while measuring. n_pages, rows_max and logits_max are the
 * backend's. */
struct scheduler *scheduler_carve(const struct scheduler_limits *limits, uint32_t n_pages,
                                  uint32_t rows_max, uint32_t logits_max, const struct vocab *vocab,
                                  struct arena *arena);

/* Accepts a job (it starts at once or waits its turn, first in first out) or refuses it:
 * PROMPT_TOO_LONG (n_tokens + max_tokens > ctx, or more than all KV pages hold), BUSY, TAG_IN_USE,
 * SHUTTING_DOWN, WORKER_UNHEALTHY. Accepted jobs get STARTED when they get their slot. A slot is
 * given only with KV pages for prompt + max_tokens reserved. */
bool scheduler_submit(struct scheduler *s, const struct job_request *request, uint64_t now_ns,
                      struct fault *fault);

/* Ends the job with END CANCELLED; the event is there at once, also while its step is in flight.
 * Text that was held back is not shown. False: no such job (idempotent). */
bool scheduler_cancel(struct scheduler *s, struct job_id id, uint64_t now_ns);

/* Ends all jobs of the client without events. */
void scheduler_drop_client(struct scheduler *s, uint32_t client);

/* A held job produces no further token until released (its client does not read): it gets no rows,
 * and of a step in flight the rows whose logits it wanted are computed again later. False releases
 * it. */
void scheduler_hold(struct scheduler *s, struct job_id id, bool held, uint64_t now_ns);

/* Ends jobs past their deadline (INFERENCE_TIMEOUT) or held for longer than stall_ms. Call every
 * loop. */
void scheduler_expire(struct scheduler *s, uint64_t now_ns);

/* When scheduler_expire has something to do next; UINT64_MAX: nothing. */
uint64_t scheduler_next_deadline_ns(const struct scheduler *s);

/* Admits from the queue, then fills the batch: one decode row of every active slot that is not
 * held, plus one chunk of prompt of the slots in PREFILL in order of admission. False: nothing to
 * compute. */
bool scheduler_build(struct scheduler *s, uint64_t now_ns, struct batch *batch);

/* Every row in flight belongs to a job that is over: the step is not worth finishing. */
bool scheduler_step_is_moot(const struct scheduler *s);

/* After BACKEND_DONE: samples, emits events, frees slots of finished jobs. */
void scheduler_absorb(struct scheduler *s, const struct backend *backend, uint64_t now_ns);

/* After an abort: nothing was computed. */
void scheduler_absorb_abort(struct scheduler *s, uint64_t now_ns);

/* After BACKEND_FAILED: every job, waiting ones too, ends with EVENT_ERROR of that fault. Nothing
 * is computed from here on (submit: WORKER_UNHEALTHY). */
void scheduler_fail(struct scheduler *s, const struct fault *fault, uint64_t now_ns);

/* No new jobs from here on (submit: SHUTTING_DOWN). */
void scheduler_drain(struct scheduler *s);

/* Ends everything that still runs with EVENT_ERROR of that fault. */
void scheduler_cut(struct scheduler *s, const struct fault *fault, uint64_t now_ns);

/* Oldest undelivered event, in order; the queue has room for all that the calls above can produce
 * as long as it is emptied after each of them. */
bool scheduler_next_event(struct scheduler *s, struct event *event);

struct scheduler_counts {
    uint32_t slots, slots_free, queued, queue;
    uint32_t pages, pages_free;
    uint32_t pages_cached; /* no job uses it, a prompt prefix still may; needed ones are taken */
    uint64_t jobs_completed, jobs_cancelled, jobs_failed, jobs_refused, jobs_dropped;
    uint64_t tokens_in;     /* prompt tokens of jobs that got a slot */
    uint64_t tokens_out;    /* generated, end tokens not counted */
    uint64_t tokens_reused; /* of tokens_in, found in the KV cache */
    uint64_t inference_ns;  /* from slot to terminal event, summed over jobs */
};
void scheduler_counts(const struct scheduler *s, struct scheduler_counts *counts);

/* Checks every list, slot, page and count, for tests: NULL, or what is wrong. */
const char *scheduler_check(const struct scheduler *s);

#endif
