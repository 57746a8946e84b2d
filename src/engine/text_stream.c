#include "engine/text_stream.h"

#include <string.h>

#include "base/panic.h"
#include "token/utf8.h"

/* border[i] from border[0 .. i): the classic preparation of Knuth, Morris and Pratt. */
static void borders_compute(const struct job_stop *stop, uint8_t *border) {
    border[0] = 0;
    for (uint32_t i = 1, b = 0; i < stop->length; i++) {
        while (b > 0 && stop->text[i] != stop->text[b]) b = border[b - 1];
        if (stop->text[i] == stop->text[b]) b++;
        border[i] = (uint8_t)b;
    }
}

void text_stream_open(struct text_stream *stream, const struct job_stop *stop, uint32_t n_stop,
                      bool bytes) {
    wick_assert(n_stop <= JOB_STOP_MAX);
    memset(stream, 0, sizeof *stream);
    stream->stop = stop;
    stream->n_stop = n_stop;
    stream->bytes = bytes;
    stream->stop_index = -1;
    for (uint32_t k = 0; k < n_stop; k++) {
        wick_assert(stop[k].length >= 1 && stop[k].length <= JOB_STOP_BYTES_MAX);
        borders_compute(&stop[k], stream->border[k]);
    }
}

/* One byte further in every automaton. Returns the longest stop string that ends here, or -1. */
static int32_t stops_advance(struct text_stream *stream, char byte) {
    int32_t found = -1;
    for (uint32_t k = 0; k < stream->n_stop; k++) {
        const struct job_stop *stop = &stream->stop[k];
        uint32_t m = stream->matched[k];
        while (m > 0 && stop->text[m] != byte) m = stream->border[k][m - 1];
        if (stop->text[m] == byte) m++;
        stream->matched[k] = (uint8_t)m;
        if (m == stop->length && (found < 0 || m > stream->stop[found].length)) found = (int32_t)k;
    }
    return found;
}

static uint32_t text_emit(const struct text_stream *stream, const char *text, uint32_t length,
                          char *out) {
    if (!stream->bytes) return (uint32_t)utf8_repair(text, length, out);
    memcpy(out, text, length);
    return length;
}

uint32_t text_stream_feed(struct text_stream *stream, const char *piece, uint32_t length,
                          char *out) {
    wick_assert(stream->stop_index < 0 && length <= VOCAB_PIECE_MAX);
    char text[TEXT_STREAM_HELD_MAX + VOCAB_PIECE_MAX];
    uint32_t n = stream->n_held;
    memcpy(text, stream->held, n);
    stream->n_held = 0;
    for (uint32_t i = 0; i < length; i++) {
        text[n++] = piece[i];
        stream->stop_index = stops_advance(stream, piece[i]);
        if (stream->stop_index < 0) continue;
        return text_emit(stream, text, n - stream->stop[stream->stop_index].length, out);
    }
    uint32_t maybe = 0;
    for (uint32_t k = 0; k < stream->n_stop; k++)
        if (stream->matched[k] > maybe) maybe = stream->matched[k];
    uint32_t certain = n - maybe;
    if (!stream->bytes) certain -= (uint32_t)utf8_unfinished(text, certain);
    stream->n_held = n - certain;
    wick_assert(stream->n_held <= TEXT_STREAM_HELD_MAX);
    memcpy(stream->held, text + certain, stream->n_held);
    return text_emit(stream, text, certain, out);
}

uint32_t text_stream_flush(struct text_stream *stream, char *out) {
    uint32_t n = stream->n_held;
    stream->n_held = 0;
    return text_emit(stream, stream->held, n, out);
}
