#include "editor.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "text.h"
#include "token/utf8.h"

#define CTRL(letter) ((letter) - '@')

enum { ESCAPE = 0x1B, DELETE = 0x7F };

/* Columns of a character: 0 for what combines, 2 for East Asian wide ones and emoji (Unicode's
 * EastAsianWidth.txt, in the large), 1 for all others. The C library's wcwidth needs a locale. */
static unsigned char_width(uint32_t c) {
    static const struct {
        uint32_t first, last;
        unsigned width;
    } ranges[] = {
        {0x0300, 0x036F, 0},   {0x1AB0, 0x1AFF, 0},   {0x1DC0, 0x1DFF, 0},   {0x200B, 0x200F, 0},
        {0x20D0, 0x20FF, 0},   {0xFE00, 0xFE0F, 0},   {0xFE20, 0xFE2F, 0},   {0x1100, 0x115F, 2},
        {0x2E80, 0x303E, 2},   {0x3041, 0xA4CF, 2},   {0xA960, 0xA97F, 2},   {0xAC00, 0xD7A3, 2},
        {0xF900, 0xFAFF, 2},   {0xFE30, 0xFE6F, 2},   {0xFF00, 0xFF60, 2},   {0xFFE0, 0xFFE6, 2},
        {0x1F300, 0x1F64F, 2}, {0x1F680, 0x1F6FF, 2}, {0x1F900, 0x1FAFF, 2}, {0x20000, 0x3FFFD, 2},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (c >= ranges[i].first && c <= ranges[i].last) return ranges[i].width;
    return 1;
}

/* The character at `at`: its bytes, and its columns. What cannot be shown counts as one. */
static size_t char_at(const struct editor *e, size_t at, uint32_t *c, unsigned *width) {
    size_t n = utf8_decode(e->text + at, e->length - at, c);
    *width = *c == UTF8_BAD ? 1 : char_width(*c);
    return n;
}

/* The end of the character at `at`, with what combines with it. */
static size_t char_after(const struct editor *e, size_t at) {
    uint32_t c;
    unsigned width;
    if (at >= e->length) return e->length;
    at += char_at(e, at, &c, &width);
    while (at < e->length) {
        size_t n = char_at(e, at, &c, &width);
        if (width > 0) break;
        at += n;
    }
    return at;
}

/* The start of the character before `at`. */
static size_t char_before(const struct editor *e, size_t at) {
    uint32_t c;
    unsigned width = 0;
    while (at > 0 && width == 0) {
        size_t from = at - 1;
        while (from > 0 && at - from < 4 && ((unsigned char)e->text[from] & 0xC0) == 0x80) from--;
        if (from + char_at(e, from, &c, &width) != at) from = at - 1, width = 1;
        at = from;
    }
    return at;
}

static bool in_word(char c) {
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

static size_t word_before(const struct editor *e, size_t at) {
    while (at > 0 && !in_word(e->text[at - 1])) at--;
    while (at > 0 && in_word(e->text[at - 1])) at--;
    return at;
}

static size_t word_after(const struct editor *e, size_t at) {
    while (at < e->length && !in_word(e->text[at])) at++;
    while (at < e->length && in_word(e->text[at])) at++;
    return at;
}

/* Ctrl-W counts what is between blanks. */
static size_t blank_before(const struct editor *e, size_t at) {
    while (at > 0 && isspace((unsigned char)e->text[at - 1])) at--;
    while (at > 0 && !isspace((unsigned char)e->text[at - 1])) at--;
    return at;
}

static size_t line_begin(const struct editor *e, size_t at) {
    while (at > 0 && e->text[at - 1] != '\n') at--;
    return at;
}

static size_t line_end(const struct editor *e, size_t at) {
    while (at < e->length && e->text[at] != '\n') at++;
    return at;
}

static void insert(struct editor *e, const char *bytes, size_t n) {
    if (n > EDITOR_TEXT_MAX - e->length) n = EDITOR_TEXT_MAX - e->length;
    if (e->cursor != e->length) e->drawn_length = SIZE_MAX;
    memmove(e->text + e->cursor + n, e->text + e->cursor, e->length - e->cursor);
    memcpy(e->text + e->cursor, bytes, n);
    e->length += n;
    e->cursor += n;
    e->text[e->length] = 0;
}

static void erase(struct editor *e, size_t from, size_t to) {
    memmove(e->text + from, e->text + to, e->length - to);
    e->length -= to - from;
    e->cursor = from;
    e->text[e->length] = 0;
    e->drawn_length = SIZE_MAX;
}

/* Erases for Ctrl-Y to bring back. */
static void kill_range(struct editor *e, size_t from, size_t to) {
    if (from == to) return;
    memcpy(e->killed, e->text + from, to - from);
    e->n_killed = to - from;
    erase(e, from, to);
}

static void move_to(struct editor *e, size_t at) {
    e->cursor = at;
    e->drawn_length = SIZE_MAX;
}

void editor_fill(struct editor *e, const char *text) {
    size_t n = strnlen(text, EDITOR_TEXT_MAX);
    memmove(e->text, text, n);
    e->text[n] = 0;
    e->length = e->cursor = n;
    e->drawn_length = SIZE_MAX;
}

void editor_begin(struct editor *e) {
    editor_fill(e, "");
    e->at = e->history ? e->history->n : 0;
    e->completing = 0;
    e->n_sequence = e->n_pattern = 0;
    e->pasting = e->searching = e->drawn = e->clear = false;
    e->rows = e->row = 0;
}

/* Ctrl-T: the two characters around the cursor change places. */
static void swap(struct editor *e) {
    size_t middle = e->cursor == e->length ? char_before(e, e->cursor) : e->cursor;
    size_t from = char_before(e, middle), to = char_after(e, middle), n = middle - from;
    char first[64];
    if (from == middle || middle == to || n > sizeof first) return;
    memcpy(first, e->text + from, n);
    memmove(e->text + from, e->text + middle, to - middle);
    memcpy(e->text + from + (to - middle), first, n);
    move_to(e, to);
}

/* --- lines typed before ------------------------------------------------------------------------
 */

static size_t history_size(const struct editor *e) {
    return e->history ? e->history->n : 0;
}

static void history_show(struct editor *e, size_t at) {
    if (e->at == history_size(e)) memcpy(e->held, e->text, e->length + 1);
    e->at = at;
    editor_fill(e, at == history_size(e) ? e->held : e->history->line[at]);
}

/* In a text of several lines to the line above or below, else to another text. */
static void vertical(struct editor *e, bool up) {
    size_t begin = line_begin(e, e->cursor), end = line_end(e, e->cursor);
    if (up ? begin == 0 : end == e->length) {
        if (up && e->at > 0) history_show(e, e->at - 1);
        if (!up && e->at < history_size(e)) history_show(e, e->at + 1);
        return;
    }
    size_t column = utf8_count(e->text + begin, e->cursor - begin);
    size_t at = up ? line_begin(e, begin - 1) : end + 1, last = line_end(e, at);
    while (column-- > 0 && at < last) at = char_after(e, at);
    move_to(e, at);
}

/* The newest line older than `before` that has the pattern. */
static void search(struct editor *e, size_t before) {
    for (size_t i = before; i-- > 0;) {
        const char *found = strstr(e->history->line[i], e->pattern);
        if (!found) continue;
        e->at = i;
        editor_fill(e, e->history->line[i]);
        e->cursor = (size_t)(found - e->history->line[i]);
        return;
    }
}

static void search_begin(struct editor *e) {
    if (!e->history) return;
    memcpy(e->held, e->text, e->length + 1);
    e->searching = true;
    e->n_pattern = 0;
    e->pattern[0] = 0;
    e->at = history_size(e);
    e->drawn_length = SIZE_MAX;
}

/* A key while searching. False: the search has ended and the key is an ordinary one. */
static bool search_feed(struct editor *e, unsigned char byte) {
    e->drawn_length = SIZE_MAX;
    if (byte == CTRL('R')) {
        search(e, e->at);
    } else if (byte == DELETE || byte == CTRL('H')) {
        if (e->n_pattern > 0) e->pattern[--e->n_pattern] = 0;
        search(e, history_size(e));
    } else if (byte == CTRL('C') || byte == CTRL('G')) {
        e->searching = false;
        e->at = history_size(e);
        editor_fill(e, e->held);
    } else if (byte >= 0x20 && e->n_pattern + 1 < sizeof e->pattern) {
        e->pattern[e->n_pattern++] = (char)byte;
        e->pattern[e->n_pattern] = 0;
        search(e, e->at < history_size(e) ? e->at + 1 : e->at);
    } else {
        e->searching = false;
        return false;
    }
    return true;
}

/* --- keys ---------------------------------------------------------------------------------------
 */

static void complete(struct editor *e) {
    char out[1024];
    if (!e->complete || e->cursor != e->length) return;
    if (e->completing == 0) {
        memcpy(e->held, e->text, e->length + 1);
        e->n_completing = e->length;
    }
    size_t n = e->complete(e->complete_context, e->held, e->n_completing, e->completing, out,
                           sizeof out - 1);
    if (n == 0 && e->completing == 0) return;
    out[n] = 0;
    e->completing = n > 0 ? e->completing + 1 : 0;
    editor_fill(e, n > 0 ? out : e->held);
}

/* ESC [ ... or ESC O ...: keys without a character. */
static void sequence_do(struct editor *e) {
    static const struct {
        const char *sequence;
        char key; /* the control character that does the same; lower case: by words */
    } keys[] = {
        {"[A", CTRL('P')},  {"OA", CTRL('P')}, {"[B", CTRL('N')},  {"OB", CTRL('N')},
        {"[C", CTRL('F')},  {"OC", CTRL('F')}, {"[D", CTRL('B')},  {"OD", CTRL('B')},
        {"[H", CTRL('A')},  {"OH", CTRL('A')}, {"[1~", CTRL('A')}, {"[7~", CTRL('A')},
        {"[F", CTRL('E')},  {"OF", CTRL('E')}, {"[4~", CTRL('E')}, {"[8~", CTRL('E')},
        {"[3~", CTRL('D')}, {"[1;5C", 'f'},    {"[1;5D", 'b'},     {"[1;3C", 'f'},
        {"[1;3D", 'b'},     {"f", 'f'},        {"F", 'f'},         {"b", 'b'},
        {"B", 'b'},         {"d", 'd'},        {"D", 'd'},         {"\177", 'w'},
        {"\b", 'w'},        {"\r", '\n'},      {"\n", '\n'},
    };
    char key = 0;
    e->sequence[e->n_sequence] = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(e->sequence + 1, keys[i].sequence) == 0) key = keys[i].key;
    e->n_sequence = 0;
    if (key == 'f')
        move_to(e, word_after(e, e->cursor));
    else if (key == 'b')
        move_to(e, word_before(e, e->cursor));
    else if (key == 'd')
        kill_range(e, e->cursor, word_after(e, e->cursor));
    else if (key == 'w')
        kill_range(e, word_before(e, e->cursor), e->cursor);
    else if (key == '\n')
        insert(e, "\n", 1);
    else if (key == CTRL('D') && e->cursor < e->length)
        erase(e, e->cursor, char_after(e, e->cursor));
    else if (key != 0 && key != CTRL('D'))
        (void)editor_feed(e, (unsigned char)key);
}

/* Collects an escape sequence; does what it says when it is whole. */
static void sequence_feed(struct editor *e, unsigned char byte) {
    e->sequence[e->n_sequence++] = (char)byte;
    char kind = e->n_sequence > 1 ? e->sequence[1] : 0;
    bool whole = kind == '[' ? e->n_sequence > 2 && byte >= 0x40 && byte <= 0x7E
                             : e->n_sequence == (kind == 'O' ? 3u : 2u);
    if (!whole && e->n_sequence + 1 < sizeof e->sequence) return;
    bool paste = whole && e->n_sequence == 6 && memcmp(e->sequence + 1, "[20", 3) == 0 &&
                 (e->sequence[4] == '0' || e->sequence[4] == '1') && byte == '~';
    if (paste)
        e->pasting = e->sequence[4] == '0';
    else if (whole && !e->pasting) /* a sequence that was pasted does nothing */
        sequence_do(e);
    e->n_sequence = 0;
}

/* Keys that change the text or move in it. */
static void edit(struct editor *e, unsigned char key) {
    switch (key) {
    case CTRL('A'):
        move_to(e, line_begin(e, e->cursor));
        break;
    case CTRL('B'):
        move_to(e, char_before(e, e->cursor));
        break;
    case CTRL('D'):
        erase(e, e->cursor, char_after(e, e->cursor));
        break;
    case CTRL('E'):
        move_to(e, line_end(e, e->cursor));
        break;
    case CTRL('F'):
        move_to(e, char_after(e, e->cursor));
        break;
    case CTRL('H'):
    case DELETE:
        erase(e, char_before(e, e->cursor), e->cursor);
        break;
    case CTRL('K'):
        kill_range(e, e->cursor, line_end(e, e->cursor));
        break;
    case CTRL('L'):
        e->clear = true;
        break;
    case CTRL('N'):
        vertical(e, false);
        break;
    case CTRL('P'):
        vertical(e, true);
        break;
    case CTRL('R'):
        search_begin(e);
        break;
    case CTRL('T'):
        swap(e);
        break;
    case CTRL('U'):
        kill_range(e, line_begin(e, e->cursor), e->cursor);
        break;
    case CTRL('W'):
        kill_range(e, blank_before(e, e->cursor), e->cursor);
        break;
    case CTRL('Y'):
        insert(e, e->killed, e->n_killed);
        break;
    default:
        if (key >= 0x20) insert(e, (const char *)&key, 1);
    }
}

enum editor_event editor_feed(struct editor *e, unsigned char byte) {
    if (e->searching && e->n_sequence == 0 && search_feed(e, byte)) return EDITOR_MORE;
    if (e->n_sequence > 0 || byte == ESCAPE) {
        e->completing = 0;
        sequence_feed(e, byte);
        return EDITOR_MORE;
    }
    if (e->pasting) {
        char c = byte == '\r' ? '\n' : (char)byte;
        insert(e, &c, 1);
        return EDITOR_MORE;
    }
    if (byte == '\t') {
        complete(e);
        return EDITOR_MORE;
    }
    e->completing = 0;
    if (byte == '\r' || byte == '\n') return EDITOR_DONE;
    if (byte == CTRL('C')) return EDITOR_INTERRUPT;
    if (byte == CTRL('Z')) return EDITOR_SUSPEND;
    if (byte == CTRL('D') && e->length == 0) return EDITOR_END;
    edit(e, byte);
    return EDITOR_MORE;
}

/* --- the picture --------------------------------------------------------------------------------
 */

/* Where the next character goes. The picture is drawn with explicit line ends, so that it does not
 * matter what a terminal does in its last column. */
struct pen {
    unsigned columns, row, column;
    unsigned first, limit; /* rows that are drawn: first .. first + limit */
    struct text *out;      /* NULL: only measure */
};

static void pen_bytes(const struct pen *pen, const char *bytes, size_t n) {
    if (pen->out && pen->row >= pen->first && pen->row < pen->first + pen->limit)
        text_add(pen->out, bytes, n);
}

static void pen_line(struct pen *pen) {
    if (pen->row + 1 < pen->first + pen->limit) pen_bytes(pen, "\r\n", 2);
    pen->row++;
    pen->column = 0;
}

static void pen_char(struct pen *pen, const char *bytes, size_t n, unsigned width) {
    if (pen->column + width > pen->columns) pen_line(pen);
    pen_bytes(pen, bytes, n);
    pen->column += width;
    if (pen->column >= pen->columns) pen_line(pen);
}

static void pen_string(struct pen *pen, const char *string) {
    for (; *string; string++) pen_char(pen, string, 1, 1);
}

static void pen_prompt(const struct editor *e, struct pen *pen) {
    if (e->searching) {
        pen_string(pen, "(search \"");
        pen_string(pen, e->pattern);
        pen_string(pen, "\") ");
        return;
    }
    if (e->prompt_on) pen_bytes(pen, e->prompt_on, strlen(e->prompt_on));
    pen_string(pen, e->prompt);
    if (e->prompt_off) pen_bytes(pen, e->prompt_off, strlen(e->prompt_off));
}

/* text[from .. to) */
static void pen_text(const struct editor *e, struct pen *pen, size_t from, size_t to) {
    while (from < to) {
        uint32_t c;
        unsigned width;
        size_t n = char_at(e, from, &c, &width);
        if (c == '\n')
            pen_line(pen);
        else if (c == '\t')
            pen_char(pen, " ", 1, 1);
        else if (c == UTF8_BAD || c < 0x20 || (c >= DELETE && c < 0xA0))
            pen_char(pen, "?", 1, 1);
        else
            pen_char(pen, e->text + from, n, width);
        from += n;
    }
}

/* Only letters were added at the end, and they fit the row: no need to draw all of it again. */
static bool draw_end(struct editor *e, const struct pen *end, struct text *out) {
    bool grown = e->drawn && !e->clear && e->drawn_length <= e->length && e->cursor == e->length &&
                 e->columns == end->columns && e->row + 1 == e->rows && end->row + 1 == e->rows &&
                 end->row < end->limit && end->column > 0;
    if (!grown) return false;
    struct pen pen = {.columns = SIZE_MAX >> 33, .limit = 1, .out = out};
    pen_text(e, &pen, e->drawn_length, e->length);
    e->drawn_length = e->length;
    return true;
}

static void move(struct text *out, unsigned n, char way) {
    char bytes[16];
    if (n > 0) text_add(out, bytes, (size_t)snprintf(bytes, sizeof bytes, "\033[%u%c", n, way));
}

void editor_draw(struct editor *e, unsigned columns, unsigned rows, struct text *out) {
    if (columns < 2) columns = 2;
    if (rows < 1) rows = 1;
    struct pen cursor = {.columns = columns};
    pen_prompt(e, &cursor);
    pen_text(e, &cursor, 0, e->cursor);
    struct pen end = cursor;
    end.limit = rows;
    pen_text(e, &end, e->cursor, e->length);
    if (draw_end(e, &end, out)) return;

    if (e->clear) text_add_string(out, "\033[H\033[2J");
    if (e->drawn && !e->clear) {
        move(out, e->row, 'A');
        text_add_string(out, "\r\033[J");
    }
    /* Of a text that is too long for the screen, the rows around the cursor. */
    unsigned first = cursor.row >= rows ? cursor.row - rows + 1 : 0;
    struct pen pen = {.columns = columns, .first = first, .limit = rows, .out = out};
    pen_prompt(e, &pen);
    pen_text(e, &pen, 0, e->length);
    unsigned last = end.row < first + rows ? end.row : first + rows - 1;
    move(out, last - cursor.row, 'A');
    if (cursor.row != end.row || cursor.column != end.column) {
        text_add_string(out, "\r");
        move(out, cursor.column, 'C');
    }
    e->clear = false;
    e->drawn = true;
    e->drawn_length = e->searching ? SIZE_MAX : e->length;
    e->columns = columns;
    e->rows = last - first + 1;
    e->row = cursor.row - first;
}

void editor_leave(struct editor *e, struct text *out) {
    if (!e->drawn) return;
    move(out, e->rows - 1 - e->row, 'B');
    text_add_string(out, "\r\n");
    e->drawn = false;
}
