#include "wire/reply.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/panic.h"
#include "model/model.h"
#include "wire/line.h"

_Static_assert(23 + REPLY_PART_MAX + REPLY_FIELDS_MAX < FRAME_LINE_MAX, "a token line fits");
_Static_assert((int)FRAME_TRAILER_MAX >= (int)SEAL_TRAILER_MAX, "a trailer fits");
_Static_assert(MODEL_NAME_BYTES == 64, "REPLY_STARTED_MAX counts on it");

static void reply_started(struct output *output, const struct reply_job *job,
                          const struct event *event) {
    struct line line;
    line_begin(&line, 150, LINE_LAST, job->tag);
    line_add(&line, "started model=");
    line_string(&line, job->model);
    if (job->kind == JOB_GENERATE) line_add(&line, " seed=%llu", (unsigned long long)event->seed);
    line_add(&line, " prompt_tokens=%u slot=%u", event->prompt_tokens, event->slot);
    line_send(&line, output);
}

/* Log-probabilities have six digits, so that their length has a bound. */
static void reply_token(struct output *output, const struct reply_job *job,
                        const struct event *event) {
    const char *rest = event->text;
    size_t left = event->text_bytes;
    wick_assert(left <= EVENT_TEXT_MAX);
    struct line line;
    for (;;) {
        line_begin(&line, 151, LINE_LAST, job->tag);
        line_add(&line, "%u ", event->index);
        size_t used = line_text(&line, rest, left, REPLY_PART_MAX);
        rest += used;
        left -= used;
        if (left == 0) break;
        wick_assert(used > 0);
        line.bytes[3] = LINE_MORE; /* after the code */
        line_send(&line, output);
    }
    if (job->logprobs > 0) line_add(&line, " id=%d logprob=%.6g", event->token, event->logprob);
    if (event->n_top > 0) {
        line_add(&line, " top=\"");
        for (uint32_t i = 0; i < event->n_top; i++) {
            line_add(&line, "%s%d:%.6g", i > 0 ? "," : "", event->top[i].id, event->top[i].weight);
        }
        line_add(&line, "\"");
    }
    line_send(&line, output);
}

static void reply_score(struct output *output, const struct reply_job *job,
                        const struct event *event) {
    struct line line;
    line_begin(&line, 152, LINE_LAST, job->tag);
    line_add(&line, "%u ", event->index);
    size_t bytes = event->text_bytes <= REPLY_SCORE_TEXT_MAX ? event->text_bytes : 0;
    line_text(&line, event->text, bytes, FRAME_LINE_MAX);
    line_add(&line, " id=%d logprob=%.6g", event->token, event->logprob);
    line_send(&line, output);
}

/* Three digits or so: 769, 76.9, 7.69 */
static void line_rate(struct line *line, double per_second) {
    int digits = per_second >= 100 ? 0 : per_second >= 10 ? 1 : 2;
    line_add(line, "%.*f", digits, per_second);
}

static void reply_end(struct output *output, const struct reply_job *job,
                      const struct event *event) {
    struct line line;
    bool scored = job->kind == JOB_SCORE && event->reason != STOP_CANCELLED;
    line_begin(&line, 250, LINE_LAST, job->tag);
    line_add(&line, "end stop=%s tokens=%u", scored ? "DONE" : stop_reason_word(event->reason),
             event->tokens);
    if (scored) {
        double mean = event->tokens > 0 ? event->logprob_sum / event->tokens : 0;
        line_add(&line, " logprob_sum=%.9g perplexity=%.6g prompt_ms=%.1f", event->logprob_sum,
                 exp(-mean), event->prompt_ms);
    } else {
        line_add(&line, " prompt_ms=%.1f decode_ms=%.1f tokens_per_s=", event->prompt_ms,
                 event->decode_ms);
        line_rate(&line, event->decode_ms > 0 ? event->tokens * 1000.0 / event->decode_ms : 0);
    }
    if (event->reason == STOP_SEQUENCE && event->stop_index >= 0) {
        wick_assert((uint32_t)event->stop_index < job->n_stop);
        const struct job_stop *stop = &job->stop[event->stop_index];
        line_add(&line, " match=");
        line_text(&line, stop->text, stop->length, FRAME_LINE_MAX);
    }
    line_send(&line, output);
}

void reply_event(struct output *output, const struct reply_job *job, const struct event *event) {
    wick_assert(job->tag != 0);
    switch (event->kind) {
    case EVENT_STARTED:
        reply_started(output, job, event);
        return;
    case EVENT_TOKEN:
        reply_token(output, job, event);
        return;
    case EVENT_SCORE:
        reply_score(output, job, event);
        return;
    case EVENT_END:
        reply_end(output, job, event);
        return;
    case EVENT_ERROR:
        reply_fault(output, job->tag, &event->fault);
        return;
    }
    wick_assert(false);
}

void reply_fault(struct output *output, uint32_t tag, const struct fault *fault) {
    const struct fault_kind *kind = fault_kind(fault->code);
    struct line line;
    line_begin(&line, kind->number, LINE_LAST, tag);
    line_add(&line, "%s ", kind->word);
    /* The head is under 40 characters, the end is 12. */
    line_text(&line, fault->text, strlen(fault->text), REPLY_TERMINAL_MAX - 64);
    if (kind->retriable) line_add(&line, " retriable=1");
    line_send(&line, output);
}

void reply_errors(struct output *output, uint32_t tag, const struct command_errors *errors) {
    wick_assert(errors->n > 0);
    const struct fault_kind *kind = fault_kind(FAULT_INVALID_REQUEST);
    struct line line;
    line_begin(&line, kind->number, LINE_LAST, tag);
    line_add(&line, "%s", kind->word);
    for (uint32_t i = 0; i < errors->n; i++) {
        const struct command_error *error = &errors->error[i];
        /* space, name, "=", two quotes */
        if (line_room(&line) < error->name.length + strlen(error->limits) + 4) {
            line.bytes[3] = LINE_MORE;
            line_send(&line, output);
            line_begin(&line, kind->number, LINE_LAST, tag);
            line_add(&line, "%s", kind->word);
        }
        line_add(&line, " %.*s=", (int)error->name.length, error->name.bytes);
        line_string(&line, error->limits);
    }
    line_send(&line, output);
}

static void reply_format(struct output *output, int code, enum line_sep sep, uint32_t tag,
                         const char *format, va_list args) {
    char text[FRAME_LINE_MAX];
    vsnprintf(text, sizeof text, format, args);
    struct line line;
    line_begin(&line, code, sep, tag);
    line_add(&line, "%s", text);
    line_send(&line, output);
}

void reply_text(struct output *output, int code, uint32_t tag, const char *format, ...) {
    va_list args;
    va_start(args, format);
    reply_format(output, code, LINE_LAST, tag, format, args);
    va_end(args);
}

void reply_more(struct output *output, int code, uint32_t tag, const char *format, ...) {
    va_list args;
    va_start(args, format);
    reply_format(output, code, LINE_MORE, tag, format, args);
    va_end(args);
}
