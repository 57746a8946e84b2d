#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "show/completion.h"
#include "show/manual.h"
#include "show/plot.h"
#include "show/progress.h"
#include "show/quantile.h"

Test(quantile, lies_between_the_values_around_it) {
    double values[] = {4, 1, 3, 2};
    quantile_sort(values, 4);
    cr_assert_eq(quantile_of(values, 4, 0), 1);
    cr_assert_eq(quantile_of(values, 4, 0.5), 2.5);
    cr_assert_eq(quantile_of(values, 4, 1), 4);
    cr_assert_float_eq(quantile_of(values, 4, 0.9), 3.7, 1e-12);
    cr_assert_eq(quantile_of(values, 1, 0.99), 1);
    cr_assert_eq(quantile_of(values, 0, 0.5), 0);
}

Test(progress, tells_the_share_the_rate_and_what_is_left) {
    struct progress progress = {.label = "scoring", .unit = "tokens"};
    char line[PROGRESS_LINE_MAX];
    progress_format(&progress, 100, 400, 2, 100, line);
    cr_assert_str_eq(line, "scoring [######..................]  25%  100 tokens, 50/s, 6 s left");
    progress_format(&progress, 500, 400, 2, 100, line);
    cr_assert_not_null(strstr(line, "100%"));
    progress.unit = NULL;
    progress_format(&progress, 0, 0, 3, 100, line);
    cr_assert_str_eq(line, "scoring, 3 s");
    cr_assert_eq(progress_format(&progress, 1, 2, 3, 20, line), 19);
    cr_assert_eq(strlen(line), 19);
}

Test(plot, ticks_are_round_and_reach_the_top) {
    static const double tops[] = {0.013, 0.9, 1, 7, 10, 99, 101, 4168, 1e9};
    for (size_t i = 0; i < sizeof tops / sizeof tops[0]; i++) {
        double ticks[PLOT_TICKS_MAX];
        size_t n = plot_ticks(tops[i], ticks);
        cr_assert(n >= 2 && n <= PLOT_TICKS_MAX, "%g: %zu", tops[i], n);
        cr_assert_eq(ticks[0], 0);
        cr_assert(ticks[n - 1] >= tops[i] * (1 - 1e-9), "%g: %g", tops[i], ticks[n - 1]);
        cr_assert(ticks[n - 1] < tops[i] * 2.01, "%g: %g", tops[i], ticks[n - 1]);
    }
    double ticks[PLOT_TICKS_MAX];
    cr_assert_eq(plot_ticks(0, ticks) >= 2, 1);
}

/* What was written to a temporary file, terminated. */
static char *read_back(FILE *file) {
    static char text[1 << 16];
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    return text;
}

Test(manual, what_is_roffs_own_is_escaped) {
    FILE *file = tmpfile();
    struct manual manual;
    manual_begin(&manual, file, "tool", "1", "does-it");
    manual_section(&manual, "OPTIONS");
    manual_text(&manual, "one\ntwo\n\n.three");
    manual_item(&manual, "--key", "'quoted' \\n ~/x");
    const char *text = read_back(file);
    cr_assert_not_null(strstr(text, "tool \\- does\\-it\n"));
    cr_assert_not_null(strstr(text, ".SH \"OPTIONS\"\none two\n.PP\n\\&.three\n"), "%s", text);
    cr_assert_not_null(strstr(text, "\\fB\\-\\-key\\fR\n\\&'quoted' \\en \\(ti/x\n"), "%s", text);
}

Test(completion, other_shells_are_refused) {
    struct completion completion = {.program = "tool"};
    cr_assert_not(completion_write(&completion, "fish", stdout));
}

Test(plot, is_an_svg_with_every_line) {
    double x[] = {1, 2, 4}, y[] = {10, 20, 15}, limit[] = {25};
    struct plot plot = {.title = "a < b & c",
                        .x_title = "x",
                        .y_title = "y",
                        .x = x,
                        .n = 3,
                        .x_doubles = true,
                        .line = {{"up", y, false}, {"top", limit, true}},
                        .n_lines = 2};
    char path[] = "/tmp/wick-test-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert(plot_write(path, &plot, 1));
    const char *text = read_back(fopen(path, "r"));
    unlink(path);
    cr_assert_not_null(strstr(text, "a &lt; b &amp; c"));
    cr_assert_not_null(strstr(text, "<polyline"));
    cr_assert_not_null(strstr(text, "stroke-dasharray"));
    cr_assert_not_null(strstr(text, "4: 15"));
    /* Doublings are steps of equal length. */
    cr_assert_not_null(strstr(text, "points=\"80.0,"));
    cr_assert_not_null(strstr(text, " 325.0,"));
    cr_assert_not_null(strstr(text, " 570.0,"));
    cr_assert_not(plot_write("/nonexistent/x.svg", &plot, 1));
}
