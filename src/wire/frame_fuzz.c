/* Fuzz entry: bytes off a wire, in whatever pieces, to lines and to frames. However the bytes are
 * cut, the same lines come out; a text survives being escaped and unescaped. */
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What came out of a reader: lines and overlong ones, as a running hash. */
static void note(uint64_t *seen, enum frame_status status, const struct frame_reader *reader) {
    *seen = *seen * 1099511628211u + status;
    if (status != FRAME_LINE) return;
    for (uint32_t i = 0; i < reader->length; i++)
        *seen = (*seen ^ (uint8_t)reader->line[i]) * 1099511628211u;
}

static uint64_t read_in_pieces(const char *bytes, size_t n, size_t piece) {
    static struct frame_reader reader;
    uint64_t seen = 14695981039346656037u;
    memset(&reader, 0, sizeof reader);
    for (size_t at = 0; at < n;) {
        size_t most = n - at < piece ? n - at : piece, used = 0;
        enum frame_status status = frame_read(&reader, bytes + at, most, &used);
        if (used > most || (used == 0 && status == FRAME_MORE)) abort();
        at += used;
        if (status != FRAME_MORE) note(&seen, status, &reader);
    }
    return seen;
}

static void parse(const char *bytes, size_t n) {
    struct frame frame;
    struct fault fault;
    char *line = malloc(n + 1); /* exactly as long: a step too far is seen */
    if (line == NULL) return;
    memcpy(line, bytes, n);
    (void)frame_is_http(line, n);
    (void)frame_is_tls(line, n);
    if (!frame_is_blank(line, n) && frame_parse(line, n, &frame, &fault) && frame.has_text) {
        static char escaped[FRAME_ESCAPE_MAX * FRAME_LINE_MAX];
        size_t used, length;
        size_t written =
            frame_escape(frame.text.bytes, frame.text.length, escaped, sizeof escaped, &used);
        if (used != frame.text.length || !frame_unescape(escaped, written, &length)) abort();
        if (length != used || memcmp(escaped, frame.text.bytes, length) != 0) abort();
    }
    free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    uint64_t whole = read_in_pieces(bytes, size, size + 1);
    if (read_in_pieces(bytes, size, 1) != whole || read_in_pieces(bytes, size, 7) != whole) abort();
    for (size_t at = 0; at < size;) {
        const char *end = memchr(bytes + at, '\n', size - at);
        size_t n = end == NULL ? size - at : (size_t)(end - bytes) - at;
        if (n < FRAME_LINE_MAX) parse(bytes + at, n);
        at += n + 1;
    }
    return 0;
}
