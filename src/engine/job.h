/* job: one request on its way, and how its tokens become events.
 *
 *   FREE --> QUEUED --> ACTIVE --> FREE
 *                         |          ^
 *                         +-> OVER --+   over, but its rows are still being computed: the slot and
 *                                        the pages wait for the step's end
 *
 * tokens[0 .. n_tokens) are the prompt and what was generated; positions [0 .. n_computed) of them
 * are in the KV cache. An active job is in PREFILL until its first token is there, then in DECODE;
 * both just compute what lies between n_computed and n_tokens.
 *
 * Token i of the output has position n_prompt + i; the last one is never computed. */
#ifndef WICK_ENGINE_JOB_H
#define WICK_ENGINE_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "engine/event_queue.h"
#include "engine/kv_pages.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/text_stream.h"

enum job_state { JOB_FREE, JOB_QUEUED, JOB_ACTIVE, JOB_OVER };

/* Rows of the step in flight; logits are asked for by the last ones. */
struct job_flight {
    uint32_t rows;
    uint32_t logits;      /* how many of them want logits */
    uint32_t first_logit; /* index of the first of those among the logits of the batch */
    bool candidates;      /* and get candidates in their place */
};

struct job {
    enum job_state state;
    struct job_request request; /* request.tokens is not used: see tokens */
    int32_t *tokens;            /* (ctx) */
    uint32_t n_tokens, n_computed;
    uint32_t *pages; /* (pages of ctx) */
    uint32_t n_pages;
    uint32_t n_published; /* the first ones, shared ones included */
    uint32_t n_promised;  /* pages reserved and not yet taken */
    uint32_t slot;
    struct job_flight flight;
    bool held;
    uint64_t held_since_ns;
    uint64_t deadline_ns; /* UINT64_MAX: none */
    uint64_t admitted_ns;
    uint64_t first_token_ns; /* UINT64_MAX: not there yet */
    struct sampler_rng rng;
    struct text_stream text;
    double logprob_sum;
};

/* What absorbing a step needs beside the job. */
struct job_output {
    const struct vocab *vocab;
    struct sampler *sampler;
    struct event_queue *events;
};

/* FREE -> QUEUED: copies the request and its tokens. */
void job_open(struct job *job, const struct job_request *request);

/* QUEUED -> ACTIVE, with shared and promised pages; false: not enough pages, nothing changed. */
bool job_admit(struct job *job, struct kv_pages *kv, uint32_t slot, uint64_t now_ns);

/* Gives all pages back; -> FREE. */
void job_close(struct job *job, struct kv_pages *kv);

bool job_in_prefill(const struct job *job);
uint32_t job_generated(const struct job *job);

/* Adds the job's next rows, at most rows_max of them, at most logits_max wanting logits or, where
 * `candidates` are enough, those. *n_logits counts the rows of the batch that want either. */
void job_fill(struct job *job, struct kv_pages *kv, struct batch *batch, uint32_t rows_max,
              uint32_t logits_max, uint32_t candidates, uint32_t *n_logits);

/* The step is done: its first `rows` rows are in the KV cache for good. */
void job_advance(struct job *job, struct kv_pages *kv, uint32_t rows);

/* Why a job has ended, for its event; `ended` false: it goes on. */
struct job_end {
    bool ended;
    enum stop_reason reason;
};

/* What a row gave. */
struct job_view {
    const float *logits; /* NULL: candidates */
    struct backend_candidates candidates;
};

/* Samples one token and emits its event. */
struct job_end job_generate(struct job *job, const struct job_output *out,
                            const struct job_view *view, uint64_t now_ns);

/* Scores the token behind `position` by the logits of that position. */
struct job_end job_score(struct job *job, const struct job_output *out, uint32_t position,
                         const float *logits);

/* The terminal events. */
void job_emit_end(struct job *job, struct event_queue *events, enum stop_reason reason,
                  uint64_t now_ns);
void job_emit_error(const struct job *job, struct event_queue *events, const struct fault *fault);

#endif
