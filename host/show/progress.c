#include "show/progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { DRAW_NS = 100 * 1000 * 1000, BAR_CELLS = 24, COLUMNS = 80 };

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static size_t terminal_columns(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return COLUMNS;
    return size.ws_col;
}

void progress_begin(struct progress *progress, const char *label, const char *unit) {
    *progress = (struct progress){.label = label, .unit = unit, .begun_ns = now_ns()};
}

size_t progress_format(const struct progress *progress, double done, double total, double seconds,
                       size_t columns, char line[PROGRESS_LINE_MAX]) {
    int n = snprintf(line, PROGRESS_LINE_MAX, "%s", progress->label);
    double share = total > 0 ? done / total : 0;
    if (share > 1) share = 1;
    if (total > 0) {
        char bar[BAR_CELLS + 1];
        for (int i = 0; i < BAR_CELLS; i++) bar[i] = i < (int)(share * BAR_CELLS) ? '#' : '.';
        bar[BAR_CELLS] = 0;
        n += snprintf(line + n, PROGRESS_LINE_MAX - (size_t)n, " [%s] %3.0f%%", bar, share * 100);
    }
    if (progress->unit) {
        n += snprintf(line + n, PROGRESS_LINE_MAX - (size_t)n, "  %.0f %s", done, progress->unit);
        if (seconds > 0 && done > 0)
            n += snprintf(line + n, PROGRESS_LINE_MAX - (size_t)n, ", %.0f/s", done / seconds);
    }
    if (share > 0)
        n += snprintf(line + n, PROGRESS_LINE_MAX - (size_t)n, ", %.0f s left",
                      seconds * (1 - share) / share);
    else
        n += snprintf(line + n, PROGRESS_LINE_MAX - (size_t)n, ", %.0f s", seconds);
    size_t length = (size_t)n < PROGRESS_LINE_MAX ? (size_t)n : PROGRESS_LINE_MAX - 1;
    if (length >= columns) length = columns > 0 ? columns - 1 : 0; /* the last column may wrap */
    line[length] = 0;
    return length;
}

void progress_tell(struct progress *progress, double done, double total) {
    uint64_t now = now_ns();
    if (progress->shown && now - progress->drawn_ns < DRAW_NS) return;
    if (!isatty(STDERR_FILENO)) return;
    char line[PROGRESS_LINE_MAX];
    double seconds = (double)(now - progress->begun_ns) * 1e-9;
    progress_format(progress, done, total, seconds, terminal_columns(), line);
    fprintf(stderr, "\r\033[K%s", line);
    progress->shown = true;
    progress->drawn_ns = now;
}

void progress_end(struct progress *progress) {
    if (progress->shown) fputs("\r\033[K", stderr);
    progress->shown = false;
}
