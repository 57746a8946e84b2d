/* fast_step: the phases of a step. */
#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/panic.h"
#include "cpu/fast_state.h"

enum fast_phase {
    PHASE_EMBED,
    PHASE_ATTN_NORM, /* first of a layer */
    PHASE_QKV,
    PHASE_ROPE,
    PHASE_ATTEND,
    PHASE_ATTN_IN,
    PHASE_ATTN_OUT,
    PHASE_FFN_NORM,
    PHASE_GATE_UP,
    PHASE_DOWN_IN,
    PHASE_DOWN, /* last of a layer */
    PHASE_FINAL_NORM,
    PHASE_HEAD,
    PHASE_END
};

/* Where member `member` merges a group of panels: two tiles of (rows, 16 FAST_GROUP). */
static float *step_tile(const struct fast *f, uint32_t member, uint32_t which) {
    return f->tile + ((size_t)member * 2 + which) * f->width.rows * FAST_GROUP * PACK_ROWS;
}

static enum input_form step_form(const struct fast *f, const struct packed_matrix *weights) {
    return kernels_input(f->kernels, weights);
}

/* Columns of a row. */
struct columns {
    uint32_t first, n;
};

static struct columns step_all_columns(const struct activations *of) {
    return (struct columns){.n = of->stride};
}

/* Brings columns of a row into the forms (enum input_form) that its products with n_rows rows want.
 * `from` is where they are as floats: in f, unless bfloat16 is all that is wanted. */
static void step_prepare(const struct fast *f, const struct activations *in, uint32_t row,
                         struct columns columns, uint32_t n_rows, uint32_t forms,
                         const float *from) {
    if (forms & INPUT_INT8) f->kernels->quantise(in, row, columns.first, columns.n);
    if (forms & INPUT_INT12) f->kernels->widen(in, row);
    if (forms & INPUT_BF16) /* last: it may round f */
        f->kernels->round(in, row, columns.first, columns.n, n_rows, from);
}

/* Whether columns are brought into a form as soon as they are known, so many `together`: then the
 * phase that would do it row by row is left out. Of many rows it is the better one for integers,
 * which lie in many places. */
static bool step_prepares_early(const struct fast *f, enum input_form form, uint32_t together) {
    enum { ROWS_MAX = 8 };
    if (f->backend.tap != NULL || form == INPUT_INT12) return false;
    if (form != INPUT_INT8) return together % PACK_ROWS == 0;
    return together % PACK_BLOCK == 0 && f->step.batch->n_rows <= ROWS_MAX;
}

/* Items of a matrix: groups of step.group panels. */
static uint32_t step_groups(const struct fast *f, const struct packed_matrix *weights) {
    return (weights->n_panels + f->step.group - 1) / f->step.group;
}

/* The panels of item `item`. */
struct panels {
    uint32_t first, n;
};

static struct panels step_panels_of(const struct fast *f, const struct packed_matrix *weights,
                                    uint32_t item) {
    struct panels panels = {.first = item * f->step.group};
    uint32_t left = weights->n_panels - panels.first;
    panels.n = left < f->step.group ? left : f->step.group;
    return panels;
}

/* W in, some panels of it, into `out`. Those of a mapped file are packed first: the same bytes, so
 * the same bits come out. */
static void step_matmul(const struct fast *f, uint32_t member, const struct packed_matrix *weights,
                        struct panels panels, const struct activations *in, uint32_t n_rows,
                        float *out, uint32_t stride) {
    if (!f->limits.mapped) {
        f->kernels->matmul(weights, panels.first, panels.n, in, n_rows, out, stride);
        return;
    }
    uint8_t *scratch = f->panels + (size_t)member * FAST_GROUP * f->panel_bytes;
    struct packed_matrix packed = *weights;
    packed.panels = scratch;
    for (uint32_t p = 0; p < panels.n; p++)
        pack_panel(weights, panels.first + p, scratch + p * packed.panel_bytes);
    f->kernels->matmul(&packed, 0, panels.n, in, n_rows, out, stride);
}

/* Cosines and sines of a row's position, for both elements of each pair. */
static void step_angles(struct fast *f, uint32_t row) {
    const struct model_geometry *geo = &f->model->geo;
    const uint32_t pairs = geo->rope_dim / 2, apart = geo->rope_pairs == ROPE_NORM ? 1 : pairs;
    float *c = f->rope_cos + (size_t)row * geo->rope_dim;
    float *s = f->rope_sin + (size_t)row * geo->rope_dim;
    for (uint32_t pair = 0; pair < pairs; pair++) {
        const double angle = f->step.batch->row[row].position * f->rope_frequency[pair];
        const uint32_t i = geo->rope_pairs == ROPE_NORM ? 2 * pair : pair;
        c[i] = c[i + apart] = (float)cos(angle);
        s[i + apart] = (float)sin(angle);
        s[i] = -s[i + apart];
    }
}

/* x = row of the embedding table; the angles of this row's position. */
static void phase_embed(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    const struct batch_row *r = &f->step.batch->row[row];
    const struct model_geometry *geo = &f->model->geo;
    float *x = f->x + (size_t)row * f->width.dim_pad;
    if (f->token_embd == NULL)
        pack_row_expand(&f->output, (uint32_t)r->token, x);
    else
        quant_expand(f->model->token_embd.type,
                     f->token_embd + (size_t)r->token * f->token_embd_row_bytes, x, geo->dim);
    step_angles(f, row);
}

static void step_norm(struct fast *f, const float *x, const float *weight,
                      const struct activations *out, uint32_t out_row, uint32_t n_rows,
                      uint32_t forms) {
    float *to = out->f + (size_t)out_row * out->stride;
    f->kernels->rms_norm(x, weight, f->width.dim, f->width.dim_pad, f->model->geo.norm_eps, to);
    step_prepare(f, out, out_row, step_all_columns(out), n_rows, forms, to);
}

static void phase_attn_norm(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    const struct fast_layer *layer = &f->layer[f->step.layer];
    uint32_t forms = step_form(f, &layer->q) | step_form(f, &layer->k) | step_form(f, &layer->v);
    step_norm(f, f->x + (size_t)row * f->width.dim_pad, layer->attn_norm, &f->norm, row,
              f->step.batch->n_rows, forms);
}

static void step_add_bias(const struct fast *f, const float *bias, uint32_t width, float *out,
                          uint32_t stride) {
    if (bias == NULL) return;
    for (uint32_t row = 0; row < f->step.batch->n_rows; row++)
        for (uint32_t i = 0; i < width; i += 16)
            f->kernels->add(bias + i, out + (size_t)row * stride + i);
}

/* Items: groups of panels of q, then of k, then of v. */
static void phase_qkv(struct fast *f, uint32_t member, uint32_t item) {
    const struct fast_layer *layer = &f->layer[f->step.layer];
    const struct {
        const struct packed_matrix *weights;
        const float *bias;
        float *out;
        uint32_t stride;
    } parts[] = {{&layer->q, layer->q_bias, f->q, f->width.q_pad},
                 {&layer->k, layer->k_bias, f->k, f->width.kv_pad},
                 {&layer->v, layer->v_bias, f->v, f->width.kv_pad}},
      *part = parts;
    while (part < parts + 2 && item >= step_groups(f, part->weights))
        item -= step_groups(f, (part++)->weights);
    struct panels panels = step_panels_of(f, part->weights, item);
    uint32_t at = panels.first * PACK_ROWS;
    step_matmul(f, member, part->weights, panels, &f->norm, f->step.batch->n_rows, part->out + at,
                part->stride);
    step_add_bias(f, part->bias == NULL ? NULL : part->bias + at, panels.n * PACK_ROWS,
                  part->out + at, part->stride);
}

/* (a, b) -> (a cos - b sin, a sin + b cos) for each pair of one head. */
static void step_rotate(const struct fast *f, uint32_t row, float *head) {
    const struct model_geometry *geo = &f->model->geo;
    const size_t at = (size_t)row * geo->rope_dim;
    f->kernels->rotate(f->rope_cos + at, f->rope_sin + at, geo->rope_dim,
                       geo->rope_pairs == ROPE_NORM, head);
}

/* Rotates the queries and the key of a row and KV head, stores key and value. */
static void step_rope(struct fast *f, uint32_t row, uint32_t head) {
    const struct model_geometry *geo = &f->model->geo;
    const struct batch_row *r = &f->step.batch->row[row];
    float *q = f->q + (size_t)row * f->width.q_pad + head * f->width.group * geo->head_dim;
    for (uint32_t i = 0; i < f->width.group; i++) step_rotate(f, row, q + i * geo->head_dim);
    float *k = f->k + (size_t)row * f->width.kv_pad + head * geo->head_dim;
    const float *v = f->v + (size_t)row * f->width.kv_pad + head * geo->head_dim;
    step_rotate(f, row, k);
    f->kernels->store(&f->kv, f->kv_pages + f->step.layer * f->kv.layer_bytes,
                      r->pages[r->position / KV_PAGE_TOKENS], r->position % KV_PAGE_TOKENS, head, k,
                      v);
}

/* Items: (row, KV head). */
static void phase_rope(struct fast *f, uint32_t member, uint32_t item) {
    (void)member;
    step_rope(f, item / f->model->geo.n_kv_heads, item % f->model->geo.n_kv_heads);
}

/* Where the attention of a query head goes when somebody taps it. */
static float *step_weights_out(const struct fast *f, uint32_t row, uint32_t head) {
    if (f->backend.tap == NULL) return NULL;
    const struct batch *batch = f->step.batch;
    size_t width = round_up(batch->row[batch->n_rows - 1].position + 1, 256);
    return f->tapped.attn_weights + ((size_t)head * batch->n_rows + row) * width;
}

/* Where the attention of a query head to one of step.chunks chunks is kept. */
static struct attend_sum *step_part(const struct fast *f, uint32_t row, uint32_t head,
                                    uint32_t chunk) {
    return f->part + ((size_t)row * f->model->geo.n_heads + head) * f->step.chunks + chunk;
}

/* The attention of a query head to all positions is known. */
static void step_attended(const struct fast *f, uint32_t row, uint32_t head,
                          const struct attend_sum *sum) {
    const uint32_t head_dim = f->model->geo.head_dim;
    float *out = f->attn.f + (size_t)row * f->width.q_pad + head * head_dim;
    f->kernels->attend_end(sum, head_dim, out);
    float *weights = step_weights_out(f, row, head);
    if (weights == NULL) return;
    for (uint32_t p = 0; p <= f->step.batch->row[row].position; p++) weights[p] /= sum->total;
}

static enum input_form step_attn_form(const struct fast *f) {
    return step_form(f, &f->layer[f->step.layer].attn_out);
}

/* Makes the input of attn_out of columns of a row whose attention is known. */
static void step_attn_prepare(const struct fast *f, uint32_t row, struct columns columns) {
    const struct activations *attn = &f->attn;
    step_prepare(f, attn, row, columns, f->step.batch->n_rows, step_attn_form(f),
                 attn->f + (size_t)row * attn->stride + columns.first);
}

/* Whether attention to a head is the input of attn_out as soon as it is known. */
static bool step_attn_early(const struct fast *f) {
    return f->step.chunks == 1 && step_prepares_early(f, step_attn_form(f), f->model->geo.head_dim);
}

/* The query heads of an attend item. */
struct heads {
    uint32_t first, end;
};

static struct heads step_heads(const struct fast *f, uint32_t kv_head, uint32_t group_block) {
    const struct fast_widths *w = &f->width;
    struct heads heads = {.first = kv_head * w->group + group_block * w->block_heads,
                          .end = (kv_head + 1) * w->group};
    if (heads.end > heads.first + w->block_heads) heads.end = heads.first + w->block_heads;
    return heads;
}

/* The attention of some heads in rows [row, end) to all positions is known: (rows, heads). */
static void step_attended_all(const struct fast *f, uint32_t row, uint32_t end, struct heads heads,
                              const struct attend_sum *sum) {
    const uint32_t head_dim = f->model->geo.head_dim;
    const struct columns columns = {.first = heads.first * head_dim,
                                    .n = (heads.end - heads.first) * head_dim};
    for (; row < end; row++) {
        for (uint32_t head = heads.first; head < heads.end; head++)
            step_attended(f, row, head, sum++);
        if (step_attn_early(f)) step_attn_prepare(f, row, columns);
    }
}

/* Items: (block of rows, KV head, block of its query heads, chunk of positions). */
static void phase_attend(struct fast *f, uint32_t member, uint32_t item) {
    const struct model_geometry *geo = &f->model->geo;
    const struct fast_widths *w = &f->width;
    const uint32_t chunk = item % f->step.chunks, rest = item / f->step.chunks;
    const uint32_t block = rest / w->group_blocks / geo->n_kv_heads;
    const bool whole = f->step.chunks == 1;
    struct attend_sum sum[ATTEND_TILE_QUERIES];
    struct attend_query queries[ATTEND_TILE_QUERIES];
    struct attend_job job = {
        .kv = &f->kv,
        .layer = f->kv_pages + f->step.layer * f->kv.layer_bytes,
        .pages = f->step.batch->row[f->step.block_row[block]].pages,
        .kv_head = rest / w->group_blocks % geo->n_kv_heads,
        .from = chunk * ATTEND_CHUNK,
        .to = whole ? UINT32_MAX : (chunk + 1) * ATTEND_CHUNK,
        .scale = 1.0f / sqrtf((float)geo->head_dim),
        .query = queries,
        .scratch = f->attend_scratch + member * w->attend_scratch,
    };
    const struct heads heads = step_heads(f, job.kv_head, rest % w->group_blocks);
    const uint32_t row = f->step.block_row[block], row_end = f->step.block_row[block + 1];
    for (uint32_t r = row; r < row_end; r++)
        for (uint32_t head = heads.first; head < heads.end; head++) {
            struct attend_query *query = &queries[job.n_queries];
            query->query = f->q + (size_t)r * w->q_pad + head * geo->head_dim;
            query->n_kv = f->step.batch->row[r].position + 1;
            query->weights_out = step_weights_out(f, r, head);
            query->sum = whole ? &sum[job.n_queries] : step_part(f, r, head, chunk);
            size_t at = whole ? (size_t)member * f->kernels->attend_queries + job.n_queries
                              : (size_t)(query->sum - f->part);
            *query->sum = (struct attend_sum){.values = (whole ? f->attended : f->part_values) +
                                                        at * w->head_pad};
            job.n_queries++;
        }
    if (f->step.rope_fused) step_rope(f, block, job.kv_head);
    f->kernels->attend(&job);
    if (whole) step_attended_all(f, row, row_end, heads, sum);
}

static void phase_attn_in(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    const struct model_geometry *geo = &f->model->geo;
    for (uint32_t head = 0; f->step.chunks > 1 && head < geo->n_heads; head++) {
        struct attend_sum *sum = step_part(f, row, head, 0);
        for (uint32_t chunk = 1; chunk < f->step.chunks; chunk++)
            f->kernels->attend_merge(sum, sum + chunk, geo->head_dim);
        step_attended(f, row, head, sum);
    }
    step_attn_prepare(f, row, step_all_columns(&f->attn));
}

/* The product of some panels with n_rows rows in the member's tile, (n_rows, 16 panels.n). */
static const float *step_product(struct fast *f, uint32_t member,
                                 const struct packed_matrix *weights, const struct activations *in,
                                 struct panels panels, uint32_t n_rows) {
    float *tile = step_tile(f, member, 0);
    uint32_t width = panels.n * PACK_ROWS;
    if (!in->fine || step_form(f, weights) != INPUT_INT8) {
        step_matmul(f, member, weights, panels, in, n_rows, tile, width);
        return tile;
    }
    /* Both tiles: two planes. */
    step_matmul(f, member, weights, panels, in, 2 * n_rows, tile, width);
    for (uint32_t row = 0; row < n_rows; row++) {
        float *coarse = tile + (size_t)2 * row * width;
        for (uint32_t i = 0; i < width; i += 16) f->kernels->add(coarse + width + i, coarse + i);
        if (row > 0) memcpy(tile + (size_t)row * width, coarse, width * sizeof(float));
    }
    return tile;
}

/* x += W in, some panels of it. */
static void step_residual(struct fast *f, uint32_t member, const struct packed_matrix *weights,
                          const struct activations *in, uint32_t item) {
    uint32_t n_rows = f->step.batch->n_rows;
    struct panels panels = step_panels_of(f, weights, item);
    uint32_t width = panels.n * PACK_ROWS;
    const float *tile = step_product(f, member, weights, in, panels, n_rows);
    for (uint32_t row = 0; row < n_rows; row++, tile += width) {
        size_t at = (size_t)row * f->width.dim_pad + panels.first * PACK_ROWS;
        for (uint32_t i = 0; i < width; i += 16) f->kernels->add(tile + i, f->x + at + i);
        if (f->backend.tap != NULL) memcpy(f->tapped.out + at, tile, width * sizeof(float));
    }
}

static void phase_attn_out(struct fast *f, uint32_t member, uint32_t item) {
    step_residual(f, member, &f->layer[f->step.layer].attn_out, &f->attn, item);
}

static void phase_ffn_norm(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    const struct fast_layer *layer = &f->layer[f->step.layer];
    uint32_t forms = step_form(f, &layer->gate) | step_form(f, &layer->up);
    step_norm(f, f->x + (size_t)row * f->width.dim_pad, layer->ffn_norm, &f->norm, row,
              f->step.batch->n_rows, forms);
}

static enum input_form step_down_form(const struct fast *f) {
    return step_form(f, &f->layer[f->step.layer].down);
}

/* Whether what an item of gate_up computes is the input of down at once. */
static bool step_ffn_early(const struct fast *f) {
    return step_prepares_early(f, step_down_form(f), f->step.group * PACK_ROWS);
}

/* silu(gate) * up, some panels of both. */
static void phase_gate_up(struct fast *f, uint32_t member, uint32_t item) {
    const struct fast_layer *layer = &f->layer[f->step.layer];
    const struct panels panels = step_panels_of(f, &layer->gate, item);
    const struct columns columns = {panels.first * PACK_ROWS, panels.n * PACK_ROWS};
    float *gate = step_tile(f, member, 0), *up = step_tile(f, member, 1);
    const uint32_t n_rows = f->step.batch->n_rows, width = columns.n;
    const enum input_form form = step_down_form(f);
    const bool early = step_ffn_early(f);
    step_matmul(f, member, &layer->gate, panels, &f->norm, n_rows, gate, width);
    step_matmul(f, member, &layer->up, panels, &f->norm, n_rows, up, width);
    for (uint32_t row = 0; row < n_rows; row++, gate += width, up += width) {
        size_t at = (size_t)row * f->width.ffn_pad + columns.first;
        float *out = early && form == INPUT_BF16 ? gate : f->ffn.f + at;
        for (uint32_t i = 0; i < width; i += 16) f->kernels->silu_mul(gate + i, up + i, out + i);
        if (early) step_prepare(f, &f->ffn, row, columns, n_rows, form, out);
        if (f->backend.tap == NULL) continue;
        memcpy(f->tapped.gate + at, gate, width * sizeof(float));
        memcpy(f->tapped.up + at, up, width * sizeof(float));
    }
}

static void phase_down_in(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    step_prepare(f, &f->ffn, row, step_all_columns(&f->ffn), f->step.batch->n_rows,
                 step_down_form(f), f->ffn.f + (size_t)row * f->ffn.stride);
}

static void phase_down(struct fast *f, uint32_t member, uint32_t item) {
    step_residual(f, member, &f->layer[f->step.layer].down, &f->ffn, item);
}

/* Items: rows that want logits. */
static void phase_final_norm(struct fast *f, uint32_t member, uint32_t index) {
    (void)member;
    const float *x = f->x + (size_t)f->step.logits_row[index] * f->width.dim_pad;
    step_norm(f, x, f->output_norm, &f->last, index, f->step.n_logits, step_form(f, &f->output));
}

static void phase_head(struct fast *f, uint32_t member, uint32_t item) {
    struct panels panels = step_panels_of(f, &f->output, item);
    uint32_t width = panels.n * PACK_ROWS;
    const float *tile = step_product(f, member, &f->output, &f->last, panels, f->step.n_logits);
    for (uint32_t i = 0; i < f->step.n_logits; i++)
        memcpy(f->logits + (size_t)i * f->width.vocab_pad + (size_t)panels.first * PACK_ROWS,
               tile + i * width, width * sizeof(float));
}

/* What the items of a phase are. */
enum item_kind { ITEM_ROW, ITEM_ROW_KV_HEAD, ITEM_ATTEND, ITEM_PANEL, ITEM_LOGITS_ROW };

static const struct fast_phase_info {
    const char *name;
    void (*item)(struct fast *f, uint32_t member, uint32_t item);
    enum item_kind kind;
} phases[PHASE_END] = {
    [PHASE_EMBED] = {"embed", phase_embed, ITEM_ROW},
    [PHASE_ATTN_NORM] = {"attn_norm", phase_attn_norm, ITEM_ROW},
    [PHASE_QKV] = {"qkv", phase_qkv, ITEM_PANEL},
    [PHASE_ROPE] = {"rope", phase_rope, ITEM_ROW_KV_HEAD},
    [PHASE_ATTEND] = {"attend", phase_attend, ITEM_ATTEND},
    [PHASE_ATTN_IN] = {"attn_in", phase_attn_in, ITEM_ROW},
    [PHASE_ATTN_OUT] = {"attn_out", phase_attn_out, ITEM_PANEL},
    [PHASE_FFN_NORM] = {"ffn_norm", phase_ffn_norm, ITEM_ROW},
    [PHASE_GATE_UP] = {"gate_up", phase_gate_up, ITEM_PANEL},
    [PHASE_DOWN_IN] = {"down_in", phase_down_in, ITEM_ROW},
    [PHASE_DOWN] = {"down", phase_down, ITEM_PANEL},
    [PHASE_FINAL_NORM] = {"final_norm", phase_final_norm, ITEM_LOGITS_ROW},
    [PHASE_HEAD] = {"head", phase_head, ITEM_PANEL},
};

/* The matrices that share the items of a phase. */
static uint32_t step_matrices(const struct fast *f, enum fast_phase phase, uint32_t in_layer,
                              const struct packed_matrix *matrix[3]) {
    const struct fast_layer *layer = &f->layer[in_layer];
    switch (phase) {
    case PHASE_QKV:
        matrix[0] = &layer->q, matrix[1] = &layer->k, matrix[2] = &layer->v;
        return 3;
    case PHASE_ATTN_OUT:
        matrix[0] = &layer->attn_out;
        return 1;
    case PHASE_GATE_UP:
        matrix[0] = &layer->gate;
        return 1;
    case PHASE_DOWN:
        matrix[0] = &layer->down;
        return 1;
    default:
        matrix[0] = &f->output;
        return f->step.n_logits > 0 ? 1 : 0;
    }
}

/* How many panels an item has, if that leaves every thread some items to claim: tiles reuse what
 * they have loaded of the rows; vectors with few rows read the weights of an item as one stream. */
static uint32_t step_group(const struct fast *f, uint32_t panels, enum input_form form,
                           uint32_t n_rows) {
    enum { ITEMS = 4, ROWS_WIDE = 16 };
    uint32_t group = n_rows >= ROWS_WIDE ? FAST_GROUP : form & (INPUT_BF16 | INPUT_INT12) ? 2 : 4;
    while (group > 1 && panels < group * f->limits.threads * ITEMS) group /= 2;
    return group;
}

/* How a phase of panels is taken apart. */
struct division {
    const struct packed_matrix *first;
    uint32_t group; /* panels of an item */
    uint32_t items;
};

static struct division step_divide(const struct fast *f, enum fast_phase phase, uint32_t layer) {
    const struct packed_matrix *matrix[3];
    uint32_t n = step_matrices(f, phase, layer, matrix), panels = 0;
    uint32_t n_rows = phase == PHASE_HEAD ? f->step.n_logits : f->step.batch->n_rows;
    for (uint32_t i = 0; i < n; i++) panels += matrix[i]->n_panels;
    struct division d = {.first = matrix[0]};
    d.group = step_group(f, panels, step_form(f, matrix[0]), n_rows);
    for (uint32_t i = 0; i < n; i++) d.items += (matrix[i]->n_panels + d.group - 1) / d.group;
    return d;
}

static uint32_t step_panels(struct fast *f) {
    struct division division = step_divide(f, (enum fast_phase)f->step.phase, f->step.layer);
    f->step.group = division.group;
    return division.items;
}

static uint32_t step_items(struct fast *f) {
    const struct model_geometry *geo = &f->model->geo;
    uint32_t n_rows = f->step.batch->n_rows;
    switch (phases[f->step.phase].kind) {
    case ITEM_ROW:
        return n_rows;
    case ITEM_ROW_KV_HEAD:
        return n_rows * geo->n_kv_heads;
    case ITEM_ATTEND:
        return f->step.n_blocks * geo->n_kv_heads * f->width.group_blocks * f->step.chunks;
    case ITEM_PANEL:
        return step_panels(f);
    case ITEM_LOGITS_ROW:
        return f->step.n_logits;
    }
    return 0;
}

static void step_work(void *context, uint32_t member, uint32_t first, uint32_t count) {
    struct fast *f = context;
    uint32_t before = kernels_enter();
    for (uint32_t i = first; i < first + count; i++) phases[f->step.phase].item(f, member, i);
    kernels_leave(before);
}

/* Claims a phase is shared in: enough that a disturbed thread takes visibly less. */
enum { STEP_CLAIMS = 8 };

static uint32_t step_grain(const struct fast *f, uint32_t items) {
    uint32_t grain = items / (f->limits.threads * STEP_CLAIMS);
    return grain > 0 ? grain : 1;
}

/* From a phase to the one after it: the next layer follows the last phase of a layer. */
static void step_to_next(const struct fast *f, uint32_t *phase, uint32_t *layer) {
    if (*phase == PHASE_DOWN && *layer + 1 < f->model->geo.n_layers)
        *phase = PHASE_ATTN_NORM, ++*layer;
    else
        ++*phase;
}

/* Tells the team which weights come next: who has nothing to do fetches what it will claim first.
 * Where many rows share the weights, reading them is not what takes time. */
static void step_look_ahead(struct fast *f) {
    enum { ROWS_MAX = 8 };
    if (f->limits.mapped || f->step.batch->n_rows > ROWS_MAX) {
        team_look_ahead(f->team, NULL, 0, 0);
        return;
    }
    uint32_t phase = f->step.phase, layer = f->step.layer;
    do {
        step_to_next(f, &phase, &layer);
        if (phase == PHASE_END) phase = PHASE_EMBED, layer = 0; /* the next step */
    } while (phases[phase].kind != ITEM_PANEL);
    struct division next = step_divide(f, (enum fast_phase)phase, layer);
    team_look_ahead(f->team, next.first->panels, next.group * next.first->panel_bytes, next.items);
}

static void step_open(struct fast *f) {
    uint32_t items = step_items(f);
    step_look_ahead(f);
    team_open(f->team, step_work, f, items, step_grain(f, items));
    f->step.open = true;
}

/* The phase that ends now: its time, and in that the time spent waiting for its last item. */
static void step_account(struct fast *f, uint64_t now_ns) {
    uint64_t waited_ns = team_waited_ns(f->team), wait_ns = waited_ns - f->step.waited_ns;
    f->phase_ns[f->step.phase] += now_ns - f->step.since_ns - wait_ns;
    f->phase_ns[PHASE_END] += wait_ns;
    f->step.since_ns = now_ns;
    f->step.waited_ns = waited_ns;
}

uint32_t fast_step_phases(const struct fast *f, struct backend_phase *out) {
    for (uint32_t i = 0; i < PHASE_END; i++)
        out[i] = (struct backend_phase){phases[i].name, f->phase_ns[i]};
    out[PHASE_END] = (struct backend_phase){"wait", f->phase_ns[PHASE_END]};
    return PHASE_END + 1;
}

static void step_next(struct fast *f) {
    f->step.open = false;
    if (f->backend.tap != NULL) fast_tap_phase(f);
    step_to_next(f, &f->step.phase, &f->step.layer);
    if (f->step.phase == PHASE_ROPE && f->step.rope_fused) f->step.phase = PHASE_ATTEND;
    if (f->step.phase == PHASE_ATTN_IN && step_attn_early(f)) f->step.phase = PHASE_ATTN_OUT;
    if (f->step.phase == PHASE_DOWN_IN && step_ffn_early(f)) f->step.phase = PHASE_DOWN;
}

/* Rows of an attend job: as many as there is room for, if that leaves every thread some jobs to
 * claim; and no fewer than vectors share. */
static uint32_t step_rows_together(const struct fast *f, const struct batch *batch) {
    const struct fast_widths *w = &f->width;
    const uint32_t jobs = batch->n_rows * f->model->geo.n_kv_heads * w->group_blocks;
    const uint32_t least = ATTEND_QUERIES / w->block_heads;
    uint32_t rows = jobs / (f->limits.threads * STEP_CLAIMS);
    if (rows < least) rows = least;
    if (rows > w->block_rows) rows = w->block_rows;
    return rows > 0 ? rows : 1;
}

/* Consecutive rows of a sequence share what attention loads. */
static void step_block_rows(struct fast *f, const struct batch *batch) {
    struct fast_step *step = &f->step;
    const uint32_t together = step_rows_together(f, batch);
    /* Where no row waits for the keys of another, attention stores what it needs itself. */
    step->rope_fused = f->width.group_blocks == 1 && f->backend.tap == NULL;
    for (uint32_t row = 0, rows = 0; row < batch->n_rows; row++, rows++) {
        bool same = row > 0 && batch->row[row].pages == batch->row[row - 1].pages;
        if (same) step->rope_fused = false;
        if (same && rows < together) continue;
        step->block_row[step->n_blocks++] = (uint16_t)row;
        rows = 0;
    }
    step->block_row[step->n_blocks] = (uint16_t)batch->n_rows;
}

/* Attention of few sequences is shared out by chunks of their positions, too: they are long, and
 * there are not enough KV heads to keep all threads busy to the end. Rows do not wait for each
 * other's chunks then; but all of them do for this step's keys. */
static void step_chunks(struct fast *f, const struct batch *batch) {
    const struct model_geometry *geo = &f->model->geo;
    const uint32_t enough = f->limits.threads * STEP_CLAIMS;
    uint32_t longest = 0;
    for (uint32_t row = 0; row < batch->n_rows; row++)
        if (batch->row[row].position >= longest) longest = batch->row[row].position + 1;
    const uint32_t chunks = (longest + ATTEND_CHUNK - 1) / ATTEND_CHUNK;
    f->step.chunks = 1;
    if (chunks == 1 || f->step.n_blocks < batch->n_rows || f->backend.tap != NULL) return;
    if (batch->n_rows * geo->n_kv_heads * f->width.group_blocks >= enough) return;
    if ((uint64_t)batch->n_rows * geo->n_heads * chunks > f->width.parts) return;
    f->step.chunks = chunks;
    f->step.rope_fused = false;
}

void fast_step_begin(struct fast *f, const struct batch *batch) {
    wick_assert(f->step.batch == NULL);
    wick_assert(batch->n_rows > 0 && batch->n_rows <= f->limits.rows_max);
    _Static_assert((int)PHASE_END < (int)BACKEND_PHASES_MAX, "no room to account for every phase");
    f->step = (struct fast_step){.batch = batch,
                                 .phase = PHASE_EMBED,
                                 .since_ns = clock_ns(),
                                 .waited_ns = team_waited_ns(f->team)};
    for (uint32_t row = 0; row < batch->n_rows; row++) {
        wick_assert(batch->row[row].position < f->limits.ctx);
        wick_assert((uint32_t)batch->row[row].token < f->model->geo.vocab);
        if (batch->row[row].wants != ROW_NOTHING) f->step.logits_row[f->step.n_logits++] = row;
    }
    wick_assert(f->step.n_logits <= f->limits.logits_max);
    step_block_rows(f, batch);
    step_chunks(f, batch);
}

enum backend_status fast_step_advance(struct fast *f, uint64_t deadline_ns) {
    wick_assert(f->step.batch != NULL);
    while (f->step.phase != PHASE_END) {
        if (!f->step.open) step_open(f);
        if (!team_join(f->team, deadline_ns)) return BACKEND_PENDING;
        uint64_t now_ns = clock_ns();
        step_account(f, now_ns);
        step_next(f);
        if (f->step.phase != PHASE_END && now_ns >= deadline_ns) return BACKEND_PENDING;
    }
    f->step.batch = NULL;
    return BACKEND_DONE;
}

void fast_step_abort(struct fast *f) {
    if (f->step.batch == NULL) return;
    if (f->step.open)
        while (!team_join(f->team, UINT64_MAX)) {
        } /* one phase at most */
    f->step = (struct fast_step){0};
}

/* --- taps: for measuring, so compiled for size --- */

#define TAPS __attribute__((cold))

TAPS static void tap_emit(struct fast *f, const char *name, uint32_t layer, const float *values,
                          uint32_t width, uint32_t stride, uint32_t n_rows, uint32_t heads) {
    for (uint32_t row = 0; row < n_rows; row++)
        memcpy(f->tapped.compact + (size_t)row * width, values + (size_t)row * stride,
               width * sizeof(float));
    uint32_t flat[4] = {width, n_rows, 1, 1};
    uint32_t headed[4] = {heads > 0 ? width / heads : 1, heads, n_rows, 1};
    f->backend.tap->emit(f->backend.tap->context, name, layer, f->tapped.compact,
                         heads > 0 ? headed : flat);
}

TAPS static void tap_attend(struct fast *f) {
    const struct fast_widths *w = &f->width;
    const struct batch *batch = f->step.batch;
    uint32_t n_kv = batch->row[batch->n_rows - 1].position + 1;
    uint32_t dims[4] = {(uint32_t)round_up(n_kv, 256), batch->n_rows, f->model->geo.n_heads, 1};
    f->backend.tap->emit(f->backend.tap->context, "attn_weights", f->step.layer,
                         f->tapped.attn_weights, dims);
    memset(f->tapped.attn_weights, 0, (size_t)dims[0] * dims[1] * dims[2] * sizeof(float));
    tap_emit(f, "attn_heads", f->step.layer, f->attn.f, w->q, w->q_pad, batch->n_rows, 0);
}

TAPS void fast_tap_phase(struct fast *f) {
    const struct fast_widths *w = &f->width;
    const struct model_geometry *geo = &f->model->geo;
    uint32_t n = f->step.batch->n_rows, layer = f->step.layer;
    switch ((enum fast_phase)f->step.phase) {
    case PHASE_ATTN_NORM:
        tap_emit(f, "attn_norm", layer, f->norm.f, w->dim, w->dim_pad, n, 0);
        break;
    case PHASE_QKV:
        tap_emit(f, "q", layer, f->q, w->q, w->q_pad, n, 0);
        tap_emit(f, "v", layer, f->v, w->kv, w->kv_pad, n, 0);
        tap_emit(f, "k", layer, f->k, w->kv, w->kv_pad, n, 0);
        break;
    case PHASE_ROPE:
        tap_emit(f, "q_rope", layer, f->q, w->q, w->q_pad, n, geo->n_heads);
        tap_emit(f, "k_rope", layer, f->k, w->kv, w->kv_pad, n, geo->n_kv_heads);
        break;
    case PHASE_ATTEND:
        tap_attend(f);
        break;
    case PHASE_ATTN_OUT:
        tap_emit(f, "attn_out", layer, f->tapped.out, w->dim, w->dim_pad, n, 0);
        tap_emit(f, "ffn_inp", layer, f->x, w->dim, w->dim_pad, n, 0);
        break;
    case PHASE_FFN_NORM:
        tap_emit(f, "ffn_norm", layer, f->norm.f, w->dim, w->dim_pad, n, 0);
        break;
    case PHASE_GATE_UP:
        tap_emit(f, "ffn_gate", layer, f->tapped.gate, w->ffn, w->ffn_pad, n, 0);
        tap_emit(f, "ffn_up", layer, f->tapped.up, w->ffn, w->ffn_pad, n, 0);
        tap_emit(f, "ffn_swiglu", layer, f->ffn.f, w->ffn, w->ffn_pad, n, 0);
        break;
    case PHASE_DOWN:
        tap_emit(f, "ffn_out", layer, f->tapped.out, w->dim, w->dim_pad, n, 0);
        tap_emit(f, "block_out", layer, f->x, w->dim, w->dim_pad, n, 0);
        break;
    case PHASE_FINAL_NORM:
        tap_emit(f, "final_norm", TAP_NO_LAYER, f->last.f, w->dim, w->dim_pad, f->step.n_logits, 0);
        break;
    case PHASE_HEAD:
        tap_emit(f, "logits", TAP_NO_LAYER, f->logits, geo->vocab, w->vocab_pad, f->step.n_logits,
                 0);
        break;
    default:
        break;
    }
}
