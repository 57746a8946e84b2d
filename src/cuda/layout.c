#include "cuda/layout.h"

#include <math.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/config.h"
#include "base/panic.h"
#include "cuda/repack.h"
#include "model/pack.h"

_Static_assert((int)GPU_PAGE_TOKENS == KV_PAGE_TOKENS, "the same pages");

enum { BATCH_ALIGN = 16 };

bool layout_check(const struct model *model, uint32_t kv_type, struct fault *fault) {
    const struct model_geometry *geo = &model->geo;
    if (kv_type == CONFIG_KV_F32)
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "kv=f32: the CUDA backend keeps f16 or q8_0; backend=cpu keeps f32");
    if (geo->head_dim > GPU_HEAD_DIM_MAX || geo->head_dim % 4 != 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "heads of %u elements: the CUDA backend computes multiples of 4 up to %d",
                         geo->head_dim, GPU_HEAD_DIM_MAX);
    for (uint32_t i = 0; i < geo->n_layers; i++) {
        const struct model_layer *layer = &model->layer[i];
        if (repack_kind_of(layer->gate.type) != repack_kind_of(layer->up.type))
            return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                             "layer %u: ffn_gate and ffn_up are of different types, which the CUDA "
                             "backend does not compute; backend=cpu does",
                             i);
    }
    return true;
}

struct layout_batch layout_batch_of(const struct backend_limits *limits, uint32_t rows) {
    struct layout_batch b = {.rows = rows,
                             .tiles = rows,
                             .logits = rows < limits->logits_max ? rows : limits->logits_max,
                             .sequences = rows};
    b.pages_per_sequence = (limits->ctx + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    if (b.sequences > limits->sequences) b.sequences = limits->sequences;
    /* Each sequence has one tile that is not full at most. */
    uint32_t tiles = b.sequences + rows / GPU_TILE_ROWS;
    if (b.tiles > tiles) b.tiles = tiles;
    const struct {
        uint32_t *at;
        size_t bytes;
    } parts[] = {
        {&b.step_at, sizeof(struct gpu_step)},
        {&b.after_at, sizeof(struct gpu_step)},
        {&b.row_at, b.rows * sizeof(struct gpu_row)},
        {&b.tile_at, b.tiles * sizeof(struct gpu_tile)},
        {&b.logits_at, b.logits * sizeof(uint32_t)},
        {&b.page_at, (size_t)b.sequences * b.pages_per_sequence * sizeof(uint32_t)},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        *parts[i].at = b.bytes;
        b.bytes += (uint32_t)round_up(parts[i].bytes, BATCH_ALIGN);
    }
    return b;
}

/* --- device memory -------------------------------------------------------------------------- */

/* A device address. */
static uint64_t vram_take(struct arena *vram, uint64_t bytes) {
    return (uint64_t)(uintptr_t)arena_take(vram, bytes, LAYOUT_ALIGN);
}

static const size_t layer_matrices[] = {
    offsetof(struct layout_layer, q),    offsetof(struct layout_layer, k),
    offsetof(struct layout_layer, v),    offsetof(struct layout_layer, attn_out),
    offsetof(struct layout_layer, gate), offsetof(struct layout_layer, up),
    offsetof(struct layout_layer, down)};
enum { LAYER_MATRICES = sizeof layer_matrices / sizeof layer_matrices[0] };

static struct layout_matrix *layer_matrix(struct layout_layer *layer, uint32_t index) {
    return (struct layout_matrix *)(void *)((char *)layer + layer_matrices[index]);
}

struct layout_matrix *layout_matrix_at(struct layout *layout, uint32_t index) {
    uint32_t of_layers = layout->model->geo.n_layers * LAYER_MATRICES;
    if (index < of_layers)
        return layer_matrix(&layout->layer[index / LAYER_MATRICES], index % LAYER_MATRICES);
    if (index == of_layers) return &layout->output;
    return index == of_layers + 1 && !layout->model->geo.tied ? &layout->token_embd : NULL;
}

static void matrix_place(struct layout_matrix *m, const struct model_tensor *tensor, uint32_t turn,
                         struct arena *vram) {
    uint32_t kind = repack_kind_of(tensor->type);
    *m = (struct layout_matrix){.tensor = tensor, .kind = kind, .cols = tensor->cols, .turn = turn};
    m->gpu.rows = tensor->rows;
    m->gpu.n_panels = gpu_panels(tensor->rows);
    m->gpu.panel_bytes = gpu_panel_bytes(kind, tensor->cols);
    m->gpu.panels = vram_take(vram, m->gpu.n_panels * m->gpu.panel_bytes);
}

static uint64_t vector_take(struct arena *vram, const struct model_tensor *t) {
    return t->data == NULL ? 0 : vram_take(vram, t->cols * sizeof(float));
}

static void layer_place(struct layout_layer *to, const struct model_layer *from, uint32_t turn,
                        struct arena *vram) {
    matrix_place(&to->q, &from->q, turn, vram);
    matrix_place(&to->k, &from->k, turn, vram);
    matrix_place(&to->v, &from->v, 0, vram);
    matrix_place(&to->attn_out, &from->attn_out, 0, vram);
    matrix_place(&to->gate, &from->gate, 0, vram);
    matrix_place(&to->up, &from->up, 0, vram);
    matrix_place(&to->down, &from->down, 0, vram);
    to->attn_norm = vector_take(vram, &from->attn_norm);
    to->ffn_norm = vector_take(vram, &from->ffn_norm);
    to->q_bias = vector_take(vram, &from->q_bias);
    to->k_bias = vector_take(vram, &from->k_bias);
    to->v_bias = vector_take(vram, &from->v_bias);
}

/* Both tables, one behind the other. */
static uint64_t angle_bytes(const struct layout *l) {
    uint64_t positions = GPU_ROPE_LOW + repack_angles_high(l->limits.ctx);
    return positions * l->model->geo.rope_dim * sizeof(double);
}

static void weights_place(struct layout *l, struct arena *vram) {
    const struct model *model = l->model;
    const struct model_geometry *geo = &model->geo;
    uint32_t turn = geo->rope_pairs == ROPE_NEOX ? geo->head_dim : 0;
    arena_section(vram, "GPU weights");
    size_t before = vram->used;
    for (uint32_t i = 0; i < geo->n_layers; i++) {
        struct layout_layer measured;
        layer_place(l->layer != NULL ? &l->layer[i] : &measured, &model->layer[i], turn, vram);
    }
    matrix_place(&l->output, &model->output, 0, vram);
    l->token_embd = l->output;
    if (!geo->tied) matrix_place(&l->token_embd, &model->token_embd, 0, vram);
    l->output_norm = vector_take(vram, &model->output_norm);
    l->angle_low = vram_take(vram, angle_bytes(l));
    l->angle_high = l->angle_low + GPU_ROPE_LOW * geo->rope_dim * sizeof(double);
    l->weight_bytes = vram->used - before;
}

static void cache_place(struct layout *l, struct arena *vram) {
    const struct model_geometry *geo = &l->model->geo;
    uint32_t type = l->limits.kv_type == CONFIG_KV_Q8_0 ? GPU_KV_Q8_0 : GPU_KV_F16;
    l->kv = (struct gpu_kv){.type = type, .n_kv_heads = geo->n_kv_heads, .head_dim = geo->head_dim};
    l->attend_scale = 1 / sqrtf((float)geo->head_dim);
    l->kv.page_bytes = gpu_kv_page_bytes(type, geo->n_kv_heads, geo->head_dim);
    uint64_t layer_bytes = l->kv.page_bytes * l->limits.n_pages;
    arena_section(vram, "GPU KV cache");
    l->kv_bytes = layer_bytes * geo->n_layers;
    l->kv_at = vram_take(vram, l->kv_bytes);
    for (uint32_t i = 0; l->layer != NULL && i < geo->n_layers; i++)
        l->layer[i].kv = l->kv_at + i * layer_bytes;
}

static struct layout_rows rows_take(struct arena *vram, uint32_t rows, uint32_t width) {
    uint32_t stride = gpu_round_up(width, 4);
    return (struct layout_rows){vram_take(vram, (uint64_t)rows * stride * sizeof(float)), stride};
}

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Room for the widest input of a matrix, in the largest form. */
static uint64_t prepared_bytes(const struct layout *l) {
    const struct model_geometry *geo = &l->model->geo;
    uint32_t rows = l->limits.rows_max, heads = geo->n_heads * geo->head_dim;
    uint32_t narrow = geo->dim > heads ? geo->dim : heads;
    uint64_t bytes = 0;
    for (uint32_t form = GPU_FORM_INT8; form <= GPU_FORM_F32; form++) {
        uint32_t planes = form == GPU_FORM_INT8 ? 2 : 1;
        bytes = most(bytes, gpu_prepared_bytes(form, geo->ffn, rows, planes));
        bytes = most(bytes, gpu_prepared_bytes(form, narrow, rows, planes));
    }
    return bytes;
}

static void activations_place(struct layout *l, struct arena *vram) {
    const struct model_geometry *geo = &l->model->geo;
    uint32_t rows = l->limits.rows_max, heads = geo->n_heads * geo->head_dim;
    uint32_t kv = geo->n_kv_heads * geo->head_dim, slices = gpu_top_slices(l->limits.vocab);
    uint64_t logits_max = l->limits.logits_max;
    arena_section(vram, "GPU activations");
    l->x = rows_take(vram, rows, geo->dim);
    l->q = rows_take(vram, rows, heads);
    l->heads = rows_take(vram, rows, heads);
    l->ffn = rows_take(vram, rows, geo->ffn);
    l->k = l->v = (struct layout_rows){0, gpu_round_up(kv, 4)};
    if (l->kv.type != GPU_KV_F16) {
        l->k = rows_take(vram, rows, kv);
        l->v = rows_take(vram, rows, kv);
    }
    l->angle = vram_take(vram, (uint64_t)rows * geo->rope_dim * sizeof(float));
    l->prepared = vram_take(vram, prepared_bytes(l));
    l->chunks = (l->limits.ctx + GPU_CONTEXT_CHUNK - 1) / GPU_CONTEXT_CHUNK;
    l->partial_rows = (uint32_t)most(LAYOUT_SPLIT_ROWS, l->limits.sequences);
    l->partial = vram_take(
        vram, gpu_attend_partial_bytes(l->partial_rows, geo->n_heads, l->chunks, geo->head_dim));
    l->logits = rows_take(vram, l->limits.logits_max, geo->vocab);
    l->top_key = vram_take(vram, logits_max * slices * GPU_TOP_MAX * sizeof(uint64_t));
    l->top_part = vram_take(vram, logits_max * slices * 2 * sizeof(float));
    l->batch = vram_take(vram, layout_batch_of(&l->limits, rows).bytes);
}

/* --- pinned memory -------------------------------------------------------------------------- */

/* Of one upload buffer: a panel, a table or a vector must fit. */
static uint64_t upload_bytes(const struct layout *l) {
    const struct model_geometry *geo = &l->model->geo;
    uint64_t widest = geo->ffn > geo->dim ? geo->ffn : geo->dim;
    uint32_t heads = geo->n_heads * geo->head_dim;
    if (widest < heads) widest = heads;
    uint64_t bytes = most(LAYOUT_UPLOAD_BYTES, angle_bytes(l));
    return round_up(most(bytes, gpu_panel_bytes(GPU_F32, (uint32_t)widest)), LAYOUT_ALIGN);
}

static void pinned_place(struct layout *l, struct arena *pinned) {
    arena_section(pinned, "pinned memory");
    l->flag = arena_take(pinned, LAYOUT_ALIGN, LAYOUT_ALIGN);
    l->batch_host =
        arena_take(pinned, layout_batch_of(&l->limits, l->limits.rows_max).bytes, LAYOUT_ALIGN);
    l->choice = arena_take(pinned, l->limits.logits_max * sizeof(struct gpu_choice), LAYOUT_ALIGN);
    l->upload_bytes = upload_bytes(l);
    uint64_t logits = (uint64_t)l->limits.logits_max * l->logits.stride * sizeof(float);
    uint8_t *shared =
        arena_take(pinned, most(logits, LAYOUT_UPLOADS * l->upload_bytes), LAYOUT_ALIGN);
    l->logits_host = (float *)(void *)shared;
    for (uint32_t i = 0; i < LAYOUT_UPLOADS; i++)
        l->upload[i] = shared == NULL ? NULL : shared + i * l->upload_bytes;
}

void layout_place(struct layout *layout, struct arena *vram, struct arena *pinned) {
    weights_place(layout, vram);
    cache_place(layout, vram);
    activations_place(layout, vram);
    pinned_place(layout, pinned);
}

void layout_carve(struct layout *layout, const struct model *model,
                  const struct backend_limits *limits, struct arena *arena, struct arena *vram,
                  struct arena *pinned) {
    *layout = (struct layout){.model = model, .limits = *limits};
    layout->layer =
        arena_take(arena, model->geo.n_layers * sizeof(struct layout_layer), ARENA_ALIGN);
    layout_place(layout, vram, pinned);
}
