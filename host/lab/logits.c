#include "logits.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "session.h"

enum { LOGITS_TOP = 20 };

struct report {
    const struct session *session;
    uint32_t n_prompt; /* rows from here on are greedy */
    int32_t best;      /* of the row last printed */
};

/* The n largest, best first, the lower id first of equals; returns how many there are. */
static uint32_t top_find(const float *logits, uint32_t vocab, uint32_t n, uint32_t *ids) {
    uint32_t found = 0;
    for (uint32_t id = 0; id < vocab; id++) {
        if (found == n && !(logits[id] > logits[ids[n - 1]])) continue;
        uint32_t at = found < n ? found++ : n - 1;
        for (; at > 0 && logits[id] > logits[ids[at - 1]]; at--) ids[at] = ids[at - 1];
        ids[at] = id;
    }
    return found;
}

/* log(sum(exp(x))) = max + log(sum(exp(x - max))). */
static double log_sum_exp(const float *logits, uint32_t vocab, float max) {
    double sum = 0.0;
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - (double)max);
    return (double)max + log(sum);
}

static void row_print(void *context, uint32_t index, const float *logits) {
    struct report *report = context;
    const uint32_t vocab = report->session->engine.model.geo.vocab;
    uint32_t top[LOGITS_TOP] = {0};
    uint32_t n = top_find(logits, vocab, LOGITS_TOP, top);
    bool greedy = index >= report->n_prompt;
    printf("%s\t%" PRIu32 "\t%" PRId32 "\t%.6f\t", greedy ? "greedy" : "prompt",
           greedy ? index - report->n_prompt : index, report->session->tokens[index],
           log_sum_exp(logits, vocab, logits[top[0]]));
    for (uint32_t i = 0; i < n; i++)
        printf("%s%" PRIu32 ":%.5f", i > 0 ? " " : "", top[i], (double)logits[top[i]]);
    printf("\n");
    report->best = (int32_t)top[0];
}

static bool report_print(struct session *session, const struct config *config,
                         struct fault *fault) {
    if (!session_open(session, config, true, fault)) return false;
    if (!session_prompt(session, config->max_tokens, fault)) return false;
    struct report report = {.session = session, .n_prompt = session->n_tokens};
    printf("# kind\tindex\ttoken\tlogsumexp\ttop%d id:logit\n", (int)LOGITS_TOP);
    if (!session_feed(session, false, row_print, &report, fault)) return false;
    for (uint32_t i = 0; i < config->max_tokens; i++) {
        session_append(session, report.best);
        if (!session_feed(session, false, row_print, &report, fault)) return false;
    }
    return true;
}

int logits_run(const struct config *config) {
    static struct session session;
    struct fault fault = {0};
    if (!report_print(&session, config, &fault)) return session_fail(&fault);
    session_close(&session);
    return fflush(stdout) == 0 ? 0 : 1;
}
