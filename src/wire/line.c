#include "wire/line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/panic.h"

void line_begin(struct line *line, int code, enum line_sep sep, uint32_t tag) {
    wick_assert(code >= 100 && code <= 599);
    wick_assert(tag <= FRAME_TAG_MAX);
    line->length = 0;
    if (tag == 0) {
        line_add(line, "%d%c- ", code, (char)sep);
    } else {
        line_add(line, "%d%c%u ", code, (char)sep, tag);
    }
}

size_t line_room(const struct line *line) {
    return FRAME_LINE_MAX - 1 - line->length;
}

void line_add(struct line *line, const char *format, ...) {
    size_t room = line_room(line);
    va_list args;
    va_start(args, format);
    /* The terminator may lie where the LF will. */
    int length = vsnprintf(line->bytes + line->length, room + 1, format, args);
    va_end(args);
    wick_assert(length >= 0);
    line->length += (size_t)length < room ? (size_t)length : room;
}

size_t line_text(struct line *line, const char *bytes, size_t n, size_t cap) {
    size_t room = line_room(line);
    if (room < 2) return 0;
    if (cap > room - 2) cap = room - 2;
    size_t used;
    line->bytes[line->length++] = '"';
    line->length += frame_escape(bytes, n, line->bytes + line->length, cap, &used);
    line->bytes[line->length++] = '"';
    return used;
}

void line_string(struct line *line, const char *string) {
    line_text(line, string, strlen(string), FRAME_LINE_MAX);
}

void line_send(struct line *line, struct output *output) {
    wick_assert(line->length < FRAME_LINE_MAX);
    line->bytes[line->length] = '\n';
    output_put(output, line->bytes, line->length + 1);
}
