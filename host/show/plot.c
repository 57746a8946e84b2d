#include "show/plot.h"

#include <math.h>

/* In pixels of the picture. */
enum {
    WIDTH = 720,
    HEIGHT = 300, /* of a panel */
    LEFT = 80,
    RIGHT = 150, /* the names of the lines */
    TOP = 44,
    BOTTOM = 52,
    TICKS = 6 /* fewer than so many steps from 0 to the top */
};

static const char *const colors[PLOT_LINES_MAX] = {"#1f6f8b", "#c8553d", "#588157", "#7d5ba6"};

size_t plot_ticks(double most, double ticks[PLOT_TICKS_MAX]) {
    if (!(most > 0) || !isfinite(most)) most = 1;
    double power = pow(10, floor(log10(most))), step = power;
    static const double steps[] = {0.1, 0.2, 0.5, 1, 2};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        step = steps[i] * power;
        if (ceil(most / step - 1e-9) < TICKS) break;
    }
    size_t n = 0;
    do ticks[n] = (double)n * step;
    while (ticks[n++] < most - 1e-9 * step && n < PLOT_TICKS_MAX);
    return n;
}

static void text_write(FILE *out, const char *text) {
    for (; *text; text++) {
        if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '<')
            fputs("&lt;", out);
        else
            fputc(*text, out);
    }
}

static void label(FILE *out, double x, double y, const char *anchor, const char *text) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    text_write(out, text);
    fputs("</text>\n", out);
}

/* Where numbers lie in the picture. */
struct frame {
    const struct plot *plot;
    double top, most;
};

static double x_place(const struct frame *frame, double x) {
    const struct plot *plot = frame->plot;
    double first = plot->x[0], last = plot->x[plot->n - 1], share = 0.5;
    if (plot->x_doubles && last > first && first > 0)
        share = log2(x / first) / log2(last / first);
    else if (last > first)
        share = (x - first) / (last - first);
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static double y_place(const struct frame *frame, double y) {
    return frame->top + HEIGHT - BOTTOM - y / frame->most * (HEIGHT - TOP - BOTTOM);
}

static void axes_write(FILE *out, const struct frame *frame, const double *ticks, size_t n) {
    const struct plot *plot = frame->plot;
    char number[32];
    for (size_t i = 0; i < n; i++) {
        double y = y_place(frame, ticks[i]);
        fprintf(out, "<path d=\"M%d %.1fH%d\" stroke=\"%s\"/>\n", LEFT, y, WIDTH - RIGHT,
                i == 0 ? "#333" : "#ddd");
        snprintf(number, sizeof number, "%g", ticks[i]);
        label(out, LEFT - 8, y + 4, "end", number);
    }
    double last = -HEIGHT;
    for (size_t i = 0; i < plot->n; i++) {
        double x = x_place(frame, plot->x[i]);
        if (x - last < 28) continue; /* the numbers would touch */
        last = x;
        snprintf(number, sizeof number, "%g", plot->x[i]);
        label(out, x, frame->top + HEIGHT - BOTTOM + 18, "middle", number);
    }
    label(out, (LEFT + WIDTH - RIGHT) / 2.0, frame->top + HEIGHT - 14, "middle", plot->x_title);
    label(out, LEFT - 8, frame->top + TOP - 14, "end", plot->y_title);
    fputs("<g font-weight=\"bold\">", out);
    label(out, LEFT, frame->top + TOP - 14, "start", plot->title);
    fputs("</g>\n", out);
}

static void line_write(FILE *out, const struct frame *frame, size_t at) {
    const struct plot *plot = frame->plot;
    const struct plot_line *line = &plot->line[at];
    const char *color = colors[at];
    double y = y_place(frame, line->y[line->flat ? 0 : plot->n - 1]);
    if (line->flat) {
        fprintf(out, "<path d=\"M%d %.1fH%d\" stroke=\"%s\" stroke-dasharray=\"6 4\"/>\n", LEFT, y,
                WIDTH - RIGHT, color);
    } else {
        fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color);
        for (size_t i = 0; i < plot->n; i++)
            fprintf(out, "%.1f,%.1f ", x_place(frame, plot->x[i]), y_place(frame, line->y[i]));
        fputs("\"/>\n", out);
        for (size_t i = 0; i < plot->n; i++)
            fprintf(out,
                    "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"><title>%g: %g</title>"
                    "</circle>\n",
                    x_place(frame, plot->x[i]), y_place(frame, line->y[i]), color, plot->x[i],
                    line->y[i]);
    }
    double row = frame->top + TOP + 16.0 * (double)at;
    fprintf(out, "<path d=\"M%d %.1fh16\" stroke=\"%s\" stroke-width=\"2\"%s/>\n",
            WIDTH - RIGHT + 16, row - 4, color, line->flat ? " stroke-dasharray=\"6 4\"" : "");
    label(out, WIDTH - RIGHT + 38, row, "start", line->name);
}

static void panel_write(FILE *out, const struct plot *plot, double top) {
    double most = 0, ticks[PLOT_TICKS_MAX];
    for (size_t i = 0; i < plot->n_lines; i++)
        for (size_t k = 0; k < (plot->line[i].flat ? 1 : plot->n); k++)
            if (plot->line[i].y[k] > most) most = plot->line[i].y[k];
    size_t n = plot_ticks(most, ticks);
    struct frame frame = {.plot = plot, .top = top, .most = ticks[n - 1]};
    axes_write(out, &frame, ticks, n);
    for (size_t i = 0; i < plot->n_lines; i++) line_write(out, &frame, i);
}

bool plot_write(const char *path, const struct plot *plots, size_t n) {
    FILE *out = fopen(path, "we");
    if (!out) return false;
    int height = HEIGHT * (int)n;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            WIDTH, height, WIDTH, height);
    for (size_t i = 0; i < n; i++) panel_write(out, &plots[i], (double)(HEIGHT * (int)i));
    fputs("</svg>\n", out);
    bool fine = !ferror(out);
    return fclose(out) == 0 && fine;
}
