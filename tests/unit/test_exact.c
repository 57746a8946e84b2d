#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "cpu/exact.h"
#include "cpu/exact_kv.h"
#include "cpu/exact_parts.h"
#include "engine/sampler.h"
#include "tiny_model.h"

enum { CTX = 64, PAGES = 8, ROWS = 32, LAYERS_MAX = 4, VOCAB = 64 };

static struct tiny_model tiny;
static struct batch batch;

static struct backend *exact_open(uint32_t threads, uint32_t kv_type) {
    struct fault fault = {0};
    cr_assert(tiny_bind(&tiny, &fault), "%s", fault.text);
    const struct backend_limits limits = {.n_pages = PAGES,
                                          .ctx = CTX,
                                          .rows_max = ROWS,
                                          .logits_max = ROWS,
                                          .threads = threads,
                                          .kv_type = kv_type,
                                          .taps = true};
    struct arena arena;
    arena_measure(&arena);
    cr_assert_null(exact_carve(&tiny.model, &limits, &arena));
    size_t bytes = arena.used;
    void *memory = aligned_alloc(ARENA_PAGE, (bytes + ARENA_PAGE - 1) / ARENA_PAGE * ARENA_PAGE);
    cr_assert_not_null(memory);
    memset(memory, 0, bytes);
    arena_open(&arena, memory, bytes);
    struct backend *backend = exact_carve(&tiny.model, &limits, &arena);
    cr_assert_not_null(backend);
    cr_assert_eq(arena.used, bytes, "the plan is what is taken");
    uint32_t percent = 0;
    while (backend->ops->load(backend, 0, &percent, &fault) == BACKEND_PENDING) {
    }
    cr_assert_eq(percent, 100);
    memset(tiny.bytes, 0xFF, sizeof tiny.bytes); /* the file may go */
    return backend;
}

static struct backend *llama_open(void) {
    tiny_init(&tiny, &tiny_llama);
    return exact_open(2, CONFIG_KV_F32);
}

static void step(struct backend *backend) {
    struct fault fault = {0};
    backend->ops->begin(backend, &batch);
    cr_assert_eq(backend->ops->advance(backend, UINT64_MAX, &fault), BACKEND_DONE);
}

static const uint32_t pages_straight[] = {0, 1, 2, 3};
static const uint32_t pages_turned[] = {6, 2, 7, 4};

static int32_t token_at(uint32_t sequence, uint32_t position) {
    return (int32_t)((position * 7 + sequence * 13 + 3) % VOCAB);
}

static void row_add(uint32_t sequence, uint32_t position, const uint32_t *pages, bool wants) {
    batch.row[batch.n_rows++] = (struct batch_row){token_at(sequence, position), position, pages,
                                                   wants ? ROW_LOGITS : ROW_NOTHING, 0};
}

/* Positions [0, n) of one sequence in steps of `chunk`, all logits. */
static void sequence_run(struct backend *backend, uint32_t sequence, const uint32_t *pages,
                         uint32_t n, uint32_t chunk, float *logits) {
    for (uint32_t at = 0; at < n;) {
        batch.n_rows = 0;
        uint32_t first = at;
        while (at < n && at - first < chunk) row_add(sequence, at++, pages, true);
        step(backend);
        for (uint32_t i = 0; i < batch.n_rows; i++)
            memcpy(logits + (size_t)(first + i) * VOCAB, backend->ops->logits(backend, i),
                   VOCAB * sizeof *logits);
    }
}

enum { LENGTH = 23 }; /* more than a page, no multiple of anything */
static float alone[LENGTH * VOCAB], again[LENGTH * VOCAB];

/* Bits, not values: -0 is not 0 here. */
static bool same_bits(const void *a, const void *b, size_t bytes) {
    return memcmp(a, b, bytes) == 0;
}

static bool same_logits(const float *a, const float *b) {
    return same_bits(a, b, VOCAB * sizeof *a);
}

static void expect_same(const char *what) {
    cr_expect(same_bits(alone, again, sizeof alone), "%s changes the logits", what);
}

Test(exact, results_do_not_depend_on_chunk_or_pages_or_threads) {
    struct backend *backend = llama_open();
    sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, alone);
    cr_assert(isfinite(alone[0]) && alone[0] != alone[VOCAB]);
    sequence_run(backend, 0, pages_straight, LENGTH, 1, again);
    expect_same("chunk 1");
    sequence_run(backend, 0, pages_straight, LENGTH, 7, again);
    expect_same("chunk 7");
    sequence_run(backend, 0, pages_turned, LENGTH, 5, again);
    expect_same("other pages");
    backend->ops->close(backend);
    for (uint32_t threads = 1; threads <= 3; threads += 2) {
        tiny_init(&tiny, &tiny_llama);
        backend = exact_open(threads, CONFIG_KV_F32);
        sequence_run(backend, 0, pages_straight, LENGTH, 9, again);
        expect_same("the number of threads");
        backend->ops->close(backend);
    }
}

Test(exact, results_do_not_depend_on_neighbours) {
    struct backend *backend = llama_open();
    sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, alone);
    sequence_run(backend, 1, pages_turned, 4, 4, again);
    for (uint32_t at = 0; at < LENGTH; at++) { /* two sequences step by step, ours second */
        batch.n_rows = 0;
        row_add(1, at + 4, pages_turned, true);
        row_add(0, at, pages_straight, true);
        step(backend);
        memcpy(again + (size_t)at * VOCAB, backend->ops->logits(backend, 1), VOCAB * sizeof *again);
    }
    expect_same("a neighbour");
    backend->ops->close(backend);
}

Test(exact, picks_the_logits_of_the_rows_that_want_them) {
    struct backend *backend = llama_open();
    sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, alone);
    batch.n_rows = 0;
    for (uint32_t at = 0; at < LENGTH; at++)
        row_add(0, at, pages_turned, at == 4 || at + 1 == LENGTH);
    step(backend);
    cr_expect(same_logits(backend->ops->logits(backend, 0), alone + 4 * VOCAB));
    cr_expect(same_logits(backend->ops->logits(backend, 1), alone + (LENGTH - 1) * VOCAB));
    cr_expect(!same_logits(alone + 4 * VOCAB, alone + 5 * VOCAB));
    backend->ops->close(backend);
}

Test(exact, computes_steps_that_want_no_logits) {
    struct backend *backend = llama_open();
    sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, alone);
    for (uint32_t at = 0; at < LENGTH;) {
        batch.n_rows = 0;
        for (uint32_t i = 0; i < 8 && at < LENGTH; i++, at++)
            row_add(0, at, pages_turned, at + 1 == LENGTH);
        step(backend);
    }
    cr_expect(same_logits(backend->ops->logits(backend, 0), alone + (LENGTH - 1) * VOCAB));
    backend->ops->close(backend);
}

Test(exact, stops_at_the_deadline_and_goes_on_to_the_same_result) {
    struct backend *backend = llama_open();
    struct fault fault = {0};
    sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, alone);
    batch.n_rows = 0;
    for (uint32_t at = 0; at < LENGTH; at++) row_add(0, at, pages_turned, true);
    backend->ops->begin(backend, &batch);
    uint32_t pauses = 0;
    while (backend->ops->advance(backend, 0, &fault) == BACKEND_PENDING) pauses++;
    cr_expect_gt(pauses, 5, "%u pauses", pauses);
    memcpy(again, backend->ops->logits(backend, 0), sizeof again);
    expect_same("a deadline");
    backend->ops->close(backend);
}

Test(exact, works_after_an_abort) {
    struct backend *backend = llama_open();
    struct fault fault = {0};
    sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, alone);
    for (uint32_t pauses = 0; pauses < 12; pauses++) {
        sequence_run(backend, 2, pages_turned, LENGTH, LENGTH, again); /* other logits lie there */
        batch.n_rows = 0;
        for (uint32_t at = 0; at < LENGTH; at++) row_add(1, at, pages_straight, true);
        backend->ops->begin(backend, &batch);
        for (uint32_t i = 0; i < pauses; i++)
            if (backend->ops->advance(backend, 0, &fault) == BACKEND_DONE) break;
        backend->ops->abort(backend);
        sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, again);
        expect_same("an abort");
    }
    backend->ops->abort(backend); /* nothing in flight */
    backend->ops->close(backend);
}

/* What taps have shown of one step: the first values of every stage of every layer. */
struct seen {
    char name[16];
    uint32_t layer, dims[4];
    float values[ROWS * 256];
    size_t n;
};
static struct seen seen[18 * LAYERS_MAX];
static uint32_t n_seen;

static void see(void *context, const char *name, uint32_t layer, const float *values,
                const uint32_t dims[4]) {
    (void)context;
    struct seen *s = &seen[n_seen];
    size_t n = (size_t)dims[0] * dims[1] * dims[2] * dims[3];
    if (n_seen > 0 && strcmp(seen[n_seen - 1].name, name) == 0) { /* the same stage goes on */
        s = &seen[n_seen - 1];
        s->dims[2] += dims[2];
    } else {
        n_seen++;
        s->layer = layer;
        snprintf(s->name, sizeof s->name, "%s", name);
        memcpy(s->dims, dims, sizeof s->dims);
        s->n = 0;
    }
    for (size_t i = 0; i < n && s->n < ROWS * 256; i++) s->values[s->n++] = values[i];
}

static const struct seen *seen_find(const char *name, uint32_t layer) {
    for (uint32_t i = 0; i < n_seen; i++)
        if (strcmp(seen[i].name, name) == 0 && seen[i].layer == layer) return &seen[i];
    cr_assert_fail("no stage %s of layer %u", name, layer);
    return NULL;
}

static void tapped_step(struct backend *backend, uint32_t first, uint32_t n) {
    const struct backend_tap tap = {.emit = see};
    batch.n_rows = n_seen = 0;
    for (uint32_t i = 0; i < n; i++) row_add(0, first + i, pages_turned, true);
    backend->tap = &tap;
    step(backend);
    backend->tap = NULL;
}

/* Checkpoint 3: K after RoPE and V as projected are in the cache, at their positions, in F32 bit
 * for bit; RoPE leaves V alone (1B). */
static void cache_expect(struct backend *backend, uint32_t first, uint32_t n) {
    const struct exact *x = (const struct exact *)(const void *)backend;
    const struct model_geometry *geo = &x->geo;
    for (uint32_t layer = 0; layer < geo->n_layers; layer++) {
        const float *k = seen_find("k_rope", layer)->values, *v = seen_find("v", layer)->values;
        cr_assert(!same_bits(k, seen_find("k", layer)->values, x->kv_width * n * sizeof *k));
        for (uint32_t i = 0; i < n * geo->n_kv_heads; i++) {
            uint32_t position = first + i / geo->n_kv_heads, head = i % geo->n_kv_heads;
            uint32_t page = pages_turned[position / KV_PAGE_TOKENS];
            size_t place =
                (((size_t)layer * PAGES + page) * KV_PAGE_TOKENS + position % KV_PAGE_TOKENS) *
                    geo->n_kv_heads +
                head;
            double stored_k[8], stored_v[8];
            exact_kv_read(CONFIG_KV_F32, 8, x->k_cache + place * x->kv_head_bytes, stored_k);
            exact_kv_read(CONFIG_KV_F32, 8, x->v_cache + place * x->kv_head_bytes, stored_v);
            for (uint32_t e = 0; e < 8; e++) {
                cr_assert_eq((float)stored_k[e], k[i * 8 + e], "k at %u", position);
                cr_assert_eq((float)stored_v[e], v[i * 8 + e], "v at %u", position);
            }
        }
    }
}

Test(exact, kv_is_read_back_exactly_at_the_start_and_beyond) {
    struct backend *backend = llama_open();
    tapped_step(backend, 0, 14);
    cache_expect(backend, 0, 14);
    tapped_step(backend, 14, 5); /* over the end of a page */
    cache_expect(backend, 14, 5);
    tapped_step(backend, 19, 1);
    cache_expect(backend, 19, 1);
    backend->ops->close(backend);
}

Test(exact, taps_show_every_stage_with_its_shape) {
    static const struct {
        const char *name;
        uint32_t dims[4];
    } stages[] = {{"attn_norm", {32, 5, 1, 1}},
                  {"q", {32, 5, 1, 1}},
                  {"k", {16, 5, 1, 1}},
                  {"v", {16, 5, 1, 1}},
                  {"q_rope", {8, 4, 5, 1}},
                  {"k_rope", {8, 2, 5, 1}},
                  {"attn_weights", {256, 5, 4, 1}},
                  {"attn_heads", {32, 5, 1, 1}},
                  {"attn_out", {32, 5, 1, 1}},
                  {"ffn_inp", {32, 5, 1, 1}},
                  {"ffn_norm", {32, 5, 1, 1}},
                  {"ffn_gate", {48, 5, 1, 1}},
                  {"ffn_up", {48, 5, 1, 1}},
                  {"ffn_swiglu", {48, 5, 1, 1}},
                  {"ffn_out", {32, 5, 1, 1}},
                  {"block_out", {32, 5, 1, 1}}};
    struct backend *backend = llama_open();
    tapped_step(backend, 0, 5);
    for (uint32_t layer = 0; layer < 2; layer++)
        for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++)
            cr_expect(same_bits(seen_find(stages[i].name, layer)->dims, stages[i].dims,
                                sizeof stages[i].dims),
                      "%s", stages[i].name);
    cr_expect_eq(seen_find("final_norm", TAP_NO_LAYER)->dims[0], 32);
    cr_expect_eq(seen_find("logits", TAP_NO_LAYER)->dims[0], VOCAB);
    backend->ops->close(backend);
}

Test(exact_kv, f32_and_f16_and_q8_0_round_as_their_formats) {
    double values[40], back[40];
    uint8_t stored[160];
    for (int i = 0; i < 40; i++) values[i] = sin(i * 1.7) * (i < 32 ? 1.0 : 100.0);
    exact_kv_write(CONFIG_KV_F32, 40, values, stored);
    exact_kv_read(CONFIG_KV_F32, 40, stored, back);
    for (int i = 0; i < 40; i++) cr_expect_eq(back[i], (double)(float)values[i]);
    exact_kv_write(CONFIG_KV_F16, 40, values, stored);
    exact_kv_read(CONFIG_KV_F16, 40, stored, back);
    for (int i = 0; i < 40; i++) cr_expect_float_eq(back[i], values[i], fabs(values[i]) * 0x1p-11);
    exact_kv_write(CONFIG_KV_Q8_0, 40, values, stored);
    exact_kv_read(CONFIG_KV_Q8_0, 40, stored, back);
    for (int i = 0; i < 40; i++) { /* half a step of 1/127 of the block's own maximum */
        double max = i < 32 ? 1.0 : 100.0;
        cr_expect_float_eq(back[i], values[i], max / 127.0 * 0.51, "%d", i);
    }
    cr_expect_eq(exact_kv_bytes(CONFIG_KV_F16, 40), 80);
    cr_expect_eq(exact_kv_bytes(CONFIG_KV_Q8_0, 40), 68, "two blocks of 34 bytes");
    memset(values, 0, sizeof values);
    exact_kv_write(CONFIG_KV_Q8_0, 32, values, stored);
    exact_kv_read(CONFIG_KV_Q8_0, 32, stored, back);
    for (int i = 0; i < 32; i++) cr_expect_eq(back[i], 0.0);
}

Test(exact, rounded_caches_stay_near_the_exact_one) {
    static const uint32_t types[] = {CONFIG_KV_F16, CONFIG_KV_Q8_0};
    static const float tolerances[] = {2e-2F, 2e-1F};
    struct backend *backend = llama_open();
    sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, alone);
    backend->ops->close(backend);
    for (int t = 0; t < 2; t++) {
        float worst = 0.0F;
        tiny_init(&tiny, &tiny_llama);
        backend = exact_open(2, types[t]);
        sequence_run(backend, 0, pages_straight, LENGTH, 6, again);
        for (int i = 0; i < LENGTH * VOCAB; i++) worst = fmaxf(worst, fabsf(again[i] - alone[i]));
        cr_expect(worst > 0.0F && worst < tolerances[t], "type %u: %g", types[t], (double)worst);
        backend->ops->close(backend);
    }
}

/* A second opinion, position by position, with nothing shared but the file: float weights straight
 * from the tensors. Serves for architectures that no reference file covers. */
struct naive {
    double k[LAYERS_MAX][CTX][64], v[LAYERS_MAX][CTX][64];
    double x[64], h[64], q[64], heads[64], gate[64], up[64];
};
static struct naive naive;

static float element(const struct model_tensor *w, uint32_t row, uint32_t col) {
    float value;
    memcpy(&value, w->data + ((size_t)row * w->cols + col) * sizeof value, sizeof value);
    return value;
}

static void naive_product(const struct model_tensor *w, const struct model_tensor *bias,
                          const double *in, double *out) {
    for (uint32_t r = 0; r < w->rows; r++) {
        out[r] = bias != NULL && bias->data != NULL ? (double)element(bias, 0, r) : 0.0;
        for (uint32_t c = 0; c < w->cols; c++) out[r] += (double)element(w, r, c) * in[c];
    }
}

static void naive_norm(const struct model_tensor *w, const double *in, double *out) {
    double square = 0.0;
    for (uint32_t i = 0; i < w->cols; i++) square += in[i] * in[i];
    square = sqrt(square / w->cols + (double)tiny.model.geo.norm_eps);
    for (uint32_t i = 0; i < w->cols; i++) out[i] = in[i] / square * (double)element(w, 0, i);
}

static void naive_rope(double *heads, uint32_t n_heads, uint32_t position) {
    const struct model_geometry *geo = &tiny.model.geo;
    for (uint32_t i = 0; i < geo->rope_dim / 2; i++) {
        double theta = position * pow((double)geo->rope_base, -2.0 * i / geo->rope_dim);
        if (tiny.model.rope_freqs.data != NULL)
            theta /= (double)element(&tiny.model.rope_freqs, 0, i);
        bool halves = strcmp(geo->architecture, "qwen2") == 0;
        uint32_t a = halves ? i : 2 * i, b = halves ? i + geo->rope_dim / 2 : 2 * i + 1;
        for (uint32_t h = 0; h < n_heads; h++) {
            double *head = heads + h * geo->head_dim, first = head[a], second = head[b];
            head[a] = first * cos(theta) - second * sin(theta);
            head[b] = first * sin(theta) + second * cos(theta);
        }
    }
}

static void naive_attend(uint32_t layer, uint32_t position) {
    const struct model_geometry *geo = &tiny.model.geo;
    for (uint32_t h = 0; h < geo->n_heads; h++) {
        uint32_t d = geo->head_dim, kv = h / (geo->n_heads / geo->n_kv_heads) * d;
        double sum = 0.0, out[16] = {0};
        for (uint32_t p = 0; p <= position; p++) {
            double score = 0.0;
            for (uint32_t e = 0; e < d; e++)
                score += naive.q[h * d + e] * naive.k[layer][p][kv + e];
            score = exp(score / sqrt(d));
            sum += score;
            for (uint32_t e = 0; e < d; e++) out[e] += score * naive.v[layer][p][kv + e];
        }
        for (uint32_t e = 0; e < d; e++) naive.heads[h * d + e] = out[e] / sum;
    }
}

static void naive_step(int32_t token, uint32_t position, double *logits) {
    const struct model *m = &tiny.model;
    double add[64] = {0};
    for (uint32_t i = 0; i < m->geo.dim; i++)
        naive.x[i] = (double)element(&m->token_embd, (uint32_t)token, i);
    for (uint32_t n = 0; n < m->geo.n_layers; n++) {
        const struct model_layer *l = &m->layer[n];
        naive_norm(&l->attn_norm, naive.x, naive.h);
        naive_product(&l->q, &l->q_bias, naive.h, naive.q);
        naive_product(&l->k, &l->k_bias, naive.h, naive.k[n][position]);
        naive_product(&l->v, &l->v_bias, naive.h, naive.v[n][position]);
        naive_rope(naive.q, m->geo.n_heads, position);
        naive_rope(naive.k[n][position], m->geo.n_kv_heads, position);
        naive_attend(n, position);
        naive_product(&l->attn_out, NULL, naive.heads, add);
        for (uint32_t i = 0; i < m->geo.dim; i++) naive.x[i] += add[i];
        naive_norm(&l->ffn_norm, naive.x, naive.h);
        naive_product(&l->gate, NULL, naive.h, naive.gate);
        naive_product(&l->up, NULL, naive.h, naive.up);
        for (uint32_t i = 0; i < m->geo.ffn; i++)
            naive.gate[i] *= naive.up[i] / (1.0 + exp(-naive.gate[i]));
        naive_product(&l->down, NULL, naive.gate, add);
        for (uint32_t i = 0; i < m->geo.dim; i++) naive.x[i] += add[i];
    }
    naive_norm(&m->output_norm, naive.x, naive.h);
    naive_product(&m->output, NULL, naive.h, logits);
}

/* The backend agrees with the naive network of the same file. */
static void naive_expect(const char *what) {
    static double expected[LENGTH][VOCAB];
    struct fault fault = {0};
    cr_assert(tiny_bind(&tiny, &fault), "%s", fault.text);
    for (uint32_t at = 0; at < LENGTH; at++) naive_step(token_at(0, at), at, expected[at]);
    struct backend *backend = exact_open(2, CONFIG_KV_F32);
    sequence_run(backend, 0, pages_turned, LENGTH, 8, alone);
    double worst = 0.0;
    for (uint32_t i = 0; i < LENGTH * VOCAB; i++)
        worst = fmax(worst, fabs((double)alone[i] - expected[i / VOCAB][i % VOCAB]));
    cr_expect_lt(worst, 1e-5, "%s: differs by %g", what, worst);
    backend->ops->close(backend);
}

Test(exact, agrees_with_a_naive_network) {
    struct tiny_shape shape = tiny_llama;
    tiny_init(&tiny, &shape);
    naive_expect("llama");
    shape.kv_heads = 1;
    shape.tied = true;
    tiny_init(&tiny, &shape);
    naive_expect("one KV head, tied");
    shape.kv_heads = 4;
    shape.bias = true;
    tiny_init(&tiny, &shape);
    tiny_set_u32(&tiny, "llama.rope.dimension_count", 4);
    naive_expect("all KV heads, biases, half of a head rotated");
    shape.head_dim = 16;
    tiny_init(&tiny, &shape);
    tiny_tensor(&tiny, "rope_freqs.weight", QUANT_F32, 8, 0);
    naive_expect("wide heads, frequency factors");
    shape.architecture = "qwen2";
    tiny_init(&tiny, &shape);
    tiny_set_f32(&tiny, "qwen2.rope.freq_base", 1e6F);
    naive_expect("qwen2");
}

/* Checkpoints 10 and 11 on logits of this backend: argmax at no temperature, softmax(logits / T)
 * sums to 1, the five likeliest in order. */
Test(exact, argmax_and_softmax_of_its_logits_are_exact) {
    struct backend *backend = llama_open();
    sequence_run(backend, 0, pages_straight, LENGTH, LENGTH, alone);
    backend->ops->close(backend);
    static const double temperatures[] = {0.5, 1.0, 1.7};
    for (uint32_t at = 0; at < LENGTH; at++) {
        for (size_t t = 0; t < 3; t++) {
            float scaled[VOCAB];
            double sum = 0.0, naive_sum = 0.0, worst = 0.0;
            struct sampler_candidate top[5];
            for (uint32_t i = 0; i < VOCAB; i++) {
                scaled[i] = (float)((double)alone[at * VOCAB + i] / temperatures[t]);
                naive_sum += exp((double)scaled[i]);
            }
            for (int32_t i = 0; i < VOCAB; i++) {
                double p = exp(sampler_logprob(scaled, VOCAB, i));
                sum += p;
                worst = fmax(worst, fabs(p - exp((double)scaled[i]) / naive_sum));
            }
            cr_expect_float_eq(sum, 1.0, 1e-6);
            cr_expect_lt(worst, 1e-6);
            sampler_top(scaled, VOCAB, 5, top);
            for (uint32_t n = 0; n < 5; n++) {
                uint32_t above = 0;
                for (uint32_t i = 0; i < VOCAB; i++) above += scaled[i] > scaled[top[n].id];
                cr_expect_eq(above, n, "rank %u is not token %d", n, top[n].id);
            }
        }
    }
}
