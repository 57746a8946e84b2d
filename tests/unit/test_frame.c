#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

static char line[FRAME_LINE_MAX];
static struct frame frame;
static struct fault fault;

static bool parse(const char *text) {
    cr_assert(strlen(text) < sizeof line);
    memcpy(line, text, strlen(text));
    return frame_parse(line, strlen(text), &frame, &fault);
}

static bool text_is(struct frame_text text, const char *bytes, size_t n) {
    return text.length == n && memcmp(text.bytes, bytes, n) == 0;
}

Test(frame, takes_verb_tag_fields_and_text_apart) {
    cr_assert(parse("GEN 7 max_tokens=3 stop=\"a b\" \"Once upon\""));
    cr_assert(frame_text_is(frame.verb, "GEN"));
    cr_assert_eq(frame.tag, 7);
    cr_assert_eq(frame.n_fields, 2);
    cr_assert(frame_text_is(frame.field[0].name, "max_tokens"));
    cr_assert(frame_text_is(frame.field[0].value, "3"));
    cr_assert(frame_text_is(frame.field[1].name, "stop"));
    cr_assert(frame_text_is(frame.field[1].value, "a b"));
    cr_assert(frame.has_text);
    cr_assert(frame_text_is(frame.text, "Once upon"));
}

Test(frame, allows_any_order_of_fields_and_text_and_many_spaces) {
    cr_assert(parse("  GEN   12   \"x\"   a=1   "));
    cr_assert_eq(frame.tag, 12);
    cr_assert(frame_text_is(frame.text, "x"));
    cr_assert(frame_text_is(frame.field[0].value, "1"));
}

Test(frame, unescapes_every_escape) {
    cr_assert(parse("GEN 1 \"\\n\\r\\t\\\"\\\\\\x00\\xfF\""));
    cr_assert(text_is(frame.text, "\n\r\t\"\\\0\xff", 7));
}

Test(frame, knows_a_missing_a_bad_and_a_good_tag) {
    cr_assert(parse("STOP"));
    cr_assert_eq(frame.tag, 0);
    cr_assert_not(frame.tag_bad);
    static const char *const bad[] = {"STOP 0", "STOP 10000", "STOP 007", "STOP 99999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert(parse(bad[i]), "%s", bad[i]);
        cr_assert(frame.tag_bad, "%s", bad[i]);
        cr_assert_eq(frame.tag, 0);
    }
    cr_assert(parse("STOP 9999"));
    cr_assert_eq(frame.tag, 9999);
}

Test(frame, rejects_what_the_grammar_does_not_have) {
    static const char *const bad[] = {"get health",
                                      "Host: example",
                                      "GEN7",
                                      "GEN 7x",
                                      "GEN 7 \"open",
                                      "GEN 7 \"a\"b",
                                      "GEN 7 \"a\" \"b\"",
                                      "GEN 7 =1",
                                      "GEN 7 a",
                                      "GEN 7 a=b\"c\"",
                                      "GEN 7 a=\"b\"c",
                                      "GEN 7 \"\\q\"",
                                      "GEN 7 \"\\x1\"",
                                      "GEN 7 \"\\xg0\"",
                                      "GEN 7 \"\\",
                                      "GEN 7 \t",
                                      "GEN 7 \"\x80\"",
                                      "ABCDEFGHIJKLMNOPQ",
                                      "GEN 7 -",
                                      "\x16\x03\x01\x02zz",
                                      "GEN 7 A=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_not(parse(bad[i]), "%s", bad[i]);
        cr_assert_eq(fault.code, FAULT_BAD_LINE);
        cr_assert_eq(strncmp(fault.text, "column ", 7), 0);
    }
}

Test(frame, names_the_column) {
    cr_assert_not(parse("GEN 7 \x01"));
    cr_assert_eq(strncmp(fault.text, "column 7: ", 10), 0, "%s", fault.text);
}

Test(frame, counts_fields_up_to_the_limit) {
    char text[FRAME_LINE_MAX] = "GEN 1";
    for (int i = 0; i < FRAME_FIELDS_MAX; i++) strcat(text, " a=1");
    cr_assert(parse(text));
    cr_assert_eq(frame.n_fields, FRAME_FIELDS_MAX);
    strcat(text, " a=1");
    cr_assert_not(parse(text));
}

/* --- reading ---------------------------------------------------------------------------------- */

static struct frame_reader reader;

/* Reads everything; counts what comes out. */
static void feed(const char *bytes, size_t n, uint32_t *lines, uint32_t *overlong) {
    size_t at = 0;
    while (at < n) {
        size_t used;
        enum frame_status status = frame_read(&reader, bytes + at, n - at, &used);
        cr_assert(used > 0 && used <= n - at);
        at += used;
        *lines += status == FRAME_LINE;
        *overlong += status == FRAME_OVERLONG;
        cr_assert(status != FRAME_MORE || at == n);
    }
}

Test(frame, puts_lines_together_from_single_bytes_and_drops_cr) {
    static const char text[] = "PI\rNG\r\nHEALTH\n";
    uint32_t lines = 0;
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        size_t used;
        if (frame_read(&reader, text + i, 1, &used) != FRAME_LINE) continue;
        lines++;
        struct frame_text got = {reader.line, reader.length};
        cr_assert(frame_text_is(got, lines == 1 ? "PING" : "HEALTH"));
    }
    cr_assert_eq(lines, 2);
}

Test(frame, accepts_1024_bytes_and_reports_one_more_once) {
    static char text[3 * FRAME_LINE_MAX];
    uint32_t lines = 0, overlong = 0;
    memset(text, 'A', sizeof text);
    text[FRAME_LINE_MAX - 1] = '\n';
    feed(text, FRAME_LINE_MAX, &lines, &overlong);
    cr_assert_eq(lines, 1);
    cr_assert_eq(overlong, 0);

    text[FRAME_LINE_MAX - 1] = 'A';
    text[FRAME_LINE_MAX] = '\n';
    feed(text, FRAME_LINE_MAX + 1, &lines, &overlong);
    cr_assert_eq(lines, 1);
    cr_assert_eq(overlong, 1);
    feed("PING\n", 5, &lines, &overlong);
    cr_assert_eq(lines, 2);
    cr_assert_eq(overlong, 1);
}

Test(frame, reports_an_endless_line_once) {
    static char text[1 << 16];
    uint32_t lines = 0, overlong = 0;
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 64; i++) feed(text, sizeof text, &lines, &overlong);
    cr_assert_eq(lines, 0);
    cr_assert_eq(overlong, 1);
}

/* --- quoting ---------------------------------------------------------------------------------- */

Test(frame, escapes_to_printable_ascii_and_back) {
    char bytes[256], quoted[4 * 256 + 16];
    for (int i = 0; i < 256; i++) bytes[i] = (char)i;
    size_t used;
    strcpy(quoted, "GEN 1 \"");
    size_t n = 7 + frame_escape(bytes, 200, quoted + 7, sizeof quoted - 8, &used);
    cr_assert_eq(used, 200);
    for (size_t i = 0; i < n; i++) cr_assert(quoted[i] >= 0x20 && quoted[i] <= 0x7E);
    quoted[n] = '"';
    cr_assert(n + 1 < sizeof line);
    memcpy(line, quoted, n + 1);
    cr_assert(frame_parse(line, n + 1, &frame, &fault), "%s", fault.text);
    cr_assert(text_is(frame.text, bytes, 200));
}

Test(frame, never_cuts_an_escape) {
    size_t used;
    char out[8];
    cr_assert_eq(frame_escape("\xff\xff", 2, out, 7, &used), 4);
    cr_assert_eq(used, 1);
    cr_assert_eq(frame_escape("a\n", 2, out, 2, &used), 1);
    cr_assert_eq(used, 1);
}

Test(frame, tells_http_and_tls) {
    static const char *const http[] = {"GET / HTTP/1.1", "POST /v1/x?y=z HTTP/1.0",
                                       "PRI * HTTP/2.0"};
    static const char *const other[] = {"GEN 1 \"a\"", "GET", "GET /", "HTTP/1.1 200 OK", ""};
    for (size_t i = 0; i < 3; i++) cr_assert(frame_is_http(http[i], strlen(http[i])));
    for (size_t i = 0; i < 5; i++) cr_assert_not(frame_is_http(other[i], strlen(other[i])));
    cr_assert(frame_is_tls("\x16\x03\x01\x02", 4));
    cr_assert_not(frame_is_tls("\x16\x03", 2));
    cr_assert_not(frame_is_tls("GEN", 3));
}

/* Whatever the bytes, reading and parsing end, and stay inside their buffers (ASan looks on). */
Test(frame, survives_random_bytes) {
    static const char alphabet[] = "GENPUTRUN 0123456789abc=_\"\\xn\n\r\t\x01\xff";
    srand(7);
    memset(&reader, 0, sizeof reader);
    for (int round = 0; round < 20000; round++) {
        char bytes[64];
        size_t n = 1 + (size_t)rand() % sizeof bytes;
        for (size_t i = 0; i < n; i++) bytes[i] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
        for (size_t at = 0; at < n;) {
            size_t used;
            if (frame_read(&reader, bytes + at, n - at, &used) == FRAME_LINE) {
                char *copy = malloc(reader.length + 1);
                memcpy(copy, reader.line, reader.length);
                if (frame_parse(copy, reader.length, &frame, &fault)) {
                    cr_assert(frame.verb.length >= 1);
                }
                free(copy);
            }
            at += used;
        }
    }
}
