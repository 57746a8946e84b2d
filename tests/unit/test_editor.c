#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wickctl/editor.h"
#include "wickctl/text.h"

static struct editor editor;
static struct history history;

static enum editor_event keys(const char *bytes) {
    enum editor_event event = EDITOR_MORE;
    for (; *bytes; bytes++) event = editor_feed(&editor, (unsigned char)*bytes);
    return event;
}

static void begin(void) {
    editor.prompt = "> ";
    editor.history = &history;
    editor_begin(&editor);
}

/* Keys, then what the text is with '|' where the cursor is. */
static void expect(const char *typed, const char *want) {
    char shown[1024];
    begin();
    cr_assert_eq(keys(typed), EDITOR_MORE);
    snprintf(shown, sizeof shown, "%.*s|%s", (int)editor.cursor, editor.text,
             editor.text + editor.cursor);
    cr_expect_str_eq(shown, want);
    cr_expect_eq(strlen(editor.text), editor.length);
}

#define UP "\033[A"
#define DOWN "\033[B"
#define RIGHT "\033[C"
#define LEFT "\033[D"

Test(editor, keys_do_what_they_do_in_every_shell) {
    expect("fox", "fox|");
    expect("fox\x01"
           "a ",
           "a |fox");
    expect("a fox\x01\x05!", "a fox!|");
    expect("fox" LEFT LEFT "l", "fl|ox");
    expect("fox\x02\x02\x06!", "fo!|x");
    expect("fox\033[H<\033[F>", "<fox>|");
    expect("fox\033OH<\033OF>", "<fox>|");
    expect("fox\177\b", "f|");
    expect("fox" LEFT LEFT "\033[3~", "f|x");
    expect("fox" LEFT LEFT "\x04", "f|x");
    expect("the old fox\x17", "the old |");
    expect("the old fox\x17\x17"
           "red\x19",
           "the redold |");
    expect("the old-fox\033\177", "the old-|");
    expect("the old fox\033b\033bX", "the X|old fox");
    expect("the old fox\x01\033fX", "theX| old fox");
    expect("the old fox\033[1;5D\033[1;5DX", "the X|old fox");
    expect("the old fox\x01\033d", "| old fox");
    expect("the old fox" LEFT LEFT LEFT "\x15", "|fox");
    expect("the old fox\033b\x0b", "the old |");
    expect("the old fox\033b\x0b\x19\x19", "the old foxfox|");
    expect("fxo\x14", "fox|");
    expect("ofx" LEFT LEFT "\x14", "fo|x");
    expect("\x02\x06\177\x0b\x15\x17\x14\033[3~", "|");
    expect("a\033[99~\033[5;7Rb\033Oz", "ab|");
}

Test(editor, characters_are_whole_whatever_their_bytes) {
    expect("caf\xc3\xa9\177", "caf|");
    expect("caf\xc3\xa9" LEFT "x", "cafx|\xc3\xa9");
    expect("e\xcc\x81x" LEFT LEFT "<", "<|e\xcc\x81x"); /* e and a combining accent */
    expect("\xe4\xb8\xad\xe6\x96\x87" LEFT "\177", "|\xe6\x96\x87");
    expect("a\xff\xfe\177", "a\xff|"); /* bytes that are no character count as one each */
}

Test(editor, enter_ends_and_control_keys_are_told) {
    begin();
    cr_expect_eq(keys("fox\r"), EDITOR_DONE);
    begin();
    cr_expect_eq(keys("fox\n"), EDITOR_DONE);
    begin();
    cr_expect_eq(keys("fox\x03"), EDITOR_INTERRUPT);
    begin();
    cr_expect_eq(keys("\x04"), EDITOR_END);
    begin();
    cr_expect_eq(keys("fox\x04"), EDITOR_MORE);
    cr_expect_eq(keys("\x1a"), EDITOR_SUSPEND);
}

Test(editor, pasted_line_feeds_and_escapes_end_nothing) {
    expect("\033[200~one\rtwo\nthree\033[A\x03\033[201~!", "one\ntwo\nthree\x03!|");
    expect("one\033\rtwo", "one\ntwo|");
    expect("one\033\rtwo\x01X", "one\nX|two");
    expect("one\033\rtwo" UP "X", "oneX|\ntwo");
    expect("one\033\rtwo" UP UP DOWN "X", "one\ntwoX|"); /* no line above: the cursor stays */
}

Test(editor, lines_typed_before_come_back) {
    history_open(&history, NULL);
    history_add(&history, "first");
    history_add(&history, "second");
    history_add(&history, "second");
    cr_assert_eq(history.n, 2);
    expect(UP, "second|");
    expect(UP UP, "first|");
    expect(UP UP UP, "first|");
    expect("new" UP DOWN, "new|");
    expect("new" UP UP DOWN, "second|");
    expect("\x10\x10\x0e!", "second!|");
    expect("\x12"
           "fir",
           "|first");
    expect("\x12"
           "s",
           "|second");
    expect("\x12"
           "s\x12",
           "fir|st");
    expect("\x12"
           "sx\177",
           "|second");
    expect("old\x12"
           "fir\x07",
           "old|");
    expect("\x12"
           "fir\x05!",
           "first!|");
    begin();
    cr_expect_eq(keys("\x12"
                      "fir\r"),
                 EDITOR_DONE);
    cr_expect_str_eq(editor.text, "first");
    history_close(&history);
}

static size_t words(void *context, const char *text, size_t length, unsigned nth, char *out,
                    size_t room) {
    static const char *const all[] = {"/save", "/set", "/help"};
    (void)context;
    for (size_t i = 0; i < 3; i++)
        if (strncmp(all[i], text, length) == 0 && nth-- == 0)
            return (size_t)snprintf(out, room, "%s", all[i]);
    return 0;
}

Test(editor, tab_goes_through_the_completions_and_back_to_what_was_typed) {
    editor.complete = words;
    expect("/s\t", "/save|");
    expect("/s\t\t", "/set|");
    expect("/s\t\t\t", "/s|");
    expect("/s\t\t\t\t", "/save|");
    expect("/s\t x", "/save x|");
    expect("q\t", "q|");
}

/* A terminal of 10 columns, as far as it matters here. */
struct screen {
    char cell[8][11];
    unsigned row, column;
};

static void screen_feed(struct screen *s, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\r') {
            s->column = 0;
        } else if (bytes[i] == '\n') {
            s->row++;
        } else if (bytes[i] == '\033') {
            unsigned count = 0;
            for (i += 2; bytes[i] >= '0' && bytes[i] <= '9'; i++)
                count = 10 * count + (unsigned)(bytes[i] - '0');
            if (bytes[i] == 'A') s->row -= count;
            if (bytes[i] == 'B') s->row += count;
            if (bytes[i] == 'C') s->column += count;
            if (bytes[i] == 'H') s->row = s->column = 0;
            if (bytes[i] != 'J') continue;
            for (unsigned r = s->row; r < 8; r++)
                for (unsigned c = r == s->row ? s->column : 0; c < 10; c++) s->cell[r][c] = ' ';
        } else {
            cr_assert_lt(s->row, 8);
            if (s->column < 10) s->cell[s->row][s->column] = bytes[i];
            s->column++;
            cr_assert_leq(s->column, 10);
        }
    }
}

static void draw(struct screen *s, unsigned rows) {
    struct text out = {0};
    editor_draw(&editor, 10, rows, &out);
    if (out.length) screen_feed(s, out.bytes, out.length);
    text_free(&out);
}

static void row_is(const struct screen *s, unsigned row, const char *want) {
    char shown[11];
    snprintf(shown, sizeof shown, "%.10s", s->cell[row]);
    for (size_t n = strlen(shown); n > 0 && shown[n - 1] == ' '; n--) shown[n - 1] = 0;
    cr_expect_str_eq(shown, want, "row %u", row);
}

static void blank(struct screen *s) {
    memset(s, 0, sizeof *s);
    for (int r = 0; r < 8; r++) memset(s->cell[r], ' ', 10);
}

Test(editor, the_picture_wraps_and_the_cursor_is_where_the_text_says) {
    struct screen s;
    blank(&s);
    begin();
    draw(&s, 8);
    row_is(&s, 0, ">");
    keys("0123456789abc");
    draw(&s, 8);
    row_is(&s, 0, "> 01234567");
    row_is(&s, 1, "89abc");
    cr_expect_eq(s.row, 1);
    cr_expect_eq(s.column, 5);
    keys("\x01X");
    draw(&s, 8);
    row_is(&s, 0, "> X0123456");
    row_is(&s, 1, "789abc");
    cr_expect_eq(s.row, 0);
    cr_expect_eq(s.column, 3);
    keys("\x05\177\177\177\177\177\177\177");
    draw(&s, 8);
    row_is(&s, 0, "> X012345");
    row_is(&s, 1, "");
    keys("y\033\rz");
    draw(&s, 8);
    row_is(&s, 0, "> X012345y");
    row_is(&s, 1, "");
    row_is(&s, 2, "z");
    keys(UP UP);
    draw(&s, 8);
    keys("\x15");
    draw(&s, 8);
    struct text out = {0};
    editor_leave(&editor, &out);
    screen_feed(&s, out.bytes, out.length);
    text_free(&out);
    cr_expect_eq(s.column, 0);
}

/* Typing one key after the other shows what drawing all at once shows. */
Test(editor, drawing_after_each_key_shows_the_same) {
    static const char typed[] = "the quick\x02\x02"
                                "X brown \x01"
                                "A\x05 fox jumps\033\rover the"
                                "\033b\x0b lazy\x17 dog";
    struct screen stepwise, once;
    blank(&stepwise);
    blank(&once);
    begin();
    for (const char *at = typed; *at; at++) {
        editor_feed(&editor, (unsigned char)*at);
        draw(&stepwise, 8);
    }
    begin();
    keys(typed);
    draw(&once, 8);
    for (unsigned r = 0; r < 8; r++)
        cr_expect(memcmp(stepwise.cell[r], once.cell[r], 10) == 0, "row %u: %.10s", r,
                  stepwise.cell[r]);
    cr_expect_eq(stepwise.row, once.row);
    cr_expect_eq(stepwise.column, once.column);
}

Test(editor, a_text_longer_than_the_screen_shows_the_rows_at_the_cursor) {
    struct screen s;
    blank(&s);
    begin();
    keys("\033[200~1\n2\n3\n4\n5\n6\033[201~");
    draw(&s, 3);
    row_is(&s, 0, "4");
    row_is(&s, 2, "6");
    keys(UP UP UP UP);
    draw(&s, 3);
    row_is(&s, 0, "> 1");
    row_is(&s, 1, "2");
}

Test(history, is_kept_in_a_file_for_the_person_alone) {
    char folder[] = "/tmp/wick-test-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/wick/history", folder);
    history_open(&history, path);
    cr_assert_eq(history.n, 0);
    history_add(&history, "one\nwith \\n in it");
    history_add(&history, "two");
    history_close(&history);
    history_open(&history, path);
    cr_assert_eq(history.n, 2);
    cr_assert_str_eq(history.line[0], "one\nwith \\n in it");
    for (int i = 0; i < HISTORY_MAX; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %d", i);
        history_add(&history, line);
    }
    cr_assert_eq(history.n, HISTORY_MAX);
    cr_assert_str_eq(history.line[0], "line 0");
    history_close(&history);
    cr_assert_eq(access(path, R_OK), 0);
    unlink(path);
    path[strlen(folder) + 5] = 0;
    rmdir(path);
    rmdir(folder);
}
