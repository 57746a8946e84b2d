/* line: one line to a client, being put together. */
#ifndef WICK_WIRE_LINE_H
#define WICK_WIRE_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/frame.h"
#include "wire/output.h"

enum line_sep { LINE_LAST = ' ', LINE_MORE = '-' };

struct line {
    char bytes[FRAME_LINE_MAX];
    size_t length; /* at most FRAME_LINE_MAX - 1: the LF always has its place */
};

/* "151-7 " or "151 7 "; tag 0 is "-". */
void line_begin(struct line *line, int code, enum line_sep sep, uint32_t tag);

/* Printable ASCII without line ends; what does not fit is cut. */
void line_add(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A quoted text of at most `cap` characters between the quotes (fewer if the line is full, whole
 * escapes always). Returns how many of the n bytes it holds. */
size_t line_text(struct line *line, const char *bytes, size_t n, size_t cap);

/* The whole string as quoted text, cut if the line is full. */
void line_string(struct line *line, const char *string);

/* Characters that can still be added. */
size_t line_room(const struct line *line);

void line_send(struct line *line, struct output *output);

#endif
