#include "model/pack.h"

#include <emmintrin.h>
#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "gguf/quant_codes.h"

enum { FLAT_HEAD = 64, SUPER_HEAD = 64, BIT_BYTES = 64 /* a bit of all values of a block */ };

/* unit_bytes: flat = heads + 2 blocks; super = head + scales (+ mins) + 8 blocks. */
static const struct pack_format formats[PACK_KINDS] = {
    /*           name    columns unit_bytes             values at bits sub zero   min looked up */
    [PACK_F32] = {"f32", 32, 32 * 16 * 4, 0, 32, 0, 0, false, false},
    [PACK_F16] = {"f16", 32, 32 * 16 * 2, 0, 16, 0, 0, false, false},
    [PACK_BF16] = {"bf16", 32, 32 * 16 * 2, 0, 16, 0, 0, false, false},
    [PACK_Q8] = {"q8", 64, 64 + 2 * 8 * BIT_BYTES, 64, 8, 32, 0, false, false},
    [PACK_Q5] = {"q5", 64, 64 + 2 * 5 * BIT_BYTES, 64, 5, 32, 16, false, false},
    [PACK_Q5_MIN] = {"q5+min", 64, 128 + 2 * 5 * BIT_BYTES, 128, 5, 32, 0, true, false},
    [PACK_Q4] = {"q4", 64, 64 + 2 * 4 * BIT_BYTES, 64, 4, 32, 8, false, false},
    [PACK_Q4_MIN] = {"q4+min", 64, 128 + 2 * 4 * BIT_BYTES, 128, 4, 32, 0, true, false},
    [PACK_IQ4] = {"iq4", 64, 64 + 2 * 4 * BIT_BYTES, 64, 4, 32, 0, false, true},
    [PACK_IS4_32] = {"is4/32", 256, 192 + 8 * 4 * BIT_BYTES, 192, 4, 32, 0, false, true},
    [PACK_S6_16] = {"s6/16", 256, 320 + 8 * 6 * BIT_BYTES, 320, 6, 16, 32, false, false},
    [PACK_S5_32_MIN] = {"s5/32+min", 256, 320 + 8 * 5 * BIT_BYTES, 320, 5, 32, 0, true, false},
    [PACK_S4_32_MIN] = {"s4/32+min", 256, 320 + 8 * 4 * BIT_BYTES, 320, 4, 32, 0, true, false},
    [PACK_S3_16] = {"s3/16", 256, 320 + 8 * 3 * BIT_BYTES, 320, 3, 16, 4, false, false},
    [PACK_S2_16_MIN] = {"s2/16+min", 256, 576 + 8 * 2 * BIT_BYTES, 576, 2, 16, 0, true, false},
};

const struct pack_format *pack_format(enum pack_kind kind) {
    wick_assert((unsigned)kind < PACK_KINDS);
    return &formats[kind];
}

enum pack_kind pack_kind_of(enum quant_type type) {
    if (type == QUANT_F32) return PACK_F32;
    if (type == QUANT_F16) return PACK_F16;
    if (type == QUANT_BF16) return PACK_BF16;
    const struct quant_scheme *scheme = quant_scheme(type);
    wick_assert(scheme != NULL);
    uint16_t columns = scheme->unit == 32 ? 64 : 256;
    for (int kind = PACK_Q8; kind < PACK_KINDS; kind++) {
        const struct pack_format *format = &formats[kind];
        if (format->unit_columns == columns && format->sub == scheme->sub &&
            format->bits == scheme->bits && format->zero == scheme->zero &&
            format->has_min == scheme->has_min && format->looked_up == scheme->looked_up)
            return (enum pack_kind)kind;
    }
    wick_assert(!"a quantised type that no panel format holds");
    return PACK_KINDS;
}

struct packed_matrix pack_describe(const struct model_tensor *tensor) {
    struct packed_matrix matrix = {.rows = tensor->rows,
                                   .cols = tensor->cols,
                                   .n_panels = (tensor->rows + PACK_ROWS - 1) / PACK_ROWS,
                                   .kind = pack_kind_of(tensor->type),
                                   .tensor = tensor};
    const struct pack_format *format = pack_format(matrix.kind);
    size_t units = (tensor->cols + format->unit_columns - 1u) / format->unit_columns;
    matrix.panel_bytes = units * format->unit_bytes;
    return matrix;
}

size_t pack_matrix_bytes(const struct packed_matrix *matrix) {
    return matrix->n_panels * matrix->panel_bytes;
}

size_t pack_float_element(enum pack_kind kind, uint32_t k, uint32_t r) {
    if (kind == PACK_BF16) return (size_t)(k / 2) * 2 * PACK_ROWS + 2 * r + k % 2;
    return (size_t)k * PACK_ROWS + r;
}

/* Asks for what is read soon: `bytes` of each row of a panel, a little further than byte `at`, or
 * at the start of the next panel's rows. `from` is where `at` of the first row lies. Where there is
 * no next panel nothing comes, and nothing fails. */
static void pack_ask(const uint8_t *from, size_t row_bytes, size_t at, uint32_t bytes) {
    enum { AHEAD = 256 };
    from += AHEAD + (at + AHEAD < row_bytes ? 0 : (PACK_ROWS - 1) * row_bytes);
    for (uint32_t r = 0; r < PACK_ROWS; r++, from += row_bytes)
        for (uint32_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line);
}

static void pack_float_row(enum pack_kind kind, const uint8_t *source, uint32_t cols, uint32_t r,
                           uint8_t *panel) {
    const size_t value_bytes = pack_format(kind)->bits / 8u;
    for (uint32_t k = 0; k < cols; k++)
        memcpy(panel + pack_float_element(kind, k, r) * value_bytes, source + k * value_bytes,
               value_bytes);
}

/* One unit of the file, of all rows of a panel. */
struct pack_unit {
    struct quant_codes row[PACK_ROWS];
};

static __m128i pack_load(const uint8_t *from) {
    return _mm_loadu_si128((const __m128i *)from);
}

static void pack_store(uint8_t *to, __m128i words) {
    _mm_storeu_si128((__m128i *)to, words);
}

/* Word g of row r goes to word 16 g + r: four columns of sixteen rows side by side. `words` is a
 * multiple of 4. */
static void pack_words(const uint8_t *row, size_t stride, uint32_t words, uint8_t *out) {
    const size_t row_of_words = sizeof(uint32_t) * PACK_ROWS;
    for (; words >= 4; words -= 4, row += 16, out += 4 * row_of_words)
        for (uint32_t r = 0; r < PACK_ROWS; r += 4) {
            const uint8_t *from = row + r * stride;
            uint8_t *to = out + sizeof(uint32_t) * r;
            __m128i a = pack_load(from), b = pack_load(from + stride);
            __m128i c = pack_load(from + 2 * stride), d = pack_load(from + 3 * stride);
            __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
            pack_store(to, _mm_unpacklo_epi64(ab, cd));
            pack_store(to + row_of_words, _mm_unpackhi_epi64(ab, cd));
            ab = _mm_unpackhi_epi32(a, b), cd = _mm_unpackhi_epi32(c, d);
            pack_store(to + 2 * row_of_words, _mm_unpacklo_epi64(ab, cd));
            pack_store(to + 3 * row_of_words, _mm_unpackhi_epi64(ab, cd));
        }
}

/* The same for halves of words, one column each: 8 x 8 of them at a time. `columns` is a multiple
 * of 8. */
static void pack_halves(const uint8_t *row, size_t stride, uint32_t columns, uint8_t *out) {
    for (uint32_t k = 0; k < columns; k += 8, row += 16, out += 8 * 2 * PACK_ROWS)
        for (uint32_t r = 0; r < PACK_ROWS; r += 8) {
            __m128i low[4], high[4]; /* columns 0 to 3 and 4 to 7 of rows 2 i and 2 i + 1 */
            for (uint32_t i = 0; i < 4; i++) {
                const uint8_t *from = row + (r + 2 * i) * stride;
                __m128i a = pack_load(from), b = pack_load(from + stride);
                low[i] = _mm_unpacklo_epi16(a, b), high[i] = _mm_unpackhi_epi16(a, b);
            }
            for (uint32_t half = 0; half < 2; half++) {
                const __m128i *x = half == 0 ? low : high;
                uint8_t *to = out + 2 * r + half * 4 * 2 * PACK_ROWS;
                __m128i a = _mm_unpacklo_epi32(x[0], x[1]), b = _mm_unpacklo_epi32(x[2], x[3]);
                pack_store(to, _mm_unpacklo_epi64(a, b));
                pack_store(to + 32, _mm_unpackhi_epi64(a, b));
                a = _mm_unpackhi_epi32(x[0], x[1]), b = _mm_unpackhi_epi32(x[2], x[3]);
                pack_store(to + 64, _mm_unpacklo_epi64(a, b));
                pack_store(to + 96, _mm_unpackhi_epi64(a, b));
            }
        }
}

/* Sixteen rows of whole eights of columns. */
static void pack_floats(enum pack_kind kind, const uint8_t *source, size_t row_bytes, uint32_t cols,
                        uint8_t *panel) {
    const uint32_t value_bytes = pack_format(kind)->bits / 8u;
    for (uint32_t k = 0; k < cols; k += PACK_BLOCK) {
        const uint32_t columns = cols - k < PACK_BLOCK ? cols - k : PACK_BLOCK;
        const size_t at = (size_t)k * value_bytes;
        pack_ask(source + at, row_bytes, at, columns * value_bytes);
        if (kind == PACK_F16)
            pack_halves(source + at, row_bytes, columns, panel + PACK_ROWS * at);
        else /* a word is one column, or a pair of them */
            pack_words(source + at, row_bytes, columns * value_bytes / 4, panel + PACK_ROWS * at);
    }
}

/* Values 32 b .. 32 b + 31 of all rows into a block of values: bytes four columns by sixteen rows,
 * then their bits in planes. */
static void pack_block(const struct pack_format *format, const struct pack_unit *unit, uint32_t b,
                       uint8_t *block) {
    uint8_t bytes[8 * 64];
    pack_words((const uint8_t *)(unit->row[0].value + 32 * b), sizeof unit->row[0], 8,
               format->bits == 8 ? block : bytes);
    for (uint32_t width = 4, at = 0; width > 0; width /= 2) {
        if ((format->bits & width) == 0) continue;
        const __m128i mask = _mm_set1_epi8((char)((1u << width) - 1));
        const __m128i right = _mm_cvtsi32_si128((int)at);
        for (uint32_t v = 0; v < width; v++, block += 64) {
            __m128i plane[4];
            for (int i = 0; i < 4; i++) plane[i] = _mm_setzero_si128();
            for (uint32_t left = 0; left < 8; left += width)
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    __m128i some = pack_load(bytes + 64 * (v + left) + 16 * i);
                    some = _mm_and_si128(_mm_srl_epi16(some, right), mask);
                    some = _mm_sll_epi16(some, _mm_cvtsi32_si128((int)left));
                    plane[i] = _mm_or_si128(plane[i], some);
                }
            for (int i = 0; i < 4; i++) pack_store(block + 16 * i, plane[i]);
        }
        at += width;
    }
}

/* Block `half` (0, 1) of a flat unit. */
static void pack_flat(const struct pack_format *format, const struct pack_unit *from, uint32_t half,
                      uint8_t *unit) {
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        memcpy(unit + 32 * half + 2 * r, &from->row[r].d, 2);
        if (format->has_min) memcpy(unit + FLAT_HEAD + 32 * half + 2 * r, &from->row[r].m, 2);
    }
    pack_block(format, from, 0, unit + format->values_offset + half * pack_block_bytes(format));
}

/* Types whose blocks are d and then the bytes that a panel has, for a panel of 16 rows: nothing has
 * to be taken apart. */
static bool pack_is_direct(enum quant_type type) {
    return type == QUANT_Q8_0 || type == QUANT_Q4_0 || type == QUANT_IQ4_NL;
}

static void pack_direct(const struct pack_format *format, const uint8_t *source, size_t row_bytes,
                        uint32_t half, uint8_t *unit) {
    for (uint32_t r = 0; r < PACK_ROWS; r++)
        memcpy(unit + 32 * half + 2 * r, source + r * row_bytes, 2);
    pack_words(source + 2, row_bytes, format->bits, /* 32 values of so many bits, as words */
               unit + format->values_offset + half * pack_block_bytes(format));
}

/* Byte s of row r goes to 16 s + r, for s below `count` of the 16 that each row's codes have. */
static void pack_bytes(const uint8_t *row, uint32_t count, uint8_t *out) {
    __m128i now[PACK_ROWS], next[PACK_ROWS];
    for (uint32_t r = 0; r < PACK_ROWS; r++)
        now[r] = pack_load(row + r * sizeof(struct quant_codes));
    for (int step = 0; step < 4; step++) { /* each doubles how many rows stand side by side */
        for (uint32_t r = 0; r < PACK_ROWS / 2; r++) {
            next[2 * r] = _mm_unpacklo_epi8(now[r], now[r + PACK_ROWS / 2]);
            next[2 * r + 1] = _mm_unpackhi_epi8(now[r], now[r + PACK_ROWS / 2]);
        }
        memcpy(now, next, sizeof now);
    }
    for (uint32_t s = 0; s < count; s++) pack_store(out + PACK_ROWS * s, now[s]);
}

static void pack_super(const struct pack_format *format, const struct pack_unit *from,
                       uint8_t *unit) {
    const uint32_t subs = 256u / format->sub;
    for (uint32_t r = 0; r < PACK_ROWS; r++) {
        memcpy(unit + 2 * r, &from->row[r].d, 2);
        memcpy(unit + 32 + 2 * r, &from->row[r].m, 2);
    }
    pack_bytes((const uint8_t *)from->row[0].scale, subs, unit + SUPER_HEAD);
    if (format->has_min) pack_bytes(from->row[0].min, subs, unit + SUPER_HEAD + PACK_ROWS * subs);
    for (uint32_t b = 0; b < 8; b++)
        pack_block(format, from, b, unit + format->values_offset + b * pack_block_bytes(format));
}

/* `count` rows of quantised blocks, `row_bytes` apart, into a panel. */
static void pack_quantised(const struct pack_format *format, enum quant_type type,
                           const uint8_t *source, size_t row_bytes, uint32_t count, uint32_t cols,
                           uint8_t *panel) {
    const struct quant_scheme *scheme = quant_scheme(type);
    uint32_t block_bytes = quant_info(type)->block_bytes;
    uint32_t blocks = cols / scheme->unit;
    struct pack_unit unit;
    memset(&unit, 0, sizeof unit); /* rows beyond the matrix stay so */
    const bool direct = count == PACK_ROWS && pack_is_direct(type);
    for (uint32_t i = 0; i < blocks; i++, source += block_bytes) {
        pack_ask(source, row_bytes, (size_t)i * block_bytes, block_bytes);
        if (direct) {
            pack_direct(format, source, row_bytes, i % 2,
                        panel + (size_t)(i / 2) * format->unit_bytes);
            continue;
        }
        for (uint32_t r = 0; r < count; r++) scheme->read(source + r * row_bytes, &unit.row[r]);
        if (scheme->unit == PACK_BLOCK)
            pack_flat(format, &unit, i % 2, panel + (size_t)(i / 2) * format->unit_bytes);
        else
            pack_super(format, &unit, panel + (size_t)i * format->unit_bytes);
    }
    if (scheme->unit == PACK_BLOCK && blocks % 2 == 1) { /* half a unit is left: zeros */
        memset(&unit, 0, sizeof unit);
        pack_flat(format, &unit, 1, panel + (size_t)(blocks / 2) * format->unit_bytes);
    }
}

void pack_panel(const struct packed_matrix *matrix, uint32_t panel, uint8_t *out) {
    const struct model_tensor *tensor = matrix->tensor;
    wick_assert(panel < matrix->n_panels);
    const struct pack_format *format = pack_format(matrix->kind);
    const struct quant_info *info = quant_info(tensor->type);
    size_t row_bytes = (size_t)tensor->cols / info->block_values * info->block_bytes;
    uint32_t first = panel * PACK_ROWS;
    uint32_t count = tensor->rows - first < PACK_ROWS ? tensor->rows - first : PACK_ROWS;
    const uint8_t *source = tensor->data + first * row_bytes;
    if (format->sub != 0) {
        pack_quantised(format, tensor->type, source, row_bytes, count, tensor->cols, out);
        return;
    }
    if (count == PACK_ROWS && tensor->cols % 8 == 0) {
        const size_t bytes = PACK_ROWS * row_bytes; /* rest: columns up to a whole block */
        pack_floats(matrix->kind, source, row_bytes, tensor->cols, out);
        memset(out + bytes, 0, matrix->panel_bytes - bytes);
        return;
    }
    memset(out, 0, matrix->panel_bytes);
    for (uint32_t r = 0; r < count; r++)
        pack_float_row(matrix->kind, source + r * row_bytes, tensor->cols, r, out);
}

void pack_block_widen(const struct pack_format *format, const uint8_t *block, int8_t *out) {
    const __m128i zero = _mm_set1_epi8(format->zero);
    for (uint32_t g = 0; g < 8; g++, out += 64) {
        const uint8_t *plane = block;
        __m128i raw[4];
        for (int i = 0; i < 4; i++) raw[i] = _mm_setzero_si128();
        for (uint32_t width = 8, at = 0; width > 0; width /= 2) {
            if ((format->bits & width) == 0) continue;
            const __m128i mask = _mm_set1_epi8((char)((1u << width) - 1));
            const __m128i right = _mm_cvtsi32_si128((int)(width * (g / width)));
            for (uint32_t i = 0; i < 4; i++) {
                __m128i some = pack_load(plane + 64 * (g % width) + 16 * i);
                some = _mm_and_si128(_mm_srl_epi16(some, right), mask);
                raw[i] = _mm_or_si128(raw[i], _mm_sll_epi16(some, _mm_cvtsi32_si128((int)at)));
            }
            plane += BIT_BYTES * width, at += width;
        }
        for (uint32_t i = 0; i < 4; i++)
            pack_store((uint8_t *)out + 16 * i, _mm_sub_epi8(raw[i], zero));
        for (uint32_t i = 0; format->looked_up && i < 64; i++)
            out[i] = quant_iq4_values[(uint8_t)out[i]];
    }
}

static float pack_f16_at(const uint8_t *halves, uint32_t r) {
    return quant_f16_to_f32(bytes_u16(halves + 2 * r));
}

/* Of a block of bytes. */
static float pack_value_at(const int8_t *values, uint32_t c, uint32_t r) {
    const int8_t value = values[64 * (c / 4) + 4 * r + c % 4];
    return (float)value;
}

/* 32 columns of row r, as F32, rounded as quant_expand rounds them. */
static void pack_expand_block(const struct pack_format *format, const uint8_t *unit, uint32_t block,
                              uint32_t r, float *out) {
    int8_t n[16 * PACK_BLOCK];
    pack_block_widen(format, unit + format->values_offset + block * pack_block_bytes(format), n);
    const bool flat = format->unit_columns == 64;
    const uint8_t *head = flat ? unit + 32 * block : unit; /* 16 of d; of m further on */
    const float d = pack_f16_at(head, r);
    const float m = format->has_min ? pack_f16_at(head + (flat ? FLAT_HEAD : 32), r) : 0;
    const uint32_t subs = 256u / format->sub;
    for (uint32_t c = 0; c < PACK_BLOCK; c++) {
        const float value = pack_value_at(n, c, r);
        const uint8_t *scale = unit + SUPER_HEAD + r; /* of a super unit */
        scale += PACK_ROWS * ((PACK_BLOCK * block + c) / format->sub);
        out[c] = flat ? quant_flat_value(value, d, m, format->has_min)
                      : quant_super_value(value, d, (int8_t)*scale, m, scale[PACK_ROWS * subs],
                                          format->has_min);
    }
}

static float pack_float_value(enum pack_kind kind, const uint8_t *panel, size_t element) {
    if (kind == PACK_F16) return quant_f16_to_f32(bytes_u16(panel + 2 * element));
    uint32_t bits = kind == PACK_F32 ? bytes_u32(panel + 4 * element)
                                     : (uint32_t)bytes_u16(panel + 2 * element) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void pack_row_expand(const struct packed_matrix *matrix, uint32_t row, float *out) {
    wick_assert(row < matrix->rows);
    const struct pack_format *format = pack_format(matrix->kind);
    const uint8_t *panel = matrix->panels + (size_t)(row / PACK_ROWS) * matrix->panel_bytes;
    uint32_t r = row % PACK_ROWS;
    if (format->sub == 0) {
        for (uint32_t k = 0; k < matrix->cols; k++)
            out[k] = pack_float_value(matrix->kind, panel, pack_float_element(matrix->kind, k, r));
        return;
    }
    uint32_t blocks = format->unit_columns / PACK_BLOCK;
    for (uint32_t b = 0; b < matrix->cols / PACK_BLOCK; b++)
        pack_expand_block(format, panel + (size_t)(b / blocks) * format->unit_bytes, b % blocks, r,
                          out + (size_t)PACK_BLOCK * b);
}
