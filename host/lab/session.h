/* session: a model opened for one command of wick-lab, and one sequence fed through it.
 *
 * Planned, carved and loaded as wick itself does it (engine.h); one sequence, alone, in the pages
 * from 0 on. The struct is big: make it static. */
#ifndef WICK_LAB_SESSION_H
#define WICK_LAB_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/arena.h"
#include "base/config.h"
#include "base/fault.h"
#include "engine/engine.h"

struct session {
    struct config config;
    struct arena arena;
    struct engine engine;
    struct batch batch;
    uint32_t *pages;   /* page of the sequence, identity, and those of engine.slots - 1 more */
    int32_t *tokens;   /* (ctx) the sequence, whose first n_tokens are chosen */
    uint32_t n_tokens; /* prompt, then what session_append added */
    uint32_t n_fed;    /* of them in the KV cache */
    uint64_t fed_ns;   /* what the steps of the last session_feed took */
    uint64_t open_ns;  /* when session_open was called */
    uint64_t load_ns;  /* from then to the first token's logits; 0 before session_first_step */
};

/* Opens config->model until it can compute. A slow load says so on stderr. every_row: all rows of a
 * step may want logits, and taps may be set. */
bool session_open(struct session *session, const struct config *config, bool every_row,
                  struct fault *fault);

/* Makes the tokens of config->prompt or of config->prompt_file (verbatim bytes), BOS in front if
 * the model or add_bos= asks for it, the sequence. `room` more tokens must fit the context. */
bool session_prompt(struct session *session, uint32_t room, struct fault *fault);

/* Adds one token to the sequence. */
void session_append(struct session *session, int32_t token);

/* Called for rows in order; `index` is the token's place in the sequence, logits is (vocab). */
typedef void session_row(void *context, uint32_t index, const float *logits);

/* Computes every token not yet fed, in steps of at most `chunk`. row: called for each of them, or
 * with last_only for the last. */
bool session_feed(struct session *session, bool last_only, session_row *row, void *context,
                  struct fault *fault);

/* Computes what stands in session->batch. */
bool session_step(struct session *session, struct fault *fault);

/* Computes one row, as the first request would; what the session fed before is lost. */
bool session_first_step(struct session *session, struct fault *fault);

void session_close(struct session *session);

/* The id with the largest logit, the lowest of equals. */
int32_t session_argmax(const float *logits, uint32_t vocab);

/* Prints the fault on stderr as "wick-lab: WORD: text"; returns the exit status that goes with
 * it. */
int session_fail(const struct fault *fault);

#endif
