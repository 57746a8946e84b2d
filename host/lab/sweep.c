#include "lab/sweep.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lab/batch.h"
#include "lab/feed.h"
#include "show/plot.h"
#include "show/progress.h"
#include "show/quantile.h"

enum { POINTS_MAX = 24, ROUNDS_MAX = 1000 };

struct sweep {
    struct session *session;
    enum { SWEEP_ROWS, SWEEP_DEPTH, SWEEP_BATCH } kind;
    double fill; /* BATCH: tokens/s of the prompt in front */
    size_t n;
    double x[POINTS_MAX], y[POINTS_MAX]; /* tokens/s: medians */
    double limit[POINTS_MAX];            /* by the read bandwidth */
};

static const char *const names[] = {"rows", "depth", "batch"};

/* Doublings up to the chunk or to the sequences, or equal steps through the context. */
static void points_choose(struct sweep *sweep, uint32_t decode_tokens) {
    const struct session *s = sweep->session;
    enum { DEPTHS = 9 };
    uint32_t ctx = s->engine.ctx;
    if (sweep->kind != SWEEP_DEPTH) {
        uint32_t most = sweep->kind == SWEEP_BATCH ? s->config.batch : s->config.chunk;
        if (sweep->kind == SWEEP_ROWS && most > ctx) most = ctx;
        for (uint32_t rows = 1; rows <= most; rows *= 2) sweep->x[sweep->n++] = rows;
        return;
    }
    uint32_t deepest = ctx > decode_tokens ? ctx - decode_tokens : 0;
    for (int i = 0; i < DEPTHS; i++) {
        uint64_t depth = deepest * (uint64_t)i / (DEPTHS - 1);
        if (sweep->n > 0 && (double)depth <= sweep->x[sweep->n - 1]) continue;
        sweep->x[sweep->n++] = (double)depth;
    }
}

/* Tokens a second at one point. */
static bool point_measure(struct sweep *sweep, size_t at, double *rate, struct fault *fault) {
    struct session *s = sweep->session;
    uint32_t ctx = s->engine.ctx, x = (uint32_t)sweep->x[at];
    if (sweep->kind == SWEEP_BATCH)
        return batch_decode(s, x, s->config.depth, s->config.decode_tokens, rate, fault);
    feed_begin(s);
    if (sweep->kind == SWEEP_DEPTH) {
        uint32_t count = s->config.decode_tokens < ctx ? s->config.decode_tokens : ctx;
        return feed_tokens(s, x, false, NULL, fault) && feed_tokens(s, count, true, rate, fault);
    }
    uint32_t chunk = s->config.chunk, count = s->config.prompt_tokens;
    if (count > ctx) count = ctx;
    if (count < x) count = x;
    s->config.chunk = x;
    bool fine = feed_tokens(s, count - count % x, false, rate, fault); /* whole steps */
    s->config.chunk = chunk;
    return fine;
}

static bool points_measure(struct sweep *sweep, struct fault *fault) {
    static double rates[ROUNDS_MAX];
    uint32_t rounds = sweep->session->config.repeat;
    struct progress progress;
    progress_begin(&progress, "measuring", "points");
    for (size_t i = 0; i < sweep->n; i++) {
        for (uint32_t k = 0; k < rounds; k++) {
            progress_tell(&progress, (double)i, (double)sweep->n);
            if (!point_measure(sweep, i, &rates[k], fault)) return false;
        }
        quantile_sort(rates, rounds);
        sweep->y[i] = quantile_of(rates, rounds, 0.5);
    }
    progress_end(&progress);
    return true;
}

static void result_print(const struct sweep *sweep) {
    const struct session *s = sweep->session;
    const struct engine *engine = &s->engine;
    const struct backend_info *info = &engine->backend->info;
    const char *name = names[sweep->kind];
    if (s->config.json) {
        printf("{\"sweep\":\"%s\",\"quantisation\":\"%s\",\"isa\":\"%s\",\"weight_bytes\":%llu,"
               "\"load_s\":%.3f,",
               name, engine->model.geo.quantisation, info->isa,
               (unsigned long long)info->weight_bytes, (double)s->load_ns * 1e-9);
        if (sweep->kind == SWEEP_BATCH)
            printf("\"before\":%u,\"prompt_tokens_per_s\":%.3f,", s->config.depth, sweep->fill);
        printf("\"points\":[");
        for (size_t i = 0; i < sweep->n; i++)
            printf("%s{\"%s\":%.0f,\"tokens_per_s\":%.3f,\"by_bandwidth\":%.3f}", i ? "," : "",
                   name, sweep->x[i], sweep->y[i], sweep->limit[i]);
        printf("]}\n");
        return;
    }
    printf("model    %s, %s, %.1f MB as packed\n", engine->model.geo.name,
           engine->model.geo.quantisation, (double)info->weight_bytes / 1e6);
    printf("machine  %s, isa=%s\n", info->device, info->isa);
    if (sweep->kind == SWEEP_BATCH && s->config.depth > 0)
        printf("prompt   %u tokens of each sequence, %.1f tokens/s\n", s->config.depth,
               sweep->fill);
    printf("rounds   %u, medians\n\n%8s %12s %12s\n", s->config.repeat, name, "tokens/s",
           "of read");
    for (size_t i = 0; i < sweep->n; i++) {
        printf("%8.0f %12.1f", sweep->x[i], sweep->y[i]);
        if (sweep->limit[i] > 0) printf(" %11.1f%%", 100 * sweep->y[i] / sweep->limit[i]);
        printf("\n");
    }
}

static bool result_draw(const struct sweep *sweep, struct fault *fault) {
    const struct session *s = sweep->session;
    char title[256];
    snprintf(title, sizeof title, "%s %s, %s", s->engine.model.geo.name,
             s->engine.model.geo.quantisation, s->engine.backend->info.isa);
    static const char *const x_titles[] = {"prompt tokens of one step", "tokens in the KV cache",
                                           "sequences that decode together"};
    bool rows = sweep->kind == SWEEP_ROWS;
    const struct plot plot = {
        .title = title,
        .x_title = x_titles[sweep->kind],
        .y_title = "tokens/s",
        .x = sweep->x,
        .n = sweep->n,
        .x_doubles = sweep->kind != SWEEP_DEPTH,
        .line = {{rows ? "prompt" : "decode", sweep->y, false},
                 {rows ? "one row, by reading" : "by reading", sweep->limit, rows}},
        .n_lines = sweep->limit[0] > 0 ? 2 : 1};
    return plot_write(s->config.svg, &plot, 1) ||
           fault_set(fault, FAULT_INVALID_REQUEST, "svg: cannot write %s: %s", s->config.svg,
                     strerror(errno));
}

bool sweep_run(struct session *session, double read_bytes_per_s, struct fault *fault) {
    static struct sweep sweep;
    sweep = (struct sweep){.session = session};
    while (sweep.kind < SWEEP_BATCH && strcmp(session->config.sweep, names[sweep.kind]) != 0)
        sweep.kind++;
    points_choose(&sweep, session->config.decode_tokens);
    if (sweep.kind == SWEEP_BATCH &&
        !batch_fill(session, session->config.depth, &sweep.fill, fault))
        return false;
    if (!points_measure(&sweep, fault)) return false;
    for (size_t i = 0; i < sweep.n; i++) {
        const double before[] = {0, sweep.x[i], session->config.depth};
        double depth = before[sweep.kind];
        if (sweep.kind != SWEEP_ROWS) depth += session->config.decode_tokens / 2.0;
        double sequences = sweep.kind == SWEEP_BATCH ? sweep.x[i] : 1;
        sweep.limit[i] = read_bytes_per_s / feed_bytes_per_token(session, depth, sequences);
    }
    result_print(&sweep);
    return session->config.svg == NULL || result_draw(&sweep, fault);
}
