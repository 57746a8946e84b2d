#include "wire/output.h"

#include <string.h>

#include "base/panic.h"

size_t output_free(const struct output *output) {
    return output->size - output->used;
}

void output_clear(struct output *output) {
    output->head = 0;
    output->used = 0;
    output->overrun = false;
}

static void bytes_put(struct output *output, const char *bytes, size_t length) {
    size_t tail = (output->head + output->used) % output->size;
    size_t first = output->size - tail;
    if (first > length) first = length;
    memcpy(output->bytes + tail, bytes, first);
    memcpy(output->bytes, bytes + first, length - first);
    output->used += length;
}

void output_put(struct output *output, const char *line, size_t length) {
    wick_assert(length > 0 && line[length - 1] == '\n');
    char trailer[SEAL_TRAILER_MAX];
    size_t room = output->seal == NULL ? length : length + SEAL_TRAILER_MAX;
    if (room > output_free(output)) {
        output->overrun = true;
        return;
    }
    if (output->ring != NULL) {
        replay_keep(output->replay, output->ring, output->index, line, length);
    }
    size_t n = output->seal == NULL ? 0 : seal_write(output->seal, line, length - 1, trailer);
    bytes_put(output, line, length - 1);
    bytes_put(output, trailer, n);
    bytes_put(output, line + length - 1, 1);
}

const char *output_oldest(const struct output *output, size_t *n) {
    *n = output->size - output->head;
    if (*n > output->used) *n = output->used;
    return *n > 0 ? output->bytes + output->head : NULL;
}

void output_take(struct output *output, size_t n) {
    wick_assert(n <= output->used);
    output->used -= n;
    /* An empty ring starts over, so that most writes are one piece. */
    output->head = output->used == 0 ? 0 : (output->head + n) % output->size;
}
