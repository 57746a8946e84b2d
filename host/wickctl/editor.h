/* editor: one line, or several, being typed: keys in, text and what a terminal is to show out.
 *
 * Knows no terminal: editor_feed takes bytes as a terminal sends them, editor_draw gives the bytes
 * that show the result, in the escape sequences that every terminal of the last forty years reads.
 *
 *   left right, Ctrl-B Ctrl-F, Alt-B Alt-F      by characters, by words
 *   Home End, Ctrl-A Ctrl-E                     to the ends of the line
 *   up down, Ctrl-P Ctrl-N                      lines typed before; inside a long text, its lines
 *   Ctrl-R                                      search in them
 *   Backspace, Delete, Ctrl-D                   delete
 *   Ctrl-W Alt-Backspace Alt-D Ctrl-U Ctrl-K    delete words, to the ends of the line; Ctrl-Y: back
 *   Ctrl-T Ctrl-L Tab                           swap, clear the screen, complete
 *   Alt-Enter                                   a line feed; pasted ones are kept, too */
#ifndef WICKCTL_EDITOR_H
#define WICKCTL_EDITOR_H

#include <stdbool.h>
#include <stddef.h>

#include "history.h"

enum { EDITOR_TEXT_MAX = 1 << 17, EDITOR_PATTERN_MAX = 128 };

enum editor_event {
    EDITOR_MORE,      /* go on */
    EDITOR_DONE,      /* Enter */
    EDITOR_END,       /* Ctrl-D where there is no text */
    EDITOR_INTERRUPT, /* Ctrl-C: the text is gone */
    EDITOR_SUSPEND    /* Ctrl-Z */
};

/* The nth (from 0) completion of text[0..length) as a whole new text of at most `room` bytes, or
 * 0. */
typedef size_t editor_complete(void *context, const char *text, size_t length, unsigned nth,
                               char *out, size_t room);

struct editor {
    const char *prompt; /* printable ASCII; may be coloured by the two below */
    const char *prompt_on, *prompt_off;
    editor_complete *complete; /* NULL: none */
    void *complete_context;
    struct history *history;

    char text[EDITOR_TEXT_MAX + 1];
    size_t length, cursor;
    char killed[EDITOR_TEXT_MAX]; /* what Ctrl-Y brings back */
    size_t n_killed;
    char held[EDITOR_TEXT_MAX +
              1];        /* the new line, while one of before is shown; the completed one */
    size_t at;           /* line of the history that is shown; its number: the new one */
    unsigned completing; /* 1 + which completion is shown; 0: none */
    size_t n_completing; /* bytes of held that are completed */

    char sequence[16]; /* an escape sequence that has begun */
    size_t n_sequence;
    bool pasting;
    bool searching;
    char pattern[EDITOR_PATTERN_MAX];
    size_t n_pattern;

    /* what is on the screen */
    bool drawn, clear;
    size_t drawn_length; /* text that is shown, its cursor at the end; SIZE_MAX: otherwise */
    unsigned rows, row, columns; /* of the text's picture; row of the cursor in it */
};

/* A new, empty text. The prompt, completion and history stay as they are set. */
void editor_begin(struct editor *editor);

/* Puts a text there to be changed, the cursor at its end. */
void editor_fill(struct editor *editor, const char *text);

enum editor_event editor_feed(struct editor *editor, unsigned char byte);

/* What makes a terminal of that size show the text, where editor_draw has drawn it last. The bytes
 * are added to *out. */
struct text;
void editor_draw(struct editor *editor, unsigned columns, unsigned rows, struct text *out);

/* Leaves the text on the screen, the cursor on the line below. */
void editor_leave(struct editor *editor, struct text *out);

#endif
