/* frame: bytes -> lines -> verb, tag, fields, text; and the quoting of texts, both ways.
 *
 * Pure: bytes in, structs out. Grammar and limits: docs/PROTOCOL.md. */
#ifndef WICK_WIRE_FRAME_H
#define WICK_WIRE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

enum {
    FRAME_LINE_MAX = 1024,  /* bytes of a line, LF included, CR not counted */
    FRAME_TRAILER_MAX = 34, /* of a line that has one: secret/seal.h */
    FRAME_FIELDS_MAX = 32,
    FRAME_VERB_MAX = 16,
    FRAME_NAME_MAX = 32,
    FRAME_TAG_MAX = 9999,
    FRAME_TLS_BYTES = 3, /* tell a TLS handshake */
    FRAME_ESCAPE_MAX = 4 /* characters one byte of text takes at most: \xHH */
};

/* Puts lines together from whatever pieces a descriptor delivers. All zero: ready to start. */
struct frame_reader {
    char line[FRAME_LINE_MAX + FRAME_TRAILER_MAX];
    uint32_t length;
    uint32_t trailer; /* characters of it, which do not count */
    bool complete;    /* the line has been handed out */
    bool skipping;    /* an overlong line, until its LF */
};

enum frame_status {
    FRAME_MORE,    /* every byte was used and no line is complete */
    FRAME_LINE,    /* reader->line[0 .. length) is one, without LF and CR; valid until the next call
                    */
    FRAME_OVERLONG /* a line has just passed the limit; reported once for each */
};

/* Takes bytes up to the end of a line. *used says how many; call again with the rest. */
enum frame_status frame_read(struct frame_reader *reader, const char *bytes, size_t n,
                             size_t *used);

/* Bytes of any value, not terminated. */
struct frame_text {
    const char *bytes;
    uint32_t length;
};

struct frame_field {
    struct frame_text name, value;
};

struct frame {
    struct frame_text verb;
    uint32_t tag; /* 0: none */
    bool tag_bad; /* a number stands where a tag may, but it is not one */
    bool has_text;
    struct frame_text text;
    uint32_t n_fields;
    struct frame_field field[FRAME_FIELDS_MAX];
};

/* A line of blanks, which is no request at all. */
bool frame_is_blank(const char *line, size_t length);

/* Takes one line apart. Texts are unescaped in place: `line` is changed and the frame points into
 * it. The fault is BAD_LINE and names the column. */
bool frame_parse(char *line, size_t length, struct frame *frame, struct fault *fault);

/* The first line of an HTTP request: "GET / HTTP/1.1". */
bool frame_is_http(const char *line, size_t length);

/* The first bytes of a TLS handshake record. */
bool frame_is_tls(const char *bytes, size_t n);

bool frame_text_is(struct frame_text text, const char *word);

/* The reverse, in place: the inside of a quoted text, n characters, becomes *length bytes. False:
 * an escape that there is not. */
bool frame_unescape(char *text, size_t n, size_t *length);

/* Escapes bytes for the inside of a quoted text. Whole escapes only: stops before `cap` characters
 * would be passed. Returns the characters written, *used says how many bytes they stand for. */
size_t frame_escape(const char *bytes, size_t n, char *out, size_t cap, size_t *used);

#endif
