#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/lanes_avx512.h"
#include "cpu/planes.h"
#include "cpu/scales_amx.h"
#include "cpu/tiles.h"
#include "cpu/vnni.h"

/* Products of values u of up to four bits with activations n of 12 bits (INPUT_INT12), on tiles for
 * some rows and on vectors for one or two: the same bits either way. The columns are taken in
 * slices of 256, for which n has one scale s_x, and in steps of 32 or 16, for which u has one scale
 * s_w:
 *
 *   isum = sum of (u - zero) * n (exact, int32)   part = fma(s_w, isum, part), from zero
 *   where the format has a min                    mins = fma(m_w, sum of n, mins), from zero
 *   after a slice                                 acc = fma(s_x, d * part - m * mins, acc)
 *
 * where d and m are those of 256 columns of a super unit, and s_w and m_w integers; of a flat unit
 * they are 1 and -1.
 *
 * n = 16 * upper + lower, both int8. A tile multiplies 64 bytes of a row as fast as 32: the upper
 * parts of a step's columns with 16 * w and the lower ones with w, so that four bits more cost
 * tiles nothing. One scale for 256 columns saves a third of what vectors do with a tile's sums; a
 * step of twelve bits is a sixteenth of one of eight, so it is finer than with eight bits and a
 * scale for 32 columns unless the largest of 256 is sixteen times the largest of those. */

enum {
    BLOCK_BYTES = 512,     /* values of a block of 32 columns, a byte each */
    FETCH_BYTES = 2048,    /* ahead of the stream of weights */
    TWINS_MAX = 2,         /* rows that vectors take */
    TOTALS = 3 * TILE_ROWS /* floats of a block, see struct wide_rows */
};

/* Rows of 12 bits from `row` and block `block`, the first of a slice, on. */
ALWAYS struct wide_rows rows_at(const struct activations *x, uint32_t row, uint32_t block) {
    const size_t slice = activations_slice(x, row, block * PACK_BLOCK), in_group = row % GROUP_ROWS;
    return (struct wide_rows){.q = x->wide.q + slice * SLICE_BLOCKS * TILE_BYTES +
                                   in_group * ROW_BYTES,
                              .scale = x->wide.scale + slice * GROUP_ROWS + in_group,
                              .total = x->wide.total + slice * SLICE_BLOCKS * TOTALS + in_group};
}

/* What a slice adds to a sum: s_x * (d * part - m * mins). */
ALWAYS __m512 slice_add(bool has_min, __m512 part, __m512 mins, __m512 d, __m512 m, float scale,
                        __m512 acc) {
    __m512 sum = _mm512_mul_ps(d, part);
    if (has_min) sum = _mm512_fnmadd_ps(m, mins, sum);
    return _mm512_fmadd_ps(sum, _mm512_set1_ps(scale), acc);
}

/* --- one or two rows, on vectors ------------------------------------------------------------ */

/* What is known of the weights when code is made; `steps` of a block: 1 or 2. */
struct shape {
    uint32_t steps;
    bool has_min;
    bool super; /* units; where steps is 1 and there is a min, known only when code runs */
};

/* Adds a block of one panel to the parts and mins of `rows` rows; `at` is its number in the slice.
 */
ALWAYS void twin_block(struct shape shape, const struct pack_format *format, const uint8_t *values,
                       const uint8_t *unit, uint32_t at, const struct wide_rows *x, size_t rows,
                       __m512 *part, __m512 *mins) {
    const __m512 zero = _mm512_set1_ps(format->zero);
    __m512i upper[2][TWINS_MAX], lower[2][TWINS_MAX];
    _Alignas(64) uint8_t bytes[BLOCK_BYTES];
    if (shape.steps > 1) block_widen_avx512(format, 0, values, bytes);
#pragma GCC unroll 2
    for (size_t t = 0; t < rows; t++)
        upper[0][t] = upper[1][t] = lower[0][t] = lower[1][t] = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) {
        if (shape.steps > 1) KEEP_ROLLED(v);
#pragma GCC unroll 2
        for (size_t half = 0; half < 2; half++) {
            const int g = (int)(4 * half + v);
            const __m512i w =
                (shape.steps > 1 ? group_load(8, bytes, g) : group_load(4, values, g)).v;
            const size_t step = half * (shape.steps - 1);
#pragma GCC unroll 2
            for (size_t t = 0; t < rows; t++) {
                const int8_t *q = x->q + t * ROW_BYTES + 32 * half + 4 * v;
                upper[step][t] = vnni_add(upper[step][t], w, q);
                lower[step][t] = vnni_add(lower[step][t], w, q + 16);
            }
        }
    }
#pragma GCC unroll 2
    for (size_t step = 0; step < shape.steps; step++) {
        const uint8_t *from = step_at(shape.super, unit, at * shape.steps + (uint32_t)step);
        const size_t behind = step_min_behind(shape.super, SLICE_BLOCKS * shape.steps);
        const __m512 scale = step_scale(shape.super, from);
        __m512 min = _mm512_setzero_ps();
        if (shape.has_min && format->has_min) min = step_min(shape.super, from + behind);
#pragma GCC unroll 2
        for (size_t t = 0; t < rows; t++) {
            __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(upper[step][t], 4), lower[step][t]);
            __m512 isum = _mm512_cvtepi32_ps(sum); /* below 2^24, before and after */
            __m512 total = _mm512_set1_ps(x->total[(shape.steps - 1 + step) * TILE_ROWS + t]);
            if (!shape.has_min || shape.steps > 1) isum = _mm512_fnmadd_ps(zero, total, isum);
            part[t] = _mm512_fmadd_ps(scale, isum, part[t]);
            if (shape.has_min) mins[t] = _mm512_fmadd_ps(min, total, mins[t]);
        }
    }
}

/* One or two panels, so that two streams of weights come in; `panels` and `rows` are constants. */
ALWAYS void twin_rows(struct shape shape, const struct packed_matrix *weights, const uint8_t *panel,
                      size_t panels, const struct activations *x, size_t rows, float *out,
                      uint32_t out_stride) {
    const struct pack_format *format = pack_format(weights->kind);
    const uint32_t n_blocks = weights->cols / PACK_BLOCK;
    const uint32_t block_bytes = shape.steps > 1 ? pack_block_bytes(format) : 64 * 4;
    __m512 acc[2][TWINS_MAX], part[2][TWINS_MAX], mins[2][TWINS_MAX];
#pragma GCC unroll 2
    for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
        for (size_t t = 0; t < rows; t++) acc[p][t] = _mm512_setzero_ps();
    for (uint32_t first = 0; first < n_blocks; first += SLICE_BLOCKS) {
        const uint32_t blocks = slice_blocks(n_blocks, first);
        struct wide_rows in = rows_at(x, 0, first);
#pragma GCC unroll 2
        for (size_t p = 0; p < panels; p++) {
#pragma GCC unroll 2
            for (size_t t = 0; t < rows; t++) part[p][t] = mins[p][t] = _mm512_setzero_ps();
        }
        for (uint32_t b = 0; b < blocks; b++, in.q += TILE_BYTES, in.total += TOTALS) {
#pragma GCC unroll 2
            for (size_t p = 0; p < panels; p++) {
                const uint8_t *from = panel + p * weights->panel_bytes;
                const uint8_t *values = block_values(format, from, first + b, block_bytes);
                const uint8_t *unit = block_unit(format, from, first + b);
#pragma GCC unroll 5
                for (uint32_t line = 0; line <= block_bytes; line += 64)
                    __builtin_prefetch(values + FETCH_BYTES + line);
                twin_block(shape, format, values, unit, b, &in, rows, part[p], mins[p]);
            }
        }
#pragma GCC unroll 2
        for (size_t p = 0; p < panels; p++) {
            const uint8_t *unit = block_unit(format, panel + p * weights->panel_bytes, first);
            const __m512 d = slice_d(format, unit), m = slice_m(format, unit);
#pragma GCC unroll 2
            for (size_t t = 0; t < rows; t++)
                acc[p][t] =
                    slice_add(shape.has_min, part[p][t], mins[p][t], d, m, in.scale[t], acc[p][t]);
        }
    }
#pragma GCC unroll 2
    for (size_t p = 0; p < panels; p++)
#pragma GCC unroll 2
        for (size_t t = 0; t < rows; t++)
            _mm512_storeu_ps(out + t * out_stride + p * PACK_ROWS, acc[p][t]);
}

/* One row with two panels at a time, or two rows with one: one row with a panel that is left alone
 * has a second beside it that nobody asked for, in the memory that tiles use as well. */
ALWAYS void twin_panels(struct shape shape, const struct packed_matrix *weights,
                        const uint8_t *panel, uint32_t n_panels, const struct activations *x,
                        uint32_t n_rows, float *out, uint32_t out_stride) {
    const size_t bytes = weights->panel_bytes;
    const bool rare = shape.steps > 1; /* less code */
    for (; !rare && n_rows == 1 && n_panels > 1;
         n_panels -= 2, panel += 2 * bytes, out += 2 * PACK_ROWS)
        twin_rows(shape, weights, panel, 2, x, 1, out, out_stride);
    for (; n_panels > 0; n_panels--, panel += bytes, out += PACK_ROWS)
        twin_rows(shape, weights, panel, 1, x, 2, out, out_stride);
}

/* --- more rows, on tiles -------------------------------------------------------------------- */

/* A slice of a panel, ready for tiles. */
struct slice {
    struct panel_scales scales;
    uint32_t steps;
    uint32_t columns; /* of a step: 32 or 16 */
    bool has_min;
    /* The B tiles (columns / 2, 64) of the steps follow each other. For each 16 columns, in fours:
     * (16, 4) of 16 * w, then of w. Zero is subtracted where there is one: int8; else uint8. */
    _Alignas(64) uint8_t tiles[SLICE_BLOCKS][TILE_BYTES];
};

ALWAYS void slice_expand(int bits, int8_t zero, const uint8_t *values, uint8_t *tile) {
    const __m512i high = _mm512_set1_epi8((char)0xF0), zeros = _mm512_set1_epi8(zero);
    for (int g = 0; g < 8; g++) {
        const __m512i w = _mm512_sub_epi8(group_load(bits, values, g).v, zeros);
        uint8_t *to = tile + 64 * (g % 4) + 512 * (g / 4);
        _mm512_store_si512(to, _mm512_and_si512(_mm512_slli_epi16(w, 4), high));
        _mm512_store_si512(to + 256, w);
    }
}

/* Blocks from `first` on. The slice to come next begins `ahead` bytes behind this one. */
static void slice_fill(struct slice *slice, const struct pack_format *format, const uint8_t *panel,
                       uint32_t first, uint32_t blocks, ptrdiff_t ahead) {
    slice->columns = format->sub;
    slice->steps = blocks * PACK_BLOCK / format->sub;
    slice->has_min = format->has_min;
    panel_scales_fill(&slice->scales, format, panel, first, blocks, true);
    for (uint32_t b = 0; b < blocks; b++) {
        const ptrdiff_t bytes = pack_block_bytes(format);
        const uint8_t *values = block_values(format, panel, first + b, (size_t)bytes);
        for (ptrdiff_t line = ahead; line <= ahead + bytes; line += 64)
            __builtin_prefetch(values + line);
        if (bytes == 64 * 4) {
            slice_expand(4, format->zero, values, slice->tiles[b]);
            continue;
        }
        _Alignas(64) uint8_t room[BLOCK_BYTES];
        block_widen_avx512(format, 0, values, room);
        slice_expand(8, format->zero, room, slice->tiles[b]);
    }
}

/* Begins the sums of step s, in C tile 0 or 1 by turns. */
ALWAYS void step_begin(const struct slice *slice, const struct wide_rows *x, uint32_t s,
                       bool has_min) {
    const uint32_t at = s * slice->columns;
    TILE_LOAD(4, x->q + at / PACK_BLOCK * TILE_BYTES + at % PACK_BLOCK * 2, ROW_BYTES);
    TILE_LOAD(5, slice->tiles[0] + (size_t)s * 32 * slice->columns, 64);
    if (s % 2 == 0)
        TILE_ZERO(0);
    else
        TILE_ZERO(1);
    if (s % 2 == 0 && has_min)
        TILE_INT8_UINT8(0, 4, 5);
    else if (s % 2 == 0)
        TILE_INT8(0, 4, 5);
    else if (has_min)
        TILE_INT8_UINT8(1, 4, 5);
    else
        TILE_INT8(1, 4, 5);
}

/* The sums of step s: (rows, 16). */
ALWAYS void step_end(uint32_t s, int32_t *sums) {
    if (s % 2 == 0)
        TILE_STORE(0, sums, 64);
    else
        TILE_STORE(1, sums, 64);
}

/* Adds the C tile that was stored in `sums` to the rows' parts. */
ALWAYS void step_add(const struct slice *slice, uint32_t s, size_t rows, const int32_t *sums,
                     __m512 *part) {
    const __m512 scale = _mm512_load_ps(slice->scales.scale[s]);
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_ROWS; t++) {
        if (t == TILE_ROWS / 2 && rows == t) return;
        __m512 isum = _mm512_cvtepi32_ps(_mm512_load_si512(sums + 16 * t));
        part[t] = _mm512_fmadd_ps(scale, isum, part[t]);
    }
}

/* The mins of a slice for a group of rows. */
ALWAYS void rows_mins(const struct slice *slice, const struct wide_rows *x,
                      float (*mins)[PACK_ROWS]) {
    const bool halves = slice->columns == 16;
    const float *total = x->total + (halves ? TILE_ROWS : 0);
    __m512 sum[TILE_ROWS];
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_ROWS; t++) sum[t] = _mm512_setzero_ps();
    for (uint32_t s = 0; s < slice->steps; s++) {
        const __m512 min = _mm512_load_ps(slice->scales.min[s]);
#pragma GCC unroll 16
        for (size_t t = 0; t < TILE_ROWS; t++)
            sum[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(total[t]), sum[t]);
        total += !halves ? TOTALS : s % 2 == 0 ? TILE_ROWS : TOTALS - TILE_ROWS;
    }
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_ROWS; t++) _mm512_store_ps(mins[t], sum[t]);
}

/* All steps of a slice for `rows` rows, 8 or 16; out rows are `stride` floats apart. While the
 * vector units take what was stored of a C tile apart, the tile unit fills the next ones: each step
 * begins before the one ahead of it is stored (a tenth faster than after). */
ALWAYS void group_multiply(const struct slice *slice, const struct wide_rows *x, size_t rows,
                           bool has_min, bool first, float *out, uint32_t stride) {
    _Alignas(64) int32_t sums[2][TILE_ROWS * PACK_ROWS];
    __m512 part[TILE_ROWS];
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_ROWS; t++) part[t] = _mm512_setzero_ps();
    step_begin(slice, x, 0, has_min);
    if (slice->steps > 1) step_begin(slice, x, 1, has_min);
    step_end(0, sums[0]);
    for (uint32_t s = 0; s < slice->steps; s++) {
        if (s + 2 < slice->steps) step_begin(slice, x, s + 2, has_min);
        if (s + 1 < slice->steps) step_end(s + 1, sums[(s + 1) % 2]);
        step_add(slice, s, rows, sums[s % 2], part);
    }
    const __mmask16 before = first ? 0 : 0xFFFF; /* slices */
    const __m512 d = _mm512_load_ps(slice->scales.d), m = _mm512_load_ps(slice->scales.m);
    _Alignas(64) float parts[TILE_ROWS][PACK_ROWS];
#pragma GCC unroll 16
    for (size_t t = 0; t < TILE_ROWS; t++) _mm512_store_ps(parts[t], part[t]);
    _Alignas(64) float mins[TILE_ROWS][PACK_ROWS];
    if (has_min) rows_mins(slice, x, mins);
    for (size_t t = 0; t < rows; t++, out += stride) {
        const __m512 acc = _mm512_maskz_loadu_ps(before, out);
        _mm512_storeu_ps(out, slice_add(has_min, _mm512_load_ps(parts[t]), _mm512_load_ps(mins[t]),
                                        d, m, x->scale[t], acc));
    }
}

/* A slice, whose first block is `at`, with all rows, `rows` of them at a time. */
static void slice_multiply(const struct slice *slice, uint32_t at, const struct activations *x,
                           size_t rows, uint32_t n_rows, float *out, uint32_t out_stride) {
    for (uint32_t row = 0; row < n_rows; row += (uint32_t)rows, out += rows * out_stride) {
        const struct wide_rows group = rows_at(x, row, at);
        if (slice->has_min)
            group_multiply(slice, &group, rows, true, at == 0, out, out_stride);
        else
            group_multiply(slice, &group, rows, false, at == 0, out, out_stride);
    }
}

static void tiles_multiply(const struct packed_matrix *weights, const uint8_t *panel,
                           uint32_t n_panels, const struct activations *x, uint32_t n_rows,
                           float *out, uint32_t out_stride) {
    const struct pack_format *format = pack_format(weights->kind);
    const uint32_t n_blocks = weights->cols / PACK_BLOCK;
    const ptrdiff_t bytes = (ptrdiff_t)weights->panel_bytes;
    const ptrdiff_t next = SLICE_COLUMNS / format->unit_columns * format->unit_bytes;
    struct slice slice;
    const size_t rows = n_rows <= TILE_ROWS / 2 ? TILE_ROWS / 2 : TILE_ROWS;
    tiles_configure((uint32_t)rows, 2 * format->sub, format->sub / 2);
    for (uint32_t at = 0; at < n_blocks; at += SLICE_BLOCKS)
        for (ptrdiff_t p = 0; p < n_panels; p++) { /* the rows' columns of the slice stay near */
            slice_fill(&slice, format, panel + p * bytes, at, slice_blocks(n_blocks, at),
                       p + 1 < n_panels ? bytes : next - p * bytes);
            slice_multiply(&slice, at, x, rows, n_rows, out + p * PACK_ROWS, out_stride);
        }
    TILES_RELEASE();
}

void int12_matmul(const struct packed_matrix *weights, uint32_t panel, uint32_t n_panels,
                  const struct activations *x, uint32_t n_rows, float *out, uint32_t out_stride) {
    const struct pack_format *format = pack_format(weights->kind);
    const uint8_t *data = weights->panels + panel * weights->panel_bytes;
    const bool super = units_are_super(format);
    if (n_rows > TWINS_MAX)
        tiles_multiply(weights, data, n_panels, x, n_rows, out, out_stride);
    else if (format->sub == 16)
        twin_panels((struct shape){2, true, true}, weights, data, n_panels, x, n_rows, out,
                    out_stride);
    else if (format->has_min)
        twin_panels((struct shape){1, true, super}, weights, data, n_panels, x, n_rows, out,
                    out_stride);
    else
        twin_panels((struct shape){1, false, false}, weights, data, n_panels, x, n_rows, out,
                    out_stride);
}

/* Steps of max|f| / 2039 over 256 columns, so that the upper parts are -127 to 127 and the lower
 * ones -8 to 7. */
void int12_quantise(const struct activations *x, uint32_t row) {
    const float *f = x->f + (size_t)row * x->stride;
    for (uint32_t at = 0; at < x->stride; at += SLICE_COLUMNS) {
        const uint32_t left = x->stride - at, columns = left < SLICE_COLUMNS ? left : SLICE_COLUMNS;
        struct wide_rows to = rows_at(x, row, at / PACK_BLOCK);
        __m512 most = _mm512_setzero_ps();
        for (uint32_t i = 0; i < columns; i += 16)
            most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(f + at + i)));
        const float largest = _mm512_reduce_max_ps(most);
        const __m512 factor = _mm512_set1_ps(largest > 0 ? 2039.0f / largest : 0);
        *to.scale = largest / 2039.0f;
        for (uint32_t i = 0; i < columns; i += 16) {
            int8_t *q = to.q + i / PACK_BLOCK * TILE_BYTES + i % PACK_BLOCK * 2;
            __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(f + at + i), factor));
            __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(8)), 4);
            __m512i lower = _mm512_sub_epi32(n, _mm512_slli_epi32(upper, 4));
            _mm_storeu_si128((__m128i *)q, _mm512_cvtsepi32_epi8(upper));
            _mm_storeu_si128((__m128i *)(q + 16), _mm512_cvtsepi32_epi8(lower));
            float *total = to.total + i / PACK_BLOCK * TOTALS;
            float sum = (float)_mm512_reduce_add_epi32(n);
            total[(1 + i / 16 % 2) * TILE_ROWS] = sum;
            total[0] = i / 16 % 2 == 0 ? sum : total[0] + sum;
        }
    }
}
