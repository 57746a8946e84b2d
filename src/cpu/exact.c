#include "cpu/exact.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/panic.h"
#include "cpu/exact_kv.h"
#include "cpu/exact_parts.h"
#include "cpu/isa.h"

enum {
    LOAD_PIECE_BYTES = 4 << 20, /* copied between two looks at the clock */
    /* A layer is nothing but its tensors, so that they can be counted through. */
    LAYER_TENSORS = sizeof(struct model_layer) / sizeof(struct model_tensor),
    MODEL_TENSORS = 3 /* token_embd, output_norm, output */
};
_Static_assert(sizeof(struct model_layer) == LAYER_TENSORS * sizeof(struct model_tensor),
               "struct model_layer has tensors only");

static uint32_t tensor_count(const struct model_geometry *geo) {
    return MODEL_TENSORS + geo->n_layers * LAYER_TENSORS;
}

/* The i-th tensor of the model. A tied output has no bytes of its own. */
static struct model_tensor model_tensor_at(const struct model *model, uint32_t i) {
    if (i == 0) return model->token_embd;
    if (i == 1) return model->output_norm;
    if (i == 2) return model->geo.tied ? (struct model_tensor){0} : model->output;
    i -= MODEL_TENSORS;
    const struct model_tensor *layer =
        (const struct model_tensor *)(const void *)&model->layer[i / LAYER_TENSORS];
    return layer[i % LAYER_TENSORS];
}

/* Where the backend keeps its own. */
static struct model_tensor *own_tensor_at(struct exact *x, uint32_t i) {
    if (i == 0) return &x->token_embd;
    if (i == 1) return &x->output_norm;
    if (i == 2) return &x->output;
    i -= MODEL_TENSORS;
    struct model_tensor *layer = (struct model_tensor *)(void *)&x->layer[i / LAYER_TENSORS];
    return &layer[i % LAYER_TENSORS];
}

/* Points the backend's tensors at their places in x->weights. */
static void tensors_place(struct exact *x) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < tensor_count(&x->geo); i++) {
        struct model_tensor *own = own_tensor_at(x, i);
        *own = model_tensor_at(x->model, i);
        if (own->data == NULL) continue;
        own->data = x->weights + at;
        at += round_up(own->bytes, ARENA_ALIGN);
    }
    wick_assert(at == x->weight_bytes);
    if (x->geo.tied) x->output = x->token_embd;
}

static uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static void activations_carve(struct exact *x, struct arena *arena) {
    const struct model_geometry *geo = &x->geo;
    size_t rows = x->limits.rows_max, threads = x->limits.threads, d = sizeof(double);
    arena_section(arena, "activations");
    x->x = arena_take(arena, rows * geo->dim * d, ARENA_ALIGN);
    x->normed = arena_take(arena, rows * geo->dim * d, ARENA_ALIGN);
    x->q = arena_take(arena, rows * x->q_width * d, ARENA_ALIGN);
    x->k = arena_take(arena, rows * x->kv_width * d, ARENA_ALIGN);
    x->v = arena_take(arena, rows * x->kv_width * d, ARENA_ALIGN);
    x->heads = arena_take(arena, rows * x->q_width * d, ARENA_ALIGN);
    x->out = arena_take(arena, rows * geo->dim * d, ARENA_ALIGN);
    x->gate = arena_take(arena, rows * geo->ffn * d, ARENA_ALIGN);
    x->up = arena_take(arena, rows * geo->ffn * d, ARENA_ALIGN);
    if (x->limits.taps)
        x->staging_values = rows * larger(x->widest, (uint32_t)round_up(x->limits.ctx, 256));
    x->staging = arena_take(arena, x->staging_values * sizeof(float), ARENA_ALIGN);
    x->scores = arena_take(arena, threads * x->limits.ctx * d, ARENA_ALIGN);
    x->expanded = arena_take(arena, threads * x->widest * sizeof(float), ARENA_ALIGN);
    x->weight_row = arena_take(arena, threads * x->widest * d, ARENA_ALIGN);
    x->sums = arena_take(arena, threads * rows * d, ARENA_ALIGN);
    arena_section(arena, "logits");
    x->logits_row = arena_take(arena, x->limits.logits_max * sizeof *x->logits_row, ARENA_ALIGN);
    x->logits =
        arena_take(arena, (size_t)x->limits.logits_max * geo->vocab * sizeof(float), ARENA_ALIGN);
}

static const struct backend_ops exact_ops;

struct backend *exact_carve(const struct model *model, const struct backend_limits *limits,
                            struct arena *arena) {
    const struct model_geometry *geo = &model->geo;
    wick_assert(limits->rows_max >= 1 && limits->rows_max <= BATCH_ROWS_MAX);
    wick_assert(limits->logits_max >= 1 && limits->logits_max <= limits->rows_max);
    struct exact x = {.model = model, .geo = *geo, .limits = *limits, .stage = EXACT_FINISHED};
    x.q_width = geo->n_heads * geo->head_dim;
    x.kv_width = geo->n_kv_heads * geo->head_dim;
    x.widest = larger(larger(geo->dim, geo->ffn), x.q_width);
    for (uint32_t i = 0; i < tensor_count(geo); i++)
        x.weight_bytes += round_up(model_tensor_at(model, i).bytes, ARENA_ALIGN);
    x.kv_head_bytes = exact_kv_bytes(limits->kv_type, geo->head_dim);
    size_t kv_bytes = (size_t)geo->n_layers * limits->n_pages * KV_PAGE_TOKENS * geo->n_kv_heads *
                      x.kv_head_bytes;

    arena_section(arena, "weights");
    x.weights = arena_take(arena, x.weight_bytes, ARENA_PAGE);
    x.layer = arena_take(arena, geo->n_layers * sizeof *x.layer, ARENA_ALIGN);
    x.inverse_frequency =
        arena_take(arena, geo->rope_dim / 2 * sizeof *x.inverse_frequency, ARENA_ALIGN);
    arena_section(arena, "KV cache");
    x.k_cache = arena_take(arena, kv_bytes, ARENA_PAGE);
    x.v_cache = arena_take(arena, kv_bytes, ARENA_PAGE);
    activations_carve(&x, arena);
    arena_section(arena, "stacks");
    x.team = team_carve(limits->threads, limits->cpus, arena);
    arena_section(arena, "activations");
    struct exact *own = arena_take(arena, sizeof *own, ARENA_ALIGN);
    if (own == NULL) return NULL;

    x.base.ops = &exact_ops;
    x.base.info = (struct backend_info){.name = "cpu",
                                        .isa = "exact",
                                        .n_pages = limits->n_pages,
                                        .rows_max = limits->rows_max,
                                        .logits_max = limits->logits_max,
                                        .vocab = geo->vocab,
                                        .weight_bytes = x.weight_bytes,
                                        .kv_bytes = 2 * kv_bytes};
    isa_describe(limits->threads, limits->cpus, x.base.info.device, sizeof x.base.info.device);
    tensors_place(&x);
    model_rope_frequencies(model, x.inverse_frequency);
    memcpy(own, &x, sizeof x);
    return &own->base;
}

static struct exact *exact_of(struct backend *backend) {
    wick_assert(backend->ops == &exact_ops);
    return (struct exact *)(void *)backend;
}

static enum backend_status exact_load(struct backend *backend, uint64_t deadline_ns,
                                      uint32_t *percent, struct fault *fault) {
    struct exact *x = exact_of(backend);
    if (!x->started) {
        if (!team_start(x->team, fault)) return BACKEND_FAILED;
        x->started = true;
    }
    const uint32_t n = tensor_count(&x->geo);
    while (x->load_tensor < n) {
        struct model_tensor from = model_tensor_at(x->model, x->load_tensor);
        uint64_t left = from.data == NULL ? 0 : from.bytes - x->load_offset;
        if (left == 0) {
            x->load_tensor++;
            x->load_offset = 0;
            continue;
        }
        size_t piece = left < LOAD_PIECE_BYTES ? (size_t)left : (size_t)LOAD_PIECE_BYTES;
        uint8_t *to = x->weights + (own_tensor_at(x, x->load_tensor)->data - x->weights);
        memcpy(to + x->load_offset, from.data + x->load_offset, piece);
        x->load_offset += piece;
        x->loaded += piece;
        *percent = (uint32_t)(x->loaded * 100 / x->weight_bytes);
        if (clock_ns() >= deadline_ns) return BACKEND_PENDING;
    }
    *percent = 100;
    return BACKEND_DONE;
}

static void exact_begin(struct backend *backend, const struct batch *batch) {
    struct exact *x = exact_of(backend);
    wick_assert(x->stage == EXACT_FINISHED && !x->stage_open);
    wick_assert(backend->tap == NULL || x->limits.taps);
    wick_assert(batch->n_rows >= 1 && batch->n_rows <= x->limits.rows_max);
    x->n_logits = 0;
    for (uint32_t r = 0; r < batch->n_rows; r++) {
        const struct batch_row *row = &batch->row[r];
        wick_assert(row->token >= 0 && (uint32_t)row->token < x->geo.vocab);
        wick_assert(row->position < x->limits.ctx);
        if (row->wants == ROW_NOTHING) continue;
        wick_assert(x->n_logits < x->limits.logits_max);
        x->logits_row[x->n_logits++] = r;
    }
    x->batch = batch;
    x->at_layer = 0;
    x->stage = EXACT_EMBED;
}

static void stage_next(struct exact *x) {
    if (x->stage == EXACT_DOWN && x->at_layer + 1 < x->geo.n_layers) {
        x->at_layer++;
        x->stage = EXACT_ATTN_NORM;
    } else if (x->stage == EXACT_DOWN && x->n_logits == 0) {
        x->stage = EXACT_FINISHED;
    } else {
        x->stage++;
    }
}

static enum backend_status exact_advance(struct backend *backend, uint64_t deadline_ns,
                                         struct fault *fault) {
    struct exact *x = exact_of(backend);
    (void)fault; /* nothing here can fail */
    while (x->stage != EXACT_FINISHED) {
        if (!x->stage_open) {
            team_open(x->team, exact_stage_work, x, exact_stage_items(x), exact_stage_grain(x));
            x->stage_open = true;
        }
        if (!team_join(x->team, deadline_ns)) return BACKEND_PENDING;
        x->stage_open = false;
        if (x->base.tap != NULL) exact_stage_tap(x);
        stage_next(x);
    }
    return BACKEND_DONE;
}

static const float *exact_logits(const struct backend *backend, uint32_t index) {
    const struct exact *x = (const struct exact *)(const void *)backend;
    wick_assert(backend->ops == &exact_ops && x->stage == EXACT_FINISHED && index < x->n_logits);
    return x->logits + (size_t)index * x->geo.vocab;
}

static void exact_abort(struct backend *backend) {
    struct exact *x = exact_of(backend);
    if (x->stage_open) {
        atomic_store(&x->aborted, true);
        while (!team_join(x->team, UINT64_MAX)) {
        }
        atomic_store(&x->aborted, false);
        x->stage_open = false;
    }
    x->stage = EXACT_FINISHED;
    x->n_logits = 0;
}

static void exact_close(struct backend *backend) {
    struct exact *x = exact_of(backend);
    exact_abort(backend);
    if (x->started) team_stop(x->team);
    x->started = false;
}

static const struct backend_ops exact_ops = {.load = exact_load,
                                             .begin = exact_begin,
                                             .advance = exact_advance,
                                             .logits = exact_logits,
                                             .abort = exact_abort,
                                             .close = exact_close};
