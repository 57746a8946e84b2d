#include "lab/feed.h"

#include <stddef.h>

static void ignore_row(void *context, uint32_t index, const float *logits) {
    (void)context;
    (void)index;
    (void)logits;
}

int32_t feed_token(const struct session *session, uint32_t at) {
    return (int32_t)((at * 7919u + 13u) % session->engine.model.geo.vocab);
}

void feed_begin(struct session *session) {
    session->n_tokens = session->n_fed = 0;
}

bool feed_tokens(struct session *session, uint32_t count, bool one_by_one, double *tokens_per_s,
                 struct fault *fault) {
    uint64_t took_ns = 0;
    for (uint32_t i = 0; i < count; i++) {
        session_append(session, feed_token(session, session->n_tokens));
        if (!one_by_one && i + 1 < count) continue;
        if (!session_feed(session, true, ignore_row, NULL, fault)) return false;
        took_ns += session->fed_ns;
    }
    if (tokens_per_s != NULL) *tokens_per_s = count / ((double)took_ns * 1e-9);
    return true;
}

double feed_bytes_per_token(const struct session *session, double depth, double sequences) {
    const struct engine *engine = &session->engine;
    const struct backend_info *info = &engine->backend->info;
    double weights = (double)info->weight_bytes;
    if (!engine->model.geo.tied) weights -= (double)engine->model.token_embd.bytes;
    double kv_per_token = (double)info->kv_bytes / info->n_pages / KV_PAGE_TOKENS;
    return weights / sequences + kv_per_token * depth;
}

double feed_ops_per_token(const struct session *session) {
    const struct model *model = &session->engine.model;
    double products = 0;
    for (uint32_t i = 0; i < model->geo.n_layers; i++) {
        const struct model_layer *l = &model->layer[i];
        const struct model_tensor *matrix[] = {&l->q,    &l->k,  &l->v,   &l->attn_out,
                                               &l->gate, &l->up, &l->down};
        for (size_t m = 0; m < sizeof matrix / sizeof matrix[0]; m++)
            products += (double)matrix[m]->rows * matrix[m]->cols;
    }
    return 2 * products;
}
