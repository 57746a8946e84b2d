#include "lab/diff.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/session.h"
#include "lab/windows.h"
#include "show/progress.h"
#include "show/quantile.h"

/* Both read the same tokens in steps of `step`; A's logits of a step are kept for B's. */
struct diff {
    struct session a, b;
    struct windows windows;
    struct progress progress;
    uint32_t vocab, step, first; /* position of the first of a step */
    float *kept;                 /* (step, vocab) */
    double *kl;                  /* (total) */
    size_t judged, total, agree;
    double sum_a, sum_b; /* of -log p of the text's own tokens */
};

static void row_keep(void *context, uint32_t index, const float *logits) {
    struct diff *diff = context;
    memcpy(diff->kept + (size_t)(index - diff->first) * diff->vocab, logits,
           diff->vocab * sizeof *logits);
}

/* log(sum(exp(x))), in float64. */
static double log_sum_exp(const float *logits, uint32_t vocab) {
    return windows_surprise(logits, vocab, 0) + (double)logits[0];
}

/* KL(A || B) = sum p_A (log p_A - log p_B). Rounding may leave it a hair below zero. */
static double divergence(const float *a, const float *b, uint32_t vocab) {
    double all_a = log_sum_exp(a, vocab), all_b = log_sum_exp(b, vocab), sum = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        double log_a = (double)a[i] - all_a;
        sum += exp(log_a) * (log_a - ((double)b[i] - all_b));
    }
    return sum > 0 ? sum : 0;
}

static void row_compare(void *context, uint32_t index, const float *logits) {
    struct diff *diff = context;
    int32_t target = windows_target(&diff->windows, index);
    if (target < 0) return;
    const float *kept = diff->kept + (size_t)(index - diff->first) * diff->vocab;
    diff->kl[diff->judged++] = divergence(kept, logits, diff->vocab);
    diff->agree += session_argmax(kept, diff->vocab) == session_argmax(logits, diff->vocab);
    diff->sum_a += windows_surprise(kept, diff->vocab, target);
    diff->sum_b += windows_surprise(logits, diff->vocab, target);
    progress_tell(&diff->progress, (double)diff->judged, (double)diff->total);
}

/* The second's settings: the first's, but for what was given for it. */
static bool config_of_b(const struct config *a, struct config *b, struct fault *fault) {
    *b = *a;
    if (a->model_b != NULL) b->model = a->model_b;
    if (a->backend_b != NULL && !config_set(b, CONFIG_DIFF, "backend", a->backend_b, fault))
        return false;
    return a->isa_b == NULL || config_set(b, CONFIG_DIFF, "isa", a->isa_b, fault);
}

/* The same numbers must mean the same tokens. */
static bool vocabularies_agree(const struct vocab *a, const struct vocab *b, struct fault *fault) {
    bool same = a->n_tokens == b->n_tokens && a->text_bytes == b->text_bytes &&
                memcmp(a->text, b->text, a->text_bytes) == 0;
    return same || fault_set(fault, FAULT_INVALID_REQUEST,
                             "the models have different vocabularies (%u and %u tokens): what they "
                             "say cannot be compared",
                             a->n_tokens, b->n_tokens);
}

static bool open_both(struct diff *diff, const struct config *config, struct fault *fault) {
    static struct config other;
    if (!config_of_b(config, &other, fault)) return false;
    cpu_set_t allowed;
    bool known = sched_getaffinity(0, sizeof allowed, &allowed) == 0;
    if (!session_open(&diff->a, config, true, fault)) return false;
    if (known) sched_setaffinity(0, sizeof allowed, &allowed); /* the first's team has pinned us */
    /* One context for both, or windows would differ. */
    other.ctx = diff->a.engine.ctx;
    if (!session_open(&diff->b, &other, true, fault)) return false;
    if (!vocabularies_agree(&diff->a.engine.vocab, &diff->b.engine.vocab, fault)) return false;
    if (diff->b.engine.ctx != diff->a.engine.ctx)
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "ctx: the second model takes %u tokens, the first %u; set ctx=",
                         diff->b.engine.ctx, diff->a.engine.ctx);
    if (!windows_open(&diff->windows, &diff->a, config, fault)) return false;
    diff->vocab = diff->a.engine.model.geo.vocab;
    diff->step = config->chunk;
    diff->total = windows_judged(&diff->windows);
    diff->kept = malloc((size_t)(diff->step + 1) * diff->vocab * sizeof *diff->kept);
    diff->kl = malloc(diff->total * sizeof *diff->kl);
    if (diff->kept == NULL || diff->kl == NULL)
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
    return true;
}

static bool compare(struct diff *diff, struct fault *fault) {
    progress_begin(&diff->progress, "comparing", "tokens");
    while (windows_next(&diff->windows)) {
        size_t at_a = 0, at_b = 0;
        windows_begin(&diff->windows, &diff->a);
        windows_begin(&diff->windows, &diff->b);
        while (windows_add(&diff->windows, &diff->a, diff->step, &at_a)) {
            windows_add(&diff->windows, &diff->b, diff->step, &at_b);
            diff->first = diff->a.n_fed;
            if (!session_feed(&diff->a, false, row_keep, diff, fault)) return false;
            if (!session_feed(&diff->b, false, row_compare, diff, fault)) return false;
        }
    }
    progress_end(&diff->progress);
    return true;
}

static void side_print(const char *name, const struct session *session) {
    const struct engine *engine = &session->engine;
    printf("%-10s %s, %s; %s %s; %s\n", name, engine->model.geo.name,
           engine->model.geo.quantisation, engine->backend->info.name, engine->backend->info.isa,
           session->config.model);
}

static void result_print(struct diff *diff, bool json) {
    size_t n = diff->judged;
    double mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++) mean += diff->kl[i] / (double)n;
    for (size_t i = 0; i < n; i++) squares += (diff->kl[i] - mean) * (diff->kl[i] - mean);
    double error = n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0;
    double agree = (double)diff->agree / (double)n;
    double a = exp(diff->sum_a / (double)n), b = exp(diff->sum_b / (double)n);
    quantile_sort(diff->kl, n);
    double median = quantile_of(diff->kl, n, 0.5), p90 = quantile_of(diff->kl, n, 0.9);
    double p99 = quantile_of(diff->kl, n, 0.99), most = quantile_of(diff->kl, n, 1);
    if (json) {
        printf("{\"judged\":%zu,\"kl_mean\":%.9g,\"kl_error\":%.6g,\"kl_median\":%.9g,"
               "\"kl_p90\":%.9g,\"kl_p99\":%.9g,\"kl_max\":%.9g,\"top1_agreement\":%.9g,"
               "\"perplexity_a\":%.9g,\"perplexity_b\":%.9g,\"isa_a\":\"%s\",\"isa_b\":\"%s\"}\n",
               n, mean, error, median, p90, p99, most, agree, a, b,
               diff->a.engine.backend->info.isa, diff->b.engine.backend->info.isa);
        return;
    }
    side_print("A", &diff->a);
    side_print("B", &diff->b);
    printf("judged     %zu tokens\n", n);
    printf("KL(A || B) %.3e +- %.1e mean; %.3e median, %.3e 90 %%, %.3e 99 %%, %.3e max\n", mean,
           error, median, p90, p99, most);
    printf("top 1      %.3f %% the same\n", 100 * agree);
    printf("perplexity %.4f of A, %.4f of B, %+.4f %%\n", a, b, 100 * (b / a - 1));
}

int diff_run(const struct config *config) {
    static struct diff diff; /* the sessions are big */
    struct fault fault = {0};
    bool fine = open_both(&diff, config, &fault) && compare(&diff, &fault);
    progress_end(&diff.progress);
    if (!fine) return session_fail(&fault);
    result_print(&diff, config->json);
    free(diff.kept);
    free(diff.kl);
    windows_close(&diff.windows);
    session_close(&diff.a);
    session_close(&diff.b);
    return fflush(stdout) == 0 ? 0 : 1;
}
