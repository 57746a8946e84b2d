/* manual: a manual page, written part by part in the man macros that groff and mandoc read. */
#ifndef SHOW_MANUAL_H
#define SHOW_MANUAL_H

#include <stdbool.h>
#include <stdio.h>

struct manual {
    FILE *out;
    bool fresh; /* a section has begun and is empty */
};

/* name "wickctl", section "1", summary "talks to a wick". */
void manual_begin(struct manual *manual, FILE *out, const char *name, const char *section,
                  const char *summary);

void manual_section(struct manual *manual, const char *title); /* "OPTIONS" */

/* A paragraph. Line feeds are blanks, an empty line ends a paragraph. */
void manual_text(struct manual *manual, const char *text);

/* Lines as they are. */
void manual_example(struct manual *manual, const char *lines);

/* A term, set apart, and what it means. */
void manual_item(struct manual *manual, const char *term, const char *text);

#endif
