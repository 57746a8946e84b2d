#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/scales_amx.h"
#include "cpu/tiles.h"

/* Products with activations in bfloat16, on tiles for some rows and on vectors for one or two. For
 * each block of 32 columns in order, as TDPBF16PS does it (and panel_float of kernels_matmul.inc):
 *
 *   even, odd = chains of FMAs from zero over the even and the odd columns
 *   acc = acc + (even + odd)
 *
 * BF16 weights are in the panel as tiles want them. F16 weights are rounded to the nearest
 * bfloat16. Integers q weigh d' * q (exact in F32) less a min m', cut to their upper 16 bits.
 * Cutting makes a weight smaller, by 2^-8 on average for a mantissa from 1 to 2; so d' and m' are
 * larger than d and m by a factor that adds as much on average where mantissas are spread as those
 * of products are (their logarithms evenly: the mean is 1 / ln 2). That is nearly rounding to
 * nearest, for one instruction less: what bfloat16 holds exactly stays exact, and what remains are
 * errors of 0.2 % a weight without a preference for a side, less than half of what int8 activations
 * by blocks of 32 cost. */

#define ROUNDING 1.00270761f /* 1 + ln 2 / 256 */

enum {
    BLOCK_BYTES = 512, /* values of a block, a byte each: 16 rows x 32 columns */
    FETCH_F16 = 3072,  /* bytes ahead of the stream of weights: what each form reads fastest with */
    FETCH_Q8 = 2048,
    FETCH_ANY = 1536,
    TWINS_MAX = 2,    /* rows that vectors take */
    FLAT_VALUES = 64, /* of a unit of PACK_Q8: scales of two blocks, then their values */
    FLAT_BYTES = FLAT_VALUES + 2 * BLOCK_BYTES
};

/* What there is code for; a constant wherever it is called `form`. */
enum form {
    FORM_F16,
    FORM_Q8, /* PACK_Q8 alone, the commonest */
    FORM_ANY /* any other, made bytes first */
};

/* Float panels and rows are padded with zeros to whole blocks. */
ALWAYS uint32_t blocks_of(const struct packed_matrix *weights) {
    return (weights->cols + PACK_BLOCK - 1) / PACK_BLOCK;
}

/* What turns floats 32768 + u of 16 rows into weights, as d' * (32768 + u) - offset. u = q + 128;
 * the offset is d' * (32768 + 128) less the min that is added. d' has 15 bits, so that its products
 * with 32768 + 128 (9 bits) and with values (8) are exact. */
struct scale {
    __m512 d, offset;
};

ALWAYS struct scale scale_of(__m512 d, __m512 min) {
    const __m512 rounding = _mm512_set1_ps(ROUNDING);
    d = _mm512_mul_ps(d, rounding);
    d = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(d), _mm512_set1_epi32(-512)));
    __m512 offset = _mm512_mul_ps(d, _mm512_set1_ps(32768 + 128));
    return (struct scale){d, _mm512_fnmadd_ps(min, rounding, offset)};
}

/* A block of a panel. */
struct block {
    const uint8_t *values;
    struct scale scale; /* of 16 columns at least; not of F16 */
};

ALWAYS struct block block_of_f16(const uint8_t *panel, uint32_t i) {
    struct block block = {.values = panel + (size_t)i * TILE_BYTES};
    lines_prefetch(block.values + FETCH_F16, TILE_BYTES);
    return block;
}

ALWAYS struct block block_of_q8(const uint8_t *panel, uint32_t i) {
    const uint8_t *unit = panel + (size_t)(i / 2) * FLAT_BYTES;
    const __m256i *halves = (const __m256i *)unit + i % 2;
    struct block block = {
        .values = unit + FLAT_VALUES + i % 2 * BLOCK_BYTES,
        .scale = scale_of(_mm512_cvtph_ps(_mm256_load_si256(halves)), _mm512_setzero_ps())};
    lines_prefetch(block.values + FETCH_Q8, BLOCK_BYTES);
    return block;
}

ALWAYS struct block block_of_any(const struct pack_format *format, const uint8_t *panel, uint32_t i,
                                 uint8_t *bytes) {
    const uint8_t *values = block_values(format, panel, i, pack_block_bytes(format));
    for (uint32_t line = 0; line <= pack_block_bytes(format); line += 64)
        __builtin_prefetch(values + FETCH_ANY + line);
    block_widen_avx512(format, format->zero, values, bytes);
    return (struct block){.values = bytes};
}

/* Block i of a panel; `bytes`: room for BLOCK_BYTES, which FORM_ANY needs while the block is used.
 */
ALWAYS struct block block_at(enum form form, const struct pack_format *format, const uint8_t *panel,
                             uint32_t i, uint8_t *bytes) {
    if (form == FORM_F16) return block_of_f16(panel, i);
    if (form == FORM_Q8) return block_of_q8(panel, i);
    return block_of_any(format, panel, i, bytes);
}

/* How many scales a block has. */
ALWAYS uint32_t block_steps(enum form form, const struct pack_format *format) {
    return form == FORM_ANY ? (uint32_t)(PACK_BLOCK / format->sub) : 1;
}

/* Makes block i of a panel ready for its columns 16 half to 16 half + 15; `scales` are of its
 * slice, 1 or 2 (`steps`) for each block. */
ALWAYS void block_half(enum form form, struct block *block, const struct panel_scales *scales,
                       uint32_t steps, uint32_t i, uint32_t half) {
    if (form != FORM_ANY || half >= steps) return;
    const uint32_t s = steps * (i % SLICE_BLOCKS) + half;
    block->scale = scale_of(_mm512_load_ps(scales->scale[s]), _mm512_load_ps(scales->min[s]));
}

/* What columns 16 half + 4 g to 16 half + 4 g + 3 have in common: values without sign, which are
 * int8 ones with their sign bits turned over, u = q + 128. */
ALWAYS __m512i four_load(enum form form, const struct block *block, size_t half, size_t g) {
    if (form == FORM_F16) return _mm512_setzero_si512();
    return _mm512_xor_si512(_mm512_load_si512(block->values + 64 * (4 * half + g)),
                            _mm512_set1_epi8((char)0x80));
}

/* Weights of column 16 half + 4 g + j, 16 rows, as F32 not yet cut. The bits of 32768 + u are those
 * of 32768.0 with u in the second byte. */
ALWAYS __m512 weights_of(enum form form, const struct block *block, __m512i four, size_t half,
                         size_t g, size_t j) {
    if (form == FORM_F16) {
        const __m256i *column = (const __m256i *)block->values + 4 * (4 * half + g) + j;
        __m512i bits = _mm512_castps_si512(_mm512_cvtph_ps(_mm256_load_si256(column)));
        return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(0x8000)));
    }
    const __m512i from = _mm512_set1_epi32((int)j << 8), bare = _mm512_set1_epi32(0x47000000);
    const __m512i lanes = _mm512_set4_epi32(0x0C0C0C0C, 0x08080808, 0x04040404, 0);
    __m512i floats =
        _mm512_mask_shuffle_epi8(bare, 0x2222222222222222, four, _mm512_add_epi8(lanes, from));
    return _mm512_fmsub_ps(block->scale.d, _mm512_castsi512_ps(floats), block->scale.offset);
}

ALWAYS __m512 cut(__m512 w) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(w), _mm512_set1_epi32((int)0xFFFF0000)));
}

/* --- one or two rows, on vectors ------------------------------------------------------------ */

/* Adds 16 columns of one block of each panel to the chains; f is the first row's first of them. */
ALWAYS void twin_half(enum form form, const struct block *block, size_t half, size_t panels,
                      const float *f, uint32_t stride, size_t rows, __m512 (*even)[TWINS_MAX],
                      __m512 (*odd)[TWINS_MAX]) {
#pragma GCC unroll 4
    for (size_t g = 0; g < 4; g++) {
        __m512i four[2];
#pragma GCC unroll 2
        for (size_t p = 0; p < panels; p++) four[p] = four_load(form, &block[p], half, g);
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
#pragma GCC unroll 2
            for (size_t p = 0; p < panels; p++) {
                __m512 w = cut(weights_of(form, &block[p], four[p], half, g, j));
                __m512 *sum = j % 2 == 0 ? even[p] : odd[p];
#pragma GCC unroll 2
                for (size_t t = 0; t < rows; t++)
                    sum[t] = _mm512_fmadd_ps(w, _mm512_set1_ps(f[t * stride + 4 * g + j]), sum[t]);
            }
    }
}

/* One or two panels, so that two streams of weights come in; `panels` and `rows` are constants.
 * Every loop over them is unrolled by order: left to itself GCC keeps the blocks in memory, for
 * half of the speed. */
ALWAYS void twin_rows(enum form form, const struct packed_matrix *weights, const uint8_t *panel,
                      size_t panels, const struct activations *x, size_t rows, float *out,
                      uint32_t out_stride) {
    const struct pack_format *format = pack_format(weights->kind);
    const uint32_t n_blocks = blocks_of(weights);
    const uint32_t steps = block_steps(form, format);
    struct panel_scales scales[2];
    _Alignas(64) uint8_t bytes[2][BLOCK_BYTES];
    __m512 acc[2][TWINS_MAX], even[2][TWINS_MAX], odd[2][TWINS_MAX];
#pragma GCC unroll 2
    for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
        for (size_t t = 0; t < rows; t++) acc[p][t] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n_blocks; i++) {
        const float *f = x->f + (size_t)i * PACK_BLOCK;
        struct block block[2];
#pragma GCC unroll 2
        for (size_t p = 0; p < panels; p++) {
            const uint8_t *from = panel + p * weights->panel_bytes;
            if (form == FORM_ANY && i % SLICE_BLOCKS == 0)
                panel_scales_fill(&scales[p], format, from, i, slice_blocks(n_blocks, i), false);
            block[p] = block_at(form, format, from, i, bytes[p]);
#pragma GCC unroll 2
            for (size_t t = 0; t < rows; t++) even[p][t] = odd[p][t] = _mm512_setzero_ps();
        }
        for (uint32_t half = 0; half < 2; half++) {
            KEEP_ROLLED(half);
#pragma GCC unroll 2
            for (size_t p = 0; p < panels; p++)
                block_half(form, &block[p], &scales[p], steps, i, half);
            twin_half(form, block, half, panels, f + 16 * half, x->stride, rows, even, odd);
        }
#pragma GCC unroll 2
        for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
            for (size_t t = 0; t < rows; t++)
                acc[p][t] = _mm512_add_ps(acc[p][t], _mm512_add_ps(even[p][t], odd[p][t]));
    }
#pragma GCC unroll 2
    for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
        for (size_t t = 0; t < rows; t++)
            _mm512_storeu_ps(out + t * out_stride + p * PACK_ROWS, acc[p][t]);
}

/* One row with two panels at a time, or two rows with one: one row with a panel that is left alone
 * has a second beside it that nobody asked for, in the memory that tiles use as well. */
ALWAYS void twin_panels(enum form form, const struct packed_matrix *weights, const uint8_t *panel,
                        uint32_t n_panels, const struct activations *x, uint32_t n_rows, float *out,
                        uint32_t out_stride) {
    const size_t bytes = weights->panel_bytes;
    for (; n_rows == 1 && n_panels > 1; n_panels -= 2, panel += 2 * bytes, out += 2 * PACK_ROWS)
        twin_rows(form, weights, panel, 2, x, 1, out, out_stride);
    for (; n_panels > 0; n_panels--, panel += bytes, out += PACK_ROWS)
        twin_rows(form, weights, panel, 1, x, 2, out, out_stride);
}

/* --- more rows, on tiles -------------------------------------------------------------------- */

/* A block of a panel as a B tile: row p holds columns 2 p and 2 p + 1 of each of the 16 rows. */
ALWAYS void block_expand(enum form form, const struct block *block, size_t half, uint8_t *tile) {
#pragma GCC unroll 4
    for (size_t g = 0; g < 4; g++) {
        __m512i four = four_load(form, block, half, g);
#pragma GCC unroll 2
        for (size_t j = 0; j < 4; j += 2) {
            __m512i even = _mm512_castps_si512(weights_of(form, block, four, half, g, j));
            __m512i odd = _mm512_castps_si512(weights_of(form, block, four, half, g, j + 1));
            /* upper half of odd, upper half of even: bits of `odd` where the mask has ones */
            __m512i both = _mm512_ternarylogic_epi32(_mm512_set1_epi32((int)0xFFFF0000), odd,
                                                     _mm512_srli_epi32(even, 16), 0xCA);
            _mm512_store_si512(tile + 64 * (8 * half + 2 * g + j / 2), both);
        }
    }
}

ALWAYS void tile_expand(enum form form, const struct pack_format *format,
                        const struct panel_scales *scales, const uint8_t *panel, uint32_t i,
                        uint8_t *tile) {
    _Alignas(64) uint8_t bytes[BLOCK_BYTES];
    struct block block = block_at(form, format, panel, i, bytes);
    for (uint32_t half = 0; half < 2; half++) {
        block_half(form, &block, scales, block_steps(form, format), i, half);
        block_expand(form, &block, half, tile);
    }
}

/* Block i of a panel as a B tile, where it lies or expanded into `room`; `scales` of its slice. */
static const uint8_t *block_tile(enum pack_kind kind, const struct panel_scales *scales,
                                 const uint8_t *panel, uint32_t i, uint8_t *room) {
    const struct pack_format *format = pack_format(kind);
    if (kind == PACK_BF16) return panel + (size_t)i * TILE_BYTES;
    if (kind == PACK_F16)
        tile_expand(FORM_F16, format, scales, panel, i, room);
    else if (kind == PACK_Q8)
        tile_expand(FORM_Q8, format, scales, panel, i, room);
    else
        tile_expand(FORM_ANY, format, scales, panel, i, room);
    return room;
}

/* The A tile of block i and of 16 rows from `row` on. */
ALWAYS uint8_t *rows_tile(const struct activations *x, uint32_t row, uint32_t i) {
    const size_t slice = activations_slice(x, row, i * PACK_BLOCK);
    return (uint8_t *)x->h + (slice * SLICE_BLOCKS + i % SLICE_BLOCKS) * TILE_BYTES;
}

/* Scales of the slice that begins with block i, where block_tile wants them. */
ALWAYS void scales_at(struct panel_scales *scales, enum pack_kind kind, const uint8_t *panel,
                      uint32_t i, uint32_t n_blocks) {
    if (kind != PACK_BF16 && kind != PACK_F16 && kind != PACK_Q8)
        panel_scales_fill(scales, pack_format(kind), panel, i, slice_blocks(n_blocks, i), false);
}

/* One or two panels with at most 32 rows: each block is used once, so sums stay in the tiles, and
 * the vector units expand a block while the tile unit multiplies the one before. */
static void few_multiply(const struct packed_matrix *weights, const uint8_t *panel, int panels,
                         const struct activations *x, uint32_t n_rows, float *out,
                         uint32_t out_stride) {
    const uint32_t n_blocks = blocks_of(weights);
    const int rows = n_rows > TILE_ROWS ? 2 : 1;
    const uint8_t *tile[2][2] = {{NULL}}; /* of odd and even blocks */
    struct panel_scales scales[2];
    _Alignas(64) uint8_t room[2][2][TILE_BYTES];
    tiles_zero();
    for (uint32_t i = 0; i <= n_blocks; i++) {
        for (int p = 0; p < panels && i < n_blocks; p++) {
            const uint8_t *from = panel + (size_t)p * weights->panel_bytes;
            if (i % SLICE_BLOCKS == 0) scales_at(&scales[p], weights->kind, from, i, n_blocks);
            tile[i % 2][p] = block_tile(weights->kind, &scales[p], from, i, room[i % 2][p]);
            if (weights->kind == PACK_BF16) lines_prefetch(tile[i % 2][p] + FETCH_F16, TILE_BYTES);
        }
        if (i == 0) continue;
        const uint8_t *const *before = tile[(i - 1) % 2];
        const uint8_t *next = rows > 1 ? rows_tile(x, TILE_ROWS, i - 1) : NULL;
        tiles_add(before[0], before[1], rows_tile(x, 0, i - 1), next, panels);
    }
    tiles_store(out, out_stride * sizeof(float), rows, panels);
}

/* A slice of two panels as B tiles. */
struct slice {
    uint32_t blocks;
    const uint8_t *tile[2][SLICE_BLOCKS];
    _Alignas(64) uint8_t room[2][SLICE_BLOCKS][TILE_BYTES];
};

/* Blocks from `at` on of one panel. */
static void slice_fill(struct slice *slice, const struct packed_matrix *weights, uint32_t at,
                       const uint8_t *panel, int which) {
    struct panel_scales scales;
    scales_at(&scales, weights->kind, panel, at, blocks_of(weights));
    for (uint32_t i = 0; i < slice->blocks; i++)
        slice->tile[which][i] =
            block_tile(weights->kind, &scales, panel, at + i, slice->room[which][i]);
}

/* All rows, 16 at a time, of a slice whose first block is block `at`, with one or two panels, a
 * constant. */
ALWAYS void slice_rows(const struct slice *slice, const struct activations *x, uint32_t at,
                       uint32_t n_rows, int panels, float *out, uint32_t out_stride) {
    const size_t stride = out_stride * sizeof(float);
    for (uint32_t row = 0; row < n_rows; row += TILE_ROWS) {
        const uint8_t *h = rows_tile(x, row, at);
        float *to = out + (size_t)row * out_stride;
        if (at == 0) {
            TILE_ZERO(0);
            TILE_ZERO(1);
        } else {
            TILE_LOAD(0, to, stride);
            TILES_SPACE();
            if (panels > 1) TILE_LOAD(1, to + PACK_ROWS, stride);
        }
        for (uint32_t i = 0; i < slice->blocks; i++)
            tiles_add(slice->tile[0][i], panels > 1 ? slice->tile[1][i] : NULL, h + i * TILE_BYTES,
                      NULL, panels);
        tiles_store(to, stride, 1, panels);
    }
}

static void tiles_multiply(const struct packed_matrix *weights, const uint8_t *panel,
                           uint32_t n_panels, const struct activations *x, uint32_t n_rows,
                           float *out, uint32_t out_stride) {
    const uint32_t n_blocks = blocks_of(weights);
    const size_t bytes = weights->panel_bytes;
    struct slice slice;
    tiles_configure(n_rows <= TILE_ROWS / 2 ? TILE_ROWS / 2 : TILE_ROWS, 64, TILE_ROWS);
    for (uint32_t p = 0; p < n_panels && n_rows <= 2 * TILE_ROWS; p += 2)
        few_multiply(weights, panel + p * bytes, n_panels - p > 1 ? 2 : 1, x, n_rows,
                     out + p * PACK_ROWS, out_stride);
    for (uint32_t at = 0; at < n_blocks && n_rows > 2 * TILE_ROWS; at += SLICE_BLOCKS) {
        slice.blocks = slice_blocks(n_blocks, at);
        for (uint32_t p = 0; p < n_panels; p += 2) {
            int panels = n_panels - p > 1 ? 2 : 1;
            for (uint32_t q = 0; q < (uint32_t)panels; q++)
                slice_fill(&slice, weights, at, panel + (p + q) * bytes, (int)q);
            if (panels == 2)
                slice_rows(&slice, x, at, n_rows, 2, out + p * PACK_ROWS, out_stride);
            else
                slice_rows(&slice, x, at, n_rows, 1, out + p * PACK_ROWS, out_stride);
        }
    }
    TILES_RELEASE();
}

void bf16_matmul(const struct packed_matrix *weights, uint32_t panel, uint32_t n_panels,
                 const struct activations *x, uint32_t n_rows, float *out, uint32_t out_stride) {
    const enum pack_kind kind = weights->kind;
    const uint8_t *data = weights->panels + panel * weights->panel_bytes;
    if (n_rows > TWINS_MAX)
        tiles_multiply(weights, data, n_panels, x, n_rows, out, out_stride);
    else if (kind == PACK_BF16)
        cpu_kernels_avx512.matmul(weights, panel, n_panels, x, n_rows, out, out_stride);
    else if (kind == PACK_F16)
        twin_panels(FORM_F16, weights, data, n_panels, x, n_rows, out, out_stride);
    else if (kind == PACK_Q8)
        twin_panels(FORM_Q8, weights, data, n_panels, x, n_rows, out, out_stride);
    else
        twin_panels(FORM_ANY, weights, data, n_panels, x, n_rows, out, out_stride);
}

/* To nearest, ties to even; denormals, which callers flush anyway, to zero. Vectors read f. */
void bf16_round(const struct activations *x, uint32_t row, uint32_t column, uint32_t width,
                uint32_t n_rows, const float *from) {
    float *f = x->f + (size_t)row * x->stride + column;
    for (uint32_t i = 0; i < width; i += 16) {
        const __m256i near = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
        if (n_rows <= TWINS_MAX) {
            const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(near), 16);
            _mm512_storeu_ps(f + i, _mm512_castsi512_ps(wide));
            continue;
        }
        uint8_t *tile = rows_tile(x, row, (column + i) / PACK_BLOCK) + row % GROUP_ROWS * ROW_BYTES;
        _mm256_store_si256((__m256i *)(tile + (column + i) % PACK_BLOCK * 2), near);
    }
}
