/* history: lines that were typed, the newest last, kept in a file of the person's own. */
#ifndef WICKCTL_HISTORY_H
#define WICKCTL_HISTORY_H

#include <stddef.h>

enum { HISTORY_MAX = 500 };

struct history {
    char *line[HISTORY_MAX];
    size_t n;
    const char *path; /* NULL: it is kept in memory only */
};

/* Reads the file, if there is one. */
void history_open(struct history *history, const char *path);

/* Adds a line, in memory and at the end of the file; not one that equals the last. Line feeds
 * inside are kept. */
void history_add(struct history *history, const char *line);

/* Writes what is kept, and no more, to the file. */
void history_close(struct history *history);

#endif
