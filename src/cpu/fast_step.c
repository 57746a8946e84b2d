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

/* Where member `member` merges a panel: two tiles of (rows_max, 16). */
static float *step_tile(const struct fast *f, uint32_t member, uint32_t which) {
    return f->tile + ((size_t)member * 2 + which) * f->limits.rows_max * PACK_ROWS;
}

static bool step_wants_integers(const struct packed_matrix *weights) {
    return pack_format(weights->kind)->sub != 0;
}

/* x = row of the embedding table; the angles of this row's position. */
static void phase_embed(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    const struct batch_row *r = &f->step.batch->row[row];
    const struct model_geometry *geo = &f->model->geo;
    float *x = f->x + (size_t)row * f->width.dim_pad;
    if (geo->tied)
        pack_row_expand(&f->output, (uint32_t)r->token, x);
    else
        quant_info(f->model->token_embd.type)
            ->expand(f->token_embd + (size_t)r->token * f->token_embd_row_bytes, x, geo->dim);
    uint32_t pairs = geo->rope_dim / 2;
    for (uint32_t i = 0; i < pairs; i++) {
        double angle = (double)r->position * f->rope_frequency[i];
        f->rope_cos[(size_t)row * pairs + i] = (float)cos(angle);
        f->rope_sin[(size_t)row * pairs + i] = (float)sin(angle);
    }
}

static void step_norm(struct fast *f, const float *x, const float *weight,
                      const struct activations *out, uint32_t out_row, bool integers) {
    f->kernels->rms_norm(x, weight, f->width.dim, f->width.dim_pad, f->model->geo.norm_eps,
                         out->f + (size_t)out_row * out->stride);
    if (integers) f->kernels->quantise(out, out_row, f->width.dim);
}

static void phase_attn_norm(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    const struct fast_layer *layer = &f->layer[f->step.layer];
    bool integers = step_wants_integers(&layer->q) || step_wants_integers(&layer->k) ||
                    step_wants_integers(&layer->v);
    step_norm(f, f->x + (size_t)row * f->width.dim_pad, layer->attn_norm, &f->norm, row, integers);
}

static void step_add_bias(const struct fast *f, const float *bias, float *out, uint32_t stride) {
    if (bias == NULL) return;
    for (uint32_t row = 0; row < f->step.batch->n_rows; row++)
        f->kernels->add(bias, out + (size_t)row * stride);
}

/* Items: panels of q, then of k, then of v. */
static void phase_qkv(struct fast *f, uint32_t member, uint32_t item) {
    (void)member;
    const struct fast_layer *layer = &f->layer[f->step.layer];
    const struct packed_matrix *weights = &layer->q;
    const float *bias = layer->q_bias;
    float *out = f->q;
    uint32_t panel = item, stride = f->width.q_pad;
    if (panel >= layer->q.n_panels) {
        panel -= layer->q.n_panels;
        stride = f->width.kv_pad;
        bool is_k = panel < layer->k.n_panels;
        if (!is_k) panel -= layer->k.n_panels;
        weights = is_k ? &layer->k : &layer->v;
        bias = is_k ? layer->k_bias : layer->v_bias;
        out = is_k ? f->k : f->v;
    }
    out += panel * PACK_ROWS;
    f->kernels->matmul(weights, panel, &f->norm, f->step.batch->n_rows, out, stride);
    step_add_bias(f, bias == NULL ? NULL : bias + panel * PACK_ROWS, out, stride);
}

/* (a, b) -> (a cos - b sin, a sin + b cos) for each pair of one head. */
static void step_rotate(const struct fast *f, uint32_t row, float *head) {
    const struct model_geometry *geo = &f->model->geo;
    uint32_t pairs = geo->rope_dim / 2;
    const float *c = f->rope_cos + (size_t)row * pairs, *s = f->rope_sin + (size_t)row * pairs;
    uint32_t step = geo->rope_pairs == ROPE_NORM ? 2 : 1;
    uint32_t apart = geo->rope_pairs == ROPE_NORM ? 1 : pairs;
    for (uint32_t i = 0; i < pairs; i++) {
        float a = head[i * step], b = head[i * step + apart];
        head[i * step] = a * c[i] - b * s[i];
        head[i * step + apart] = a * s[i] + b * c[i];
    }
}

/* Items: (row, KV head). Rotates its queries and its key, stores key and value. */
static void phase_rope(struct fast *f, uint32_t member, uint32_t item) {
    (void)member;
    const struct model_geometry *geo = &f->model->geo;
    uint32_t row = item / geo->n_kv_heads, head = item % geo->n_kv_heads;
    const struct batch_row *r = &f->step.batch->row[row];
    float *q = f->q + (size_t)row * f->width.q_pad + head * f->width.group * geo->head_dim;
    for (uint32_t i = 0; i < f->width.group; i++) step_rotate(f, row, q + i * geo->head_dim);
    float *k = f->k + (size_t)row * f->width.kv_pad + head * geo->head_dim;
    const float *v = f->v + (size_t)row * f->width.kv_pad + head * geo->head_dim;
    step_rotate(f, row, k);
    kv_store(&f->kv, f->kv_pages + f->step.layer * f->kv.layer_bytes,
             r->pages[r->position / KV_PAGE_TOKENS], r->position % KV_PAGE_TOKENS, head, k, v);
}

/* Items: (row, KV head, block of its query heads). */
static void phase_attend(struct fast *f, uint32_t member, uint32_t item) {
    const struct model_geometry *geo = &f->model->geo;
    const struct fast_widths *w = &f->width;
    uint32_t per_row = geo->n_kv_heads * w->group_blocks, row = item / per_row;
    uint32_t kv_head = item % per_row / w->group_blocks;
    uint32_t first = item % w->group_blocks * ATTEND_HEADS;
    uint32_t head = kv_head * w->group + first;
    const struct batch_row *r = &f->step.batch->row[row];
    struct attend_job job = {
        .kv = &f->kv,
        .layer = f->kv_pages + f->step.layer * f->kv.layer_bytes,
        .pages = r->pages,
        .n_kv = r->position + 1,
        .kv_head = kv_head,
        .group = w->group - first < ATTEND_HEADS ? w->group - first : ATTEND_HEADS,
        .query = f->q + (size_t)row * w->q_pad + head * geo->head_dim,
        .out = f->attn.f + (size_t)row * w->q_pad + head * geo->head_dim,
        .scale = 1.0f / sqrtf((float)geo->head_dim),
        .scores = f->scores + (size_t)member * ATTEND_HEADS * w->scores,
        .scores_stride = w->scores,
    };
    if (f->backend.tap != NULL) {
        const struct batch *batch = f->step.batch;
        uint32_t n_kv = batch->row[batch->n_rows - 1].position + 1;
        uint32_t width = (uint32_t)round_up(n_kv, 256);
        job.weights_stride = width * batch->n_rows;
        job.weights_out =
            f->tapped.attn_weights + (size_t)head * job.weights_stride + (size_t)row * width;
    }
    f->kernels->attend(&job);
}

static void phase_attn_in(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    if (step_wants_integers(&f->layer[f->step.layer].attn_out))
        f->kernels->quantise(&f->attn, row, f->width.q);
}

/* The product of one panel with n_rows rows into the member's tile, (n_rows, 16). */
static const float *step_product(struct fast *f, uint32_t member,
                                 const struct packed_matrix *weights, const struct activations *in,
                                 uint32_t panel, uint32_t n_rows) {
    float *tile = step_tile(f, member, 0);
    if (!in->fine || !step_wants_integers(weights)) {
        f->kernels->matmul(weights, panel, in, n_rows, tile, PACK_ROWS);
        return tile;
    }
    f->kernels->matmul(weights, panel, in, 2 * n_rows, tile,
                       PACK_ROWS); /* both tiles: two planes */
    for (uint32_t row = 0; row < n_rows; row++) {
        float *coarse = tile + (size_t)2 * row * PACK_ROWS;
        f->kernels->add(coarse + PACK_ROWS, coarse);
        if (row > 0) memcpy(tile + (size_t)row * PACK_ROWS, coarse, PACK_ROWS * sizeof(float));
    }
    return tile;
}

/* x += W in, one panel of it. */
static void step_residual(struct fast *f, uint32_t member, const struct packed_matrix *weights,
                          const struct activations *in, uint32_t panel) {
    uint32_t n_rows = f->step.batch->n_rows;
    const float *tile = step_product(f, member, weights, in, panel, n_rows);
    for (uint32_t row = 0; row < n_rows; row++) {
        size_t at = (size_t)row * f->width.dim_pad + panel * PACK_ROWS;
        f->kernels->add(tile + row * PACK_ROWS, f->x + at);
        if (f->backend.tap != NULL)
            memcpy(f->tapped.out + at, tile + row * PACK_ROWS, PACK_ROWS * sizeof(float));
    }
}

static void phase_attn_out(struct fast *f, uint32_t member, uint32_t panel) {
    step_residual(f, member, &f->layer[f->step.layer].attn_out, &f->attn, panel);
}

static void phase_ffn_norm(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    const struct fast_layer *layer = &f->layer[f->step.layer];
    bool integers = step_wants_integers(&layer->gate) || step_wants_integers(&layer->up);
    step_norm(f, f->x + (size_t)row * f->width.dim_pad, layer->ffn_norm, &f->norm, row, integers);
}

/* silu(gate) * up, one panel of both. */
static void phase_gate_up(struct fast *f, uint32_t member, uint32_t panel) {
    const struct fast_layer *layer = &f->layer[f->step.layer];
    float *gate = step_tile(f, member, 0), *up = step_tile(f, member, 1);
    uint32_t n_rows = f->step.batch->n_rows;
    f->kernels->matmul(&layer->gate, panel, &f->norm, n_rows, gate, PACK_ROWS);
    f->kernels->matmul(&layer->up, panel, &f->norm, n_rows, up, PACK_ROWS);
    for (uint32_t row = 0; row < n_rows; row++) {
        size_t at = (size_t)row * f->width.ffn_pad + panel * PACK_ROWS;
        f->kernels->silu_mul(gate + row * PACK_ROWS, up + row * PACK_ROWS, f->ffn.f + at);
        if (f->backend.tap == NULL) continue;
        memcpy(f->tapped.gate + at, gate + row * PACK_ROWS, PACK_ROWS * sizeof(float));
        memcpy(f->tapped.up + at, up + row * PACK_ROWS, PACK_ROWS * sizeof(float));
    }
}

static void phase_down_in(struct fast *f, uint32_t member, uint32_t row) {
    (void)member;
    if (step_wants_integers(&f->layer[f->step.layer].down))
        f->kernels->quantise(&f->ffn, row, f->width.ffn);
}

static void phase_down(struct fast *f, uint32_t member, uint32_t panel) {
    step_residual(f, member, &f->layer[f->step.layer].down, &f->ffn, panel);
}

/* Items: rows that want logits. */
static void phase_final_norm(struct fast *f, uint32_t member, uint32_t index) {
    (void)member;
    const float *x = f->x + (size_t)f->step.logits_row[index] * f->width.dim_pad;
    step_norm(f, x, f->output_norm, &f->last, index, step_wants_integers(&f->output));
}

static void phase_head(struct fast *f, uint32_t member, uint32_t panel) {
    const float *tile = step_product(f, member, &f->output, &f->last, panel, f->step.n_logits);
    for (uint32_t i = 0; i < f->step.n_logits; i++)
        memcpy(f->logits + (size_t)i * f->width.vocab_pad + (size_t)panel * PACK_ROWS,
               tile + i * PACK_ROWS, PACK_ROWS * sizeof(float));
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

static uint32_t step_panels(const struct fast *f) {
    const struct fast_layer *layer = &f->layer[f->step.layer];
    switch ((enum fast_phase)f->step.phase) {
    case PHASE_QKV:
        return layer->q.n_panels + layer->k.n_panels + layer->v.n_panels;
    case PHASE_ATTN_OUT:
        return layer->attn_out.n_panels;
    case PHASE_GATE_UP:
        return layer->gate.n_panels;
    case PHASE_DOWN:
        return layer->down.n_panels;
    default:
        return f->step.n_logits > 0 ? f->output.n_panels : 0;
    }
}

static uint32_t step_items(const struct fast *f) {
    const struct model_geometry *geo = &f->model->geo;
    uint32_t n_rows = f->step.batch->n_rows;
    switch (phases[f->step.phase].kind) {
    case ITEM_ROW:
        return n_rows;
    case ITEM_ROW_KV_HEAD:
        return n_rows * geo->n_kv_heads;
    case ITEM_ATTEND:
        return n_rows * geo->n_kv_heads * f->width.group_blocks;
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

static void step_open(struct fast *f) {
    uint32_t items = step_items(f), grain = items / (f->limits.threads * STEP_CLAIMS);
    team_open(f->team, step_work, f, items, grain > 0 ? grain : 1);
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
    bool more_layers = f->step.phase == PHASE_DOWN && f->step.layer + 1 < f->model->geo.n_layers;
    if (more_layers) {
        f->step.layer++;
        f->step.phase = PHASE_ATTN_NORM;
    } else {
        f->step.phase++;
    }
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

/* --- taps --- */

static void tap_emit(struct fast *f, const char *name, uint32_t layer, const float *values,
                     uint32_t width, uint32_t stride, uint32_t n_rows, uint32_t heads) {
    for (uint32_t row = 0; row < n_rows; row++)
        memcpy(f->tapped.compact + (size_t)row * width, values + (size_t)row * stride,
               width * sizeof(float));
    uint32_t flat[4] = {width, n_rows, 1, 1};
    uint32_t headed[4] = {heads > 0 ? width / heads : 1, heads, n_rows, 1};
    f->backend.tap->emit(f->backend.tap->context, name, layer, f->tapped.compact,
                         heads > 0 ? headed : flat);
}

static void tap_attend(struct fast *f) {
    const struct fast_widths *w = &f->width;
    const struct batch *batch = f->step.batch;
    uint32_t n_kv = batch->row[batch->n_rows - 1].position + 1;
    uint32_t dims[4] = {(uint32_t)round_up(n_kv, 256), batch->n_rows, f->model->geo.n_heads, 1};
    f->backend.tap->emit(f->backend.tap->context, "attn_weights", f->step.layer,
                         f->tapped.attn_weights, dims);
    memset(f->tapped.attn_weights, 0, (size_t)dims[0] * dims[1] * dims[2] * sizeof(float));
    tap_emit(f, "attn_heads", f->step.layer, f->attn.f, w->q, w->q_pad, batch->n_rows, 0);
}

void fast_tap_phase(struct fast *f) {
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
