/* test_step: embed, top_slice and top_merge, finish, and what becomes of a product: the epilogues
 * of matmul_few and matmul_many. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/kernels.h"
#include "cuda/repack.h"
#include "device.h"
#include "kernels/kv.h"
#include "rig.h"

/* --- embed ------------------------------------------------------------------------------------ */

enum { EMBED_ROWS = 5, EMBED_CTX = 5000, EMBED_PAIRS = 24 };

static void angles_check(const float *angle, const uint32_t *position, const double *frequency) {
    for (uint32_t i = 0; i < EMBED_ROWS * EMBED_PAIRS; i++) {
        double exact = position[i / EMBED_PAIRS] * frequency[i % EMBED_PAIRS];
        if (fabs((double)angle[2 * i] - cos(exact)) > 0x1p-24 ||
            fabs((double)angle[2 * i + 1] - sin(exact)) > 0x1p-24)
            rig_fail("position %u pair %u: (%.9g, %.9g), exact (%.9g, %.9g)",
                     position[i / EMBED_PAIRS], i % EMBED_PAIRS, (double)angle[2 * i],
                     (double)angle[2 * i + 1], cos(exact), sin(exact));
    }
}

static void embed_check(const struct rig_matrix *m, uint32_t stride) {
    static const uint32_t tokens[] = {0, 36, 17, 8, 17}, at[] = {0, 255, 256, 4999, 3};
    const uint32_t cols = m->tensor.cols;
    struct gpu_row row[EMBED_ROWS];
    double frequency[EMBED_PAIRS];
    for (uint32_t i = 0; i < EMBED_ROWS; i++)
        row[i] = (struct gpu_row){.token = (int32_t)tokens[i], .position = at[i]};
    for (uint32_t i = 0; i < EMBED_PAIRS; i++) frequency[i] = pow(1e4, -(double)i / EMBED_PAIRS);
    double *low = rig_host(GPU_ROPE_LOW * EMBED_PAIRS * 2 * sizeof *low);
    size_t high_bytes = repack_angles_high(EMBED_CTX) * EMBED_PAIRS * 2 * sizeof *low;
    double *high = rig_host(high_bytes);
    repack_angles(frequency, EMBED_PAIRS, EMBED_CTX, low, high);
    struct gpu_step step = {.n_rows = EMBED_ROWS};
    struct gpu_embed args = {
        .batch = {.step = rig_copy(&step, sizeof step), .row = rig_copy(row, sizeof row)},
        .table = m->gpu,
        .kind = m->kind,
        .cols = cols,
        .x = rig_room((size_t)EMBED_ROWS * stride * sizeof(float)),
        .x_stride = stride,
        .pairs = EMBED_PAIRS,
        .angle_low = rig_copy(low, GPU_ROPE_LOW * EMBED_PAIRS * 2 * sizeof *low),
        .angle_high = rig_copy(high, high_bytes),
        .angle = rig_room(EMBED_ROWS * EMBED_PAIRS * 2 * sizeof(float))};
    rig_about("embed %s cols %u", m->module, cols);
    rig_launch("step", "embed", EMBED_ROWS + 3, 1, 256, 0, &args);
    const float *x = rig_get(args.x, (size_t)EMBED_ROWS * stride * sizeof *x);
    float *want = rig_host(stride * sizeof *want);
    for (uint32_t i = 0; i < EMBED_ROWS; i++) {
        pack_row_expand(&m->cpu, tokens[i], want);
        for (uint32_t k = 0; k < stride; k++)
            if (memcmp(&x[i * stride + k], &want[k], 4) != 0)
                rig_fail("token %u column %u: %.9g, not %.9g", tokens[i], k,
                         (double)x[i * stride + k], (double)want[k]);
    }
    angles_check(rig_get(args.angle, EMBED_ROWS * EMBED_PAIRS * 2 * sizeof(float)), at, frequency);
}

static void embed_gives_the_row_as_the_cpu_expands_it(void) {
    for (uint32_t kind = 0; kind < GPU_KINDS; kind++) {
        const uint32_t cols = gpu_kind_info(kind).super ? 512 : 352;
        struct rig_matrix m = rig_matrix_make(rig_types[kind], 37, cols);
        embed_check(&m, cols + 32);
    }
    static const enum quant_type others[] = {QUANT_Q5_0, QUANT_IQ4_NL};
    for (uint32_t i = 0; i < 2; i++) {
        struct rig_matrix m = rig_matrix_make(others[i], 37, 32);
        embed_check(&m, 32);
    }
}

/* --- choosing --------------------------------------------------------------------------------- */

struct candidate {
    float logit;
    int32_t id;
};

static int candidate_order(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static void choice_check(const float *logits, uint32_t vocab, uint32_t top,
                         const struct gpu_choice *choice) {
    struct candidate *all = rig_host(vocab * sizeof *all);
    uint32_t n = 0;
    double sum = 0;
    for (uint32_t id = 0; id < vocab; id++) {
        float x = logits[id];
        if (isnan(x) || x == -INFINITY) continue;
        if (x == INFINITY) x = 3.402823466e38f;
        all[n++] = (struct candidate){.logit = x, .id = (int32_t)id};
    }
    qsort(all, n, sizeof *all, candidate_order);
    uint32_t count = top < n ? top : n;
    if (choice->count != count) rig_fail("%u candidates, not %u", choice->count, count);
    for (uint32_t i = 0; i < count && i < choice->count; i++)
        if (choice->id[i] != all[i].id || choice->logit[i] != all[i].logit)
            rig_fail("candidate %u is %d (%.9g), not %d (%.9g)", i, choice->id[i],
                     (double)choice->logit[i], all[i].id, (double)all[i].logit);
    if (n == 0) return;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)all[i].logit - (double)all[0].logit);
    if (choice->max != all[0].logit) rig_fail("max is %.9g", (double)choice->max);
    if (!(fabs((double)choice->sum - sum) <= 1e-5 * sum))
        rig_fail("sum is %.9g, exact %.9g", (double)choice->sum, sum);
}

static void choose(const float *logits, uint32_t rows, uint32_t vocab, uint32_t stride,
                   uint32_t top) {
    const uint32_t slices = gpu_top_slices(vocab);
    struct gpu_step step = {.n_logits = rows, .top = top};
    uint64_t pinned;
    struct gpu_choice *choice = device_pinned((rows + 1) * sizeof *choice, &pinned);
    memset(choice, 0xA5, (rows + 1) * sizeof *choice);
    struct gpu_top args = {.step = rig_copy(&step, sizeof step),
                           .logits = rig_copy(logits, (size_t)rows * stride * sizeof *logits),
                           .key = rig_room((size_t)(rows + 1) * slices * GPU_TOP_MAX * 8),
                           .part = rig_room((size_t)(rows + 1) * slices * 8),
                           .choice = pinned,
                           .stride = stride,
                           .vocab = vocab,
                           .slices = slices};
    rig_about("top %u of %u", top, vocab);
    rig_launch("step", "top_slice", slices, rows + 1, 256, 0, &args);
    rig_launch("step", "top_merge", rows + 1, 1, 32, 0, &args);
    for (uint32_t row = 0; row < rows; row++)
        choice_check(logits + (size_t)row * stride, vocab, top, &choice[row]);
    if (choice[rows].count != 0xA5A5A5A5) rig_fail("a row too many");
    device_pinned_free(choice);
}

static void top_finds_the_best_candidates_in_order(void) {
    static const struct {
        uint32_t vocab, top;
    } shapes[] = {{1, 1},   {50, 64},  {2048, 1},      {2049, 5},     {5000, 64},
                  {64, 64}, {5000, 0}, {9 * 2048, 40}, {40 * 2048, 3}};
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const uint32_t vocab = shapes[i].vocab, stride = (vocab + 15) / 16 * 16;
        float *logits = rig_host(2 * stride * sizeof *logits);
        for (uint32_t id = 0; id < vocab; id++) {
            logits[id] = 3 * rig_normal();
            /* Many equals, so that ids decide; both zeros. */
            logits[stride + id] = (float)((int)rig_below(9) - 4) * (rig_below(2) ? 0.5f : -0.5f);
        }
        choose(logits, 2, vocab, stride, shapes[i].top);
    }
}

static void top_takes_any_float(void) {
    enum { VOCAB = 2100 };
    float *logits = rig_host(4 * VOCAB * sizeof *logits);
    for (uint32_t i = 0; i < 4 * VOCAB; i++) logits[i] = i / VOCAB == 3 ? NAN : -INFINITY;
    for (uint32_t i = 0; i < VOCAB; i += 3) logits[i] = NAN;
    logits[7] = -3e38f, logits[2090] = INFINITY, logits[2091] = 3.402823466e38f;
    logits[VOCAB + 2099] = -2; /* the only one */
    /* row 2: none at all; row 3: only NaN */
    choose(logits, 4, VOCAB, VOCAB, 5);
    choose(logits, 4, VOCAB, VOCAB, 1);
}

static void finish_writes_the_ticket(void) {
    uint64_t pinned;
    uint32_t *flag = device_pinned(8, &pinned);
    flag[0] = 1, flag[1] = 2;
    struct gpu_step step = {.ticket = 77};
    struct gpu_finish args = {.step = rig_copy(&step, sizeof step), .flag = pinned};
    rig_launch("step", "finish", 1, 1, 1, 0, &args);
    if (flag[0] != 77 || flag[1] != 2) rig_fail("flag is %u, %u", flag[0], flag[1]);
    device_pinned_free(flag);
}

/* --- epilogues -------------------------------------------------------------------------------- */

/* A batch of rows of two sequences, and the products of some matrices with them. */
enum { ROWS = 11, COLS = 256, PAGES = 3, SEQUENCES = 2 };

struct scene {
    const float *x; /* (ROWS, COLS) */
    struct gpu_row row[ROWS];
    uint32_t page[SEQUENCES * PAGES];
    struct gpu_batch batch;
};

static struct scene scene_make(void) {
    struct scene s = {.x = rig_rows(ROWS, COLS, COLS)};
    static const uint32_t pages[SEQUENCES * PAGES] = {4, 0, 2, 5, 1, 3};
    memcpy(s.page, pages, sizeof pages);
    for (uint32_t i = 0; i < ROWS; i++)
        s.row[i] = (struct gpu_row){.position = i < 6 ? 13 + i : 28 + i, .sequence = i >= 6};
    struct gpu_step step = {.n_rows = ROWS};
    s.batch = (struct gpu_batch){.step = rig_copy(&step, sizeof step),
                                 .row = rig_copy(s.row, sizeof s.row),
                                 .page = rig_copy(s.page, sizeof s.page),
                                 .pages_per_sequence = PAGES};
    return s;
}

static struct gpu_input scene_input(const struct scene *s, uint32_t kind, uint32_t planes) {
    struct gpu_input in = {.x = rig_copy(s->x, ROWS * COLS * sizeof(float)),
                           .n = s->batch.step + offsetof(struct gpu_step, n_rows),
                           .x_stride = COLS,
                           .cols = COLS,
                           .planes = planes,
                           .form = gpu_form_of(kind)};
    in.tiles = (ROWS * planes + GPU_TILE - 1) / GPU_TILE;
    return in;
}

/* Prepares and multiplies, few or many. */
static void scene_launch(const char *module, uint32_t kind, struct gpu_matmul *args, bool many) {
    uint32_t columns = ROWS * args->in.planes, panels = 0, few = gpu_few_columns(kind);
    for (int i = 0; i < 3; i++) panels += args->matrix[i].n_panels;
    args->prepared = rig_room(gpu_prepared_bytes(args->in.form, COLS, ROWS, args->in.planes));
    struct gpu_prepare prepare = {.in = args->in, .out = args->prepared};
    rig_launch("step", "prepare", args->in.tiles * GPU_TILE / args->in.planes, 1, 256, 0, &prepare);
    if (many)
        rig_launch(module, "matmul_many", 1, (panels + GPU_MANY_PANELS - 1) / GPU_MANY_PANELS,
                   GPU_MANY_THREADS, gpu_many_shared(kind), args);
    else
        rig_launch(module, "matmul_few", 3, (columns + few - 1) / few, 32 * gpu_segments(COLS),
                   gpu_few_shared(kind, COLS, args->epilogue, 0), args);
}

/* The bare product, as the head stores it. */
static float *scene_product(const struct scene *s, const struct rig_matrix *m, uint32_t planes) {
    const uint32_t n = m->tensor.rows;
    struct gpu_matmul args = {.epilogue = GPU_LOGITS,
                              .matrix = {m->gpu},
                              .in = scene_input(s, m->kind, planes),
                              .out = {rig_room((size_t)ROWS * n * sizeof(float))},
                              .out_stride = {n}};
    scene_launch(m->module, m->kind, &args, false);
    return rig_get(args.out[0], (size_t)ROWS * n * sizeof(float));
}

static void bits_check(const char *what, const float *got, const float *want, uint32_t n,
                       uint32_t stride) {
    for (uint32_t i = 0; i < ROWS * n; i++) {
        const float *at = got + (size_t)(i / n) * stride + i % n;
        if (memcmp(at, &want[i], 4) != 0) {
            rig_fail("%s: row %u, output %u: %.9g, not %.9g", what, i / n, i % n, (double)*at,
                     (double)want[i]);
            return;
        }
    }
}

static void add_adds_to_what_is_there_and_nowhere_else(void) {
    static const enum quant_type types[] = {QUANT_Q4_K, QUANT_F16, QUANT_F32};
    for (uint32_t i = 0; i < 6; i++) {
        const bool many = i % 2;
        const uint32_t n = 37, stride = 48, planes = i < 2 ? 2 : 1;
        if (many && types[i / 2] == QUANT_F32) continue;
        struct scene s = scene_make();
        struct rig_matrix m = rig_matrix_make(types[i / 2], n, COLS);
        float *want = scene_product(&s, &m, planes);
        float *before = rig_rows(ROWS, stride, stride);
        struct gpu_matmul args = {.epilogue = GPU_ADD,
                                  .matrix = {m.gpu},
                                  .in = scene_input(&s, m.kind, planes),
                                  .out = {rig_copy(before, ROWS * stride * sizeof *before)},
                                  .tap = {rig_room(ROWS * stride * sizeof(float))},
                                  .out_stride = {stride}};
        rig_about("add, %s, %s", m.module, many ? "many" : "few");
        scene_launch(m.module, m.kind, &args, many);
        const float *got = rig_get(args.out[0], ROWS * stride * sizeof *got);
        bits_check("tap", rig_get(args.tap[0], ROWS * stride * sizeof *got), want, n, stride);
        for (uint32_t k = 0; k < ROWS * n; k++) want[k] += before[k / n * stride + k % n];
        bits_check("sum", got, want, n, stride);
        for (uint32_t k = 0; k < ROWS * stride; k++)
            if (k % stride >= n && memcmp(&got[k], &before[k], 4) != 0)
                rig_fail("row %u column %u was touched", k / stride, k % stride);
    }
}

/* silu(gate) * up as the CPU computes it, 16 at a time. */
static const float *silu_cpu(const float *gate, const float *up, uint32_t n) {
    _Alignas(64) float in[2][16], out[16];
    float *all = rig_host(n * sizeof *all);
    for (uint32_t at = 0; at < n; at += 16) {
        const uint32_t left = n - at < 16 ? n - at : 16;
        memset(in, 0, sizeof in);
        memcpy(in[0], gate + at, left * sizeof *gate);
        memcpy(in[1], up + at, left * sizeof *up);
        cpu_kernels_avx2.silu_mul(in[0], in[1], out);
        memcpy(all + at, out, left * sizeof *out);
    }
    return all;
}

static void swiglu_multiplies_up_by_silu_of_gate(void) {
    static const enum quant_type types[] = {QUANT_Q8_0, QUANT_BF16};
    for (uint32_t i = 0; i < 4; i++) {
        const bool many = i % 2;
        const uint32_t n = 70, stride = 80;
        struct scene s = scene_make();
        struct rig_matrix gate = rig_matrix_make(types[i / 2], n, COLS);
        struct rig_matrix up = rig_matrix_make(types[i / 2], n, COLS);
        const float *g = scene_product(&s, &gate, 1), *u = scene_product(&s, &up, 1);
        struct gpu_matmul args = {.epilogue = GPU_SWIGLU,
                                  .matrix = {gate.gpu, up.gpu},
                                  .in = scene_input(&s, gate.kind, 1),
                                  .out = {rig_room(ROWS * stride * sizeof(float))},
                                  .tap = {rig_room(ROWS * stride * sizeof(float)),
                                          rig_room(ROWS * stride * sizeof(float))},
                                  .out_stride = {stride, stride}};
        rig_about("swiglu, %s, %s", gate.module, many ? "many" : "few");
        scene_launch(gate.module, gate.kind, &args, many);
        bits_check("gate", rig_get(args.tap[0], ROWS * stride * 4), g, n, stride);
        bits_check("up", rig_get(args.tap[1], ROWS * stride * 4), u, n, stride);
        const float *got = rig_get(args.out[0], ROWS * stride * sizeof *got);
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            bits_check("not the CPU's bits", got, silu_cpu(g, u, ROWS * n), n, stride);
        for (uint32_t k = 0; k < ROWS * n; k++) {
            double exact = (double)g[k] / (1 + exp(-(double)g[k])) * (double)u[k];
            double is = (double)got[k / n * stride + k % n];
            if (!(fabs(is - exact) <= 1e-6 * fabs(exact) + 1e-37))
                rig_fail("gate %.9g up %.9g: %.9g, exact %.9g", (double)g[k], (double)u[k], is,
                         exact);
        }
    }
}

/* --- QKV --- */

struct heads {
    uint32_t n_heads, n_kv_heads, head_dim, rope_dim;
};

/* bias, then rotation of q and k by the angles the kernels are given. */
static void rotate(float *rows, uint32_t width, const float *bias, bool turn, const struct heads *h,
                   const float *angle) {
    for (uint32_t row = 0; row < ROWS; row++, rows += width) {
        for (uint32_t k = 0; bias != NULL && k < width; k++) rows[k] += bias[k];
        for (uint32_t k = 0; turn && k < width; k += 2) {
            uint32_t pair = k % h->head_dim / 2;
            if (pair >= h->rope_dim / 2) continue;
            const float *at = angle + 2 * ((size_t)row * (h->rope_dim / 2) + pair);
            float a = rows[k], b = rows[k + 1];
            rows[k] = a * at[0] - b * at[1];
            rows[k + 1] = a * at[1] + b * at[0];
        }
    }
}

static float half_value(uint16_t bits) {
    _Float16 half;
    memcpy(&half, &bits, 2);
    return (float)half;
}

/* Every element of the batch's rows is in its place in the cache. */
static void cache_check(const struct scene *s, const struct heads *h, const uint8_t *cache,
                        const float *rows, bool is_value) {
    const uint32_t width = h->n_kv_heads * h->head_dim;
    const uint64_t page_bytes = gpu_kv_page_bytes(GPU_KV_F16, h->n_kv_heads, h->head_dim);
    for (uint32_t i = 0; i < ROWS * width; i++) {
        const struct gpu_row *row = &s->row[i / width];
        const uint32_t head = i % width / h->head_dim, d = i % h->head_dim;
        const uint32_t p = row->position % GPU_PAGE_TOKENS;
        const uint32_t page = s->page[row->sequence * PAGES + row->position / GPU_PAGE_TOKENS];
        const uint8_t *at =
            cache + page * page_bytes + head * kv_head_bytes(GPU_KV_F16, h->head_dim);
        uint16_t bits;
        memcpy(&bits, at + (is_value ? kv_value_at : kv_key_at)(GPU_KV_F16, h->head_dim, p, d), 2);
        if (half_value(bits) != (float)(_Float16)rows[i]) {
            rig_fail("%s: row %u head %u element %u: %.6g, not %.6g", is_value ? "value" : "key",
                     i / width, head, d, (double)half_value(bits), (double)rows[i]);
            return;
        }
    }
}

static float *angles_random(const struct heads *h) {
    float *angle = rig_host(ROWS * h->rope_dim * sizeof *angle);
    for (uint32_t i = 0; i < ROWS * h->rope_dim / 2; i++) {
        float turn = 3 * rig_normal();
        angle[2 * i] = cosf(turn);
        angle[2 * i + 1] = sinf(turn);
    }
    return angle;
}

/* together: one launch for q, k and v; else one for q, one for v and k. */
static void qkv_check(enum quant_type type, const struct heads *h, uint32_t kv_type, bool with_bias,
                      bool many, bool together) {
    const uint32_t width[3] = {h->n_heads * h->head_dim, h->n_kv_heads * h->head_dim,
                               h->n_kv_heads * h->head_dim};
    struct scene s = scene_make();
    struct rig_matrix m[3];
    float *want[3], *angle = angles_random(h), *bias[3] = {NULL, NULL, NULL};
    struct gpu_matmul args = {.epilogue = GPU_QKV,
                              .batch = s.batch,
                              .angle = rig_copy(angle, ROWS * h->rope_dim * sizeof *angle),
                              .pairs = h->rope_dim / 2,
                              .head_dim = h->head_dim};
    uint64_t out[3], biases[3] = {0, 0, 0};
    for (uint32_t i = 0; i < 3; i++) {
        m[i] = rig_matrix_make(type, width[i], COLS);
        want[i] = scene_product(&s, &m[i], 1);
        out[i] = rig_room(ROWS * width[i] * sizeof(float));
        if (!with_bias) continue;
        bias[i] = rig_rows(1, width[i], width[i]);
        biases[i] = rig_copy(bias[i], width[i] * sizeof(float));
    }
    args.in = scene_input(&s, m[0].kind, 1);
    const uint64_t page_bytes = gpu_kv_page_bytes(kv_type, h->n_kv_heads, h->head_dim);
    uint8_t *cache = rig_host(SEQUENCES * PAGES * page_bytes);
    args.kv = (struct gpu_kv){.layer = rig_copy(cache, SEQUENCES * PAGES * page_bytes),
                              .page_bytes = page_bytes,
                              .type = kv_type,
                              .n_kv_heads = h->n_kv_heads,
                              .head_dim = h->head_dim};
    rig_about("qkv %s heads %u of %u%s %s %s", m[0].module, h->n_heads, h->head_dim,
              with_bias ? " bias" : "", many ? "many" : "few", together ? "together" : "apart");
    static const uint32_t launches[2][2][3] = {{{0, 1, 2}, {3, 3, 3}}, {{0, 3, 3}, {2, 1, 3}}};
    for (uint32_t launch = 0; launch < (together ? 1u : 2u); launch++) {
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t role = launches[together ? 0 : 1][launch][i];
            args.matrix[i] = (struct gpu_matrix){0};
            if (role == 3) continue;
            args.matrix[i] = m[role].gpu;
            args.bias[i] = biases[role];
            args.out[i] = out[role];
            args.out_stride[i] = width[role];
            args.role[i] = role;
        }
        scene_launch(m[0].module, m[0].kind, &args, many);
    }
    for (uint32_t i = 0; i < 3; i++) rotate(want[i], width[i], bias[i], i != 2, h, angle);
    bits_check("q", rig_get(out[0], ROWS * width[0] * 4), want[0], width[0], width[0]);
    if (kv_type == GPU_KV_F16) {
        const uint8_t *got = rig_get(args.kv.layer, SEQUENCES * PAGES * page_bytes);
        cache_check(&s, h, got, want[1], false);
        cache_check(&s, h, got, want[2], true);
    } else {
        bits_check("k", rig_get(out[1], ROWS * width[1] * 4), want[1], width[1], width[1]);
        bits_check("v", rig_get(out[2], ROWS * width[2] * 4), want[2], width[2], width[2]);
    }
}

static void qkv_rotates_and_stores_each_in_its_place(void) {
    static const struct heads all[] = {{4, 2, 32, 32}, {3, 1, 24, 16}, {2, 2, 80, 80}};
    for (uint32_t i = 0; i < 12; i++)
        qkv_check(i % 3 == 0   ? QUANT_Q6_K
                  : i % 3 == 1 ? QUANT_Q4_0
                               : QUANT_F16,
                  &all[(i + i / 3) % 3], i % 5 == 3 ? GPU_KV_Q8_0 : GPU_KV_F16, i % 2, i / 3 % 2,
                  i % 4 != 1);
    qkv_check(QUANT_F32, &all[1], GPU_KV_F16, true, false, true);
}

/* A NEOX head, permuted at upload, turns as it should. */
static void turned_rows_make_neox_pairs_neighbours(void) {
    enum { HEAD = 20, ROPE = 12, HEADS = 3 };
    uint32_t seen[HEAD * HEADS] = {0};
    for (uint32_t row = 0; row < HEAD * HEADS; row++) {
        uint32_t from = repack_turned_row(row, HEAD, ROPE), d = row % HEAD;
        if (from / HEAD != row / HEAD) rig_fail("row %u leaves its head", row);
        if (d < ROPE && d % 2 == 0 && from + ROPE / 2 != repack_turned_row(row + 1, HEAD, ROPE))
            rig_fail("rows %u and %u are no pair", row, row + 1);
        if (d < ROPE && d % 2 == 0 && from % HEAD != d / 2)
            rig_fail("row %u is not pair %u", row, d / 2);
        if (d >= ROPE && from != row) rig_fail("row %u moved", row);
        seen[from]++;
    }
    for (uint32_t row = 0; row < HEAD * HEADS; row++)
        if (seen[row] != 1) rig_fail("row %u is used %u times", row, seen[row]);
}

static const struct rig_test tests[] = {
    {"embed_gives_the_row_as_the_cpu_expands_it", embed_gives_the_row_as_the_cpu_expands_it},
    {"top_finds_the_best_candidates_in_order", top_finds_the_best_candidates_in_order},
    {"top_takes_any_float", top_takes_any_float},
    {"finish_writes_the_ticket", finish_writes_the_ticket},
    {"add_adds_to_what_is_there_and_nowhere_else", add_adds_to_what_is_there_and_nowhere_else},
    {"swiglu_multiplies_up_by_silu_of_gate", swiglu_multiplies_up_by_silu_of_gate},
    {"qkv_rotates_and_stores_each_in_its_place", qkv_rotates_and_stores_each_in_its_place},
    {"turned_rows_make_neox_pairs_neighbours", turned_rows_make_neox_pairs_neighbours},
};

int main(int argc, char **argv) {
    return rig_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
