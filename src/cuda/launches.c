#include "cuda/launches.h"

#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"

enum {
    /* prepare and product of q, k, v (three kinds at most), store, attention of three, and of
     * attn_out, gate and up, down each prepare and product */
    LAUNCHES_OF_LAYER = 3 * 2 + 1 + 3 + 3 * 2,
    LAUNCHES_BESIDE = 1 + 2 + 3, /* embed; head; top_slice, top_merge, finish */
    ROW_THREADS = 256,           /* of embed and prepare, and of top_slice */
    WARP = 32
};

void launches_carve(struct gpu_launches *list, uint32_t n_layers, struct arena *arena) {
    uint32_t most = n_layers * LAUNCHES_OF_LAYER + LAUNCHES_BESIDE;
    *list = (struct gpu_launches){.most = most};
    list->launch = arena_take(arena, most * sizeof *list->launch, ARENA_ALIGN);
    list->arguments = arena_take(arena, (size_t)most * GPU_ARGUMENTS_BYTES, ARENA_ALIGN);
}

/* What all launches of a list have in common. */
struct plan {
    struct gpu_launches *list;
    const struct layout *layout;
    const struct model_geometry *geo;
    struct layout_batch room;
    struct gpu_batch batch;
    uint32_t rows, logits; /* at most */
    uint32_t shared_bytes;
};

static struct gpu_launch *launch_add(struct plan *plan, uint32_t entry, const void *arguments,
                                     size_t bytes) {
    struct gpu_launches *list = plan->list;
    wick_assert(list->n < list->most && bytes <= GPU_ARGUMENTS_BYTES);
    uint8_t *place = list->arguments + (size_t)list->n * GPU_ARGUMENTS_BYTES;
    memcpy(place, arguments, bytes);
    struct gpu_launch *launch = &list->launch[list->n++];
    *launch = (struct gpu_launch){
        .entry = entry, .grid = {1, 1, 1}, .block = ROW_THREADS, .arguments = place};
    return launch;
}

static uint32_t parts(uint32_t n, uint32_t size) {
    return (n + size - 1) / size;
}

/* --- products ------------------------------------------------------------------------------- */

/* Rows that go into a product: all of the batch, or those that want logits. */
static struct gpu_input input_of(const struct plan *plan, struct layout_rows rows, uint32_t cols) {
    return (struct gpu_input){.x = rows.at,
                              .n = plan->batch.step + offsetof(struct gpu_step, n_rows),
                              .x_stride = rows.stride,
                              .cols = cols,
                              .planes = 1,
                              .eps = plan->geo->norm_eps};
}

static struct gpu_input input_norm(const struct plan *plan, uint64_t weight) {
    struct gpu_input in = input_of(plan, plan->layout->x, plan->geo->dim);
    in.weight = weight;
    return in;
}

/* A product of a kind, its input prepared where it does not do so itself. `fine` inputs have two
 * planes where the kind takes integers; of `rows` rows at most. */
static void product_add(struct plan *plan, struct gpu_matmul *product, uint32_t kind, uint32_t rows,
                        bool fine) {
    struct gpu_input *in = &product->in;
    uint32_t n_panels = 0;
    for (uint32_t i = 0; i < 3; i++) n_panels += product->matrix[i].n_panels;
    if (product->epilogue == GPU_SWIGLU) n_panels = product->matrix[0].n_panels;
    in->form = gpu_form_of(kind);
    in->planes = fine && in->form == GPU_FORM_INT8 ? 2 : 1;
    uint32_t columns = rows * in->planes;
    in->tiles = parts(columns, GPU_TILE);
    product->prepared = plan->layout->prepared;
    uint32_t fused_bytes = columns <= GPU_FUSED_COLUMNS
                               ? gpu_few_shared(kind, in->cols, product->epilogue, columns)
                               : UINT32_MAX;
    product->fused = fused_bytes <= plan->shared_bytes;
    if (!product->fused) {
        struct gpu_prepare prepare = {.in = *in, .out = plan->layout->prepared};
        launch_add(plan, GPU_ENTRY_PREPARE, &prepare, sizeof prepare)->grid[0] =
            in->tiles * GPU_TILE / in->planes;
    }
    if (kind == GPU_F32 || columns <= gpu_few_columns(kind)) {
        struct gpu_launch *few = launch_add(plan, GPU_ENTRY_FEW + kind, product, sizeof *product);
        few->share = n_panels;
        few->grid[1] = parts(columns, gpu_few_columns(kind));
        few->block = WARP * gpu_segments(in->cols);
        few->shared =
            product->fused ? fused_bytes : gpu_few_shared(kind, in->cols, product->epilogue, 0);
        return;
    }
    if (product->epilogue == GPU_SWIGLU) n_panels *= 2;
    struct gpu_launch *many = launch_add(plan, GPU_ENTRY_MANY + kind, product, sizeof *product);
    many->grid[0] = parts(columns, GPU_MANY_COLUMNS);
    many->grid[1] = parts(n_panels, GPU_MANY_PANELS);
    many->block = GPU_MANY_THREADS;
    many->shared = gpu_many_shared(kind);
}

/* q, k and v: those of one kind together. */
static void qkv_add(struct plan *plan, const struct layout_layer *layer, struct gpu_kv kv) {
    const struct layout *l = plan->layout;
    const struct layout_matrix *matrix[3] = {&layer->q, &layer->k, &layer->v};
    const uint64_t bias[3] = {layer->q_bias, layer->k_bias, layer->v_bias};
    const struct layout_rows out[3] = {l->q, l->k, l->v};
    bool added[3] = {false, false, false};
    for (uint32_t first = 0; first < 3; first++) {
        if (added[first]) continue;
        uint32_t kind = matrix[first]->kind, n = 0;
        struct gpu_matmul product = {.epilogue = GPU_QKV,
                                     .in = input_norm(plan, layer->attn_norm),
                                     .batch = plan->batch,
                                     .kv = kv,
                                     .angle = l->angle,
                                     .pairs = plan->geo->rope_dim / 2,
                                     .head_dim = plan->geo->head_dim};
        for (uint32_t i = first; i < 3; i++) {
            if (matrix[i]->kind != kind) continue;
            added[i] = true;
            product.matrix[n] = matrix[i]->gpu;
            product.bias[n] = bias[i];
            product.out[n] = out[i].at;
            product.out_stride[n] = out[i].stride;
            product.role[n++] = i;
        }
        product_add(plan, &product, kind, plan->rows, false);
    }
}

/* out += matrix * in */
static void residual_add(struct plan *plan, const struct layout_matrix *matrix,
                         struct layout_rows in, bool fine) {
    struct layout_rows x = plan->layout->x;
    struct gpu_matmul product = {.epilogue = GPU_ADD,
                                 .matrix = {matrix->gpu},
                                 .out = {x.at},
                                 .out_stride = {x.stride},
                                 .in = input_of(plan, in, matrix->cols)};
    product_add(plan, &product, matrix->kind, plan->rows, fine);
}

static void swiglu_add(struct plan *plan, const struct layout_layer *layer) {
    struct layout_rows ffn = plan->layout->ffn;
    struct gpu_matmul product = {.epilogue = GPU_SWIGLU,
                                 .matrix = {layer->gate.gpu, layer->up.gpu},
                                 .out = {ffn.at},
                                 .out_stride = {ffn.stride},
                                 .in = input_norm(plan, layer->ffn_norm)};
    product_add(plan, &product, layer->gate.kind, plan->rows, false);
}

static void head_add(struct plan *plan) {
    const struct layout *l = plan->layout;
    struct gpu_matmul product = {.epilogue = GPU_LOGITS,
                                 .matrix = {l->output.gpu},
                                 .out = {l->logits.at},
                                 .out_stride = {l->logits.stride},
                                 .in = input_norm(plan, l->output_norm)};
    product.in.gather = plan->batch.logits_row;
    product.in.n = plan->batch.step + offsetof(struct gpu_step, n_logits);
    product_add(plan, &product, l->output.kind, plan->logits, true);
}

/* --- the rest ------------------------------------------------------------------------------- */

static void embed_add(struct plan *plan) {
    const struct layout *l = plan->layout;
    struct gpu_embed embed = {.batch = plan->batch,
                              .table = l->token_embd.gpu,
                              .kind = l->token_embd.kind,
                              .cols = plan->geo->dim,
                              .x = l->x.at,
                              .x_stride = l->x.stride,
                              .pairs = plan->geo->rope_dim / 2,
                              .angle_low = l->angle_low,
                              .angle_high = l->angle_high,
                              .angle = l->angle};
    launch_add(plan, GPU_ENTRY_EMBED, &embed, sizeof embed)->grid[0] = plan->rows;
}

bool launches_split_all(uint32_t rows) {
    return rows <= LAYOUT_SPLIT_ROWS;
}

static void attend_add(struct plan *plan, struct gpu_kv kv) {
    const struct layout *l = plan->layout;
    const struct model_geometry *geo = plan->geo;
    uint32_t group = geo->n_heads / geo->n_kv_heads;
    uint32_t width = gpu_attend_width(kv.type, geo->head_dim);
    uint32_t split_rows = launches_split_all(plan->rows) ? plan->rows : plan->room.tiles;
    struct gpu_attend attend = {.batch = plan->batch,
                                .kv = kv,
                                .q = l->q.at,
                                .out = l->heads.at,
                                .partial = l->partial,
                                .q_stride = l->q.stride,
                                .out_stride = l->heads.stride,
                                .n_heads = geo->n_heads,
                                .chunks = l->chunks,
                                .scale = l->attend_scale};
    struct gpu_launch *few = launch_add(plan, GPU_ENTRY_ATTEND_FEW, &attend, sizeof attend);
    few->grid[0] = gpu_attend_few_blocks(l->chunks);
    few->grid[1] = geo->n_kv_heads;
    few->grid[2] = split_rows * gpu_attend_few_parts(group);
    few->block = GPU_ATTEND_THREADS;
    few->shared = gpu_attend_shared(kv.type, geo->head_dim, GPU_FEW_COLUMNS);
    struct gpu_launch *join = launch_add(plan, GPU_ENTRY_ATTEND_COMBINE, &attend, sizeof attend);
    join->grid[0] = geo->n_heads;
    join->grid[1] = plan->room.tiles;
    join->block = GPU_ATTEND_THREADS;
    if (launches_split_all(plan->rows)) return;
    struct gpu_launch *many = launch_add(plan, GPU_ENTRY_ATTEND_MANY, &attend, sizeof attend);
    many->grid[0] = geo->n_kv_heads * gpu_attend_many_parts(width, group);
    many->grid[1] = plan->room.tiles;
    many->block = GPU_ATTEND_THREADS;
    many->shared = gpu_attend_shared(kv.type, geo->head_dim, gpu_attend_many_columns(width));
}

static void layer_add(struct plan *plan, const struct layout_layer *layer) {
    const struct layout *l = plan->layout;
    struct gpu_kv kv = l->kv;
    kv.layer = layer->kv;
    qkv_add(plan, layer, kv);
    if (kv.type != GPU_KV_F16) {
        struct gpu_kv_store store = {
            .batch = plan->batch, .kv = kv, .k = l->k.at, .v = l->v.at, .kv_stride = l->k.stride};
        struct gpu_launch *launch = launch_add(plan, GPU_ENTRY_KV_STORE, &store, sizeof store);
        launch->grid[0] = plan->rows;
        launch->grid[1] = plan->geo->n_kv_heads;
        launch->block = GPU_ATTEND_THREADS;
    }
    attend_add(plan, kv);
    residual_add(plan, &layer->attn_out, l->heads, false);
    swiglu_add(plan, layer);
    residual_add(plan, &layer->down, l->ffn, true);
}

static void choose_add(struct plan *plan, uint64_t choice) {
    const struct layout *l = plan->layout;
    struct gpu_top top = {.step = plan->batch.step,
                          .logits = l->logits.at,
                          .key = l->top_key,
                          .part = l->top_part,
                          .choice = choice,
                          .stride = l->logits.stride,
                          .vocab = l->limits.vocab,
                          .slices = gpu_top_slices(l->limits.vocab)};
    struct gpu_launch *slice = launch_add(plan, GPU_ENTRY_TOP_SLICE, &top, sizeof top);
    slice->grid[0] = top.slices;
    slice->grid[1] = plan->logits;
    struct gpu_launch *merge = launch_add(plan, GPU_ENTRY_TOP_MERGE, &top, sizeof top);
    merge->grid[0] = plan->logits;
    merge->block = WARP;
}

void launches_write(struct gpu_launches *list, const struct layout *layout,
                    const struct launches_pinned *pinned, uint32_t rows, uint32_t shared_bytes) {
    struct plan plan = {.list = list,
                        .layout = layout,
                        .geo = &layout->model->geo,
                        .room = layout_batch_of(&layout->limits, rows),
                        .rows = rows,
                        .shared_bytes = shared_bytes};
    plan.logits = plan.room.logits;
    plan.batch = (struct gpu_batch){.step = layout->batch + plan.room.step_at,
                                    .row = layout->batch + plan.room.row_at,
                                    .tile = layout->batch + plan.room.tile_at,
                                    .logits_row = layout->batch + plan.room.logits_at,
                                    .page = layout->batch + plan.room.page_at,
                                    .pages_per_sequence = plan.room.pages_per_sequence};
    list->n = 0;
    embed_add(&plan);
    for (uint32_t i = 0; i < plan.geo->n_layers; i++) layer_add(&plan, &layout->layer[i]);
    head_add(&plan);
    choose_add(&plan, pinned->choice);
    struct gpu_finish finish = {.step = plan.batch.step, .flag = pinned->flag};
    launch_add(&plan, GPU_ENTRY_FINISH, &finish, sizeof finish)->block = 1;
}
