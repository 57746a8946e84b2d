/* plot: lines over a common x, as an SVG that needs nothing but a browser: panels one above the
 * other. */
#ifndef SHOW_PLOT_H
#define SHOW_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { PLOT_LINES_MAX = 4, PLOT_TICKS_MAX = 12 };

struct plot_line {
    const char *name;
    const double *y;
    bool flat; /* a limit: y[0] everywhere, dashed */
};

struct plot {
    const char *title, *x_title, *y_title;
    const double *x; /* n of them, rising */
    size_t n;
    bool x_doubles; /* x is told by powers of two */
    struct plot_line line[PLOT_LINES_MAX];
    size_t n_lines;
};

/* False: the file cannot be written (errno). */
bool plot_write(const char *path, const struct plot *plots, size_t n);

/* Round numbers from 0 to at least `most`, at most PLOT_TICKS_MAX: steps of 1, 2 or 5 times a power
 * of ten. Returns how many. */
size_t plot_ticks(double most, double ticks[PLOT_TICKS_MAX]);

#endif
