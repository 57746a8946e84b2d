#include "wire/frame.h"

#include <string.h>

#include "base/panic.h"

enum frame_status frame_read(struct frame_reader *reader, const char *bytes, size_t n,
                             size_t *used) {
    wick_assert(reader->trailer <= FRAME_TRAILER_MAX);
    wick_assert(reader->length < FRAME_LINE_MAX + reader->trailer);
    if (reader->complete) {
        reader->complete = false;
        reader->length = 0;
    }
    for (size_t i = 0; i < n; i++) {
        char c = bytes[i];
        if (c == '\r') continue;
        if (c == '\n') {
            *used = i + 1;
            if (!reader->skipping) {
                reader->complete = true;
                return FRAME_LINE;
            }
            reader->skipping = false;
        } else if (!reader->skipping) {
            if (reader->length == FRAME_LINE_MAX - 1 + reader->trailer) {
                reader->length = 0;
                reader->skipping = true;
                *used = i + 1;
                return FRAME_OVERLONG;
            }
            reader->line[reader->length++] = c;
        }
    }
    *used = n;
    return FRAME_MORE;
}

bool frame_is_blank(const char *line, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (line[i] != ' ') return false;
    }
    return true;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

static bool is_lower(char c) {
    return c >= 'a' && c <= 'z';
}

static bool is_printable(char c) {
    return c >= 0x20 && c <= 0x7E;
}

/* -1: not a hex digit */
static int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* A line being taken apart. */
struct scan {
    char *line;
    size_t length;
    size_t at;
    struct fault *fault;
};

static bool scan_over(const struct scan *scan) {
    return scan->at == scan->length;
}

static void scan_spaces(struct scan *scan) {
    while (!scan_over(scan) && scan->line[scan->at] == ' ') scan->at++;
}

static bool scan_fail(struct scan *scan, const char *what) {
    return fault_set(scan->fault, FAULT_BAD_LINE, "column %zu: %s", scan->at + 1, what);
}

/* Something has just been read; a space or the end must follow. */
static bool scan_boundary(struct scan *scan) {
    if (scan_over(scan) || scan->line[scan->at] == ' ') return true;
    return scan_fail(scan, "a space is missing");
}

/* One escape, after its backslash. */
static bool scan_escape(struct scan *scan, char *byte) {
    if (scan_over(scan)) return scan_fail(scan, "the text is not closed");
    char c = scan->line[scan->at++];
    switch (c) {
    case 'n':
        *byte = '\n';
        return true;
    case 'r':
        *byte = '\r';
        return true;
    case 't':
        *byte = '\t';
        return true;
    case '"':
        *byte = '"';
        return true;
    case '\\':
        *byte = '\\';
        return true;
    case 'x':
        break;
    default:
        scan->at--;
        return scan_fail(scan, "no such escape; there are n r t \" \\ xHH");
    }
    if (scan->length - scan->at < 2) return scan_fail(scan, "two hex digits must follow \\x");
    int high = hex_value(scan->line[scan->at]);
    int low = hex_value(scan->line[scan->at + 1]);
    if (high < 0 || low < 0) return scan_fail(scan, "two hex digits must follow \\x");
    scan->at += 2;
    *byte = (char)(high * 16 + low);
    return true;
}

/* A quoted text, from its opening quote on. The result is never longer than its spelling, so it is
 * written over it. */
static bool scan_text(struct scan *scan, struct frame_text *text) {
    wick_assert(scan->line[scan->at] == '"');
    scan->at++;
    char *out = scan->line + scan->at;
    *text = (struct frame_text){out, 0};
    while (!scan_over(scan)) {
        char c = scan->line[scan->at++];
        if (c == '"') return scan_boundary(scan);
        if (c == '\\' && !scan_escape(scan, &c)) return false;
        out[text->length++] = c;
    }
    return scan_fail(scan, "the text is not closed");
}

static bool scan_field(struct scan *scan, struct frame_field *field) {
    char *name = scan->line + scan->at;
    size_t start = scan->at;
    while (!scan_over(scan)) {
        char c = scan->line[scan->at];
        if (!is_lower(c) && !is_digit(c) && c != '_') break;
        scan->at++;
    }
    size_t length = scan->at - start;
    if (length > FRAME_NAME_MAX) return scan_fail(scan, "the name of the field is too long");
    if (scan_over(scan) || scan->line[scan->at] != '=') {
        return scan_fail(scan, "name=value or a quoted text is expected");
    }
    scan->at++;
    field->name = (struct frame_text){name, (uint32_t)length};
    if (!scan_over(scan) && scan->line[scan->at] == '"') return scan_text(scan, &field->value);

    field->value = (struct frame_text){scan->line + scan->at, 0};
    while (!scan_over(scan) && scan->line[scan->at] != ' ') {
        if (scan->line[scan->at] == '"') return scan_fail(scan, "a quote inside a bare value");
        scan->at++;
        field->value.length++;
    }
    return true;
}

static bool scan_tag(struct scan *scan, struct frame *frame) {
    uint32_t tag = 0;
    bool leading_zero = scan->line[scan->at] == '0';
    while (!scan_over(scan) && is_digit(scan->line[scan->at])) {
        if (tag <= FRAME_TAG_MAX) tag = tag * 10 + (uint32_t)(scan->line[scan->at] - '0');
        scan->at++;
    }
    if (leading_zero || tag > FRAME_TAG_MAX) {
        frame->tag_bad = true;
    } else {
        frame->tag = tag;
    }
    return scan_boundary(scan);
}

static bool scan_verb(struct scan *scan, struct frame *frame) {
    frame->verb.bytes = scan->line + scan->at;
    while (!scan_over(scan) && is_upper(scan->line[scan->at])) {
        scan->at++;
        frame->verb.length++;
    }
    bool whole = scan_over(scan) || scan->line[scan->at] == ' ';
    if (frame->verb.length == 0 || frame->verb.length > FRAME_VERB_MAX || !whole) {
        return scan_fail(scan, "a line begins with a verb in capitals; HELP lists them");
    }
    return true;
}

bool frame_parse(char *line, size_t length, struct frame *frame, struct fault *fault) {
    wick_assert(length < FRAME_LINE_MAX);
    memset(frame, 0, sizeof *frame);
    struct scan scan = {line, length, 0, fault};
    for (; !scan_over(&scan); scan.at++) {
        if (is_printable(line[scan.at])) continue;
        return scan_fail(&scan,
                         "a byte that is not printable ASCII; in a text it is written \\xHH");
    }
    scan.at = 0;
    scan_spaces(&scan);
    if (!scan_verb(&scan, frame)) return false;
    scan_spaces(&scan);
    if (!scan_over(&scan) && is_digit(line[scan.at]) && !scan_tag(&scan, frame)) return false;
    for (;;) {
        scan_spaces(&scan);
        if (scan_over(&scan)) return true;
        char c = line[scan.at];
        if (c == '"') {
            if (frame->has_text) return scan_fail(&scan, "a second text");
            frame->has_text = true;
            if (!scan_text(&scan, &frame->text)) return false;
        } else if (is_lower(c)) {
            if (frame->n_fields == FRAME_FIELDS_MAX) return scan_fail(&scan, "over 32 fields");
            if (!scan_field(&scan, &frame->field[frame->n_fields++])) return false;
        } else {
            return scan_fail(&scan, "name=value or a quoted text is expected");
        }
    }
}

/* request-line = method SP target SP HTTP-version (RFC 9112, section 3) */
bool frame_is_http(const char *line, size_t length) {
    static const char version[] = " HTTP/";
    size_t at = 0;
    while (at < length && is_upper(line[at])) at++;
    if (at == 0 || at == length || line[at] != ' ') return false;
    for (; at + sizeof version - 1 < length; at++) {
        if (memcmp(line + at, version, sizeof version - 1) == 0) return true;
    }
    return false;
}

/* TLSPlaintext: type 22 (handshake), legacy version 3.x (RFC 8446, section 5.1) */
bool frame_is_tls(const char *bytes, size_t n) {
    return n >= FRAME_TLS_BYTES && bytes[0] == 22 && bytes[1] == 3 && bytes[2] >= 0 &&
           bytes[2] <= 4;
}

bool frame_text_is(struct frame_text text, const char *word) {
    return strlen(word) == text.length && memcmp(text.bytes, word, text.length) == 0;
}

bool frame_unescape(char *text, size_t n, size_t *length) {
    struct fault fault;
    struct scan scan = {text, n, 0, &fault};
    *length = 0;
    while (!scan_over(&scan)) {
        char c = text[scan.at++];
        if (c == '\\' && !scan_escape(&scan, &c)) return false;
        text[(*length)++] = c;
    }
    return true;
}

size_t frame_escape(const char *bytes, size_t n, char *out, size_t cap, size_t *used) {
    static const char hex[] = "0123456789abcdef";
    size_t length = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        char escape[FRAME_ESCAPE_MAX] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
        size_t size = FRAME_ESCAPE_MAX;
        switch (c) {
        case '\n':
            escape[1] = 'n', size = 2;
            break;
        case '\r':
            escape[1] = 'r', size = 2;
            break;
        case '\t':
            escape[1] = 't', size = 2;
            break;
        case '"':
        case '\\':
            escape[1] = (char)c, size = 2;
            break;
        default:
            if (is_printable((char)c)) escape[0] = (char)c, size = 1;
        }
        if (length + size > cap) break;
        memcpy(out + length, escape, size);
        length += size;
    }
    *used = i;
    return length;
}
