#include "cpu/fast.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/panic.h"
#include "cpu/fast_state.h"
#include "cpu/isa.h"

static struct fast_widths fast_widths_of(const struct cpu_kernels *kernels,
                                         const struct model_geometry *geo,
                                         const struct backend_limits *limits) {
    struct fast_widths w = {.dim = geo->dim,
                            .q = geo->n_heads * geo->head_dim,
                            .kv = geo->n_kv_heads * geo->head_dim,
                            .ffn = geo->ffn,
                            .group = geo->n_heads / geo->n_kv_heads};
    w.dim_pad = (uint32_t)round_up(w.dim, PACK_BLOCK);
    w.q_pad = (uint32_t)round_up(w.q, PACK_BLOCK);
    w.kv_pad = (uint32_t)round_up(w.kv, PACK_BLOCK);
    w.ffn_pad = (uint32_t)round_up(w.ffn, PACK_BLOCK);
    w.vocab_pad = (uint32_t)round_up(geo->vocab, PACK_ROWS);
    w.block_heads = w.group < kernels->attend_queries ? w.group : kernels->attend_queries;
    w.block_rows = kernels->attend_queries / w.block_heads;
    w.group_blocks = (w.group + w.block_heads - 1) / w.block_heads;
    w.head_pad = (uint32_t)round_up(geo->head_dim, 32);
    w.attend_scratch =
        round_up(kernels->attend_scratch + w.head_pad * kernels->attend_scratch_dim, 16);
    w.parts = FAST_SHARED * geo->n_heads * ((limits->ctx + ATTEND_CHUNK - 1) / ATTEND_CHUNK);
    w.rows = (uint32_t)round_up(limits->rows_max, 16);
    w.logits = (uint32_t)round_up(limits->logits_max, 16);
    return w;
}

static void *fast_take(struct arena *arena, size_t count, size_t size) {
    return arena_take(arena, count * size, ARENA_ALIGN);
}

static float *fast_take_floats(struct arena *arena, size_t count) {
    return fast_take(arena, count, sizeof(float));
}

static struct activations fast_take_activations(const struct fast *f, struct arena *arena,
                                                uint32_t rows, uint32_t stride, bool fine) {
    struct activations a = {.stride = stride, .fine = fine};
    const size_t slices = rows / GROUP_ROWS * activations_slices(&a);
    const size_t values = slices * GROUP_ROWS * SLICE_COLUMNS;
    size_t planes = fine ? 2 * (size_t)rows : rows;
    a.f = fast_take_floats(arena, (size_t)rows * stride);
    if (f->kernels->bf16_kinds != 0) a.h = fast_take(arena, values, sizeof *a.h);
    if (f->kernels->int12_kinds != 0) {
        a.wide.q = fast_take(arena, values, 2);
        a.wide.scale = fast_take_floats(arena, slices * GROUP_ROWS);
        a.wide.total = fast_take_floats(arena, slices * GROUP_ROWS * SLICE_BLOCKS * 3);
        return a;
    }
    a.q = fast_take(arena, planes * stride, 1);
    a.scale = fast_take_floats(arena, planes * (stride / 32));
    a.sum16 = fast_take(arena, planes * (stride / 16), sizeof(int32_t));
    a.sum32 = fast_take(arena, planes * (stride / 32), sizeof(int32_t));
    return a;
}

static struct packed_matrix fast_take_matrix(struct fast *f, struct arena *arena,
                                             const struct model_tensor *t) {
    struct packed_matrix matrix = pack_describe(t);
    if (matrix.panel_bytes > f->panel_bytes) f->panel_bytes = matrix.panel_bytes;
    if (f->limits.mapped) {
        f->weight_bytes += t->bytes;
        return matrix;
    }
    matrix.panels = arena_take(arena, pack_matrix_bytes(&matrix), ARENA_ALIGN);
    f->weight_bytes += pack_matrix_bytes(&matrix);
    return matrix;
}

static float *fast_take_bias(struct arena *arena, const struct model_tensor *t) {
    return t->data == NULL ? NULL : fast_take_floats(arena, round_up(t->cols, PACK_ROWS));
}

static void fast_carve_weights(struct fast *f, const struct model *model, struct arena *arena) {
    arena_section(arena, "packed weights");
    for (uint32_t i = 0; i < model->geo.n_layers; i++) {
        const struct model_layer *from = &model->layer[i];
        struct fast_layer layer = {
            .q = fast_take_matrix(f, arena, &from->q),
            .k = fast_take_matrix(f, arena, &from->k),
            .v = fast_take_matrix(f, arena, &from->v),
            .attn_out = fast_take_matrix(f, arena, &from->attn_out),
            .gate = fast_take_matrix(f, arena, &from->gate),
            .up = fast_take_matrix(f, arena, &from->up),
            .down = fast_take_matrix(f, arena, &from->down),
            .attn_norm = fast_take_floats(arena, f->width.dim_pad),
            .ffn_norm = fast_take_floats(arena, f->width.dim_pad),
            .q_bias = fast_take_bias(arena, &from->q_bias),
            .k_bias = fast_take_bias(arena, &from->k_bias),
            .v_bias = fast_take_bias(arena, &from->v_bias),
        };
        if (f->layer != NULL) f->layer[i] = layer;
    }
    f->output = fast_take_matrix(f, arena, &model->output);
    f->output_norm = fast_take_floats(arena, f->width.dim_pad);
    f->token_embd_row_bytes = model->token_embd.bytes / model->token_embd.rows;
    if (f->limits.mapped)
        f->token_embd = model->token_embd.data;
    else if (!model->geo.tied)
        f->token_embd = arena_take(arena, model->token_embd.bytes, ARENA_ALIGN);
    if (!model->geo.tied) f->weight_bytes += model->token_embd.bytes;
}

static void fast_carve_activations(struct fast *f, const struct model_geometry *geo,
                                   struct arena *arena) {
    const struct fast_widths *w = &f->width;
    uint32_t rows = f->width.rows, logits = f->width.logits, threads = f->limits.threads;
    arena_section(arena, "activations");
    f->rope_frequency = fast_take(arena, geo->rope_dim / 2, sizeof(double));
    f->x = fast_take_floats(arena, (size_t)rows * w->dim_pad);
    f->norm = fast_take_activations(f, arena, rows, w->dim_pad, false);
    f->q = fast_take_floats(arena, (size_t)rows * w->q_pad);
    f->k = fast_take_floats(arena, (size_t)rows * w->kv_pad);
    f->v = fast_take_floats(arena, (size_t)rows * w->kv_pad);
    f->attn = fast_take_activations(f, arena, rows, w->q_pad, false);
    f->ffn = fast_take_activations(f, arena, rows, w->ffn_pad, true);
    f->last = fast_take_activations(f, arena, logits, w->dim_pad, true);
    f->rope_cos = fast_take_floats(arena, (size_t)rows * geo->rope_dim);
    f->rope_sin = fast_take_floats(arena, (size_t)rows * geo->rope_dim);
    f->logits = fast_take_floats(arena, (size_t)logits * w->vocab_pad);
    if (f->limits.mapped)
        f->panels = fast_take(arena, (size_t)threads * FAST_GROUP, f->panel_bytes);
    f->attend_scratch = fast_take_floats(arena, (size_t)threads * w->attend_scratch);
    f->attended =
        fast_take_floats(arena, (size_t)threads * f->kernels->attend_queries * w->head_pad);
    f->part = fast_take(arena, w->parts, sizeof *f->part);
    f->part_values = fast_take_floats(arena, (size_t)w->parts * w->head_pad);
    f->tile = fast_take_floats(arena, (size_t)threads * 2 * rows * FAST_GROUP * PACK_ROWS);
    if (!f->limits.taps) return;
    f->tapped.out = fast_take_floats(arena, (size_t)rows * w->dim_pad);
    f->tapped.gate = fast_take_floats(arena, (size_t)rows * w->ffn_pad);
    f->tapped.up = fast_take_floats(arena, (size_t)rows * w->ffn_pad);
    size_t weights = (size_t)geo->n_heads * rows * round_up(f->limits.ctx, 256);
    f->tapped.attn_weights = fast_take_floats(arena, weights);
    size_t widest = w->ffn_pad > w->q_pad ? w->ffn_pad : w->q_pad;
    if (widest < w->vocab_pad) widest = w->vocab_pad;
    if (widest < w->dim_pad) widest = w->dim_pad;
    f->tapped.compact = fast_take_floats(arena, rows * widest);
}

static void fast_describe(struct fast *f, const struct model *model, uint64_t kv_bytes) {
    struct backend_info *info = &f->backend.info;
    snprintf(info->name, sizeof info->name, "cpu");
    snprintf(info->isa, sizeof info->isa, "%s", f->kernels->name);
    isa_describe(f->limits.threads, f->limits.cpus, info->device, sizeof info->device);
    info->n_pages = f->limits.n_pages;
    info->rows_max = f->limits.rows_max;
    info->logits_max = f->limits.logits_max;
    info->vocab = model->geo.vocab;
    info->weight_bytes = f->weight_bytes;
    info->kv_bytes = kv_bytes;
}

static const struct backend_ops fast_ops;

struct backend *fast_carve(const struct cpu_kernels *kernels, const struct model *model,
                           const struct backend_limits *limits, struct arena *arena) {
    struct fast measured = {0}, *f = &measured;
    arena_section(arena, "packed weights");
    struct fast *placed = arena_take(arena, sizeof *placed, ARENA_ALIGN);
    struct fast_layer *layers =
        arena_take(arena, model->geo.n_layers * sizeof(struct fast_layer), ARENA_ALIGN);
    if (placed != NULL) f = placed;
    f->backend.ops = &fast_ops;
    f->kernels = kernels;
    f->model = model;
    f->limits = *limits;
    f->width = fast_widths_of(kernels, &model->geo, limits);
    f->layer = layers;
    f->panel_bytes = f->weight_bytes = 0;
    fast_carve_weights(f, model, arena);
    arena_section(arena, "KV cache");
    f->kv = kv_layout_of(limits->kv_type, kernels->kv_tiles, model->geo.n_kv_heads,
                         model->geo.head_dim, limits->n_pages);
    uint64_t kv_bytes = model->geo.n_layers * f->kv.layer_bytes;
    f->kv_pages = arena_take(arena, kv_bytes, ARENA_ALIGN);
    fast_carve_activations(f, &model->geo, arena);
    arena_section(arena, "thread stacks");
    f->team = team_carve(limits->threads, limits->cpus, arena);
    fast_describe(f, model, kv_bytes);
    return placed == NULL ? NULL : &placed->backend;
}

/* --- loading: one matrix after the other, each shared by the team --- */

enum { FAST_LAYER_MATRICES = 7 };

static uint32_t fast_matrices(const struct fast *f) {
    return f->model->geo.n_layers * FAST_LAYER_MATRICES + 1;
}

/* The index-th matrix to pack. */
static const struct packed_matrix *fast_matrix(const struct fast *f, uint32_t index) {
    if (index + 1 == fast_matrices(f)) return &f->output;
    const struct fast_layer *layer = &f->layer[index / FAST_LAYER_MATRICES];
    const struct packed_matrix *matrices[FAST_LAYER_MATRICES] = {
        &layer->q, &layer->k, &layer->v, &layer->attn_out, &layer->gate, &layer->up, &layer->down};
    return matrices[index % FAST_LAYER_MATRICES];
}

static void fast_work_pack(void *context, uint32_t member, uint32_t first, uint32_t count) {
    (void)member;
    struct fast *f = context;
    const struct packed_matrix *matrix = fast_matrix(f, f->load_index);
    uint8_t *panels = (uint8_t *)(uintptr_t)matrix->panels; /* the arena's: ours to fill, once */
    for (uint32_t p = first; p < first + count; p++)
        pack_panel(matrix, p, panels + p * matrix->panel_bytes);
}

static void fast_copy_vector(float *out, const struct model_tensor *tensor) {
    if (tensor->data == NULL) return;
    memcpy(out, tensor->data, tensor->cols * sizeof(float));
}

/* Everything that is small, or is kept as it is in the file. */
static void fast_load_vectors(struct fast *f) {
    const struct model *model = f->model;
    for (uint32_t i = 0; i < model->geo.n_layers; i++) {
        const struct model_layer *from = &model->layer[i];
        struct fast_layer *to = &f->layer[i];
        fast_copy_vector(to->attn_norm, &from->attn_norm);
        fast_copy_vector(to->ffn_norm, &from->ffn_norm);
        fast_copy_vector(to->q_bias, &from->q_bias);
        fast_copy_vector(to->k_bias, &from->k_bias);
        fast_copy_vector(to->v_bias, &from->v_bias);
    }
    fast_copy_vector(f->output_norm, &model->output_norm);
    if (!model->geo.tied && !f->limits.mapped) /* the arena's: ours to fill, once */
        memcpy((uint8_t *)(uintptr_t)f->token_embd, model->token_embd.data,
               model->token_embd.bytes);
    model_rope_frequencies(model, f->rope_frequency);
}

static enum backend_status fast_load(struct backend *backend, uint64_t deadline_ns,
                                     uint32_t *percent, struct fault *fault) {
    struct fast *f = (struct fast *)backend;
    uint32_t n = f->limits.mapped ? 0 : fast_matrices(f);
    if (f->load_index == 0 && !f->load_open) {
        if (!team_start(f->team, fault)) return BACKEND_FAILED;
        fast_load_vectors(f);
    }
    while (f->load_index < n) {
        const struct packed_matrix *matrix = fast_matrix(f, f->load_index);
        if (!f->load_open) {
            team_open(f->team, fast_work_pack, f, matrix->n_panels, 1);
            f->load_open = true;
        }
        bool finished = team_join(f->team, deadline_ns);
        if (finished) {
            f->load_open = false;
            f->load_index++;
            f->load_bytes_done += pack_matrix_bytes(matrix);
        }
        uint64_t total = f->backend.info.weight_bytes;
        *percent = total == 0 ? 100 : (uint32_t)(f->load_bytes_done * 100 / total);
        if (!finished || (f->load_index < n && clock_ns() >= deadline_ns)) return BACKEND_PENDING;
    }
    *percent = 100;
    return BACKEND_DONE;
}

/* --- the step, as the backend's interface has it --- */

static void fast_begin(struct backend *backend, const struct batch *batch) {
    fast_step_begin((struct fast *)backend, batch);
}

static enum backend_status fast_advance(struct backend *backend, uint64_t deadline_ns,
                                        struct fault *fault) {
    (void)fault; /* arithmetic cannot fail */
    return fast_step_advance((struct fast *)backend, deadline_ns);
}

static const float *fast_logits(const struct backend *backend, uint32_t index) {
    const struct fast *f = (const struct fast *)backend;
    wick_assert(f->step.batch == NULL && index < f->step.n_logits);
    return f->logits + (size_t)index * f->width.vocab_pad;
}

static void fast_abort(struct backend *backend) {
    fast_step_abort((struct fast *)backend);
}

static uint32_t fast_phases(const struct backend *backend, struct backend_phase *out) {
    return fast_step_phases((const struct fast *)backend, out);
}

static void fast_close(struct backend *backend) {
    struct fast *f = (struct fast *)backend;
    fast_step_abort(f);
    team_stop(f->team);
}

static const struct backend_ops fast_ops = {
    .load = fast_load,
    .begin = fast_begin,
    .advance = fast_advance,
    .logits = fast_logits,
    .abort = fast_abort,
    .phases = fast_phases,
    .close = fast_close,
};
