/* reply: events, errors and answers as lines of the protocol. Knows formats, not who is listening.
 *
 * Each kind of line has a worst case, so that room can be kept before work is begun. */
#ifndef WICK_WIRE_REPLY_H
#define WICK_WIRE_REPLY_H

#include <stdint.h>

#include "base/fault.h"
#include "engine/scheduler.h"
#include "wire/command.h"
#include "wire/output.h"

enum {
    /* Every line may have a trailer. */
    REPLY_TRAILER_MAX = FRAME_TRAILER_MAX,
    /* Characters of text in one part of a token line. With the head of the line ("151 9999
       4294967295 " and two quotes: 23) and all fields (460, below) it stays under FRAME_LINE_MAX.
     */
    REPLY_PART_MAX = 512,
    /* ` id=1048575 logprob=-1.23457e+06 top="` and 20 times `1048575:-1.23457e+06,` */
    REPLY_FIELDS_MAX = 40 + 21 * JOB_LOGPROBS_MAX,
    /* A part may leave 3 characters unused, the longest escape less one. */
    REPLY_PARTS = FRAME_ESCAPE_MAX * EVENT_TEXT_MAX / (REPLY_PART_MAX - 3) + 1,
    REPLY_TOKEN_MAX = REPLY_PARTS * (REPLY_PART_MAX + 24 + REPLY_TRAILER_MAX) + REPLY_FIELDS_MAX,
    /* Text of a scored token that is shown. */
    REPLY_SCORE_TEXT_MAX = 32,
    /* `152 9999 1048575 "" id=1048575 logprob=-1.23457e+06` LF: 52, and the text */
    REPLY_SCORE_MAX = 56 + FRAME_ESCAPE_MAX * REPLY_SCORE_TEXT_MAX + REPLY_TRAILER_MAX,
    /* `150 9999 started model="" seed=18446744073709551615 prompt_tokens=1048576 slot=63`: 82, and
       a name of MODEL_NAME_BYTES */
    REPLY_STARTED_MAX = 96 + FRAME_ESCAPE_MAX * 64 + REPLY_TRAILER_MAX,
    /* 250: about 180 characters and a stop string; or an error, which is cut to this */
    REPLY_TERMINAL_MAX = 200 + FRAME_ESCAPE_MAX * JOB_STOP_BYTES_MAX + REPLY_TRAILER_MAX,
    /* The longest answer to a command in one piece: METRICS, HELP */
    REPLY_ANSWER_MAX = 16 * 1024
};

/* What the lines of a job repeat. */
struct reply_job {
    uint32_t tag;
    enum job_kind kind;
    uint32_t logprobs;
    const char *model;
    const struct job_stop *stop; /* (n_stop) */
    uint32_t n_stop;
};

void reply_event(struct output *output, const struct reply_job *job, const struct event *event);

/* `503 7 BUSY "text" retriable=1`. tag 0 is "-". */
void reply_fault(struct output *output, uint32_t tag, const struct fault *fault);

/* `422 8 INVALID_REQUEST temperature="0..2" top_p="0..1"`, on several lines if it must. */
void reply_errors(struct output *output, uint32_t tag, const struct command_errors *errors);

/* One line of that text. */
void reply_text(struct output *output, int code, uint32_t tag, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with "-": more lines follow. */
void reply_more(struct output *output, int code, uint32_t tag, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
