/* feed: how fast a model takes tokens, whatever they are. */
#ifndef WICK_LAB_FEED_H
#define WICK_LAB_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "lab/session.h"

/* Empties the session, for a new sequence. */
void feed_begin(struct session *session);

/* A token that is in every vocabulary, for place `at`; differs from its neighbours. */
int32_t feed_token(const struct session *session, uint32_t at);

/* Adds `count` tokens and computes them, in steps of the session's chunk (a prompt) or one by one
 * with logits (decoding). *tokens_per_s may be NULL. */
bool feed_tokens(struct session *session, uint32_t count, bool one_by_one, double *tokens_per_s,
                 struct fault *fault);

/* Bytes that decoding reads for a token: the weights (of an embedding table of its own only a row),
 * shared by the sequences of a step, and the KV cache of `depth` tokens. */
double feed_bytes_per_token(const struct session *session, double depth, double sequences);

/* Multiplications and additions with weights for a token of a prompt; its last token's head and
 * attention not counted. */
double feed_ops_per_token(const struct session *session);

#endif
