/* test_matmul: matmul_few, matmul_many and prepare, of every kind of weights.
 *
 * Quantised kinds must give the bits of the CPU's kernels (segment by segment), float kinds stay
 * within a bound of the exact product; and every way to the same result gives the same bits. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

/* --- one product ------------------------------------------------------------------------------ */

enum way { FEW, FUSED, MANY };
static const char *const way_names[] = {"few", "fused", "many"};

/* A launch, with everything that can be varied. */
struct product {
    enum way way;
    const struct rig_matrix *m[3];
    uint32_t n_matrices;
    uint32_t rows, planes;
    uint32_t grid;  /* of few; 0: a block a panel */
    const float *x; /* (rows, stride) */
    uint32_t stride;
    const float *norm;      /* (cols) */
    const uint32_t *gather; /* (rows) */
    uint32_t rows_max;      /* what grids and buffers are made for; 0: rows */
};

static struct gpu_step rig_step(uint32_t rows) {
    return (struct gpu_step){.n_rows = rows, .n_logits = rows};
}

static uint32_t rows_of_x(const struct product *p) {
    uint32_t rows = p->rows;
    for (uint32_t i = 0; p->gather != NULL && i < p->rows; i++)
        if (p->gather[i] >= rows) rows = p->gather[i] + 1;
    return rows;
}

static struct gpu_input product_input(const struct product *p, uint64_t step) {
    const uint32_t cols = p->m[0]->tensor.cols;
    struct gpu_input in = {.x = rig_copy(p->x, (size_t)rows_of_x(p) * p->stride * sizeof(float)),
                           .n = step + offsetof(struct gpu_step, n_rows),
                           .x_stride = p->stride,
                           .cols = cols,
                           .planes = p->planes,
                           .form = gpu_form_of(p->m[0]->kind),
                           .eps = 1e-5f};
    if (p->norm != NULL) {
        float *padded = rig_host((cols + 3) / 4 * 4 * sizeof *padded);
        memset(padded, 0xFF, (cols + 3) / 4 * 4 * sizeof *padded);
        memcpy(padded, p->norm, cols * sizeof *padded);
        in.weight = rig_copy(padded, (cols + 3) / 4 * 4 * sizeof *padded);
    }
    if (p->gather != NULL) in.gather = rig_copy(p->gather, p->rows * sizeof *p->gather);
    return in;
}

/* Prepares the input in device memory that nobody has written. */
static void product_prepare(const struct product *p, struct gpu_matmul *args) {
    const uint32_t rows_max = p->rows_max > 0 ? p->rows_max : p->rows, cols = args->in.cols;
    args->in.tiles = (rows_max * p->planes + GPU_TILE - 1) / GPU_TILE;
    args->prepared = rig_room(gpu_prepared_bytes(args->in.form, cols, rows_max, p->planes));
    struct gpu_prepare prepare = {.in = args->in, .out = args->prepared};
    rig_launch("step", "prepare", args->in.tiles * GPU_TILE / p->planes, 1, 256, 0, &prepare);
}

static uint32_t product_panels(const struct gpu_matmul *args) {
    uint32_t panels = 0;
    for (int i = 0; i < 3; i++) panels += args->matrix[i].n_panels;
    return panels;
}

/* Runs what args describe, in the way of p: its input, then the product. */
static void product_launch(const struct product *p, struct gpu_matmul *args) {
    const uint32_t kind = p->m[0]->kind, cols = args->in.cols;
    const uint32_t rows_max = p->rows_max > 0 ? p->rows_max : p->rows;
    const uint32_t columns = rows_max * p->planes, panels = product_panels(args);
    args->fused = p->way == FUSED;
    if (!args->fused) product_prepare(p, args);
    if (p->way == MANY) {
        rig_launch(p->m[0]->module, "matmul_many",
                   (columns + GPU_MANY_COLUMNS - 1) / GPU_MANY_COLUMNS,
                   (panels + GPU_MANY_PANELS - 1) / GPU_MANY_PANELS, GPU_MANY_THREADS,
                   gpu_many_shared(kind), args);
        return;
    }
    const uint32_t a_block = gpu_few_columns(kind);
    rig_launch(p->m[0]->module, "matmul_few", p->grid > 0 ? p->grid : panels,
               (columns + a_block - 1) / a_block, 32 * gpu_segments(cols),
               gpu_few_shared(kind, cols, args->epilogue, p->way == FUSED ? columns : 0), args);
}

/* The plain product, through the epilogue of the head: (rows, matrix rows). */
static float *product_run(const struct product *p) {
    const uint32_t n = p->m[0]->tensor.rows;
    struct gpu_step step = rig_step(p->rows);
    struct gpu_matmul args = {.epilogue = GPU_LOGITS,
                              .matrix = {p->m[0]->gpu},
                              .in = product_input(p, rig_copy(&step, sizeof step)),
                              .out = {rig_room((size_t)p->rows * n * sizeof(float) + 4)},
                              .out_stride = {n}};
    product_launch(p, &args);
    return rig_get(args.out[0], (size_t)p->rows * n * sizeof(float));
}

static bool same_bits(const char *what, const float *got, const float *want, uint32_t rows,
                      uint32_t n) {
    for (uint32_t i = 0; i < rows * n; i++)
        if (memcmp(&got[i], &want[i], 4) != 0) {
            rig_fail("%s: row %u, output %u of (%u, %u): %.9g, not %.9g", what, i / n, i % n, rows,
                     n, (double)got[i], (double)want[i]);
            return false;
        }
    return true;
}

static void check_product(const struct product *p, const float *x_normed) {
    const struct rig_matrix *m = p->m[0];
    const uint32_t n = m->tensor.rows;
    rig_about("%s %s rows %u cols %u planes %u batch %u", m->module, way_names[p->way], n,
              m->tensor.cols, p->planes, p->rows);
    const float *got = product_run(p);
    const bool integers = gpu_kind_info(m->kind).sub != 0;
    float *bits = rig_host((size_t)p->rows * n * sizeof *bits);
    if (integers && rig_product_cpu(m, x_normed, p->stride, p->rows, p->planes, bits))
        same_bits("not the CPU's bits", got, bits, p->rows, n);
    double *want = rig_host((size_t)p->rows * n * sizeof *want);
    double *bound = rig_host((size_t)p->rows * n * sizeof *bound);
    rig_product_exact(m, x_normed, p->stride, p->rows, integers ? p->planes : 0, want, bound);
    for (uint32_t i = 0; i < p->rows * n; i++)
        if (!(fabs((double)got[i] - want[i]) <= bound[i])) {
            rig_fail("row %u, output %u: %.9g, exact %.9g, bound %.3g", i / n, i % n,
                     (double)got[i], want[i], bound[i]);
            return;
        }
}

/* --- tests ------------------------------------------------------------------------------------ */

/* Columns to try: of 256 for super blocks, else odd multiples of 32. */
static uint32_t column_choice(uint32_t kind, uint32_t i) {
    static const uint32_t flat[] = {32, 96, 288, 1056, 2080}, super[] = {256, 512, 1280, 2304};
    return gpu_kind_info(kind).super ? super[i % 4] : flat[i % 5];
}

static void few_gives_the_bits_of_the_cpu_or_the_exact_product(void) {
    for (uint32_t kind = 0; kind < GPU_KINDS; kind++)
        for (uint32_t i = 0; i < (gpu_kind_info(kind).super ? 4 : 5); i++) {
            static const uint32_t outputs[] = {16, 5, 48, 33, 17}, batches[] = {1, 8, 3, 2, 9};
            const uint32_t cols = column_choice(kind, i), planes = kind >= GPU_Q8 && i % 2 ? 2 : 1;
            struct rig_matrix m = rig_matrix_make(rig_types[kind], outputs[i], cols);
            const float *x = rig_rows(batches[i], cols, cols + 4);
            check_product(&(struct product){.way = FEW,
                                            .m = {&m},
                                            .rows = batches[i],
                                            .planes = planes,
                                            .x = x,
                                            .stride = cols + 4},
                          x);
        }
}

/* Types that share a kind with another: their codes differ, their kernels do not. */
static void other_types_of_a_kind_multiply_as_well(void) {
    static const enum quant_type types[] = {QUANT_Q5_0, QUANT_IQ4_NL};
    for (uint32_t i = 0; i < 2; i++) {
        struct rig_matrix m = rig_matrix_make(types[i], 19, 160);
        const float *x = rig_rows(2, 160, 160);
        check_product(
            &(struct product){.way = FEW, .m = {&m}, .rows = 2, .planes = 1, .x = x, .stride = 160},
            x);
    }
}

static void fused_few_and_many_give_the_same_bits(void) {
    for (uint32_t kind = 0; kind < GPU_KINDS; kind++) {
        const bool integers = gpu_kind_info(kind).sub != 0;
        for (uint32_t planes = 1; planes <= (integers ? 2u : 1u); planes++) {
            const uint32_t cols = planes == 1 ? 2304 : 512, rows = planes == 1 ? 3 : 4;
            struct rig_matrix m = rig_matrix_make(rig_types[kind], 40, cols);
            const float *x = rig_rows(rows, cols, cols), *norm = rig_rows(1, cols, cols);
            struct product p = {.way = FEW,
                                .m = {&m},
                                .rows = rows,
                                .planes = planes,
                                .x = x,
                                .stride = cols,
                                .norm = norm};
            rig_about("%s planes %u", m.module, planes);
            const float *want = product_run(&p);
            p.grid = 2;
            same_bits("two blocks", product_run(&p), want, rows, 40);
            p.grid = 0;
            if (kind == GPU_F32) continue;
            p.way = MANY;
            same_bits("many", product_run(&p), want, rows, 40);
            p.way = FUSED;
            same_bits("fused", product_run(&p), want, rows, 40);
            p.grid = 1;
            same_bits("fused, one block", product_run(&p), want, rows, 40);
        }
    }
}

/* Each row of a batch alone, beside others, in any tile, in buffers made for more rows. */
static void a_row_has_the_same_bits_in_any_batch(void) {
    for (uint32_t kind = 0; kind < GPU_KINDS; kind++) {
        const uint32_t cols = 512, n = 20, rows = 70, planes = kind == GPU_Q4 ? 2 : 1;
        struct rig_matrix m = rig_matrix_make(rig_types[kind], n, cols);
        const float *x = rig_rows(rows, cols, cols);
        struct product p = {.m = {&m}, .rows = rows, .planes = planes, .x = x, .stride = cols};
        p.way = kind == GPU_F32 ? FEW : MANY;
        rig_about("%s", m.module);
        const float *all = product_run(&p);
        static const uint32_t batches[][2] = {{0, 1}, {7, 2}, {3, 17}, {5, 64}, {4, 65}, {60, 9}};
        for (uint32_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
            const uint32_t first = batches[i][0];
            p.rows = batches[i][1];
            p.rows_max = i % 2 == 0 ? 96 : 0;
            p.x = x + (size_t)first * cols;
            for (uint32_t way = FEW; way <= MANY; way++) {
                if (way == FUSED && (p.rows * planes > 8 || kind == GPU_F32)) continue;
                if (way == MANY && kind == GPU_F32) continue;
                p.way = way;
                if (way == FUSED) p.rows_max = 8 / planes;
                rig_about("%s %s rows %u to %u", m.module, way_names[way], first,
                          first + p.rows - 1);
                same_bits("not as in the large batch", product_run(&p), all + (size_t)first * n,
                          p.rows, n);
            }
        }
    }
}

static void many_gives_the_bits_of_the_cpu_or_the_exact_product(void) {
    for (uint32_t kind = GPU_F16; kind < GPU_KINDS; kind++) {
        const uint32_t cols = column_choice(kind, 3),
                       planes = kind % 2 == 1 && kind > GPU_BF16 ? 2 : 1;
        struct rig_matrix m = rig_matrix_make(rig_types[kind], 8 * 16 + 5, cols);
        const float *x = rig_rows(35, cols, cols);
        check_product(
            &(struct product){
                .way = MANY, .m = {&m}, .rows = 35, .planes = planes, .x = x, .stride = cols},
            x);
    }
}

/* RMSNorm in double precision, rounded to float once. */
static float *normed(const float *x, const float *weight, uint32_t rows, uint32_t cols,
                     uint32_t stride) {
    float *out = rig_host((size_t)rows * stride * sizeof *out);
    for (uint32_t row = 0; row < rows; row++, x += stride) {
        double sum = 0;
        for (uint32_t k = 0; k < cols; k++) sum += (double)x[k] * (double)x[k];
        double factor = 1 / sqrt(sum / cols + (double)1e-5f);
        for (uint32_t k = 0; k < cols; k++)
            out[(size_t)row * stride + k] = (float)((double)x[k] * factor * (double)weight[k]);
    }
    return out;
}

/* The tap shows what is rounded: the norm of the gathered rows. */
static void prepare_normalises_the_rows_it_is_given(void) {
    static const uint32_t choice[] = {1, 3, 30, 96, 288, 1056, 4100};
    for (uint32_t i = 0; i < sizeof choice / sizeof choice[0]; i++)
        for (uint32_t fused = 0; fused < 2; fused++) {
            const uint32_t cols = choice[i], stride = (cols + 3) / 4 * 4 + 4, rows = 3;
            const uint32_t gather[] = {4, 0, 2};
            struct rig_matrix m = rig_matrix_make(QUANT_F16, 7, cols);
            const float *x = rig_rows(5, cols, stride), *norm = rig_rows(1, cols, cols);
            struct product p = {.way = fused ? FUSED : FEW,
                                .m = {&m},
                                .rows = rows,
                                .planes = 1,
                                .x = x,
                                .stride = stride,
                                .norm = norm,
                                .gather = gather};
            rig_about("prepare, %u columns, %s", cols, fused ? "fused" : "by itself");
            struct gpu_step step = rig_step(rows);
            struct gpu_matmul args = {.epilogue = GPU_LOGITS,
                                      .matrix = {m.gpu},
                                      .in = product_input(&p, rig_copy(&step, sizeof step)),
                                      .out = {rig_room(rows * 7 * sizeof(float))},
                                      .out_stride = {7}};
            float *nothing = rig_host((size_t)rows * stride * sizeof *nothing);
            args.in.tap = rig_copy(nothing, (size_t)rows * stride * sizeof *nothing);
            product_launch(&p, &args);
            const float *got = rig_get(args.in.tap, (size_t)rows * stride * sizeof *got);
            float *gathered = rig_host((size_t)rows * stride * sizeof *gathered);
            for (uint32_t r = 0; r < rows; r++)
                memcpy(gathered + (size_t)r * stride, x + (size_t)gather[r] * stride,
                       stride * sizeof *gathered);
            const float *want = normed(gathered, norm, rows, cols, stride);
            for (uint32_t r = 0; r < rows; r++)
                for (uint32_t k = 0; k < stride; k++) {
                    const float a = got[r * stride + k], b = want[r * stride + k];
                    if (!(fabsf(a - b) <= 1e-6f * fabsf(b)))
                        rig_fail("row %u column %u: %.9g, exact %.9g", r, k, (double)a, (double)b);
                }
        }
}

/* A row of zeros, tiny and huge values: nothing overflows, nothing becomes NaN. */
static void extreme_rows_keep_their_size(void) {
    for (uint32_t kind = 0; kind < GPU_KINDS; kind++) {
        const uint32_t cols = 256, rows = 4;
        struct rig_matrix m = rig_matrix_make(rig_types[kind], 16, cols);
        float *x = rig_rows(rows, cols, cols);
        const float sizes[] = {0, 1e-25f, 1e20f, 3e6f};
        for (uint32_t i = 0; i < rows * cols; i++) x[i] *= sizes[i / cols];
        x[3 * cols + 7] = 1e9f;
        struct product p = {
            .way = FEW, .m = {&m}, .rows = rows, .planes = 1, .x = x, .stride = cols};
        for (uint32_t way = FEW; way <= (kind == GPU_F32 ? FEW : FUSED); way++) {
            p.way = way;
            if (kind < GPU_Q8 || way == FEW) check_product(&p, x);
        }
    }
}

static void nothing_happens_without_rows(void) {
    struct rig_matrix m = rig_matrix_make(QUANT_Q8_0, 16, 64);
    const float *x = rig_rows(8, 64, 64);
    struct product p = {.m = {&m}, .rows = 8, .planes = 1, .x = x, .stride = 64};
    struct gpu_step step = rig_step(0);
    uint8_t untouched[512];
    memset(untouched, 0xA5, sizeof untouched);
    for (uint32_t way = FEW; way <= MANY; way++) {
        p.way = way;
        struct gpu_matmul args = {.epilogue = GPU_LOGITS,
                                  .matrix = {m.gpu},
                                  .in = product_input(&p, rig_copy(&step, sizeof step)),
                                  .out = {rig_copy(untouched, sizeof untouched)},
                                  .out_stride = {16}};
        product_launch(&p, &args);
        if (memcmp(rig_get(args.out[0], sizeof untouched), untouched, sizeof untouched) != 0)
            rig_fail("%s wrote something", way_names[way]);
    }
}

static const struct rig_test tests[] = {
    {"few_gives_the_bits_of_the_cpu_or_the_exact_product",
     few_gives_the_bits_of_the_cpu_or_the_exact_product},
    {"other_types_of_a_kind_multiply_as_well", other_types_of_a_kind_multiply_as_well},
    {"fused_few_and_many_give_the_same_bits", fused_few_and_many_give_the_same_bits},
    {"a_row_has_the_same_bits_in_any_batch", a_row_has_the_same_bits_in_any_batch},
    {"many_gives_the_bits_of_the_cpu_or_the_exact_product",
     many_gives_the_bits_of_the_cpu_or_the_exact_product},
    {"prepare_normalises_the_rows_it_is_given", prepare_normalises_the_rows_it_is_given},
    {"extreme_rows_keep_their_size", extreme_rows_keep_their_size},
    {"nothing_happens_without_rows", nothing_happens_without_rows},
};

int main(int argc, char **argv) {
    return rig_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
