#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "block_rig.h"
#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "gguf/quant_codes.h"

enum { SETS = 5 };

/* Every instruction set that this machine has. */
static size_t kernels_here(const struct cpu_kernels *out[SETS]) {
    static const char *const names[SETS] = {"sse2", "avx2", "avx512", "amx", "amx-bf16"};
    struct fault fault;
    size_t n = 0;
    for (size_t i = 0; i < SETS; i++) {
        const struct cpu_kernels *k = isa_choose(names[i], &fault);
        if (k != NULL) out[n++] = k;
    }
    return n;
}

static void *take(size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    cr_assert_not_null(p);
    memset(p, 0, (bytes + 63) / 64 * 64);
    return p;
}

static struct activations activations_make(uint32_t rows, uint32_t width, bool fine,
                                           uint64_t *state) {
    uint32_t stride = (width + 31) / 32 * 32;
    uint32_t room = (rows + 15) / 16 * 16, planes = fine ? 2 * room : room;
    struct activations x = {.stride = stride, .fine = fine};
    size_t slices = room / 16 * activations_slices(&x);
    x.f = take(room * stride * sizeof(float));
    x.h = take(slices * 16 * 256 * sizeof *x.h);
    x.wide.q = take(slices * 16 * 256 * 2);
    x.wide.scale = take(slices * 16 * sizeof(float));
    x.wide.total = take(slices * 16 * 8 * 3 * sizeof(float));
    x.q = take(planes * stride);
    x.scale = take(planes * (stride / 32) * sizeof(float));
    x.sum16 = take(planes * (stride / 16) * sizeof(int32_t));
    x.sum32 = take(planes * (stride / 32) * sizeof(int32_t));
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < width; k++)
            x.f[r * stride + k] = block_rig_real(state) * (k % 17 == 0 ? 8.0f : 1.0f);
    return x;
}

struct made {
    struct model_tensor tensor;
    struct packed_matrix matrix;
    float *expanded; /* (rows, cols) */
};

static struct made matrix_make(enum quant_type type, uint32_t rows, uint32_t cols,
                               uint64_t *state) {
    const struct quant_info *info = quant_info(type);
    struct made made = {.tensor = {.type = type, .rows = rows, .cols = cols}};
    size_t row_bytes = cols / info->block_values * info->block_bytes;
    uint8_t *data = take(rows * row_bytes);
    block_rig_fill(type, data, (size_t)rows * cols, state);
    made.tensor.data = data;
    made.tensor.bytes = rows * row_bytes;
    made.expanded = take((size_t)rows * cols * sizeof(float));
    quant_expand(type, data, made.expanded, (size_t)rows * cols);
    made.matrix = pack_describe(&made.tensor);
    uint8_t *panels = take(pack_matrix_bytes(&made.matrix) + 4096); /* prefetch may look beyond */
    for (uint32_t p = 0; p < made.matrix.n_panels; p++)
        pack_panel(&made.matrix, p, panels + p * made.matrix.panel_bytes);
    made.matrix.panels = panels;
    return made;
}

/* The integer of column k in a wide row. */
static int32_t wide_integer(const struct activations *x, uint32_t row, uint32_t k) {
    const int8_t *tile = x->wide.q + (activations_slice(x, row, k) * 8 + k % 256 / 32) * 1024;
    const int8_t *q = tile + row % 16 * 64 + k % 32 / 16 * 32;
    return 16 * q[k % 16] + q[16 + k % 16];
}

static float wide_scale(const struct activations *x, uint32_t row, uint32_t k) {
    return x->wide.scale[activations_slice(x, row, k) * 16 + row % 16];
}

/* The activation the kernel really computes with. */
static double activation(const struct activations *x, enum input_form form, uint32_t row,
                         uint32_t k) {
    if (form == INPUT_INT12) return (double)wide_scale(x, row, k) * wide_integer(x, row, k);
    if (form != INPUT_INT8) return x->f[row * x->stride + k];
    return (double)x->scale[row * (x->stride / 32) + k / 32] * x->q[row * x->stride + k];
}

enum { MANY = 51 }; /* rows: tiles thrice and in part; groups of 8 or 6, and what is left */

static enum input_form prepare(const struct cpu_kernels *k, const struct made *made,
                               const struct activations *x, uint32_t rows) {
    enum input_form form = kernels_input(k, &made->matrix);
    for (uint32_t r = 0; r < rows; r++) {
        float *f = x->f + r * x->stride;
        for (uint32_t many = MANY; form == INPUT_BF16 && many > 0; many /= MANY) { /* h, then f */
            k->round(x, r, 0, 16, many, f);
            k->round(x, r, 16, x->stride - 16, many, f + 16);
        }
        if (form == INPUT_INT8) k->quantise(x, r, 0, made->matrix.cols);
        if (form == INPUT_INT12) k->widen(x, r);
    }
    return form;
}

/* Some rows, of which tiles, vectors and pairs of panels each have ways of their own, against the
 * same rows among MANY. */
static void check_few(const struct cpu_kernels *k, const struct made *made,
                      const struct activations *x, const float *all) {
    const uint32_t n = made->matrix.n_panels, counts[] = {3, 7, 13, 16, 20, 32};
    float *few = take(32 * n * 16 * sizeof(float));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        memset(few, 0xFF, 32 * n * 16 * sizeof(float));
        k->matmul(&made->matrix, 0, n, x, counts[i], few, n * 16);
        cr_assert_eq(memcmp(few, all, counts[i] * n * 16 * sizeof(float)), 0,
                     "%s %s: %u rows have other bits", k->name, quant_info(made->tensor.type)->name,
                     counts[i]);
    }
}

/* Row r of 16 outputs from `out` on against float64. */
static void check_row(const struct cpu_kernels *k, const struct made *made, enum input_form form,
                      const struct activations *x, uint32_t r, uint32_t out, const float *got) {
    const uint32_t cols = made->matrix.cols;
    const double within = form == INPUT_BF16 ? 0.0055 : 1e-6; /* weights are rounded, too */
    for (uint32_t lane = 0; lane < 16; lane++, out++) {
        double sum = 0, size = 0;
        for (uint32_t c = 0; out < made->matrix.rows && c < cols; c++) {
            double term = made->expanded[out * cols + c] * activation(x, form, r, c);
            sum += term;
            size += fabs(term);
        }
        cr_assert_leq(fabs(got[lane] - sum), within * size + 1e-30,
                      "%s %s: row %u output %u is %g, not %g", k->name,
                      quant_info(made->tensor.type)->name, r, out, got[lane], sum);
    }
}

static void check_matmul(const struct cpu_kernels *k, enum quant_type type, uint32_t rows,
                         uint32_t cols) {
    uint64_t state = 7 + type;
    struct made made = matrix_make(type, rows, cols, &state);
    struct activations x = activations_make(MANY, cols, false, &state);
    enum input_form form = prepare(k, &made, &x, MANY);
    enum { ROOM = (MANY + 15) / 16 * 16 };
    const uint32_t n = made.matrix.n_panels;
    float *all = take(ROOM * n * 16 * sizeof(float)), alone[2][16];
    struct activations two[MANY];
    for (uint32_t r = 0; r < MANY; r++) two[r] = activations_make(2, cols, false, &state);
    memset(all, 0xFF, ROOM * n * 16 * sizeof(float)); /* poison: NaN */
    k->matmul(&made.matrix, 0, n, &x, MANY, all, n * 16);
    check_few(k, &made, &x, all);
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t r = 0; r < MANY; r++) {
            if (p == 0) {
                memcpy(two[r].f, x.f + r * x.stride, (r + 1 < MANY ? 2 : 1) * x.stride * 4);
                prepare(k, &made, &two[r], 2);
            }
            k->matmul(&made.matrix, p, 1, &two[r], 1, alone[0], 16);
            check_row(k, &made, form, &x, r, 16 * p, alone[0]);
            if (r + 1 < MANY) k->matmul(&made.matrix, p, 1, &two[r], 2, alone[0], 16);
            for (uint32_t i = 0; i < 2 && r + i < MANY; i++)
                cr_assert_eq(memcmp(alone[i], all + ((r + i) * n + p) * 16, sizeof alone[i]), 0,
                             "%s %s: row %u alone has other bits", k->name, quant_info(type)->name,
                             r + i);
        }
}

Test(kernels, matmul_matches_float64_and_is_batch_invariant) {
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < block_rig_n_types; t++) {
            enum quant_type type = block_rig_types[t];
            bool super = quant_info(type)->block_values == 256;
            check_matmul(k[i], type, 16, super ? 256 : 32);
            check_matmul(k[i], type, 37, super ? 768 : 96);
            if (!super) check_matmul(k[i], type, 64, 544);
        }
}

Test(kernels, matmul_of_floats_takes_any_width) {
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n; i++)
        for (uint32_t cols = 1; cols < 80; cols += 13) {
            check_matmul(k[i], QUANT_F32, 5, cols);
            check_matmul(k[i], QUANT_F16, 16, cols);
        }
}

/* d = 1, the scales of a super-block 1, no mins, and all values of `byte`. */
static void panel_set(const struct made *made, uint8_t byte) {
    const struct pack_format *format = pack_format(made->matrix.kind);
    uint8_t *unit = (uint8_t *)(uintptr_t)made->matrix.panels;
    const bool flat = format->unit_columns == 64;
    for (size_t at = 0; at < made->matrix.panel_bytes; at += format->unit_bytes) {
        memset(unit + at, 0, format->unit_bytes);
        for (int r = 0; r < (flat ? 32 : 16); r++)
            memcpy(unit + at + 2 * r, (uint16_t[]){0x3C00}, 2);
        if (!flat) memset(unit + at + 64, 1, 16 * 256u / format->sub);
        memset(unit + at + format->values_offset, byte, format->unit_bytes - format->values_offset);
    }
}

static void check_extremes(const struct cpu_kernels *k, struct made *made, float activation) {
    enum { ROWS = 17, COLS = 256 }; /* rows: one alone, and more than any kernel calls few */
    uint64_t state = 3;
    struct activations x = activations_make(ROWS, COLS, false, &state);
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) x.f[i] = activation;
    prepare(k, made, &x, ROWS);
    float row[COLS], out[32 * 16]; /* memory for whole tiles */
    pack_row_expand(&made->matrix, 0, row);
    double wanted = 0;
    for (int c = 0; c < COLS; c++) wanted += (double)row[c] * activation;
    for (uint32_t rows = 1; rows <= ROWS; rows += ROWS - 1) {
        k->matmul(&made->matrix, 0, 1, &x, rows, out, 16);
        for (uint32_t i = 0; i < 16 * rows; i++)
            cr_assert_float_eq(out[i], wanted, 1e-2 * fabs(wanted) + 1e-3,
                               "%s %s: %u rows give %g, not %g", k->name,
                               quant_info(made->tensor.type)->name, rows, out[i], wanted);
    }
}

Test(kernels, sums_are_right_at_the_extremes_of_every_type) {
    static const uint8_t bytes[] = {0x00, 0x7F, 0x80, 0xFF};
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    uint64_t state = 3;
    for (size_t t = 0; t < block_rig_n_types; t++) {
        if (quant_scheme(block_rig_types[t]) == NULL) continue;
        struct made made = matrix_make(block_rig_types[t], 16, 256, &state);
        for (size_t i = 0; i < n; i++)
            for (size_t b = 0; b < sizeof bytes; b++) {
                panel_set(&made, bytes[b]);
                check_extremes(k[i], &made, 127);
                check_extremes(k[i], &made, -127);
            }
    }
}

/* Every value of every column at its largest, against the largest activations. */
Test(kernels, sums_of_twelve_bits_are_exact_at_the_extremes) {
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n; i++)
        for (int nibble = 0; nibble < 16; nibble += 15)
            for (int sign = -1; sign < 2; sign += 2) {
                enum { ROWS = 17, COLS = 512 };
                const bool rounds = k[i]->bf16_kinds >> PACK_Q4 & 1; /* 2039 has eleven bits */
                const double x_most = rounds ? 2040 : 2039;
                uint64_t state = 3;
                struct made made = matrix_make(QUANT_Q4_0, 16, COLS, &state);
                uint8_t *unit = (uint8_t *)(uintptr_t)made.matrix.panels;
                for (int u = 0; u < COLS / 64; u++, unit += 576) {
                    for (int r = 0; r < 32; r++) memcpy(unit + 2 * r, (uint16_t[]){0x3C00}, 2);
                    memset(unit + 64, nibble * 0x11, 512);
                }
                struct activations x = activations_make(ROWS, COLS, false, &state);
                for (int c = 0; c < ROWS * COLS; c++) x.f[c] = (float)(sign * x_most);
                prepare(k[i], &made, &x, ROWS);
                float out[32 * 16];
                for (uint32_t rows = 1; rows <= ROWS; rows += 8) {
                    k[i]->matmul(&made.matrix, 0, 1, &x, rows, out, 16);
                    for (uint32_t r = 0; r < rows * 16; r++)
                        cr_assert_float_eq(out[r], sign * (nibble - 8) * x_most * COLS, 1, "%s: %g",
                                           k[i]->name, out[r]);
                }
            }
}

Test(kernels, wide_rows_hold_twelve_bits_and_their_sums) {
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n; i++) {
        if (k[i]->widen == NULL) continue;
        enum { ROWS = 18, WIDTH = 800 }; /* the last slice has 32 columns */
        uint64_t state = 11;
        struct activations x = activations_make(ROWS, WIDTH, false, &state);
        memset(x.f + WIDTH, 0, WIDTH * sizeof(float));
        for (uint32_t r = 0; r < ROWS; r++) k[i]->widen(&x, r);
        for (uint32_t r = 0; r < ROWS; r++)
            for (uint32_t c = 0; c < WIDTH; c++) {
                double step = wide_scale(&x, r, c), f = x.f[r * WIDTH + c];
                cr_assert_leq(fabs(f - step * wide_integer(&x, r, c)), 0.501 * step);
                int32_t sum = 0, sum16 = 0;
                for (uint32_t j = c / 32 * 32; j < c / 32 * 32 + 32; j++) {
                    sum += wide_integer(&x, r, j);
                    if (j / 16 == c / 16) sum16 += wide_integer(&x, r, j);
                }
                const size_t block = activations_slice(&x, r, c) * 8 + c % 256 / 32;
                const float *total = x.wide.total + block * 48 + r % 16;
                cr_assert_eq(total[0], (float)sum);
                cr_assert_eq(total[16 + 16 * (c / 16 % 2)], (float)sum16);
            }
    }
}

Test(kernels, the_second_plane_holds_what_the_first_left_over) {
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n; i++) {
        uint64_t state = 11;
        struct activations x = activations_make(3, 128, true, &state);
        for (uint32_t r = 0; r < 3; r++) k[i]->quantise(&x, r, 0, 128);
        for (uint32_t r = 0; r < 3; r++)
            for (uint32_t c = 0; c < 128; c++) {
                double coarse = activation(&x, INPUT_INT8, 2 * r, c);
                double both = coarse + activation(&x, INPUT_INT8, 2 * r + 1, c),
                       f = x.f[r * 128 + c];
                double step = x.scale[2 * r * 4 + c / 32];
                cr_assert_leq(fabs(f - coarse), 0.501 * step);
                cr_assert_leq(fabs(f - both), 0.501 * step / 254 + 1e-6 * fabs(f));
                int32_t sum = 0;
                for (uint32_t j = c / 16 * 16; j < c / 16 * 16 + 16; j++)
                    sum += x.q[(2 * r + 1) * 128 + j];
                cr_assert_eq(x.sum16[(2 * r + 1) * 8 + c / 16], sum);
            }
    }
}

Test(kernels, quantise_survives_a_row_of_zeros) {
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n; i++) {
        uint64_t state = 1;
        struct activations x = activations_make(1, 64, true, &state);
        memset(x.f, 0, 64 * sizeof(float));
        k[i]->quantise(&x, 0, 0, 64);
        for (int c = 0; c < 128; c++) cr_assert_eq(x.q[c], 0);
        for (int b = 0; b < 4; b++) cr_assert_eq(x.scale[b], 0);
    }
}

Test(kernels, rms_norm_and_silu_match_their_formulas) {
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n; i++) {
        enum { WIDTH = 43, STRIDE = 64 };
        float x[STRIDE] = {0}, w[STRIDE] = {0}, out[STRIDE];
        uint64_t state = 5;
        double squares = 0;
        for (int c = 0; c < WIDTH; c++) {
            x[c] = block_rig_real(&state) * 3;
            w[c] = block_rig_real(&state);
            squares += (double)x[c] * x[c];
        }
        k[i]->rms_norm(x, w, WIDTH, STRIDE, 1e-5f, out);
        for (int c = 0; c < STRIDE; c++) {
            double wanted = x[c] / sqrt(squares / WIDTH + 1e-5) * w[c];
            cr_assert_float_eq(out[c], wanted, 1e-6);
        }
        for (float g = -100; g < 100; g += 0.37f) {
            float gate[16], up[16], got[16];
            for (int lane = 0; lane < 16; lane++) {
                gate[lane] = g + (float)lane * 0.02f;
                up[lane] = (float)lane - 7.5f;
            }
            k[i]->silu_mul(gate, up, got);
            for (int lane = 0; lane < 16; lane++) {
                double wanted = gate[lane] / (1 + exp(-(double)gate[lane])) * up[lane];
                cr_assert_float_eq(got[lane], wanted, 1e-6 * fabs(wanted) + 1e-30);
            }
        }
    }
}

/* --- attention --- */

enum { PAGES = 68, KV_HEADS = 2, POSITIONS = PAGES * 16 }; /* two chunks and a bit */

struct cache {
    struct kv_layout kv;
    uint8_t *layer;
    uint32_t pages[PAGES];
    float *keys, *values; /* (positions, kv_heads, head_dim) */
};

/* Stores n positions in pages of a shuffled order; everything else in the cache is poison. */
static struct cache cache_make(const struct cpu_kernels *k, uint32_t type, uint32_t head_dim,
                               uint32_t n, uint64_t *state) {
    struct cache c = {.kv = kv_layout_of(type, k->kv_tiles, KV_HEADS, head_dim, PAGES)};
    c.layer = take(c.kv.layer_bytes);
    memset(c.layer, 0xFF, c.kv.layer_bytes);
    for (uint32_t i = 0; i < PAGES; i++) c.pages[i] = (i * 5 + 3) % PAGES;
    c.keys = take((size_t)n * KV_HEADS * head_dim * sizeof(float));
    c.values = take((size_t)n * KV_HEADS * head_dim * sizeof(float));
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t h = 0; h < KV_HEADS; h++) {
            float *key = c.keys + (p * KV_HEADS + h) * head_dim;
            float *value = c.values + (p * KV_HEADS + h) * head_dim;
            for (uint32_t d = 0; d < head_dim; d++) {
                key[d] = block_rig_real(state) * 2;
                value[d] = block_rig_real(state);
            }
            k->store(&c.kv, c.layer, c.pages[p / 16], p % 16, h, key, value);
        }
    return c;
}

/* The queries of a job anew, from nothing. */
static void attend_reset(const struct attend_job *job, struct attend_query *query,
                         struct attend_sum *sums) {
    float *values = take((size_t)job->n_queries * job->kv->head_pad * sizeof(float));
    for (uint32_t g = 0; g < job->n_queries; g++) {
        sums[g] = (struct attend_sum){.values = values + g * job->kv->head_pad};
        query[g].sum = &sums[g];
    }
}

/* Attention chunk for chunk, the later ones first, merged in order. */
static void attend_by_chunks(const struct cpu_kernels *k, struct attend_job job,
                             struct attend_query *query, float *out) {
    enum { CHUNKS = (POSITIONS + ATTEND_CHUNK - 1) / ATTEND_CHUNK };
    struct attend_sum sums[CHUNKS][ATTEND_TILE_QUERIES];
    for (uint32_t c = CHUNKS; c-- > 0;) {
        attend_reset(&job, query, sums[c]);
        job.from = c * ATTEND_CHUNK, job.to = job.from + ATTEND_CHUNK;
        k->attend(&job);
    }
    for (uint32_t g = 0; g < job.n_queries; g++) {
        for (uint32_t c = 1; c < CHUNKS; c++)
            k->attend_merge(&sums[0][g], &sums[c][g], job.kv->head_dim);
        k->attend_end(&sums[0][g], job.kv->head_dim, out + g * job.kv->head_dim);
    }
}

/* Each query in a job of its own, beside none that see more than it. */
static void attend_alone(const struct cpu_kernels *k, struct attend_job job,
                         struct attend_query *query, float *out) {
    struct attend_sum sum;
    const uint32_t n = job.n_queries;
    job.n_queries = 1;
    for (uint32_t g = 0; g < n; g++, job.query++, query++) {
        attend_reset(&job, query, &sum);
        k->attend(&job);
        k->attend_end(&sum, job.kv->head_dim, out + g * job.kv->head_dim);
    }
}

static void check_attend(const struct cpu_kernels *k, uint32_t type, uint32_t head_dim,
                         uint32_t group, uint32_t n, double tolerance) {
    uint64_t state = head_dim * 31 + n;
    struct cache c = cache_make(k, type, head_dim, n, &state);
    struct attend_query queries[ATTEND_TILE_QUERIES] = {{NULL}};
    size_t scratch = k->attend_scratch + c.kv.head_pad * k->attend_scratch_dim;
    float *query = take(group * head_dim * sizeof(float)),
          *out = take(group * head_dim * sizeof(float)),
          *chunked = take(group * head_dim * sizeof(float));
    for (uint32_t i = 0; i < group * head_dim; i++) query[i] = block_rig_real(&state);
    memset(out, 0xFF, group * head_dim * sizeof(float));
    struct attend_job job = {.kv = &c.kv,
                             .layer = c.layer,
                             .pages = c.pages,
                             .kv_head = 1,
                             .to = UINT32_MAX,
                             .n_queries = group,
                             .query = queries,
                             .scale = 1 / sqrtf((float)head_dim),
                             .scratch = take(scratch * sizeof(float))};
    struct attend_sum sums[ATTEND_TILE_QUERIES];
    attend_reset(&job, queries, sums);
    /* The last queries see less, as those of earlier rows do. */
    for (uint32_t g = 0; g < group; g++) {
        queries[g].query = query + g * head_dim;
        queries[g].n_kv = g < n ? n - g : n;
    }
    k->attend(&job);
    for (uint32_t g = 0; g < group; g++) k->attend_end(&sums[g], head_dim, out + g * head_dim);
    attend_by_chunks(k, job, queries, chunked);
    cr_assert_arr_eq(chunked, out, group * head_dim * sizeof(float), "%s head_dim %u n %u: chunks",
                     k->name, head_dim, n);
    attend_alone(k, job, queries, chunked);
    cr_assert_arr_eq(chunked, out, group * head_dim * sizeof(float), "%s head_dim %u n %u: alone",
                     k->name, head_dim, n);
    for (uint32_t g = 0; g < group; g++) {
        double weight[POSITIONS], sum = 0;
        uint32_t n_kv = job.query[g].n_kv;
        for (uint32_t p = 0; p < n_kv; p++) {
            double dot = 0;
            for (uint32_t d = 0; d < head_dim; d++)
                dot += (double)query[g * head_dim + d] * c.keys[(p * KV_HEADS + 1) * head_dim + d];
            sum += weight[p] = exp(dot / sqrt(head_dim));
        }
        for (uint32_t d = 0; d < head_dim; d++) {
            double wanted = 0;
            for (uint32_t p = 0; p < n_kv; p++)
                wanted += weight[p] / sum * c.values[(p * KV_HEADS + 1) * head_dim + d];
            cr_assert_float_eq(out[g * head_dim + d], wanted, tolerance,
                               "%s type %u head_dim %u n %u head %u element %u: %g, not %g",
                               k->name, type, head_dim, n, g, d, out[g * head_dim + d], wanted);
        }
    }
}

Test(kernels, attend_matches_float64_on_poisoned_pages) {
    static const uint32_t dims[] = {8, 24, 64, 80, 128}, groups[] = {1, 4, 7, 8, 21, 37},
                          lengths[] = {1, 15, 17, 100, 515, POSITIONS};
    static const double tolerance[] = {
        [CONFIG_KV_F16] = 2e-3, [CONFIG_KV_F32] = 2e-6, [CONFIG_KV_Q8_0] = 2e-2};
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n; i++)
        for (uint32_t type = CONFIG_KV_F16; type <= CONFIG_KV_Q8_0; type++)
            for (size_t d = 0; d < 5; d++)
                for (size_t g = 0; g < 6 && groups[g] <= k[i]->attend_queries; g++)
                    for (size_t l = 0; l < 6; l++)
                        check_attend(k[i], type, dims[d], groups[g], lengths[l],
                                     type == CONFIG_KV_F16 && k[i]->kv_tiles ? 2e-2
                                                                             : tolerance[type]);
}

Test(kernels, binary16_of_sse2_is_that_of_the_processor_and_of_quant) {
    /* Through the matmul of an F16 matrix with one column: every finite half is reproduced. */
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (uint32_t first = 0; first < 65536; first += 16) {
        uint8_t *panel = take(32 * 32);
        for (uint32_t r = 0; r < 16; r++) {
            uint16_t half = (uint16_t)(first + r);
            if ((half & 0x7C00) == 0x7C00) half = 0; /* infinities and NaNs are no weights */
            memcpy(panel + 2 * r, &half, 2);
        }
        struct packed_matrix m = {.panels = panel,
                                  .panel_bytes = 1024,
                                  .rows = 16,
                                  .cols = 1,
                                  .n_panels = 1,
                                  .kind = PACK_F16};
        float one[2 * 32] = {1}, out[2 * 16]; /* one row, and memory for another */
        struct activations x = {.f = one, .stride = 32};
        for (size_t i = 0; i < n; i++) {
            k[i]->matmul(&m, 0, 1, &x, 1, out, 16);
            for (uint32_t r = 0; r < 16; r++) {
                uint16_t half;
                memcpy(&half, panel + 2 * r, 2);
                float want = quant_f16_to_f32(half);
                /* those who compute in bfloat16 keep 8 bits of 11 */
                float off = k[i]->bf16_kinds >> PACK_F16 & 1 ? fabsf(want) / 256 : 0;
                cr_assert(fabsf(out[r] - want) <= off, "%s half 0x%04x", k[i]->name, half);
            }
        }
        free(panel);
    }
}

Test(kernels, rotate_turns_pairs_of_both_kinds) {
    enum { DIM_MAX = 128 };
    static const uint32_t dims[] = {2, 8, 24, 34, 64, 80, DIM_MAX};
    const struct cpu_kernels *k[SETS];
    size_t n = kernels_here(k);
    for (size_t i = 0; i < n * 14; i++) {
        const uint32_t dim = dims[i / 2 % 7], half = dim / 2;
        const bool neighbours = i % 2 == 0;
        float c[DIM_MAX], s[DIM_MAX], head[DIM_MAX + 1], wanted[DIM_MAX];
        uint64_t state = dim;
        for (uint32_t p = 0; p < half; p++) {
            const uint32_t a = neighbours ? 2 * p : p, b = neighbours ? a + 1 : p + half;
            const float angle = block_rig_real(&state) * 3;
            head[a] = block_rig_real(&state), head[b] = block_rig_real(&state);
            c[a] = c[b] = cosf(angle), s[b] = sinf(angle), s[a] = -s[b];
            wanted[a] = head[a] * c[a] - head[b] * s[b];
            wanted[b] = head[a] * s[b] + head[b] * c[b];
        }
        head[dim] = 7;
        k[i / 14]->rotate(c, s, dim, neighbours, head);
        for (uint32_t d = 0; d < dim; d++)
            cr_assert_float_eq(head[d], wanted[d], 3e-7, "%s dim %u element %u", k[i / 14]->name,
                               dim, d);
        cr_assert_eq(head[dim], 7, "what is beyond stays");
    }
}
