#include "lab/batch.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/panic.h"
#include "lab/feed.h"
#include "show/progress.h"

/* A job's usual top_k: where a backend picks the likeliest tokens itself, all logits stay there. */
enum { CANDIDATES = 40 };

/* Pages of one sequence; those of sequence k begin at k times as many. */
static uint32_t pages_each(const struct session *s) {
    return (uint32_t)(round_up(s->engine.ctx, KV_PAGE_TOKENS) / KV_PAGE_TOKENS);
}

bool batch_fill(struct session *s, uint32_t depth, double *tokens_per_s, struct fault *fault) {
    uint32_t *first = s->pages;
    struct progress progress;
    bool fine = true;
    *tokens_per_s = 0;
    progress_begin(&progress, "filling the KV cache", "sequences");
    for (uint32_t k = 0; k < s->config.batch && depth > 0 && fine; k++) {
        progress_tell(&progress, k, s->config.batch);
        feed_begin(s);
        s->pages = first + (size_t)k * pages_each(s);
        fine = feed_tokens(s, depth, false, tokens_per_s, fault);
    }
    progress_end(&progress);
    s->pages = first;
    feed_begin(s);
    return fine;
}

static bool step(struct session *s, uint32_t sequences, uint32_t position, struct fault *fault) {
    struct backend *backend = s->engine.backend;
    uint32_t candidates = backend->info.candidates;
    if (candidates > CANDIDATES) candidates = CANDIDATES;
    s->batch.n_rows = sequences;
    for (uint32_t k = 0; k < sequences; k++)
        s->batch.row[k] = (struct batch_row){
            .token = feed_token(s, position + k),
            .position = position,
            .pages = s->pages + (size_t)k * pages_each(s),
            .wants = candidates > 0 ? ROW_CANDIDATES : ROW_LOGITS,
            .candidates = candidates,
        };
    return session_step(s, fault);
}

bool batch_decode(struct session *s, uint32_t sequences, uint32_t depth, uint32_t count,
                  double *tokens_per_s, struct fault *fault) {
    wick_assert(sequences <= s->config.batch && depth + count <= s->engine.ctx);
    uint64_t start_ns = clock_ns();
    for (uint32_t i = 0; i < count; i++)
        if (!step(s, sequences, depth + i, fault)) return false;
    double took_s = (double)(clock_ns() - start_ns) * 1e-9;
    *tokens_per_s = (double)sequences * count / took_s;
    return true;
}
