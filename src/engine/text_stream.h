/* text_stream: the pieces of tokens in, text that may be shown out.
 *
 * Holds back what may still become a stop string and, unless `bytes`, the beginning of an
 * unfinished character. Everything it has given out, put together, is the text up to the stop
 * string (or to the flush), with what is no UTF-8 replaced by U+FFFD unless `bytes`: the same
 * however the text was cut into pieces.
 *
 * The stop string that ends first wins; of several that end at the same byte, the longest. Matching
 * is by bytes, with one Knuth-Morris-Pratt automaton a string: a byte costs amortised O(1) each. */
#ifndef WICK_ENGINE_TEXT_STREAM_H
#define WICK_ENGINE_TEXT_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "token/vocab.h"

enum {
    JOB_STOP_MAX = 4,         /* stop strings of a job */
    JOB_STOP_BYTES_MAX = 100, /* bytes of one */
    /* Bytes held back: all but the last of a stop string, and of a 4-byte character before it. */
    TEXT_STREAM_HELD_MAX = JOB_STOP_BYTES_MAX - 1 + 3,
    /* Bytes given out at once: the held ones and a piece, each invalid and so three of U+FFFD. */
    TEXT_STREAM_OUT_MAX = 3 * (TEXT_STREAM_HELD_MAX + VOCAB_PIECE_MAX)
};

struct job_stop {
    uint8_t length; /* 1 .. JOB_STOP_BYTES_MAX */
    char text[JOB_STOP_BYTES_MAX];
};

struct text_stream {
    const struct job_stop *stop; /* (n_stop), the caller's, unchanged while the stream is in use */
    uint32_t n_stop;
    bool bytes;
    int32_t stop_index; /* which stop string has matched; -1: none yet */
    /* border[k][i]: length of the longest proper prefix of stop k that ends its first i + 1 bytes
     */
    uint8_t border[JOB_STOP_MAX][JOB_STOP_BYTES_MAX];
    uint8_t matched[JOB_STOP_MAX]; /* bytes of stop k that the text so far ends with */
    uint32_t n_held;
    char held[TEXT_STREAM_HELD_MAX];
};

void text_stream_open(struct text_stream *stream, const struct job_stop *stop, uint32_t n_stop,
                      bool bytes);

/* Takes one piece (at most VOCAB_PIECE_MAX bytes), gives out what is certain: its length is
 * returned, at most TEXT_STREAM_OUT_MAX. After a match (stop_index >= 0) nothing is held and no
 * piece may follow. */
uint32_t text_stream_feed(struct text_stream *stream, const char *piece, uint32_t length,
                          char *out);

/* Gives out what is held: no more text will come. Feed and flush together never give out more than
 * TEXT_STREAM_OUT_MAX. */
uint32_t text_stream_flush(struct text_stream *stream, char *out);

#endif
