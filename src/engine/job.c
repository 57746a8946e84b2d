#include "engine/job.h"

#include <string.h>

#include "base/panic.h"

/* Positions that are ever computed. Of a scored text the last token is only looked at. */
static uint32_t prompt_rows(const struct job *job) {
    return job->request.kind == JOB_SCORE ? job->request.n_tokens - 1 : job->request.n_tokens;
}

void job_open(struct job *job, const struct job_request *request) {
    wick_assert(job->state == JOB_FREE);
    job->state = JOB_QUEUED;
    job->request = *request;
    job->request.tokens = NULL;
    memcpy(job->tokens, request->tokens, request->n_tokens * sizeof *job->tokens);
    job->n_tokens = request->n_tokens;
    job->n_computed = job->n_pages = job->n_published = job->n_promised = 0;
    job->flight = (struct job_flight){0};
    job->held = false;
    job->admitted_ns = 0;
    job->first_token_ns = UINT64_MAX;
    job->logprob_sum = 0;
    sampler_rng_seed(&job->rng, request->sampling.seed);
    bool generate = request->kind == JOB_GENERATE;
    text_stream_open(&job->text, job->request.stop, generate ? request->n_stop : 0, request->bytes);
}

bool job_admit(struct job *job, struct kv_pages *kv, uint32_t slot, uint64_t now_ns) {
    wick_assert(job->state == JOB_QUEUED && job->n_pages == 0);
    const struct job_request *request = &job->request;
    bool generate = request->kind == JOB_GENERATE;
    /* The last token of the prompt is computed even if its page is known: its logits are wanted.
     * A scored text wants the logits of every token, so it shares nothing. */
    uint32_t shareable = generate ? request->n_tokens - 1 : 0;
    uint32_t total = kv_pages_for(request->n_tokens + (generate ? request->max_tokens : 0));
    uint32_t shared = 0;
    if (!kv_pages_admit(kv, job->tokens, shareable, total, job->pages, &shared)) return false;
    job->n_pages = job->n_published = shared;
    job->n_promised = total - shared;
    job->n_computed = shared * KV_PAGE_TOKENS;
    job->slot = slot;
    job->admitted_ns = now_ns;
    job->state = JOB_ACTIVE;
    return true;
}

void job_close(struct job *job, struct kv_pages *kv) {
    wick_assert(job->state != JOB_FREE && job->flight.rows == 0);
    kv_pages_release_all(kv, job->pages, job->n_pages);
    kv_pages_unreserve(kv, job->n_promised);
    job->n_pages = job->n_promised = 0;
    job->state = JOB_FREE;
}

bool job_in_prefill(const struct job *job) {
    return job->n_tokens == job->request.n_tokens;
}

uint32_t job_generated(const struct job *job) {
    return job->n_tokens - job->request.n_tokens;
}

/* How many of the likeliest tokens of a row tell all that the job wants to know. */
static uint32_t job_looks_at(const struct job *job) {
    const struct job_request *request = &job->request;
    if (request->kind == JOB_SCORE) return UINT32_MAX;
    uint32_t n = sampler_looks_at(&request->sampling);
    return n > request->logprobs ? n : request->logprobs;
}

void job_fill(struct job *job, struct kv_pages *kv, struct batch *batch, uint32_t rows_max,
              uint32_t logits_max, uint32_t candidates, uint32_t *n_logits) {
    wick_assert(job->state == JOB_ACTIVE && job->flight.rows == 0);
    bool score = job->request.kind == JOB_SCORE;
    uint32_t todo = (score ? prompt_rows(job) : job->n_tokens) - job->n_computed;
    uint32_t logits_left = logits_max - *n_logits;
    wick_assert(todo >= 1);
    uint32_t rows = todo < rows_max ? todo : rows_max;
    if (score && rows > logits_left) rows = logits_left;
    if (!score && rows == todo && logits_left == 0) rows--; /* the last one waits for its logits */
    if (rows == 0) return;
    uint32_t logits = score ? rows : rows == todo;
    uint32_t looks_at = job_looks_at(job);
    bool few = looks_at <= candidates;
    enum row_wants wants = few ? ROW_CANDIDATES : ROW_LOGITS;

    for (uint32_t i = 0; i < rows; i++) {
        uint32_t position = job->n_computed + i;
        if (position / KV_PAGE_TOKENS == job->n_pages) {
            wick_assert(job->n_promised > 0);
            job->pages[job->n_pages++] = kv_pages_take(kv);
            job->n_promised--;
        }
        wick_assert(batch->n_rows < BATCH_ROWS_MAX);
        batch->row[batch->n_rows++] =
            (struct batch_row){.token = job->tokens[position],
                               .position = position,
                               .pages = job->pages,
                               .wants = rows - i <= logits ? wants : ROW_NOTHING,
                               .candidates = few ? looks_at : 0};
    }
    job->flight = (struct job_flight){
        .rows = rows, .logits = logits, .first_logit = *n_logits, .candidates = few};
    *n_logits += logits;
}

void job_advance(struct job *job, struct kv_pages *kv, uint32_t rows) {
    job->n_computed += rows;
    wick_assert(job->n_computed <= job->n_tokens);
    for (; job->n_published < job->n_computed / KV_PAGE_TOKENS; job->n_published++) {
        uint32_t i = job->n_published;
        uint32_t parent = i == 0 ? (uint32_t)KV_NO_PAGE : job->pages[i - 1];
        job->pages[i] =
            kv_pages_publish(kv, job->pages[i], parent, job->tokens + i * KV_PAGE_TOKENS);
    }
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static void event_add_logprobs(const struct job *job, const struct sampler *sampler,
                               const struct job_view *view, struct event *event) {
    uint32_t wanted = job->request.logprobs;
    if (wanted == 0) return;
    const struct backend_candidates *among = &view->candidates;
    event->logprob = view->logits == NULL
                         ? sampler_logprob_among(among, event->token)
                         : sampler_logprob(view->logits, sampler->vocab, event->token);
    if (wanted == 1) return;
    event->n_top = least(wanted, view->logits == NULL ? among->n : sampler->vocab);
    if (view->logits == NULL)
        sampler_top_among(among, event->n_top, event->top);
    else
        sampler_top(view->logits, sampler->vocab, event->n_top, event->top);
}

static int32_t job_choose(struct job *job, struct sampler *sampler, const struct job_view *view) {
    const struct sampler_params *params = &job->request.sampling;
    if (view->logits == NULL)
        return sampler_choose_among(sampler, params, &job->rng, &view->candidates);
    return sampler_choose(sampler, params, &job->rng, view->logits, job->tokens, job->n_tokens);
}

struct job_end job_generate(struct job *job, const struct job_output *out,
                            const struct job_view *view, uint64_t now_ns) {
    const struct job_request *request = &job->request;
    uint32_t index = job_generated(job);
    wick_assert(index < request->max_tokens && job->n_computed == job->n_tokens);
    int32_t token = job_choose(job, out->sampler, view);
    if (job->first_token_ns == UINT64_MAX) job->first_token_ns = now_ns;

    struct job_end end = {.ended = false};
    char text[EVENT_TEXT_MAX];
    uint32_t n = 0;
    bool is_end = !request->ignore_eos && vocab_is_end(out->vocab, token);
    if (is_end) {
        n = text_stream_flush(&job->text, text);
        end = (struct job_end){.ended = true, .reason = STOP_EOS};
        if (n == 0) return end;
    } else {
        char piece[VOCAB_PIECE_MAX];
        size_t piece_bytes = vocab_piece(out->vocab, token, false, piece);
        job->tokens[job->n_tokens++] = token;
        n = text_stream_feed(&job->text, piece, (uint32_t)piece_bytes, text);
        if (job->text.stop_index >= 0) {
            end = (struct job_end){.ended = true, .reason = STOP_SEQUENCE};
        } else if (job_generated(job) == request->max_tokens) {
            n += text_stream_flush(&job->text, text + n);
            end = (struct job_end){.ended = true, .reason = STOP_MAX_TOKENS};
        }
    }
    struct event *event = event_queue_append(out->events, EVENT_TOKEN, request->id);
    event->index = index;
    event->token = token;
    event->text_bytes = n;
    memcpy(event->text, text, n);
    event_add_logprobs(job, out->sampler, view, event);
    return end;
}

struct job_end job_score(struct job *job, const struct job_output *out, uint32_t position,
                         const float *logits) {
    wick_assert(position + 1 < job->n_tokens);
    struct event *event = event_queue_append(out->events, EVENT_SCORE, job->request.id);
    event->index = position + 1;
    event->token = job->tokens[position + 1];
    event_add_logprobs(job, out->sampler, &(struct job_view){.logits = logits}, event);
    if (job->request.logprobs == 0)
        event->logprob = sampler_logprob(logits, out->sampler->vocab, event->token);
    job->logprob_sum += event->logprob;

    char piece[VOCAB_PIECE_MAX];
    size_t piece_bytes = vocab_piece(out->vocab, event->token, false, piece);
    event->text_bytes = text_stream_feed(&job->text, piece, (uint32_t)piece_bytes, event->text);
    if (position + 2 < job->n_tokens) return (struct job_end){.ended = false};
    event->text_bytes += text_stream_flush(&job->text, event->text + event->text_bytes);
    return (struct job_end){.ended = true, .reason = STOP_MAX_TOKENS};
}

static double ms_between(uint64_t from_ns, uint64_t to_ns) {
    return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e6 : 0;
}

void job_emit_end(struct job *job, struct event_queue *events, enum stop_reason reason,
                  uint64_t now_ns) {
    struct event *event = event_queue_append(events, EVENT_END, job->request.id);
    event->reason = reason;
    event->stop_index = reason == STOP_SEQUENCE ? job->text.stop_index : -1;
    event->logprob_sum = job->logprob_sum;
    event->tokens = job_generated(job);
    if (job->state == JOB_QUEUED) return;
    if (job->request.kind == JOB_SCORE) event->tokens = job->n_computed;
    bool has_first = job->first_token_ns != UINT64_MAX;
    event->prompt_ms = ms_between(job->admitted_ns, has_first ? job->first_token_ns : now_ns);
    event->decode_ms = has_first ? ms_between(job->first_token_ns, now_ns) : 0;
}

void job_emit_error(const struct job *job, struct event_queue *events, const struct fault *fault) {
    struct event *event = event_queue_append(events, EVENT_ERROR, job->request.id);
    event->reason = STOP_ERROR;
    event->tokens = job_generated(job);
    event->fault = *fault;
}
