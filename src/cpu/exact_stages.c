#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "cpu/exact_kv.h"
#include "cpu/exact_parts.h"

enum {
    TAP_KV_MULTIPLE = 256, /* reference dumps pad the columns of attention weights to this */
    PRODUCT_GRAIN = 8      /* rows of a matrix claimed at once */
};

static double *row_of(double *matrix, uint32_t row, uint32_t width) {
    return matrix + (size_t)row * width;
}

/* Four partial sums, element i in sum i mod 4: the order is part of the definition. */
static double dot(const double *a, const double *b, uint32_t n) {
    double sum[4] = {0.0, 0.0, 0.0, 0.0};
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (uint32_t j = 0; j < 4; j++) sum[j] += a[i + j] * b[i + j];
    for (uint32_t j = 0; i + j < n; j++) sum[j] += a[i + j] * b[i + j];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Row `row` of a tensor as double, in the member's scratch. */
static const double *weight_row(struct exact *x, uint32_t member, const struct model_tensor *w,
                                uint32_t row) {
    wick_assert(w->data != NULL && row < w->rows && w->cols <= x->widest);
    size_t row_bytes = (size_t)(w->bytes / w->rows);
    float *expanded = x->expanded + (size_t)member * x->widest;
    double *values = row_of(x->weight_row, member, x->widest);
    quant_expand(w->type, w->data + row * row_bytes, expanded, w->cols);
    for (uint32_t i = 0; i < w->cols; i++) values[i] = (double)expanded[i];
    return values;
}

/* Output `row` of w for n inputs (n, cols): sums[i] = w[row] . in[i]. */
static const double *product_row(struct exact *x, uint32_t member, const struct model_tensor *w,
                                 uint32_t row, const double *in, uint32_t n) {
    const double *weights = weight_row(x, member, w, row);
    double *sums = row_of(x->sums, member, x->limits.rows_max);
    for (uint32_t i = 0; i < n; i++) sums[i] = dot(weights, in + (size_t)i * w->cols, w->cols);
    return sums;
}

/* Element i of a vector, which is F32. */
static double vector_at(const struct model_tensor *vector, uint32_t i) {
    float value;
    memcpy(&value, vector->data + i * sizeof value, sizeof value);
    return (double)value;
}

/* RMSNorm: x / sqrt(mean(x^2) + eps) * w. */
static void norm(const struct exact *x, const struct model_tensor *weight, const double *in,
                 double *out) {
    uint32_t n = x->geo.dim;
    double scale = 1.0 / sqrt(dot(in, in, n) / (double)n + (double)x->geo.norm_eps);
    for (uint32_t i = 0; i < n; i++) out[i] = in[i] * scale * vector_at(weight, i);
}

/* Where position `position` of the sequence behind `row` keeps KV head `head`. */
static uint8_t *kv_place(const struct exact *x, uint8_t *cache, const struct batch_row *row,
                         uint32_t position, uint32_t head) {
    uint32_t page = row->pages[position / KV_PAGE_TOKENS];
    wick_assert(page < x->limits.n_pages && head < x->geo.n_kv_heads);
    size_t slot = ((size_t)x->at_layer * x->limits.n_pages + page) * KV_PAGE_TOKENS +
                  position % KV_PAGE_TOKENS;
    return cache + (slot * x->geo.n_kv_heads + head) * x->kv_head_bytes;
}

/* Rotates pair i of every head by theta = position * inverse_frequency[i]:
 * (a, b) -> (a cos - b sin, a sin + b cos). Elements beyond rope_dim stay. */
static void rope(const struct exact *x, uint32_t position, uint32_t n_heads, double *values) {
    const struct model_geometry *geo = &x->geo;
    uint32_t half = geo->rope_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        double theta = (double)position * x->inverse_frequency[i];
        double c = cos(theta), s = sin(theta);
        uint32_t first = geo->rope_pairs == ROPE_NORM ? 2 * i : i;
        uint32_t second = geo->rope_pairs == ROPE_NORM ? 2 * i + 1 : i + half;
        for (uint32_t head = 0; head < n_heads; head++) {
            double *h = values + (size_t)head * geo->head_dim;
            double a = h[first], b = h[second];
            h[first] = a * c - b * s;
            h[second] = a * s + b * c;
        }
    }
}

static void rope_store(struct exact *x, uint32_t r) {
    const struct model_geometry *geo = &x->geo;
    const struct batch_row *row = &x->batch->row[r];
    double *k = row_of(x->k, r, x->kv_width), *v = row_of(x->v, r, x->kv_width);
    rope(x, row->position, geo->n_heads, row_of(x->q, r, x->q_width));
    rope(x, row->position, geo->n_kv_heads, k);
    for (uint32_t head = 0; head < geo->n_kv_heads; head++) {
        size_t at = (size_t)head * geo->head_dim;
        exact_kv_write(x->limits.kv_type, geo->head_dim, k + at,
                       kv_place(x, x->k_cache, row, row->position, head));
        exact_kv_write(x->limits.kv_type, geo->head_dim, v + at,
                       kv_place(x, x->v_cache, row, row->position, head));
    }
}

/* softmax(q . k / sqrt(head_dim)) over the positions up to the row's own. */
static void attention_weights(const struct exact *x, uint32_t r, uint32_t head, double *weights) {
    const struct model_geometry *geo = &x->geo;
    const struct batch_row *row = &x->batch->row[r];
    const double *q = row_of(x->q, r, x->q_width) + (size_t)head * geo->head_dim;
    uint32_t kv_head = head / (geo->n_heads / geo->n_kv_heads);
    double key[MODEL_HEAD_DIM_MAX];
    double root = sqrt((double)geo->head_dim), max = -INFINITY, sum = 0.0;
    for (uint32_t p = 0; p <= row->position; p++) {
        exact_kv_read(x->limits.kv_type, geo->head_dim, kv_place(x, x->k_cache, row, p, kv_head),
                      key);
        weights[p] = dot(q, key, geo->head_dim) / root;
        if (weights[p] > max) max = weights[p];
    }
    for (uint32_t p = 0; p <= row->position; p++) {
        weights[p] = exp(weights[p] - max);
        sum += weights[p];
    }
    for (uint32_t p = 0; p <= row->position; p++) weights[p] /= sum;
}

/* Sum of V over the positions, by weight. */
static void attend(struct exact *x, uint32_t member, uint32_t r, uint32_t head) {
    const struct model_geometry *geo = &x->geo;
    const struct batch_row *row = &x->batch->row[r];
    double *weights = row_of(x->scores, member, x->limits.ctx);
    double *out = row_of(x->heads, r, x->q_width) + (size_t)head * geo->head_dim;
    uint32_t kv_head = head / (geo->n_heads / geo->n_kv_heads);
    double value[MODEL_HEAD_DIM_MAX];
    attention_weights(x, r, head, weights);
    for (uint32_t i = 0; i < geo->head_dim; i++) out[i] = 0.0;
    for (uint32_t p = 0; p <= row->position; p++) {
        exact_kv_read(x->limits.kv_type, geo->head_dim, kv_place(x, x->v_cache, row, p, kv_head),
                      value);
        for (uint32_t i = 0; i < geo->head_dim; i++) out[i] += weights[p] * value[i];
    }
}

/* up * silu(gate), silu(g) = g / (1 + e^-g), into gate. */
static void swiglu(struct exact *x, uint32_t r) {
    double *gate = row_of(x->gate, r, x->geo.ffn);
    const double *up = row_of(x->up, r, x->geo.ffn);
    for (uint32_t i = 0; i < x->geo.ffn; i++) gate[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
}

/* One output of Q, K or V for all rows: items count through the rows of the three matrices. */
static void qkv_item(struct exact *x, uint32_t member, uint32_t item) {
    const struct model_layer *layer = &x->layer[x->at_layer];
    const struct model_tensor *w = &layer->q, *bias = &layer->q_bias;
    double *out = x->q;
    if (item >= x->q_width) {
        item -= x->q_width;
        w = &layer->k, bias = &layer->k_bias, out = x->k;
        if (item >= x->kv_width) {
            item -= x->kv_width;
            w = &layer->v, bias = &layer->v_bias, out = x->v;
        }
    }
    const double *sums = product_row(x, member, w, item, x->normed, x->batch->n_rows);
    double offset = bias->data != NULL ? vector_at(bias, item) : 0.0;
    for (uint32_t r = 0; r < x->batch->n_rows; r++)
        row_of(out, r, w->rows)[item] = sums[r] + offset;
}

static void gate_up_item(struct exact *x, uint32_t member, uint32_t item) {
    const struct model_layer *layer = &x->layer[x->at_layer];
    bool up = item >= x->geo.ffn;
    if (up) item -= x->geo.ffn;
    const double *sums =
        product_row(x, member, up ? &layer->up : &layer->gate, item, x->normed, x->batch->n_rows);
    for (uint32_t r = 0; r < x->batch->n_rows; r++)
        row_of(up ? x->up : x->gate, r, x->geo.ffn)[item] = sums[r];
}

/* A sub-layer's last product; its output joins the residual stream. */
static void residual_item(struct exact *x, uint32_t member, const struct model_tensor *w,
                          uint32_t item, const double *in) {
    const double *sums = product_row(x, member, w, item, in, x->batch->n_rows);
    for (uint32_t r = 0; r < x->batch->n_rows; r++) {
        row_of(x->out, r, x->geo.dim)[item] = sums[r];
        row_of(x->x, r, x->geo.dim)[item] += sums[r];
    }
}

static void head_item(struct exact *x, uint32_t member, uint32_t item) {
    const double *sums = product_row(x, member, &x->output, item, x->normed, x->n_logits);
    for (uint32_t i = 0; i < x->n_logits; i++)
        x->logits[(size_t)i * x->geo.vocab + item] = (float)sums[i];
}

static void embed(struct exact *x, uint32_t member, uint32_t r) {
    const double *row = weight_row(x, member, &x->token_embd, (uint32_t)x->batch->row[r].token);
    memcpy(row_of(x->x, r, x->geo.dim), row, x->geo.dim * sizeof *row);
}

static void norm_item(struct exact *x, uint32_t item) {
    const struct model_layer *layer = &x->layer[x->at_layer];
    const struct model_tensor *weight = &layer->attn_norm;
    uint32_t from = item;
    if (x->stage == EXACT_FFN_NORM) weight = &layer->ffn_norm;
    if (x->stage == EXACT_FINAL_NORM) weight = &x->output_norm, from = x->logits_row[item];
    norm(x, weight, row_of(x->x, from, x->geo.dim), row_of(x->normed, item, x->geo.dim));
}

uint32_t exact_stage_items(const struct exact *x) {
    uint32_t rows = x->batch->n_rows;
    switch (x->stage) {
    case EXACT_EMBED:
    case EXACT_ATTN_NORM:
    case EXACT_ROPE_STORE:
    case EXACT_FFN_NORM:
    case EXACT_SWIGLU:
        return rows;
    case EXACT_QKV:
        return x->q_width + 2 * x->kv_width;
    case EXACT_ATTEND:
        return rows * x->geo.n_heads;
    case EXACT_GATE_UP:
        return 2 * x->geo.ffn;
    case EXACT_ATTN_OUT:
    case EXACT_DOWN:
        return x->geo.dim;
    case EXACT_FINAL_NORM:
        return x->n_logits;
    case EXACT_HEAD:
        return x->geo.vocab;
    case EXACT_FINISHED:
        break;
    }
    panic_at(__FILE__, __LINE__, "stage");
}

uint32_t exact_stage_grain(const struct exact *x) {
    switch (x->stage) {
    case EXACT_QKV:
    case EXACT_ATTN_OUT:
    case EXACT_GATE_UP:
    case EXACT_DOWN:
    case EXACT_HEAD:
        return PRODUCT_GRAIN;
    default:
        return 1;
    }
}

void exact_stage_work(void *context, uint32_t member, uint32_t first, uint32_t count) {
    struct exact *x = context;
    const struct model_layer *layer = &x->layer[x->at_layer];
    for (uint32_t i = first; i < first + count; i++) {
        if (atomic_load_explicit(&x->aborted, memory_order_relaxed)) return;
        switch (x->stage) {
        case EXACT_EMBED:
            embed(x, member, i);
            break;
        case EXACT_ATTN_NORM:
        case EXACT_FFN_NORM:
        case EXACT_FINAL_NORM:
            norm_item(x, i);
            break;
        case EXACT_QKV:
            qkv_item(x, member, i);
            break;
        case EXACT_ROPE_STORE:
            rope_store(x, i);
            break;
        case EXACT_ATTEND:
            attend(x, member, i / x->geo.n_heads, i % x->geo.n_heads);
            break;
        case EXACT_ATTN_OUT:
            residual_item(x, member, &layer->attn_out, i, x->heads);
            break;
        case EXACT_GATE_UP:
            gate_up_item(x, member, i);
            break;
        case EXACT_SWIGLU:
            swiglu(x, i);
            break;
        case EXACT_DOWN:
            residual_item(x, member, &layer->down, i, x->gate);
            break;
        case EXACT_HEAD:
            head_item(x, member, i);
            break;
        case EXACT_FINISHED:
            panic_at(__FILE__, __LINE__, "stage");
        }
    }
}

static void emit(struct exact *x, const char *name, const double *values, uint32_t d0, uint32_t d1,
                 uint32_t d2) {
    const uint32_t dims[4] = {d0, d1, d2, 1};
    size_t n = (size_t)d0 * d1 * d2;
    wick_assert(n <= x->staging_values);
    for (size_t i = 0; i < n; i++) x->staging[i] = (float)values[i];
    uint32_t layer = x->stage >= EXACT_FINAL_NORM ? TAP_NO_LAYER : x->at_layer;
    x->base.tap->emit(x->base.tap->context, name, layer, x->staging, dims);
}

/* Head by head, which bounds the memory: the calls join along the heads. */
static void emit_attention_weights(struct exact *x) {
    uint32_t last = 0, rows = x->batch->n_rows;
    for (uint32_t r = 0; r < rows; r++)
        if (x->batch->row[r].position > last) last = x->batch->row[r].position;
    uint32_t columns = (uint32_t)round_up(last + 1, TAP_KV_MULTIPLE);
    const uint32_t dims[4] = {columns, rows, 1, 1};
    wick_assert((size_t)columns * rows <= x->staging_values);
    for (uint32_t head = 0; head < x->geo.n_heads; head++) {
        memset(x->staging, 0, (size_t)columns * rows * sizeof *x->staging);
        for (uint32_t r = 0; r < rows; r++) {
            attention_weights(x, r, head, x->scores);
            for (uint32_t p = 0; p <= x->batch->row[r].position; p++)
                x->staging[(size_t)r * columns + p] = (float)x->scores[p];
        }
        x->base.tap->emit(x->base.tap->context, "attn_weights", x->at_layer, x->staging, dims);
    }
}

void exact_stage_tap(struct exact *x) {
    const struct model_geometry *geo = &x->geo;
    const uint32_t rows = x->batch->n_rows;
    switch (x->stage) {
    case EXACT_ATTN_NORM:
        emit(x, "attn_norm", x->normed, geo->dim, rows, 1);
        break;
    case EXACT_QKV:
        emit(x, "q", x->q, x->q_width, rows, 1);
        emit(x, "k", x->k, x->kv_width, rows, 1);
        emit(x, "v", x->v, x->kv_width, rows, 1);
        break;
    case EXACT_ROPE_STORE:
        emit(x, "q_rope", x->q, geo->head_dim, geo->n_heads, rows);
        emit(x, "k_rope", x->k, geo->head_dim, geo->n_kv_heads, rows);
        break;
    case EXACT_ATTEND:
        emit_attention_weights(x);
        emit(x, "attn_heads", x->heads, x->q_width, rows, 1);
        break;
    case EXACT_ATTN_OUT:
        emit(x, "attn_out", x->out, geo->dim, rows, 1);
        emit(x, "ffn_inp", x->x, geo->dim, rows, 1);
        break;
    case EXACT_FFN_NORM:
        emit(x, "ffn_norm", x->normed, geo->dim, rows, 1);
        break;
    case EXACT_GATE_UP:
        emit(x, "ffn_gate", x->gate, geo->ffn, rows, 1);
        emit(x, "ffn_up", x->up, geo->ffn, rows, 1);
        break;
    case EXACT_SWIGLU:
        emit(x, "ffn_swiglu", x->gate, geo->ffn, rows, 1);
        break;
    case EXACT_DOWN:
        emit(x, "ffn_out", x->out, geo->dim, rows, 1);
        emit(x, "block_out", x->x, geo->dim, rows, 1);
        break;
    case EXACT_FINAL_NORM:
        emit(x, "final_norm", x->normed, geo->dim, x->n_logits, 1);
        break;
    case EXACT_HEAD: {
        const uint32_t dims[4] = {geo->vocab, x->n_logits, 1, 1};
        x->base.tap->emit(x->base.tap->context, "logits", TAP_NO_LAYER, x->logits, dims);
        break;
    }
    case EXACT_EMBED:
    case EXACT_FINISHED:
        break;
    }
}
