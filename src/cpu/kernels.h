/* kernels: the hot loops, one table of functions an instruction set.
 *
 * The loops are written once, in kernels_matmul.inc, kernels_rows.inc and kernels_attend.inc, over
 * the sixteen-lane vocabulary of lanes_*.h; kernels_<isa>.c compiles them. Every output element is
 * computed by one call in one fixed order that depends on nothing but the element itself: not on
 * the number of rows in the batch, the chunk, the thread, or the neighbours.
 *
 * Callers run them with denormals flushed (kernels_enter / kernels_leave). */
#ifndef WICK_CPU_KERNELS_H
#define WICK_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/kv_layout.h"
#include "model/model.h"
#include "model/pack.h"

/* Rows for tiles lie in groups of 16, a group in slices of 256 columns, a slice in A tiles of 32. A
 * group has an odd number of slices, the last of which may be for nothing: a panel of weights meets
 * one slice of all groups and then the next, and groups of 2048 columns would lie 64 KB apart and
 * share few sets of the caches (0.8 of the speed with 256 rows, half with 512). */
enum { SLICE_COLUMNS = 256, SLICE_BLOCKS = SLICE_COLUMNS / PACK_BLOCK, GROUP_ROWS = 16 };

/* A unit is super, one for a slice, or flat, one for two blocks (model/pack.h). */
static inline bool units_are_super(const struct pack_format *format) {
    return format->unit_columns == SLICE_COLUMNS;
}

/* How many blocks a slice has that begins with block `first`. */
static inline uint32_t slice_blocks(uint32_t n_blocks, uint32_t first) {
    return n_blocks - first < SLICE_BLOCKS ? n_blocks - first : SLICE_BLOCKS;
}

/* The unit of a quantised panel that a block lies in. */
static inline const uint8_t *block_unit(const struct pack_format *format, const uint8_t *panel,
                                        uint32_t block) {
    const uint32_t shift = units_are_super(format) ? 3 : 1;
    return panel + (size_t)(block >> shift) * format->unit_bytes;
}

/* Where the values of a block of a quantised panel lie, `bytes` of them a block. */
static inline const uint8_t *block_values(const struct pack_format *format, const uint8_t *panel,
                                          uint32_t block, size_t bytes) {
    const uint32_t mask = format->unit_columns == 64 ? 1 : 7; /* block within its unit */
    return block_unit(format, panel, block) + format->values_offset + (block & mask) * bytes;
}

/* Rows of integers n = 16 * upper + lower of twelve bits, f ~ scale * n with 2039 steps from zero a
 * slice. */
struct wide_rows {
    int8_t *q;    /* (groups, slices, 8, 16, 2, 2, 16): of each row of a tile, upper and lower parts
                   * of the first and of the last 16 columns */
    float *scale; /* (groups, slices, 16) */
    float *total; /* (groups, slices, 8, 3, 16): sums of n over 32 columns, the first and the last
                   * 16 of them */
};

/* Input rows of a product, in the forms its weights want. The memory of rows and planes, here and
 * of outputs, is there up to the next multiple of 16: tiles read and write sixteen rows at a time,
 * vectors read up to eight. stride is a multiple of 32; f is zero from the width to the stride.
 *
 * Integer rows come in two precisions. Coarse: one plane, f ~ scale * q with 127 steps a block
 * of 32. Fine: plane 2 r is the coarse one of row r and plane 2 r + 1 what it left over, in steps
 * 254 times smaller; a product takes them as two rows and adds the results. It costs arithmetic,
 * not memory traffic, and is used where rounding hurts most: the inputs of down and of the head
 * carry two thirds of the divergence from exact evaluation (docs/ARCHITECTURE.md). */
struct activations {
    float *f;              /* (rows, stride) */
    uint16_t *h;           /* (groups, slices, 8, 16, 32) f in bfloat16, NULL unless bf16_kinds */
    struct wide_rows wide; /* NULLs unless int12_kinds; then what follows is NULL */
    int8_t *q;             /* (planes, stride) */
    float *scale;          /* (planes, stride / 32) */
    int32_t *sum16;        /* (planes, stride / 16): sums of q */
    int32_t *sum32;        /* (planes, stride / 32) */
    uint32_t stride;
    bool fine; /* two planes a row */
};

/* How many slices a group has. */
static inline size_t activations_slices(const struct activations *x) {
    return (x->stride + SLICE_COLUMNS - 1) / SLICE_COLUMNS | 1;
}

/* Which slice of all groups holds a column of a row. */
static inline size_t activations_slice(const struct activations *x, uint32_t row, uint32_t column) {
    return row / GROUP_ROWS * activations_slices(x) + column / SLICE_COLUMNS;
}

enum {
    ATTEND_CHUNK = 512, /* positions that a softmax is computed over; sums of chunks are merged */
    /* On vectors: queries of a job at most, that share a load of keys and values, and floats of
     * scratch, and more of them for each element of a head. */
    ATTEND_QUERIES = 8,
    ATTEND_SCRATCH = ATTEND_QUERIES * ATTEND_CHUNK,
    ATTEND_SCRATCH_DIM = ATTEND_QUERIES + ATTEND_CHUNK / 32,
    /* On tiles: 32 queries' scores and weights; values, queries and sums. */
    ATTEND_TILE_QUERIES = 128,
    ATTEND_TILE_SCRATCH = 32 * (ATTEND_CHUNK + 16) + 32 * ATTEND_CHUNK / 2,
    ATTEND_TILE_SCRATCH_DIM = ATTEND_CHUNK / 2 + 32 / 2 + 32
};

/* A query's attention to some positions, or, with total 0, to none. */
struct attend_sum {
    float max, total; /* of the scores; of exp(score - max) */
    float *values; /* (head_dim up to a multiple of 32) with those weights; the caller's memory */
};

/* One query head of one row. */
struct attend_query {
    const float *query; /* (head_dim), rotated */
    uint32_t n_kv;      /* positions to attend to, own included; at least 1 */
    struct attend_sum *sum;
    float *weights_out; /* NULL, or (n_kv): exp(score - max), for taps */
};

/* Queries of one sequence and one KV head: heads of its group, and rows. */
struct attend_job {
    const struct kv_layout *kv;
    const uint8_t *layer;  /* this layer's pages */
    const uint32_t *pages; /* of the sequence */
    uint32_t kv_head;
    uint32_t from, to; /* positions, `from` a multiple of ATTEND_CHUNK */
    uint32_t n_queries;
    const struct attend_query *query; /* (n_queries) */
    float scale;                      /* 1 / sqrt(head_dim) */
    float *scratch;                   /* (attend_scratch + head_pad * attend_scratch_dim) */
};

/* What weights are multiplied with: f, q, f rounded to bfloat16, or wide rows. */
enum input_form { INPUT_FLOAT = 1, INPUT_INT8 = 2, INPUT_BF16 = 4, INPUT_INT12 = 8 };

struct cpu_kernels {
    const char *name;
    /* A bit for each enum pack_kind that takes INPUT_BF16 or INPUT_INT12; a set with the latter has
     * no kind that takes INPUT_INT8. */
    uint32_t bf16_kinds, int12_kinds;
    /* out[row * out_stride + lane] = sum over columns of weight[16 * panel + lane] * x[row], for
     * n_panels panels (16 lanes each) and n_rows rows, or planes of INPUT_INT8. */
    void (*matmul)(const struct packed_matrix *weights, uint32_t panel, uint32_t n_panels,
                   const struct activations *x, uint32_t n_rows, float *out, uint32_t out_stride);
    /* Rounds `width` columns of a row, a multiple of 16, for a product of n_rows rows, which takes
     * them from f or from h: the row's part there. NULL without bf16_kinds. */
    void (*round)(const struct activations *x, uint32_t row, uint32_t column, uint32_t width,
                  uint32_t n_rows, const float *from);
    /* Fills one of the wide rows from its f; NULL without int12_kinds. */
    void (*widen)(const struct activations *x, uint32_t row);
    /* Fills q, scale and sums of `width` columns of a row, from a multiple of 32 on, from its f, in
     * its one or two planes. */
    void (*quantise)(const struct activations *x, uint32_t row, uint32_t column, uint32_t width);
    /* out = x / sqrt(mean(x^2) + eps) * weight; width elements, stride padded with zeros. */
    void (*rms_norm)(const float *x, const float *weight, uint32_t width, uint32_t stride,
                     float eps, float *out);
    /* out[i] = silu(gate[i]) * up[i] for 16 lanes; silu(x) = x / (1 + exp(-x)). */
    void (*silu_mul)(const float *gate, const float *up, float *out);
    /* out[i] += x[i] for 16 lanes. */
    void (*add)(const float *x, float *out);
    /* head[i] = head[i] cos[i] + partner sin[i] for `dim` elements, an even number, of which
     * neighbours are partners (0 and 1, 2 and 3), or else i and i + dim / 2. */
    void (*rotate)(const float *cos, const float *sin, uint32_t dim, bool neighbours, float *head);
    bool kv_tiles; /* of the layout it wants for an F16 cache */
    /* kv_store (kv_layout.h), and the same for tiles. */
    void (*store)(const struct kv_layout *kv, uint8_t *layer, uint32_t page, uint32_t slot,
                  uint32_t head, const float *key, const float *value);
    uint32_t attend_queries, attend_scratch, attend_scratch_dim; /* of a job: ATTEND_ above */
    /* Adds the job's positions to each query's sum, whose values / total are then its
     * softmax(scale * q K^T) V. */
    void (*attend)(const struct attend_job *job);
    /* Adds a sum to one of the positions before it. Chunk for chunk this gives the bits of one job
     * over all of them. */
    void (*attend_merge)(struct attend_sum *into, const struct attend_sum *from, uint32_t head_dim);
    /* out = values / total, (head_dim). */
    void (*attend_end)(const struct attend_sum *sum, uint32_t head_dim, float *out);
    /* Reads `bytes` (a multiple of 256) as decoding reads weights, and returns a sum that depends
     * on all of them: the roofline that wick-lab bench measures against. */
    float (*read)(const uint8_t *data, size_t bytes);
};

static inline enum input_form kernels_input(const struct cpu_kernels *kernels,
                                            const struct packed_matrix *weights) {
    if (kernels->bf16_kinds >> weights->kind & 1) return INPUT_BF16;
    if (kernels->int12_kinds >> weights->kind & 1) return INPUT_INT12;
    return pack_format(weights->kind)->sub != 0 ? INPUT_INT8 : INPUT_FLOAT;
}

/* amx is avx512 with tiles: bfloat16 ones for F16, BF16 and 8-bit kinds and for attention to F16,
 * int8 ones for 4-bit kinds. amx_bf16 takes bfloat16 ones for these, too. */
extern const struct cpu_kernels cpu_kernels_sse2, cpu_kernels_avx2, cpu_kernels_avx512,
    cpu_kernels_amx, cpu_kernels_amx_bf16;

/* A block of values of fewer than 8 bits, a byte each: raw or looked up, less zero. (8, 16, 4). */
void block_widen_avx512(const struct pack_format *format, int zero, const uint8_t *block,
                        uint8_t *out);

/* Products of INPUT_INT12, and what fills its rows (kernels_int12_amx.c). */
void int12_matmul(const struct packed_matrix *weights, uint32_t panel, uint32_t n_panels,
                  const struct activations *x, uint32_t n_rows, float *out, uint32_t out_stride);
void int12_quantise(const struct activations *x, uint32_t row);

/* Products of INPUT_BF16, and the rounding (kernels_bf16_amx.c). */
void bf16_matmul(const struct packed_matrix *weights, uint32_t panel, uint32_t n_panels,
                 const struct activations *x, uint32_t n_rows, float *out, uint32_t out_stride);
void bf16_round(const struct activations *x, uint32_t row, uint32_t column, uint32_t width,
                uint32_t n_rows, const float *from);

/* Attention to a cache of tiles, and storing into it (kernels_attend_amx.c). */
void bf16_attend(const struct attend_job *job);
void bf16_store(const struct kv_layout *kv, uint8_t *layer, uint32_t page, uint32_t slot,
                uint32_t head, const float *key, const float *value);

/* Flush-to-zero and denormals-are-zero on; gives back what was set before, for kernels_leave. An
 * FMA on a denormal takes a hundred times longer, and nothing a model computes lives there. */
static inline uint32_t kernels_enter(void) {
    uint32_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);
    return before;
}
static inline void kernels_leave(uint32_t before) {
    __builtin_ia32_ldmxcsr(before);
}

#endif
