/* windows: a text of any length, read by a model piece by piece.
 *
 * The text's tokens are cut into windows that fit the context. Each but the first begins with
 * `overlap` tokens of the one before, which are read again but not judged, so that every judged
 * token has at least so much before it. BOS stands at the head of every window if the model asks
 * for it; without it the first token of all has nothing before it and is not judged. */
#ifndef WICK_LAB_WINDOWS_H
#define WICK_LAB_WINDOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "lab/session.h"

struct windows {
    int32_t *token; /* (n) of the text */
    size_t n;
    size_t bytes; /* of the text that they stand for */
    bool bos;
    int32_t bos_id;
    size_t room;    /* tokens of the text in one window */
    size_t overlap; /* below room */
    /* the window that windows_next found */
    size_t begin, judged, end; /* token[begin .. end) is read, from `judged` on judged */
};

/* Reads config->file and cuts it for that session (open). */
bool windows_open(struct windows *windows, struct session *session, const struct config *config,
                  struct fault *fault);
void windows_close(struct windows *windows);

/* Tokens that will be judged, in all. */
size_t windows_judged(const struct windows *windows);

/* Moves to the next window (the first, after windows_open). False: there is none. */
bool windows_next(struct windows *windows);

/* Empties the session, for a new window. */
void windows_begin(const struct windows *windows, struct session *session);

/* Adds up to `most` tokens of the window to the session, to be fed. *at: how many have been added
 * so far, 0 before the first call; the window's tokens are then at positions first .. *at of the
 * sequence, with BOS counted. False: all were added. */
bool windows_add(const struct windows *windows, struct session *session, size_t most, size_t *at);

/* The token that follows position `index` of the sequence, if it is to be judged, else -1. */
int32_t windows_target(const struct windows *windows, size_t index);

/* -log p(id) of a row of logits, by the softmax in float64. */
double windows_surprise(const float *logits, uint32_t vocab, int32_t id);

#endif
