#include "lab/score.h"

#include <math.h>
#include <stdio.h>

#include "lab/session.h"
#include "lab/windows.h"
#include "show/progress.h"

struct score {
    struct session session;
    struct windows windows;
    struct progress progress;
    size_t judged, total, n_windows;
    double sum, squares; /* of -log p and of its square */
    uint64_t fed_ns;
    size_t fed; /* tokens read, overlaps and BOS among them */
};

static void row_judge(void *context, uint32_t index, const float *logits) {
    struct score *score = context;
    int32_t target = windows_target(&score->windows, index);
    if (target < 0) return;
    double nll = windows_surprise(logits, score->session.engine.model.geo.vocab, target);
    score->sum += nll;
    score->squares += nll * nll;
    score->judged++;
    progress_tell(&score->progress, (double)score->judged, (double)score->total);
}

static bool judge(struct score *score, const struct config *config, struct fault *fault) {
    struct session *session = &score->session;
    if (!session_open(session, config, true, fault)) return false;
    if (!windows_open(&score->windows, session, config, fault)) return false;
    score->total = windows_judged(&score->windows);
    progress_begin(&score->progress, "scoring", "tokens");
    while (windows_next(&score->windows)) {
        size_t at = 0;
        windows_begin(&score->windows, session);
        windows_add(&score->windows, session, score->windows.room, &at);
        if (!session_feed(session, false, row_judge, score, fault)) return false;
        score->fed_ns += session->fed_ns;
        score->fed += session->n_tokens;
        score->n_windows++;
    }
    progress_end(&score->progress);
    return true;
}

/* The mean of n independent values is off by about their standard deviation / sqrt(n). Tokens of a
 * text are not independent, so that this is the least error to expect. */
static double error_of(const struct score *score, double mean) {
    double n = (double)score->judged, variance = score->squares / n - mean * mean;
    return n > 1 && variance > 0 ? sqrt(variance / (n - 1)) : 0;
}

static void result_print(const struct score *score, bool json) {
    const struct engine *engine = &score->session.engine;
    const struct windows *w = &score->windows;
    double n = (double)score->judged, mean = score->sum / n, error = error_of(score, mean);
    double bits_per_byte = score->sum / log(2.0) / (double)w->bytes;
    double rate = (double)score->fed / ((double)score->fed_ns * 1e-9);
    if (json) {
        printf("{\"bytes\":%zu,\"tokens\":%zu,\"judged\":%zu,\"windows\":%zu,\"ctx\":%u,"
               "\"overlap\":%zu,\"isa\":\"%s\",\"nll\":%.9g,\"nll_error\":%.6g,"
               "\"perplexity\":%.9g,\"bits_per_byte\":%.6g,\"tokens_per_s\":%.3f}\n",
               w->bytes, w->n, score->judged, score->n_windows, engine->ctx, w->overlap,
               engine->backend->info.isa, mean, error, exp(mean), bits_per_byte, rate);
        return;
    }
    printf("model       %s, %s; %s %s\n", engine->model.geo.name, engine->model.geo.quantisation,
           engine->backend->info.name, engine->backend->info.isa);
    printf("text        %zu bytes, %zu tokens, %zu of them judged\n", w->bytes, w->n,
           score->judged);
    printf("windows     %zu of %u tokens, %zu of them from the window before\n", score->n_windows,
           engine->ctx, w->overlap);
    printf("perplexity  %.4f +- %.4f\n", exp(mean), exp(mean) * error);
    printf("-log p      %.5f +- %.5f nats a token; %.4f bits a byte\n", mean, error, bits_per_byte);
    printf("speed       %.1f tokens/s\n", rate);
}

int score_run(const struct config *config) {
    static struct score score; /* the session is big */
    struct fault fault = {0};
    bool fine = judge(&score, config, &fault);
    progress_end(&score.progress);
    if (!fine) return session_fail(&fault);
    result_print(&score, config->json);
    windows_close(&score.windows);
    session_close(&score.session);
    return fflush(stdout) == 0 ? 0 : 1;
}
