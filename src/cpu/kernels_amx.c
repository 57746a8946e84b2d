#include <immintrin.h>
#include <string.h>

#include "cpu/kernels.h"
#include "cpu/tiles.h"

/* Products of many rows on AMX's tiles. A C tile is 16 activation rows x 16 weight rows of int32:
 * one block of 32 (or 16) columns, exact. What follows is kernels_matmul.inc's arithmetic in its
 * order, so that one row and many rows have the same bits:
 *
 *   acc = fma(s_w * s_x, isum, acc)      acc = fma(-+m_w, s_x * sum of n_x, acc)
 *
 * The panel is taken in slices of 512 columns: values expanded to int8 and scales to F32 once, then
 * used by all rows; sums wait in `out` between slices. While the vector units take one C tile
 * apart, the tile unit fills the other. */

enum {
    TILE_ROWS = 16,    /* activation rows of a tile */
    SLICE_BLOCKS = 16, /* of 32 columns */
    STEPS_MAX = 32, /* tile products of a slice: one a block, two where 16 columns share a scale */
    BLOCK_BYTES = 512, /* of int8 values: 16 rows x 32 columns */
};

/* A slice of a panel, ready for tiles. */
struct slice {
    uint32_t steps;
    uint32_t columns; /* of a step: 32 or 16 */
    bool has_min;
    _Alignas(64) float scale[STEPS_MAX][PACK_ROWS];
    _Alignas(64) float min[STEPS_MAX][PACK_ROWS]; /* with the sign it is added with */
    /* Zero subtracted; the B tiles (columns / 4, 16, 4) of the steps follow each other. */
    _Alignas(64) int8_t values[SLICE_BLOCKS][BLOCK_BYTES];
};

/* The B tile of step s. */
static inline const int8_t *step_tile(const struct slice *slice, uint32_t s) {
    return slice->values[0] + (size_t)s * slice->columns * PACK_ROWS;
}

static void slice_expand(const struct pack_format *format, const uint8_t *values, int8_t *out) {
    const __m512i low = _mm512_set1_epi8(15), zero = _mm512_set1_epi8(format->zero);
    for (int v = 0; v < 4; v++) {
        __m512i both = _mm512_load_si512(values + 64 * v);
        __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        _mm512_store_si512(out + 64 * v, _mm512_sub_epi8(_mm512_and_si512(both, low), zero));
        _mm512_store_si512(out + 64 * (4 + v), _mm512_sub_epi8(high, zero));
    }
}

static __m512 slice_f16(const uint8_t *halves) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)halves));
}

/* Scale and min of step `s` of the unit's block `b`. */
static void slice_scales(const struct pack_format *format, const uint8_t *unit, uint32_t b,
                         uint32_t half, float *scale, float *min) {
    if (format->unit_columns == 64) {
        _mm512_store_ps(scale, slice_f16(unit + 32 * b));
        if (format->has_min) _mm512_store_ps(min, slice_f16(unit + 64 + 32 * b));
        return;
    }
    uint32_t subs = 256u / format->sub, sub = (32u / format->sub) * b + half;
    const uint8_t *scales = unit + 64 + PACK_ROWS * sub;
    __m512i s = _mm512_cvtepi8_epi32(_mm_load_si128((const __m128i *)scales));
    _mm512_store_ps(scale, _mm512_mul_ps(slice_f16(unit), _mm512_cvtepi32_ps(s)));
    if (!format->has_min) return;
    __m512i m = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(scales + PACK_ROWS * subs)));
    __m512 product = _mm512_mul_ps(slice_f16(unit + 32), _mm512_cvtepi32_ps(m));
    _mm512_store_ps(min, _mm512_sub_ps(_mm512_setzero_ps(), product));
}

/* Columns from `at` on: `blocks` of 32. */
static void slice_fill(struct slice *slice, const struct pack_format *format, const uint8_t *panel,
                       uint32_t at, uint32_t blocks) {
    uint32_t unit_blocks = format->unit_columns / PACK_BLOCK, halves = PACK_BLOCK / format->sub;
    slice->columns = format->sub;
    slice->steps = blocks * halves;
    slice->has_min = format->has_min;
    for (uint32_t i = 0; i < blocks; i++) {
        uint32_t block = at / PACK_BLOCK + i, b = block % unit_blocks;
        const uint8_t *unit = panel + (size_t)(block / unit_blocks) * format->unit_bytes;
        slice_expand(format, unit + format->values_offset + (size_t)b * (BLOCK_BYTES / 2),
                     slice->values[i]);
        for (uint32_t h = 0; h < halves; h++) {
            uint32_t s = i * halves + h;
            slice_scales(format, unit, b, h, slice->scale[s], slice->min[s]);
        }
    }
}

/* What a group of 16 rows brings along, for the steps of a slice. */
struct group {
    const int8_t *q; /* of the first row, at the slice's first column */
    size_t q_stride;
    const float *scale; /* of the first row and block */
    size_t scale_stride;
    _Alignas(64) float total[TILE_ROWS][STEPS_MAX]; /* scale * sum of q; for mins */
};

/* The totals of at most 8 blocks from `first` on. */
static void group_totals_of(struct group *group, const struct slice *slice, uint32_t first,
                            uint32_t blocks, const int32_t *sum16, size_t sum_stride) {
    const bool halves = slice->columns == 16;
    const __mmask16 have_sums = (__mmask16)((1u << 2 * blocks) - 1);
    const __mmask16 have_scales = (__mmask16)((1u << blocks) - 1);
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i half = _mm512_srli_epi32(lane, 1), even = _mm512_slli_epi32(lane, 1);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (uint32_t t = 0; t < TILE_ROWS; t++) {
        __m512i n = _mm512_maskz_loadu_epi32(have_sums, sum16 + t * sum_stride + 2 * first);
        __m512 sx =
            _mm512_maskz_loadu_ps(have_scales, group->scale + t * group->scale_stride + first);
        if (halves)
            sx = _mm512_permutexvar_ps(half, sx);
        else
            n = _mm512_add_epi32(_mm512_permutexvar_epi32(even, n),
                                 _mm512_permutexvar_epi32(odd, n));
        float *total = group->total[t] + (halves ? 2 * first : first);
        __mmask16 have = halves ? have_sums : have_scales;
        _mm512_mask_storeu_ps(total, have, _mm512_mul_ps(sx, _mm512_cvtepi32_ps(n)));
    }
}

static void group_totals(struct group *group, const struct slice *slice, const int32_t *sum16,
                         size_t sum_stride) {
    const uint32_t blocks = slice->steps * slice->columns / PACK_BLOCK;
    for (uint32_t first = 0; first < blocks; first += 8)
        group_totals_of(group, slice, first, blocks - first < 8 ? blocks - first : 8, sum16,
                        sum_stride);
}

#define ALWAYS static inline __attribute__((always_inline))

/* Adds the C tile that was stored in `sums` to the rows' sums. */
ALWAYS void step_add(const struct slice *slice, const struct group *group, uint32_t s, bool has_min,
                     uint32_t shift, const int32_t *sums, __m512 *acc) {
    const __m512 scale = _mm512_load_ps(slice->scale[s]), min = _mm512_load_ps(slice->min[s]);
    const float *sx = group->scale + (s >> shift);
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_ROWS; t++) {
        __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(sx[t * group->scale_stride]));
        __m512 isum = _mm512_cvtepi32_ps(_mm512_load_si512(sums + 16 * t));
        acc[t] = _mm512_fmadd_ps(both, isum, acc[t]);
        if (has_min) acc[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(group->total[t][s]), acc[t]);
    }
}

/* All steps of a slice for 16 rows; out rows are `stride` floats apart. */
ALWAYS void group_multiply(const struct slice *slice, const struct group *group, bool has_min,
                           bool first, float *out, uint32_t stride) {
    _Alignas(64) int32_t sums[2][TILE_ROWS * PACK_ROWS];
    const uint32_t columns = slice->columns, shift = columns == 16; /* steps of a block */
    __m512 acc[TILE_ROWS];
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_ROWS; t++)
        acc[t] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(out + t * stride);
    TILE_ZERO(0);
    TILE_LOAD(4, group->q, group->q_stride);
    TILE_LOAD(6, step_tile(slice, 0), 64);
    TILE_INT8(0, 4, 6);
    for (uint32_t s = 0; s < slice->steps; s += 2) {
        bool second = s + 1 < slice->steps;
        if (second) {
            TILE_ZERO(1);
            TILE_LOAD(4, group->q + (s + 1) * columns, group->q_stride);
            TILE_LOAD(6, step_tile(slice, s + 1), 64);
            TILE_INT8(1, 4, 6);
        }
        TILE_STORE(0, sums[0], 64);
        step_add(slice, group, s, has_min, shift, sums[0], acc);
        if (!second) break;
        if (s + 2 < slice->steps) {
            TILE_ZERO(0);
            TILE_LOAD(4, group->q + (s + 2) * columns, group->q_stride);
            TILE_LOAD(6, step_tile(slice, s + 2), 64);
            TILE_INT8(0, 4, 6);
        }
        TILE_STORE(1, sums[1], 64);
        step_add(slice, group, s + 1, has_min, shift, sums[1], acc);
    }
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_ROWS; t++) _mm512_storeu_ps(out + t * stride, acc[t]);
}

/* A slice, whose first column is `at`, with all rows. */
static void slice_multiply(const struct slice *slice, uint32_t at, const struct activations *x,
                           uint32_t rows, float *out, uint32_t out_stride) {
    struct group group = {.q_stride = x->stride, .scale_stride = x->stride / 32};
    for (uint32_t row = 0; row < rows; row += TILE_ROWS, out += TILE_ROWS * (size_t)out_stride) {
        group.q = x->q + (size_t)row * x->stride + at;
        group.scale = x->scale + row * group.scale_stride + at / 32;
        if (!slice->has_min) {
            group_multiply(slice, &group, false, at == 0, out, out_stride);
            continue;
        }
        const int32_t *sum16 = x->sum16 + (size_t)row * (x->stride / 16) + at / 16;
        group_totals(&group, slice, sum16, x->stride / 16);
        group_multiply(slice, &group, true, at == 0, out, out_stride);
    }
}

uint32_t amx_matmul(const struct packed_matrix *weights, uint32_t panel, uint32_t n_panels,
                    const struct activations *x, uint32_t n_rows, float *out, uint32_t out_stride) {
    const struct pack_format *format = pack_format(weights->kind);
    const uint32_t rows = n_rows / TILE_ROWS * TILE_ROWS;
    if (rows == 0 || format->bits != 4) return 0;
    struct slice slice;
    tiles_configure(format->sub, format->sub / 4);
    for (uint32_t at = 0; at < weights->cols; at += SLICE_BLOCKS * PACK_BLOCK) {
        uint32_t blocks = (weights->cols - at) / PACK_BLOCK;
        if (blocks > SLICE_BLOCKS) blocks = SLICE_BLOCKS;
        for (uint32_t p = 0; p < n_panels; p++) { /* the rows' columns of the slice stay near */
            const uint8_t *data = weights->panels + (panel + p) * weights->panel_bytes;
            slice_fill(&slice, format, data, at, blocks);
            slice_multiply(&slice, at, x, rows, out + (size_t)p * PACK_ROWS, out_stride);
        }
    }
    TILES_RELEASE();
    return rows;
}
