/* progress: one line on a terminal's stderr that tells how far something is, and goes away. Without
 * a terminal there is none. */
#ifndef SHOW_PROGRESS_H
#define SHOW_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROGRESS_LINE_MAX = 256 };

struct progress {
    const char *label; /* "scoring" */
    const char *unit;  /* "tokens"; NULL: the share alone */
    bool shown;
    uint64_t begun_ns, drawn_ns;
};

/* Starts the clock; shows nothing yet. */
void progress_begin(struct progress *progress, const char *label, const char *unit);

/* At most ten times a second. total 0: not known; then only what is done and the time are told. */
void progress_tell(struct progress *progress, double done, double total);

/* Takes the line away. */
void progress_end(struct progress *progress);

/* The line itself, `columns` wide at most: "scoring [####....]  40%  400 tokens, 80/s, 8 s left".
 * Returns its length. */
size_t progress_format(const struct progress *progress, double done, double total, double seconds,
                       size_t columns, char line[PROGRESS_LINE_MAX]);

#endif
