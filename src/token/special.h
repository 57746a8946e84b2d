/* special: finding special tokens spelled out in a text.
 *
 * The longest token of the whole text goes first, wherever it stands, then the next shorter ones in
 * what is left: with tokens "ab" and "bcd", "abcd" is "a" and "bcd". Of equal lengths the leftmost
 * goes first. User-defined tokens are found always, control and unknown tokens only if asked. */
#ifndef WICK_TOKEN_SPECIAL_H
#define WICK_TOKEN_SPECIAL_H

#include "token/vocab.h"

/* Fills owner[0..length): id + 1 where a token begins, -1 within one, 0 elsewhere. False when there
 * is none; owner is then not filled. */
bool special_mark(const struct vocab *vocab, const char *text, size_t length, bool control,
                  int32_t *owner);

#endif
