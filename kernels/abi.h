/* abi: what the kernels and the program that launches them agree on.
 *
 * Plain C, included by nvcc (kernels) and by gcc and musl-gcc (src/cuda, tests). Every kernel takes
 * one struct by value. Device addresses are pointers to nvcc and 64-bit integers to everybody else.
 *
 * MODULES (kernels/<name>.ptx) and their entries
 *
 *   step                      embed  prepare  top_slice  top_merge  finish
 *   matmul_<kind>             matmul_few  matmul_many
 *                             <kind> = repack_kind_name(): only those a model uses are loaded
 *   attention_<type>_<width>  kv_store  attend_few  attend_combine  attend_many
 *                             <type> = f16, q8; <width> = gpu_attend_width(type, head_dim)
 *
 * A STEP is one graph: copy of the batch from pinned memory, then
 *
 *   embed
 *   for each layer   [prepare(x, attn_norm)]  matmul QKV  [kv_store, if Q8_0]  attend_*
 *                    [prepare(heads)]         matmul ADD (attn_out)
 *                    [prepare(x, ffn_norm)]   matmul SWIGLU
 *                    [prepare(ffn, fine)]     matmul ADD (down)
 *   [prepare(x, output_norm, gathered, fine)] matmul LOGITS  top_slice  top_merge  finish
 *
 * [prepare] is left out where matmul_few prepares its own input (struct gpu_matmul: fused). Results
 * are bit for bit the same fused or not, few or many, whatever the grid and the other rows are.
 *
 * Grids are made for the largest batch of a graph; every kernel reads from the batch how much there
 * is to do, and blocks with nothing to do leave at once. */
#ifndef WICK_KERNELS_ABI_H
#define WICK_KERNELS_ABI_H

#include <stdint.h>

#ifdef __CUDACC__
#define GPU_AT(type) type *
#define GPU_INLINE static constexpr __host__ __device__ inline
#else
#define GPU_AT(type) uint64_t
#define GPU_INLINE static inline
#endif

/* --- weights -----------------------------------------------------------------------------------
 */

/* How weights are laid out and computed with; the order of enum pack_kind (src/model/pack.h). */
enum gpu_kind {
    GPU_F32,
    GPU_F16,
    GPU_BF16,
    GPU_Q8,        /* flat:  d per 32 columns */
    GPU_Q8_MIN,    /*        d and m per 32 columns */
    GPU_Q4,        /*        values - 8 */
    GPU_Q4_MIN,    /* */
    GPU_S8_32,     /* super: d per 256 columns, an int8 scale per 32 */
    GPU_S8_32_MIN, /*        and m per 256, a uint8 min per 32 */
    GPU_S4_32_MIN, /* */
    GPU_S8_16,     /*        a scale per 16 */
    GPU_S4_16,     /*        values - 4 */
    GPU_S4_16_MIN, /* */
    GPU_KINDS
};

/* A matrix is panels of 16 output rows (the last one padded with zero rows); a panel is units, one
 * after the other, of gpu_unit_columns columns (the last one padded with zero columns); a unit is
 * four lines of 512 bytes of values and a head of scales.
 *
 * A line is what a warp loads at once, 16 bytes a lane, and is operand A of mma.sync as it is: lane
 * l, g = l / 4, t = l % 4, four words w0..w3, byte i of a word:
 *
 *   8 bits    a line = 32 columns (m16n8k32, or two m16n8k16): w0: row g, column 4 t + i;
 *             w1: row g + 8, column 4 t + i;  w2: row g, column 16 + 4 t + i;  w3: row g + 8, same
 *   4 bits    a line = 64 columns: w0 (row g) and w1 (row g + 8) are its first 32: low nibble
 * column 4 t + i, high nibble column 16 + 4 t + i;  w2, w3: its last 32 16 bits   a line = 16
 * columns (m16n8k16): w0: row g, columns 2 t, 2 t + 1;  w1: row g + 8, same; w2: row g, columns 8 +
 * 2 t, 9 + 2 t;  w3: row g + 8, same F32       a line = 8 columns: column l / 4, word j: row 4 (l %
 * 4) + j
 *
 * Heads (g = 0..7; h = 0: row g, h = 1: row g + 8; binary16 unless said otherwise), at byte 2048:
 *
 *   flat      d of block b: 128 (b / 4) + 16 g + 4 (b % 4) + 2 h; then m likewise
 *   super     8 g + 2 h: d;  8 g + 4 + 2 h: m (zero where the kind has none)
 *             64 + ...: scales, one byte each, of sub-block s of the unit, then mins likewise:
 *             at most 4 sub-blocks a unit:  8 g + 2 s + h
 *             8 or 16:                      128 (s / 8) + 16 g + 2 (s % 8) + h
 *
 * Units of the 8-bit super kinds are 128 columns, half a super block: both halves repeat d and m.
 */
enum { GPU_PANEL_ROWS = 16, GPU_LINE_BYTES = 512, GPU_VALUES_BYTES = 4 * GPU_LINE_BYTES };

struct gpu_kind_info {
    uint16_t unit_columns; /* 32 (F32), 64 (16 bits), 128 (8 bits), 256 (4 bits) */
    uint16_t unit_bytes;   /* multiple of 64 */
    uint8_t bits;          /* of a value */
    uint8_t sub;           /* columns of a scale; 0: float */
    uint8_t zero;          /* subtracted from a raw value */
    uint8_t has_min;
    uint8_t super;
};

GPU_INLINE struct gpu_kind_info gpu_kind_of(uint32_t bits, uint32_t sub, uint32_t zero,
                                            uint32_t has_min, uint32_t super) {
    uint32_t columns = 1024 / bits, subs = sub > 0 ? columns / sub : 0;
    uint32_t flat_head = 32 * (columns / 32), super_head = 64 + 16 * subs * (1 + has_min);
    uint32_t head = sub == 0 ? 0 : super ? super_head : flat_head * (1 + has_min);
    struct gpu_kind_info info = {(uint16_t)columns, (uint16_t)(GPU_VALUES_BYTES + head),
                                 (uint8_t)bits,     (uint8_t)sub,
                                 (uint8_t)zero,     (uint8_t)has_min,
                                 (uint8_t)super};
    return info;
}

GPU_INLINE struct gpu_kind_info gpu_kind_info(uint32_t kind) {
    switch (kind) { /*                  bits sub zero min super */
    case GPU_F32:
        return gpu_kind_of(32, 0, 0, 0, 0);
    case GPU_F16:
    case GPU_BF16:
        return gpu_kind_of(16, 0, 0, 0, 0);
    case GPU_Q8:
        return gpu_kind_of(8, 32, 0, 0, 0);
    case GPU_Q8_MIN:
        return gpu_kind_of(8, 32, 0, 1, 0);
    case GPU_Q4:
        return gpu_kind_of(4, 32, 8, 0, 0);
    case GPU_Q4_MIN:
        return gpu_kind_of(4, 32, 0, 1, 0);
    case GPU_S8_32:
        return gpu_kind_of(8, 32, 0, 0, 1);
    case GPU_S8_32_MIN:
        return gpu_kind_of(8, 32, 0, 1, 1);
    case GPU_S4_32_MIN:
        return gpu_kind_of(4, 32, 0, 1, 1);
    case GPU_S8_16:
        return gpu_kind_of(8, 16, 0, 0, 1);
    case GPU_S4_16:
        return gpu_kind_of(4, 16, 4, 0, 1);
    default: /* GPU_S4_16_MIN */
        return gpu_kind_of(4, 16, 0, 1, 1);
    }
}

GPU_INLINE uint32_t gpu_round_up(uint32_t n, uint32_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}
GPU_INLINE uint32_t gpu_panels(uint32_t rows) {
    return (rows + GPU_PANEL_ROWS - 1) / GPU_PANEL_ROWS;
}
GPU_INLINE uint64_t gpu_panel_bytes(uint32_t kind, uint32_t cols) {
    struct gpu_kind_info info = gpu_kind_info(kind);
    return (uint64_t)((cols + info.unit_columns - 1u) / info.unit_columns) * info.unit_bytes;
}

/* One matrix in device memory: (n_panels, panel_bytes), 256-byte aligned. */
struct gpu_matrix {
    GPU_AT(const uint8_t) panels;
    uint64_t panel_bytes;
    uint32_t n_panels; /* 0: not there */
    uint32_t rows;     /* without padding; n_panels = ceil(rows / 16) */
};

/* K is cut into at most 8 segments, multiples of 256 columns; each is summed on its own, from zero,
 * and the sums are added in order. One warp of matmul_few computes one segment. */
enum { GPU_SEGMENTS_MAX = 8, GPU_SEGMENT_STEP = 256 };

GPU_INLINE uint32_t gpu_segment_columns(uint32_t cols) {
    uint32_t most = GPU_SEGMENTS_MAX * GPU_SEGMENT_STEP;
    return GPU_SEGMENT_STEP * ((cols + most - 1) / most);
}
GPU_INLINE uint32_t gpu_segments(uint32_t cols) {
    uint32_t length = gpu_segment_columns(cols);
    return (cols + length - 1) / length;
}

/* --- the batch ---------------------------------------------------------------------------------
 */

enum { GPU_NONE = -1, GPU_PAGE_TOKENS = 16, GPU_TILE_ROWS = 32, GPU_TOP_MAX = 64 };

/* Head of the batch. */
struct gpu_step {
    uint32_t n_rows;
    uint32_t n_logits;
    uint32_t n_tiles;
    uint32_t ticket; /* what finish writes to the flag */
    uint32_t top;    /* best ids wanted of each row of logits, 0 .. GPU_TOP_MAX */
    uint32_t reserved[3];
};

/* A row of the batch: one position of one sequence. Rows of a sequence are consecutive and rising.
 */
struct gpu_row {
    int32_t token;
    uint32_t position;
    uint32_t sequence; /* row of the page table */
    int32_t logits;    /* index of its logits, or GPU_NONE */
};

/* At most GPU_TILE_ROWS consecutive rows of one sequence. Every row is in exactly one tile.
 *
 * partial: where attend_few puts the tile's first row in its scratch (the others follow), or
 * GPU_NONE: attend_many computes the tile. The choice changes no bit; attend_few is for decode rows
 * and short prompts, which it spreads over the whole device. */
struct gpu_tile {
    uint32_t first_row, n_rows;
    uint32_t sequence;
    int32_t partial;
};

/* The batch in device memory, filled by one copy from pinned memory; its parts may lie anywhere,
 * each 16-byte aligned. */
struct gpu_batch {
    GPU_AT(const struct gpu_step) step;
    GPU_AT(const struct gpu_row) row;   /* (n_rows) */
    GPU_AT(const struct gpu_tile) tile; /* (n_tiles) */
    GPU_AT(const uint32_t) logits_row;  /* (n_logits): row of the batch behind each */
    GPU_AT(const uint32_t) page;        /* (sequences, pages_per_sequence) */
    uint32_t pages_per_sequence;
    uint32_t reserved;
};

/* --- activations -------------------------------------------------------------------------------
 */

/* In which form the weights of a kind want their input rows. */
enum gpu_form {
    GPU_FORM_INT8, /* int8 by blocks of 32 columns: all quantised kinds */
    GPU_FORM_F16,  /* hi + lo, of a power of two times the row */
    GPU_FORM_BF16, /* hi + lo */
    GPU_FORM_F32
};
GPU_INLINE uint32_t gpu_form_of(uint32_t kind) {
    return kind == GPU_F32    ? GPU_FORM_F32
           : kind == GPU_F16  ? GPU_FORM_F16
           : kind == GPU_BF16 ? GPU_FORM_BF16
                              : GPU_FORM_INT8;
}

/* A COLUMN of operand B is one row of the batch (INT8 with `fine`: columns 2 r and 2 r + 1 are row
 * r rounded to 127 steps a block, and what that left over in steps 254 times smaller; a product
 * adds their results). 8 columns are a tile. Prepared activations are (tiles, chunks) of
 * chunk_bytes; a chunk is 64 columns of the matrix, K is padded with zeros to a multiple of 256,
 * the last tile with zero columns. Within a chunk (n = column of the tile, t = 0..3):
 *
 *   INT8 (768)   64 n + 16 t: words b0 b1 of block 0, b0 b1 of block 1 (b0: columns 4 t + i of the
 *                block, b1: 16 + 4 t + i)
 *                512 + 16 t: scale (F32) of block 0 for n = 2 t, 2 t + 1, of block 1 likewise
 *                576 + 16 t: scale * sum of the block's 32 values, likewise
 *                640 + 64 block + 16 t: scale * sum of its first 16 values for n = 2 t, 2 t + 1, of
 *                its last 16 likewise
 *   F16 (2048)   512 s + 64 n + 16 t: for the 16 columns of step s: hi b0, hi b1, lo b0, lo b1 (b0:
 *   BF16         columns 2 t, 2 t + 1, b1: 8 + 2 t, 9 + 2 t)
 *   F32 (2048)   4 (8 k + n): column k
 *
 * and behind the chunks of all tiles, for F16 and BF16: the power of two that results are
 * multiplied with, F32, (columns). */
enum { GPU_TILE = 8, GPU_CHUNK_COLUMNS = 64, GPU_CHUNK_INT8 = 768, GPU_CHUNK_FLOAT = 2048 };

GPU_INLINE uint32_t gpu_chunk_bytes(uint32_t form) {
    return form == GPU_FORM_INT8 ? GPU_CHUNK_INT8 : GPU_CHUNK_FLOAT;
}
GPU_INLINE uint32_t gpu_columns_padded(uint32_t cols) {
    return gpu_round_up(cols, GPU_SEGMENT_STEP);
}
/* Bytes of the chunks of one tile. */
GPU_INLINE uint64_t gpu_tile_bytes(uint32_t form, uint32_t cols) {
    return (uint64_t)(gpu_columns_padded(cols) / GPU_CHUNK_COLUMNS) * gpu_chunk_bytes(form);
}
/* Room for the prepared activations of `rows` rows; planes: 2 when fine, else 1. */
GPU_INLINE uint64_t gpu_prepared_bytes(uint32_t form, uint32_t cols, uint32_t rows,
                                       uint32_t planes) {
    uint32_t tiles = (rows * planes + GPU_TILE - 1) / GPU_TILE;
    return tiles * (gpu_tile_bytes(form, cols) + GPU_TILE * sizeof(float));
}

/* Rows to prepare: RMSNorm (weight set) or as they are, then rounded to a form. x and weight are
 * read up to a multiple of 4 columns; what lies beyond cols is ignored. */
struct gpu_input {
    GPU_AT(const float) x;         /* (rows, x_stride) */
    GPU_AT(const float) weight;    /* (cols): out = x / sqrt(mean(x^2) + eps) * weight; or none */
    GPU_AT(const uint32_t) gather; /* (n): the i-th row is x[gather[i]]; or none: x[i] */
    GPU_AT(const uint32_t) n;      /* how many rows: &step->n_rows or &step->n_logits */
    GPU_AT(float) tap;             /* (rows, x_stride): what is rounded, before; or none */
    uint32_t x_stride;             /* multiple of 4 */
    uint32_t cols;
    uint32_t planes; /* 2: fine (INT8 only) */
    uint32_t form;
    float eps;
    uint32_t tiles; /* of the prepared buffer: what it was sized for */
};

/* prepare: grid (rows_max rounded up so that rows * planes is a multiple of 8), block 256, no
 * dynamic shared memory. Reads input, writes out: every tile that holds a row, whole. */
struct gpu_prepare {
    struct gpu_input in;
    GPU_AT(uint8_t) out; /* gpu_prepared_bytes(form, cols, rows_max, planes), 256-byte aligned */
};

/* --- embed -------------------------------------------------------------------------------------
 */

/* Angles: cos and sin of position * frequency[i] come from two tables of doubles, (cos, sin) each:
 * low for position % 256, high for position - position % 256, and the addition theorem. */
enum { GPU_ROPE_LOW = 256 };

/* embed: grid (rows_max), block 256. x[row] = row `token` of the matrix as F32; angle[row]. */
struct gpu_embed {
    struct gpu_batch batch;
    struct gpu_matrix table; /* (vocab, dim) panels of any kind */
    uint32_t kind;
    uint32_t cols;
    GPU_AT(float) x; /* (rows, x_stride), zero from cols to x_stride */
    uint32_t x_stride;
    uint32_t pairs;                  /* rope_dim / 2 */
    GPU_AT(const double) angle_low;  /* (256, pairs, 2) */
    GPU_AT(const double) angle_high; /* (ceil(ctx / 256), pairs, 2) */
    GPU_AT(float) angle;             /* (rows, pairs, 2): cos, sin */
};

/* --- the KV cache ------------------------------------------------------------------------------
 */

enum gpu_kv_type { GPU_KV_F16, GPU_KV_Q8_0 };

/* One layer's cache: (pages, page_bytes). What is where in a page: kernels/kv.cuh, which also has
 *
 *   __device__ void kv_store_f16(const struct gpu_kv &kv, uint32_t page, uint32_t slot,
 *                                uint32_t head, uint32_t d, bool is_value, float x)
 *
 * for the QKV epilogue: element d of one head's key or value at position `slot` of a page. */
struct gpu_kv {
    GPU_AT(uint8_t) layer;
    uint64_t page_bytes;
    uint32_t type; /* enum gpu_kv_type */
    uint32_t n_kv_heads;
    uint32_t head_dim;
    uint32_t reserved;
};
GPU_INLINE uint32_t gpu_kv_head_pad(uint32_t type, uint32_t head_dim) {
    return gpu_round_up(head_dim, type == GPU_KV_F16 ? 16 : 32);
}
/* Keys and values of 16 positions; Q8_0 adds a binary16 scale to each 32 elements. */
GPU_INLINE uint64_t gpu_kv_page_bytes(uint32_t type, uint32_t n_kv_heads, uint32_t head_dim) {
    uint64_t pad = gpu_kv_head_pad(type, head_dim);
    uint64_t position = type == GPU_KV_F16 ? 2 * pad : pad + pad / 32 * 2;
    return 2 * n_kv_heads * GPU_PAGE_TOKENS * position;
}

/* --- matmul ------------------------------------------------------------------------------------
 */

enum gpu_epilogue {
    /* Up to three matrices: q, k, v. + bias; q and k are rotated (pairs of adjacent rows: a NEOX
     * model's rows and biases are permuted at upload); q is stored to out[0] as F32; k and v go to
     * the cache if it is F16, else to out[1] and out[2] as F32 for kv_store. */
    GPU_QKV,
    /* One matrix: out[0] += product. */
    GPU_ADD,
    /* Two matrices, gate and up: out[0] = silu(gate) * up. */
    GPU_SWIGLU,
    /* One matrix: out[0] = product, one row for each row that wants logits. */
    GPU_LOGITS
};

struct gpu_matmul {
    struct gpu_matrix matrix[3]; /* of one kind and one number of columns (in.cols) */
    GPU_AT(const float) bias[3]; /* (rows of each), or none: QKV */
    GPU_AT(float) out[3];        /* (rows, out_stride) */
    GPU_AT(float) tap[3];        /* none, or: what the matrices gave (bias included), same shape */
    uint32_t out_stride[3];
    uint32_t epilogue; /* enum gpu_epilogue */
    struct gpu_input
        in; /* matmul_few with fused: prepares it; else n, cols, planes, form are read */
    GPU_AT(const uint8_t) prepared; /* prepare's output; not read when fused */
    uint32_t fused;
    uint32_t role[3];          /* QKV: 0 q, 1 k, 2 v: what matrix[i] is (out[i] goes with it) */
    struct gpu_batch batch;    /* QKV */
    struct gpu_kv kv;          /* QKV */
    GPU_AT(const float) angle; /* QKV: (rows, pairs, 2) of embed */
    uint32_t pairs;            /* QKV: rope_dim / 2; rows 2 i, 2 i + 1 < rope_dim of a head turn */
    uint32_t head_dim;         /* QKV: even */
};

/* matmul_few: up to gpu_few_columns(kind) columns of operand B a block.
 *   grid  (any number of blocks: they share the panels; ceil(columns_max / gpu_few_columns))
 *   block 32 * gpu_segments(cols)
 *   shared gpu_few_shared(...)
 * Fused: one block row (y = 1), n * planes <= 8, and gpu_few_shared(...) <= what the device has.
 *
 * matmul_many (not for F32): 8 panels and 64 columns a block.
 *   grid  (ceil(columns_max / 64), ceil(panels / 8))    panels: of all matrices (SWIGLU: of gate
 * and up) block 256 shared gpu_many_shared(kind)
 *
 * Both store only rows < matrix.rows and columns of rows < n. */
enum {
    /* Columns up to which a fused launch is expected to be faster than two: each block repeats the
     * preparation, 16 KB of L2 reads a row of 4096 (not measured yet). */
    GPU_FUSED_COLUMNS = 2,
    GPU_FEW_STAGES = 3,
    GPU_MANY_STAGES = 2,
    GPU_MANY_PANELS = 8,
    GPU_MANY_COLUMNS = 64,
    GPU_MANY_THREADS = 256,
    GPU_SHARED_MAX =
        99 * 1024 /* what a block may have on every GPU from sm_80 on (sm_86, 89, 120) */
};
GPU_INLINE uint32_t gpu_few_columns(uint32_t kind) {
    return kind == GPU_F32 ? 8 : 32;
}
/* Bytes of an INT8 chunk that the kernels of a kind read. */
GPU_INLINE uint32_t gpu_chunk_used(uint32_t kind) {
    struct gpu_kind_info info = gpu_kind_info(kind);
    if (info.sub == 0) return GPU_CHUNK_FLOAT;
    if (!info.has_min) return 576;
    return info.sub == 32 ? 640 : 768;
}
/* matmul_few: `fused_columns` = rows_max * planes when fused, else 0. F32 is never fused: the
 * answer is UINT32_MAX then. */
GPU_INLINE uint32_t gpu_few_shared(uint32_t kind, uint32_t cols, uint32_t epilogue,
                                   uint32_t fused_columns) {
    struct gpu_kind_info info = gpu_kind_info(kind);
    uint32_t segments = gpu_segments(cols);
    uint32_t tiles = fused_columns > 0 ? 1 : gpu_few_columns(kind) / GPU_TILE;
    uint32_t ring = segments * GPU_FEW_STAGES * info.unit_bytes;
    uint32_t sums = segments * tiles * (epilogue == GPU_SWIGLU ? 2u : 1u) * GPU_LINE_BYTES;
    if (fused_columns == 0) return ring + sums;
    if (kind == GPU_F32) return UINT32_MAX;
    uint32_t chunks = gpu_columns_padded(cols) / GPU_CHUNK_COLUMNS;
    uint32_t fragments = (info.sub == 0 ? 256u : 64u) * fused_columns;
    uint32_t scales = info.sub == 0 ? 0 : gpu_chunk_used(kind) - 512;
    return ring + sums + chunks * (fragments + scales) + 1024;
}
GPU_INLINE uint32_t gpu_many_shared(uint32_t kind) {
    struct gpu_kind_info info = gpu_kind_info(kind);
    uint32_t chunks = info.unit_columns / GPU_CHUNK_COLUMNS;
    uint32_t columns = GPU_MANY_COLUMNS / GPU_TILE * chunks * gpu_chunk_used(kind);
    return GPU_MANY_STAGES * (GPU_MANY_PANELS * info.unit_bytes + columns);
}

/* --- attention ---------------------------------------------------------------------------------
 */

/* kv_store: grid (rows_max, n_kv_heads), block GPU_ATTEND_THREADS: stores k and v of the batch's
 * rows; where matmul does not do it (Q8_0), and in tests. */
struct gpu_kv_store {
    struct gpu_batch batch;
    struct gpu_kv kv;
    GPU_AT(const float) k; /* (rows, kv_stride) F32, rotated */
    GPU_AT(const float) v; /* (rows, kv_stride) */
    uint32_t kv_stride;
    uint32_t reserved;
};

/* attend_few: the tiles with a place in `partial`, cut into chunks of the context.
 *   grid  (any number of blocks: they share the chunks; n_kv_heads;
 *          rows in such tiles, at most, * gpu_attend_few_parts)
 * attend_combine: adds the chunks of those tiles up, in order.
 *   grid  (n_heads, tiles_max)
 * attend_many: the other tiles; a block walks through the chunks in the same order, with the same
 * bits.
 *   grid  (n_kv_heads * gpu_attend_many_parts, tiles_max)
 * Block: GPU_ATTEND_THREADS for all of them. A column is a pair of a row and a head. */
enum {
    GPU_ATTEND_THREADS = 128,
    GPU_ATTEND_STAGE_BLOCKS = 4, /* of 512 bytes, for each warp */
    GPU_CONTEXT_CHUNK = 256,     /* positions; part of the arithmetic */
    GPU_FEW_COLUMNS = 8,
    GPU_HEAD_DIM_MAX = 256
};
struct gpu_attend {
    struct gpu_batch batch;
    struct gpu_kv kv;
    GPU_AT(const float) q; /* (rows, q_stride), rotated; q_stride and head_dim: multiples of 4 */
    GPU_AT(float) out;     /* (rows, out_stride): (n_heads, head_dim) */
    GPU_AT(float) partial; /* gpu_attend_partial_bytes() */
    uint32_t q_stride, out_stride;
    uint32_t n_heads;
    uint32_t chunks; /* ceil(ctx / GPU_CONTEXT_CHUNK) */
    float scale;     /* 1 / sqrt(head_dim) */
    uint32_t reserved;
};

/* Which module: it computes heads up to this width. */
GPU_INLINE uint32_t gpu_attend_width(uint32_t type, uint32_t head_dim) {
    uint32_t pad = gpu_kv_head_pad(type, head_dim);
    return pad <= 64 ? 64 : pad <= 128 ? 128 : 256;
}
GPU_INLINE uint32_t gpu_attend_many_columns(uint32_t width) {
    return width <= 128 ? 32 : 16;
}
/* Blocks along the context that are enough: of a single row they fill the largest GPU, and idle
 * ones of a longer context cost more than sharing the chunks. */
GPU_INLINE uint32_t gpu_attend_few_blocks(uint32_t chunks) {
    return chunks < 64 ? chunks : 64;
}
/* Blocks for the columns of a row, where rows of few heads may share one. */
GPU_INLINE uint32_t gpu_attend_few_parts(uint32_t group) {
    return (group + GPU_FEW_COLUMNS - 1) / GPU_FEW_COLUMNS;
}
/* Blocks that share a tile. */
GPU_INLINE uint32_t gpu_attend_many_parts(uint32_t width, uint32_t group) {
    uint32_t columns = gpu_attend_many_columns(width);
    return (GPU_TILE_ROWS * group + columns - 1) / columns;
}
/* Stages of copies from the cache, one in use, the others under way: attend_few lives on them;
 * attend_many computes longer with each, and with fewer two of its blocks fit into an sm_80. */
GPU_INLINE uint32_t gpu_attend_stages(uint32_t type, uint32_t columns) {
    return columns == GPU_FEW_COLUMNS ? 4 : type == GPU_KV_F16 ? 3 : 2;
}
/* Dynamic shared memory of a block with so many columns (attend_combine: none): of each column the
 * query, a chunk's weights, four warps' maxima and sums, exponent and position; then the ring of
 * copies from the cache, for each thread 16 bytes of a block and, of Q8_0, 8 bytes of scales. */
GPU_INLINE uint32_t gpu_attend_shared(uint32_t type, uint32_t head_dim, uint32_t columns) {
    uint32_t column = 4 * (gpu_kv_head_pad(type, head_dim) + GPU_CONTEXT_CHUNK + 4 + 4 + 1 + 1);
    uint32_t copies =
        gpu_attend_stages(type, columns) * GPU_ATTEND_STAGE_BLOCKS * GPU_ATTEND_THREADS;
    return columns * column + copies * (type == GPU_KV_F16 ? 16 : 24);
}
/* (rows, n_heads, chunks, head_dim + 2): weighted values, reference exponent, sum of weights. */
GPU_INLINE uint64_t gpu_attend_partial_bytes(uint32_t rows, uint32_t n_heads, uint32_t chunks,
                                             uint32_t head_dim) {
    return (uint64_t)rows * n_heads * chunks * (head_dim + 2) * sizeof(float);
}

/* --- choosing ----------------------------------------------------------------------------------
 */

enum { GPU_TOP_SLICE = 2048 };

/* Written straight to pinned memory. log-softmax(id) = logit - max - log(sum). NaN counts as minus
 * infinity, plus infinity as the largest float; ties go to the lower id. */
struct gpu_choice {
    float max, sum; /* sum of exp(logit - max) over the vocabulary */
    uint32_t count; /* min(step.top, vocab) */
    uint32_t reserved;
    float logit[GPU_TOP_MAX]; /* best first */
    int32_t id[GPU_TOP_MAX];
};

/* top_slice: grid (slices, logits_max), block 256.  top_merge: grid (logits_max), block 32. */
struct gpu_top {
    GPU_AT(const struct gpu_step) step;
    GPU_AT(const float) logits;       /* (n_logits, stride) */
    GPU_AT(uint64_t) key;             /* (logits_max, slices, GPU_TOP_MAX) scratch */
    GPU_AT(float) part;               /* (logits_max, slices, 2) scratch: max, sum */
    GPU_AT(struct gpu_choice) choice; /* (logits_max), pinned memory */
    uint32_t stride, vocab;
    uint32_t slices; /* gpu_top_slices(vocab) */
    uint32_t reserved;
};
GPU_INLINE uint32_t gpu_top_slices(uint32_t vocab) {
    return (vocab + GPU_TOP_SLICE - 1) / GPU_TOP_SLICE;
}

/* finish: grid 1, block 1. Last of a step: *flag = step->ticket, released to the whole system, so
 * that who acquires the flag sees everything the step wrote. */
struct gpu_finish {
    GPU_AT(const struct gpu_step) step;
    GPU_AT(uint32_t) flag; /* pinned memory */
};

#endif
