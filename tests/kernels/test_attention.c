/* test_attention: the attention kernels and kv_store against an evaluation in double precision.
 *
 * A world is a batch over several sequences: keys and values of every position, pages in shuffled
 * order, everything that no sequence owns filled with NaN. What is asked of it is computed in
 * several ways (split over blocks or walked by one, alone or beside others, in tiles of any size,
 * on other pages), which must agree in every bit, and compared with the reference, which rounds
 * keys and values as the cache does and nothing else.
 *
 * The bound on the error of a result, relative to the largest value that is weighted:
 *   scores   sum of |q k| / sqrt(head_dim) times 2^-22 for the split of q into two F16 (11 bits
 *            each) and, for each mma of 8 products, what is cut off 24 bits below the largest of
 *            them and the sum so far: at most 9 * 2^-24 of that
 *   weights  an error of the score, 2^-22 for ex2.approx, 2^-22 for the split
 *   values   as scores: 2^-22, and 9 * 2^-24 for each 8 positions of a chunk
 * In the worst case this comes to about 2^-13; the cuts are all towards zero but their sizes are
 * spread, and scores of random queries are small: BOUND is 2^-17. A lost lo half of a query or a
 * weight is 2^-12 of it and shows. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "device.h"
#include "kernels/kv.h"
#include "rig.h"

#define BOUND 0x1p-17

/* --- numbers ---------------------------------------------------------------------------------- */

static uint64_t random_state = 1;

static uint32_t random_word(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}
static uint32_t random_below(uint32_t n) {
    return random_word() % n;
}
/* About normal, deviation 1. */
static float random_normal(void) {
    double sum = 0;
    for (int i = 0; i < 6; i++) sum += (double)random_word() / 0x1p31 - 0.5;
    return (float)(sum * sqrt(2));
}

static uint16_t half_of(float x) {
    _Float16 half = (_Float16)x;
    uint16_t bits;
    memcpy(&bits, &half, 2);
    return bits;
}
static float float_of(uint16_t bits) {
    _Float16 half;
    memcpy(&half, &bits, 2);
    return (float)half;
}
static float clamp(float x) {
    return fminf(fmaxf(x, -65504.0f), 65504.0f);
}

/* --- the cache, as kv.h says --------------------------------------------------------------------
 */

struct shape {
    uint32_t type, head_dim, n_kv_heads, group;
};

static uint32_t shape_page_bytes(const struct shape *shape) {
    return (uint32_t)gpu_kv_page_bytes(shape->type, shape->n_kv_heads, shape->head_dim);
}

/* 32 elements of Q8_0; steps gets what the cache stands for. */
static uint16_t q8_round(const float *x, uint32_t count, int8_t *q) {
    float largest = 0;
    for (uint32_t i = 0; i < count; i++) largest = fmaxf(largest, fabsf(clamp(x[i])));
    uint16_t scale = half_of(largest / 127.0f);
    float inverse = float_of(scale) > 0 ? 1.0f / float_of(scale) : 0;
    for (uint32_t i = 0; i < 32; i++) {
        float steps = i < count ? rintf(clamp(x[i]) * inverse) : 0;
        q[i] = (int8_t)fminf(fmaxf(steps, -127), 127);
    }
    return scale;
}

/* Writes one position of one head, keys or values, and gives back what was rounded. */
static void cache_put(const struct shape *shape, uint8_t *head, uint32_t p, bool values,
                      const float *x, double *rounded) {
    uint32_t dim = shape->head_dim, pad = gpu_kv_head_pad(shape->type, dim);
    for (uint32_t d = 0; d < pad && shape->type == GPU_KV_F16; d++) {
        uint16_t half = half_of(d < dim ? clamp(x[d]) : 0);
        memcpy(head + (values ? kv_value_at : kv_key_at)(GPU_KV_F16, dim, p, d), &half, 2);
        if (d < dim) rounded[d] = (double)float_of(half);
    }
    for (uint32_t b = 0; b < pad / 32 && shape->type == GPU_KV_Q8_0; b++) {
        int8_t q[32];
        uint16_t scale = q8_round(x + 32 * b, dim - 32 * b < 32 ? dim - 32 * b : 32, q);
        memcpy(head + (values ? kv_value_scale_at(dim, p, b) : kv_key_scale_at(p, b)), &scale, 2);
        for (uint32_t d = 32 * b; d < 32 * b + 32; d++) {
            head[(values ? kv_value_at : kv_key_at)(GPU_KV_Q8_0, dim, p, d)] = (uint8_t)q[d % 32];
            if (d < dim) rounded[d] = (double)float_of(scale) * q[d % 32];
        }
    }
}

/* --- a world ------------------------------------------------------------------------------------
 */

enum { SEQUENCES_MAX = 12 };

/* Positions past .. past + rows - 1 are asked; all positions up to the last are in the cache. */
struct sequence {
    uint32_t past, rows;
};

struct world {
    struct shape shape;
    uint32_t n_sequences;
    struct sequence sequence[SEQUENCES_MAX];
    uint32_t n_rows, pages_per_sequence, n_pages;
    uint32_t heads_width;                       /* n_heads * head_dim */
    float *k[SEQUENCES_MAX], *v[SEQUENCES_MAX]; /* (positions, n_kv_heads, head_dim) */
    double *rounded_k[SEQUENCES_MAX], *rounded_v[SEQUENCES_MAX];
    float *q; /* (rows, heads_width) */
    struct gpu_row *row;
    uint32_t *page; /* (sequences, pages_per_sequence) */
    uint8_t *cache; /* (n_pages, page_bytes) */
};

static uint32_t sequence_end(const struct sequence *s) {
    return s->past + s->rows;
}

/* A page for every 16 positions, in random order, and as many that belong to nobody. */
static void world_place(struct world *w, uint64_t seed) {
    random_state = seed;
    uint32_t used = 0, *order;
    for (uint32_t s = 0; s < w->n_sequences; s++) used += (sequence_end(&w->sequence[s]) + 15) / 16;
    w->n_pages = 2 * used;
    order = rig_host(w->n_pages * sizeof *order);
    for (uint32_t i = 0; i < w->n_pages; i++) {
        uint32_t j = random_below(i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    size_t page_bytes = shape_page_bytes(&w->shape);
    uint32_t head_bytes = kv_head_bytes(w->shape.type, w->shape.head_dim);
    w->cache = rig_host(w->n_pages * page_bytes);
    memset(w->cache, 0xff, w->n_pages * page_bytes);
    w->page = rig_host(w->n_sequences * w->pages_per_sequence * sizeof *w->page);
    memset(w->page, 0xff, w->n_sequences * w->pages_per_sequence * sizeof *w->page);
    used = 0;
    for (uint32_t s = 0; s < w->n_sequences; s++) {
        for (uint32_t p = 0; p < sequence_end(&w->sequence[s]); p++) {
            uint32_t *page = &w->page[s * w->pages_per_sequence + p / 16];
            if (p % 16 == 0) *page = order[used++];
            for (uint32_t h = 0; h < w->shape.n_kv_heads; h++) {
                uint8_t *head = w->cache + *page * page_bytes + h * head_bytes;
                size_t at = ((size_t)p * w->shape.n_kv_heads + h) * w->shape.head_dim;
                cache_put(&w->shape, head, p % 16, false, w->k[s] + at, w->rounded_k[s] + at);
                cache_put(&w->shape, head, p % 16, true, w->v[s] + at, w->rounded_v[s] + at);
            }
        }
    }
}

/* A sequence's numbers depend on its seed alone. */
static struct world world_make(const struct shape *shape, const struct sequence *sequences,
                               const uint32_t *seeds, uint32_t n, uint64_t place_seed) {
    struct world w = {.shape = *shape, .n_sequences = n};
    uint32_t longest = 0, row = 0, kv_width = shape->n_kv_heads * shape->head_dim;
    w.heads_width = kv_width * shape->group;
    for (uint32_t s = 0; s < n; s++) {
        w.sequence[s] = sequences[s];
        w.n_rows += sequences[s].rows;
        if (sequence_end(&sequences[s]) > longest) longest = sequence_end(&sequences[s]);
    }
    w.pages_per_sequence = (longest + 15) / 16 + 1;
    w.q = rig_host((size_t)w.n_rows * w.heads_width * sizeof *w.q);
    w.row = rig_host(w.n_rows * sizeof *w.row);
    for (uint32_t s = 0; s < n; s++) {
        size_t count = (size_t)sequence_end(&sequences[s]) * kv_width;
        random_state = seeds[s];
        w.k[s] = rig_host(count * sizeof(float));
        w.v[s] = rig_host(count * sizeof(float));
        w.rounded_k[s] = rig_host(count * sizeof(double));
        w.rounded_v[s] = rig_host(count * sizeof(double));
        for (size_t i = 0; i < count; i++) {
            w.k[s][i] = random_normal() * (random_below(64) == 0 ? 8.0f : 1.0f);
            w.v[s][i] = random_normal();
        }
        for (uint32_t i = 0; i < sequences[s].rows; i++, row++) {
            w.row[row] = (struct gpu_row){
                .token = -1, .position = sequences[s].past + i, .sequence = s, .logits = GPU_NONE};
            /* Some queries are tiny, some decide for a few positions. */
            const float size[] = {1, 1, 1e-6f, 4};
            for (uint32_t d = 0; d < w.heads_width; d++)
                w.q[(size_t)row * w.heads_width + d] = random_normal() * size[row % 4];
        }
    }
    world_place(&w, place_seed);
    return w;
}

/* --- reference ----------------------------------------------------------------------------------
 */

/* One row and head in double precision; returns the largest |value|. */
static double reference_attend(const struct world *w, uint32_t row, uint32_t head, double *out) {
    const struct shape *shape = &w->shape;
    uint32_t s = w->row[row].sequence, n = w->row[row].position + 1, dim = shape->head_dim;
    uint32_t kv_head = head / shape->group;
    double *weight = rig_host(n * sizeof *weight), largest = -INFINITY, sum = 0, most = 0;
    const float *q = w->q + (size_t)row * w->heads_width + head * dim;
    for (uint32_t p = 0; p < n; p++) {
        const double *k = w->rounded_k[s] + ((size_t)p * shape->n_kv_heads + kv_head) * dim;
        weight[p] = 0;
        for (uint32_t d = 0; d < dim; d++) weight[p] += (double)q[d] * k[d];
        weight[p] /= sqrt(dim);
        largest = fmax(largest, weight[p]);
    }
    memset(out, 0, dim * sizeof *out);
    for (uint32_t p = 0; p < n; p++) {
        const double *v = w->rounded_v[s] + ((size_t)p * shape->n_kv_heads + kv_head) * dim;
        weight[p] = exp(weight[p] - largest);
        sum += weight[p];
        for (uint32_t d = 0; d < dim; d++) {
            out[d] += weight[p] * v[d];
            most = fmax(most, fabs(v[d]));
        }
    }
    for (uint32_t d = 0; d < dim; d++) out[d] /= sum;
    return most;
}

/* --- running ------------------------------------------------------------------------------------
 */

/* How a batch is computed: by attend_few, or by attend_many. */
struct plan {
    const char *name;
    uint32_t tile_rows;
    bool many;
    uint32_t grid_chunks; /* attend_few: blocks along the context; 0: one for each chunk */
};

static const struct plan plans[] = {
    {"rows alone, a block for each chunk", 1, false, 0},
    {"rows alone, one block for all chunks", 1, false, 1},
    {"five rows, two blocks for all chunks", 5, false, 2},
    {"tiles of 32 rows", GPU_TILE_ROWS, true, 0},
    {"tiles of 3 rows", 3, true, 0},
};
enum { PLANS = sizeof plans / sizeof plans[0] };

static struct cu_module *module_for(const struct shape *shape) {
    char name[64];
    snprintf(name, sizeof name, "attention_%s_%u", shape->type == GPU_KV_F16 ? "f16" : "q8",
             gpu_attend_width(shape->type, shape->head_dim));
    return device_module(name);
}

/* Device copies of a batch. */
struct upload {
    struct gpu_batch batch;
    struct gpu_step step;
    struct gpu_tile *tiles;
};

static struct upload batch_upload(const struct world *w, const struct plan *plan) {
    struct upload up = {.step.n_rows = w->n_rows};
    up.tiles = rig_host(w->n_rows * sizeof *up.tiles);
    for (uint32_t row = 0; row < w->n_rows; row++) {
        struct gpu_tile *tile = up.step.n_tiles > 0 ? &up.tiles[up.step.n_tiles - 1] : NULL;
        if (tile != NULL && tile->sequence == w->row[row].sequence &&
            tile->n_rows < plan->tile_rows) {
            tile->n_rows++;
            continue;
        }
        up.tiles[up.step.n_tiles++] =
            (struct gpu_tile){.first_row = row,
                              .n_rows = 1,
                              .sequence = w->row[row].sequence,
                              .partial = plan->many ? GPU_NONE : (int32_t)row};
    }
    up.batch.step = rig_copy(&up.step, sizeof up.step);
    up.batch.row = rig_copy(w->row, w->n_rows * sizeof *w->row);
    up.batch.tile = rig_copy(up.tiles, up.step.n_tiles * sizeof *up.tiles);
    up.batch.page = rig_copy(w->page, w->n_sequences * w->pages_per_sequence * sizeof *w->page);
    up.batch.pages_per_sequence = w->pages_per_sequence;
    return up;
}

static struct gpu_kv kv_describe(const struct shape *shape, uint64_t cache) {
    return (struct gpu_kv){.layer = cache,
                           .page_bytes = shape_page_bytes(shape),
                           .type = shape->type,
                           .n_kv_heads = shape->n_kv_heads,
                           .head_dim = shape->head_dim};
}

/* out: (rows, heads_width). */
static void world_attend(const struct world *w, const struct plan *plan, float *out) {
    const struct shape *shape = &w->shape;
    struct upload up = batch_upload(w, plan);
    uint32_t n_heads = shape->n_kv_heads * shape->group, width = w->heads_width;
    uint32_t chunks = (w->pages_per_sequence * 16 + GPU_CONTEXT_CHUNK - 1) / GPU_CONTEXT_CHUNK;
    size_t out_bytes = (size_t)w->n_rows * width * sizeof *out;
    struct gpu_attend args = {
        .batch = up.batch,
        .kv = kv_describe(shape, rig_copy(w->cache, w->n_pages * (size_t)shape_page_bytes(shape))),
        .q = rig_copy(w->q, out_bytes),
        .out = rig_room(out_bytes),
        .partial = rig_room(gpu_attend_partial_bytes(w->n_rows, n_heads, chunks, shape->head_dim)),
        .q_stride = width,
        .out_stride = width,
        .n_heads = n_heads,
        .chunks = chunks,
        .scale = 1 / sqrtf((float)shape->head_dim)};
    struct cu_module *module = module_for(shape);
    /* Grids are larger than needed: blocks without work must leave. */
    uint32_t tiles = up.step.n_tiles + 1;
    uint32_t head_width = gpu_attend_width(shape->type, shape->head_dim);
    uint32_t columns = gpu_attend_many_columns(head_width);
    const uint32_t few[3] = {plan->grid_chunks > 0 ? plan->grid_chunks : chunks, shape->n_kv_heads,
                             (w->n_rows + 1) * gpu_attend_few_parts(shape->group)};
    const uint32_t combine[3] = {n_heads, tiles, 1};
    const uint32_t many[3] = {shape->n_kv_heads * gpu_attend_many_parts(head_width, shape->group),
                              tiles, 1};
    device_launch(module, "attend_few", few, GPU_ATTEND_THREADS,
                  gpu_attend_shared(shape->type, shape->head_dim, GPU_FEW_COLUMNS), &args);
    device_launch(module, "attend_combine", combine, GPU_ATTEND_THREADS, 0, &args);
    device_launch(module, "attend_many", many, GPU_ATTEND_THREADS,
                  gpu_attend_shared(shape->type, shape->head_dim, columns), &args);
    device_get(out, args.out, out_bytes);
}

/* --- tests --------------------------------------------------------------------------------------
 */

static void shape_about(const struct shape *shape) {
    rig_about("%s, head_dim %u, %u KV heads, group %u", shape->type == GPU_KV_F16 ? "F16" : "Q8_0",
              shape->head_dim, shape->n_kv_heads, shape->group);
}

static void bits_compare(const struct world *w, const char *what, const float *want,
                         const float *got, uint32_t rows) {
    for (size_t i = 0; i < (size_t)rows * w->heads_width; i++) {
        if (memcmp(&want[i], &got[i], sizeof want[i]) == 0) continue;
        rig_fail("%s: row %zu (position %u) head %zu element %zu: %a is not %a", what,
                 i / w->heads_width, w->row[i / w->heads_width].position,
                 i % w->heads_width / w->shape.head_dim, i % w->shape.head_dim, (double)got[i],
                 (double)want[i]);
        return;
    }
}

static void reference_compare(const struct world *w, const float *got) {
    double want[GPU_HEAD_DIM_MAX];
    uint32_t dim = w->shape.head_dim, n_heads = w->heads_width / dim;
    for (uint32_t i = 0; i < w->n_rows * n_heads; i++) {
        double most = reference_attend(w, i / n_heads, i % n_heads, want), worst = 0;
        for (uint32_t d = 0; d < dim; d++) {
            double error = fabs((double)got[(size_t)i * dim + d] - want[d]) / most;
            if (!(error <= worst)) worst = error; /* NaN too */
        }
        if (!(worst <= BOUND))
            rig_fail("row %u (position %u) head %u is off by %.3g", i / n_heads,
                     w->row[i / n_heads].position, i % n_heads, worst);
    }
}

static void attention_check(const struct shape *shape, const struct sequence *sequences,
                            uint32_t n) {
    uint32_t seeds[SEQUENCES_MAX];
    for (uint32_t s = 0; s < n; s++) seeds[s] = 77 + s;
    shape_about(shape);
    struct world w = world_make(shape, sequences, seeds, n, 5);
    size_t bytes = (size_t)w.n_rows * w.heads_width * sizeof(float);
    float *first = rig_host(bytes), *other = rig_host(bytes);
    world_attend(&w, &plans[0], first);
    reference_compare(&w, first);
    for (uint32_t i = 1; i < PLANS; i++) {
        world_attend(&w, &plans[i], other);
        bits_compare(&w, plans[i].name, first, other, w.n_rows);
    }
    /* The last sequence alone, on other pages, with the same queries. */
    struct world alone = world_make(shape, &sequences[n - 1], &seeds[n - 1], 1, 6);
    uint32_t row = w.n_rows - alone.n_rows;
    memcpy(alone.q, w.q + (size_t)row * w.heads_width,
           (size_t)alone.n_rows * w.heads_width * sizeof(float));
    world_attend(&alone, &plans[3], other);
    bits_compare(&alone, "alone", first + (size_t)row * w.heads_width, other, alone.n_rows);
}

/* Contexts of 1, 15, 16, 17, 255, 256, 257 and 700; prompts from the middle of a page and across
 * the end of a chunk. */
static void edges_check(uint32_t type) {
    const struct sequence sequences[] = {{0, 1},   {14, 1},  {15, 1},  {16, 1}, {254, 1},
                                         {255, 1}, {256, 1}, {699, 1}, {5, 20}, {250, 12}};
    attention_check(&(struct shape){type, 64, 2, 4}, sequences, 10);
    attention_check(&(struct shape){type, 128, 1, 2}, sequences, 10);
}

static void attention_f16_is_exact_and_the_same_however_computed_at_every_edge(void) {
    edges_check(GPU_KV_F16);
}
static void attention_q8_is_exact_and_the_same_however_computed_at_every_edge(void) {
    edges_check(GPU_KV_Q8_0);
}

static void shapes_check(uint32_t type) {
    const struct sequence sequences[] = {{0, 1}, {257, 1}, {253, 5}}, prompt[] = {{0, 40}};
    static const struct {
        uint32_t head_dim, n_kv_heads, group;
    } shapes[] = {{32, 2, 2}, {48, 1, 4},  {64, 2, 1}, {64, 1, 8},  {80, 2, 1},
                  {96, 1, 3}, {128, 1, 4}, {40, 1, 7}, {256, 1, 2}, {128, 1, 16}};
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        attention_check(
            &(struct shape){type, shapes[i].head_dim, shapes[i].n_kv_heads, shapes[i].group},
            sequences, sizeof sequences / sizeof sequences[0]);
    attention_check(&(struct shape){type, 80, 1, 2}, prompt, 1);
}

static void attention_f16_is_exact_and_the_same_however_computed_in_every_shape(void) {
    shapes_check(GPU_KV_F16);
}
static void attention_q8_is_exact_and_the_same_however_computed_in_every_shape(void) {
    shapes_check(GPU_KV_Q8_0);
}

static void store_check(const struct shape *shape) {
    shape_about(shape);
    const struct sequence sequences[] = {{0, 1}, {14, 5}, {31, 1}};
    const uint32_t seeds[] = {1, 2, 3}, kv_width = shape->n_kv_heads * shape->head_dim;
    struct world w = world_make(shape, sequences, seeds, 3, 9);
    for (uint32_t s = 0; s < 3; s++) { /* extremes: beyond F16, all zero, subnormal */
        float *end = w.k[s] + (size_t)sequence_end(&sequences[s]) * kv_width;
        end[-1] = 1e6f;
        for (uint32_t d = 2; d < 35 && d < kv_width; d++) end[-(int)d] = s == 1 ? 0 : 1e-7f;
    }
    world_place(&w, 9);
    /* A cache in which the rows of the batch are missing. */
    size_t page_bytes = shape_page_bytes(shape), cache_bytes = w.n_pages * page_bytes;
    float *k = rig_host((size_t)w.n_rows * kv_width * sizeof *k);
    float *v = rig_host((size_t)w.n_rows * kv_width * sizeof *v);
    uint8_t *empty = rig_host(cache_bytes), *got = rig_host(cache_bytes);
    double *ignored = rig_host(kv_width * sizeof *ignored);
    memset(empty, 0xff, cache_bytes);
    for (uint32_t row = 0; row < w.n_rows; row++) {
        size_t from = (size_t)w.row[row].position * kv_width;
        memcpy(k + (size_t)row * kv_width, w.k[w.row[row].sequence] + from, kv_width * sizeof *k);
        memcpy(v + (size_t)row * kv_width, w.v[w.row[row].sequence] + from, kv_width * sizeof *v);
    }
    for (uint32_t s = 0; s < 3; s++)
        for (uint32_t p = 0; p < sequences[s].past; p++)
            for (uint32_t h = 0; h < shape->n_kv_heads; h++) {
                uint32_t page = w.page[s * w.pages_per_sequence + p / 16];
                uint8_t *head =
                    empty + page * page_bytes + h * kv_head_bytes(shape->type, shape->head_dim);
                size_t at = (size_t)p * kv_width + h * shape->head_dim;
                cache_put(shape, head, p % 16, false, w.k[s] + at, ignored);
                cache_put(shape, head, p % 16, true, w.v[s] + at, ignored);
            }
    struct upload up = batch_upload(&w, &plans[0]);
    struct gpu_kv_store args = {.batch = up.batch,
                                .kv = kv_describe(shape, rig_copy(empty, cache_bytes)),
                                .k = rig_copy(k, (size_t)w.n_rows * kv_width * sizeof *k),
                                .v = rig_copy(v, (size_t)w.n_rows * kv_width * sizeof *v),
                                .kv_stride = kv_width};
    const uint32_t grid[3] = {w.n_rows + 2, shape->n_kv_heads, 1};
    device_launch(module_for(shape), "kv_store", grid, GPU_ATTEND_THREADS, 0, &args);
    device_get(got, args.kv.layer, cache_bytes);
    for (size_t i = 0; i < cache_bytes; i++) {
        if (got[i] == w.cache[i]) continue;
        rig_fail("page %zu byte %zu is 0x%02x, not 0x%02x", i / page_bytes, i % page_bytes, got[i],
                 w.cache[i]);
        break;
    }
}

static void layout_check(uint32_t type, uint32_t head_dim) {
    shape_about(&(struct shape){type, head_dim, 3, 1});
    uint32_t bytes = kv_head_bytes(type, head_dim), pad = gpu_kv_head_pad(type, head_dim);
    uint32_t width = type == GPU_KV_F16 ? 2 : 1, used = 0;
    uint8_t *owners = rig_host(bytes);
    if (3 * bytes != gpu_kv_page_bytes(type, 3, head_dim)) rig_fail("page bytes");
    for (uint32_t p = 0; p < 16; p++) {
        for (uint32_t d = 0; d < pad; d++)
            for (uint32_t i = 0; i < width; i++) {
                owners[kv_key_at(type, head_dim, p, d) + i]++;
                owners[kv_value_at(type, head_dim, p, d) + i]++;
            }
        for (uint32_t b = 0; b < pad / 32 && type == GPU_KV_Q8_0; b++)
            for (uint32_t i = 0; i < 2; i++) {
                owners[kv_key_scale_at(p, b) + i]++;
                owners[kv_value_scale_at(head_dim, p, b) + i]++;
            }
    }
    for (uint32_t i = 0; i < bytes; i++) used += owners[i] == 1;
    if (used != bytes) rig_fail("%u of %u bytes have one owner", used, bytes);
}

/* Values beyond F16 are cut to its largest; sums of those, weighted, must not overflow anywhere. */
static void attention_stands_values_at_the_end_of_f16(void) {
    const struct sequence sequence = {300, 2};
    const uint32_t seed = 3;
    for (uint32_t type = GPU_KV_F16; type <= GPU_KV_Q8_0; type++) {
        const struct shape shape = {type, 64, 1, 2};
        shape_about(&shape);
        struct world w = world_make(&shape, &sequence, &seed, 1, 5);
        for (size_t i = 0; i < (size_t)sequence_end(&sequence) * shape.head_dim; i++)
            w.v[0][i] = w.v[0][i] < 0 ? -1e6f : 7e4f;
        world_place(&w, 5);
        float *out = rig_host((size_t)w.n_rows * w.heads_width * sizeof *out);
        for (uint32_t i = 0; i < PLANS; i += PLANS - 1) {
            world_attend(&w, &plans[i], out);
            reference_compare(&w, out);
        }
    }
}

static const uint32_t head_dims[] = {8, 32, 40, 48, 64, 80, 96, 128, 256};
enum { HEAD_DIMS = sizeof head_dims / sizeof head_dims[0] };

static void kv_store_writes_what_the_layout_says(void) {
    for (uint32_t i = 0; i < 2 * HEAD_DIMS; i++)
        store_check(&(struct shape){i % 2, head_dims[i / 2], 2, 1});
}

static void kv_layout_gives_every_byte_of_a_page_one_owner(void) {
    for (uint32_t i = 0; i < 2 * HEAD_DIMS; i++) layout_check(i % 2, head_dims[i / 2]);
}

#define TEST(name)                                                                                 \
    { #name, name }

int main(int argc, char **argv) {
    static const struct rig_test tests[] = {
        TEST(kv_layout_gives_every_byte_of_a_page_one_owner),
        TEST(kv_store_writes_what_the_layout_says),
        TEST(attention_stands_values_at_the_end_of_f16),
        TEST(attention_f16_is_exact_and_the_same_however_computed_at_every_edge),
        TEST(attention_q8_is_exact_and_the_same_however_computed_at_every_edge),
        TEST(attention_f16_is_exact_and_the_same_however_computed_in_every_shape),
        TEST(attention_q8_is_exact_and_the_same_however_computed_in_every_shape),
    };
    return rig_main(argc, argv, tests, sizeof tests / sizeof tests[0]);
}
