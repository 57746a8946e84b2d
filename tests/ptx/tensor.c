#include "tests/ptx/tensor.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The inner loops are built twice, and the loader takes what the processor has. Every operation in
// them is exact, so both give the same bits.
#define CLONED __attribute__((target_clones("avx2", "default")))

// --- shapes ------------------------------------------------------------------------------------

enum { rows_m = 16, columns_n = 8 };

static const struct {
    const char *name;
    enum tensor_type type;
    int bits;
} types[] = {
    {"f16", TENSOR_F16, 16}, {"bf16", TENSOR_BF16, 16}, {"tf32", TENSOR_TF32, 32},
    {"f32", TENSOR_F32, 32}, {"s8", TENSOR_S8, 8},      {"u8", TENSOR_U8, 8},
    {"s32", TENSOR_S32, 32},
};

static int type_bits(enum tensor_type type) {
    return types[type].bits;
}

static bool type_parse(const char *name, enum tensor_type *type) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert(types[i].type == (enum tensor_type)i);
        if (strcmp(name, types[i].name) == 0) {
            *type = types[i].type;
            return true;
        }
    }
    return false;
}

// Table "mma" of the PTX ISA, as far as compute capability 8.0 and the shapes above go.
static bool mma_is_known(const struct tensor_mma *mma) {
    bool integers = (mma->a == TENSOR_S8 || mma->a == TENSOR_U8) &&
                    (mma->b == TENSOR_S8 || mma->b == TENSOR_U8);
    if (integers)
        return mma->c == TENSOR_S32 && mma->d == TENSOR_S32 && (mma->k == 16 || mma->k == 32);
    if (mma->saturate || mma->a != mma->b) return false;
    switch (mma->a) {
    case TENSOR_F16:
        return (mma->k == 8 || mma->k == 16) && (mma->c == TENSOR_F16 || mma->c == TENSOR_F32) &&
               mma->c == mma->d;
    case TENSOR_BF16:
        return (mma->k == 8 || mma->k == 16) && mma->c == TENSOR_F32 && mma->d == TENSOR_F32;
    case TENSOR_TF32:
        return (mma->k == 4 || mma->k == 8) && mma->c == TENSOR_F32 && mma->d == TENSOR_F32;
    default:
        return false;
    }
}

bool tensor_mma_parse(const char *opcode, struct tensor_mma *mma) {
    enum { parts_max = 12, part_max = 12 };
    static const char *const fixed[] = {"mma", "sync", "aligned"};
    char words[parts_max][part_max];
    int count = 0;
    for (const char *at = opcode; *at;) {
        size_t length = strcspn(at, ".");
        if (count == parts_max || length >= part_max) return false;
        memcpy(words[count], at, length);
        words[count++][length] = 0;
        at += length + (at[length] == '.');
    }
    if (count < 10) return false;
    for (int i = 0; i < 3; i++)
        if (strcmp(words[i], fixed[i])) return false;

    *mma = (struct tensor_mma){0};
    int used = 0;
    if (sscanf(words[3], "m16n8k%d%n", &mma->k, &used) != 1 || words[3][used]) return false;
    if (strcmp(words[4], "row") || strcmp(words[5], "col")) return false;
    mma->saturate = strcmp(words[6], "satfinite") == 0;
    const int first = mma->saturate ? 7 : 6;
    if (count != first + 4) return false;
    if (!type_parse(words[first], &mma->d) || !type_parse(words[first + 1], &mma->a) ||
        !type_parse(words[first + 2], &mma->b) || !type_parse(words[first + 3], &mma->c))
        return false;
    if (!mma_is_known(mma)) return false;
    mma->a_registers = rows_m * mma->k * type_bits(mma->a) / (32 * tensor_lanes);
    mma->b_registers = columns_n * mma->k * type_bits(mma->b) / (32 * tensor_lanes);
    mma->c_registers = rows_m * columns_n * type_bits(mma->c) / (32 * tensor_lanes);
    mma->d_registers = rows_m * columns_n * type_bits(mma->d) / (32 * tensor_lanes);
    return true;
}

// --- fragments ---------------------------------------------------------------------------------

// PTX ISA, "Matrix Fragments for mma.m16n8kK". With groupID = lane / 4, threadID = lane % 4 and e
// elements in a register (1, 2 or 4), one formula holds for all shapes here. Element i of
//   A's register r:  row groupID + 8 * (r % 2), k = threadID * e + i + 4e * (r / 2)
//   B's register r:  k = threadID * e + i + 4e * r, column groupID
//   C's element j:   row groupID + 8 * (j / 2), column threadID * 2 + j % 2
// So A and B are plain matrices of words, e neighbours along k in each: k = e * word + i.
enum { words_max = 8 };

typedef uint32_t v4u __attribute__((vector_size(16)));
typedef uint32_t v8u __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef float v8f __attribute__((vector_size(32)));
typedef double v8d __attribute__((vector_size(64)));
typedef uint64_t v8q __attribute__((vector_size(64)));

struct operands {
    uint32_t a[rows_m][words_max]; // [row][word]
    uint32_t b[words_max][columns_n];
    uint32_t c[rows_m][columns_n]; // one element each; becomes D
};

// The lanes of one group are neighbours in a register, and so are their words in a row of A; in C
// and D the words of two registers take turns.
static void operands_gather(const struct tensor_mma *mma, const uint32_t *const a[],
                            const uint32_t *const b[], const uint32_t *const c[],
                            struct operands *out) {
    enum { quad = 4 };
    const bool packed = type_bits(mma->c) == 16;
    for (int r = 0; r < mma->a_registers; r++)
        for (int group = 0; group < columns_n; group++)
            memcpy(&out->a[group + 8 * (r % 2)][quad * (r / 2)], &a[r][quad * group],
                   quad * sizeof **a);
    for (int r = 0; r < mma->b_registers; r++)
        for (int group = 0; group < columns_n; group++)
            for (int thread = 0; thread < quad; thread++)
                out->b[thread + quad * r][group] = b[r][quad * group + thread];
    for (int half = 0; half < 2; half++)
        for (int group = 0; group < columns_n; group++) {
            v4u first, second;
            memcpy(&first, &c[packed ? half : 2 * half][quad * group], sizeof first);
            memcpy(&second, &c[packed ? half : 2 * half + 1][quad * group], sizeof second);
            if (packed) {
                first &= 0xffff;
                second >>= 16;
            }
            const v8u row = __builtin_shufflevector(first, second, 0, 4, 1, 5, 2, 6, 3, 7);
            memcpy(out->c[group + 8 * half], &row, sizeof row);
        }
}

static void result_scatter(const struct tensor_mma *mma, const struct operands *in,
                           uint32_t *const d[]) {
    enum { quad = 4 };
    const bool packed = type_bits(mma->d) == 16;
    for (int half = 0; half < 2; half++)
        for (int group = 0; group < columns_n; group++) {
            v8u row;
            memcpy(&row, in->c[group + 8 * half], sizeof row);
            const v4u first = __builtin_shufflevector(row, row, 0, 2, 4, 6);
            const v4u second = __builtin_shufflevector(row, row, 1, 3, 5, 7);
            if (packed) {
                const v4u both = first | second << 16;
                memcpy(&d[half][quad * group], &both, sizeof both);
            } else {
                memcpy(&d[2 * half][quad * group], &first, sizeof first);
                memcpy(&d[2 * half + 1][quad * group], &second, sizeof second);
            }
        }
}

// --- integers ----------------------------------------------------------------------------------

// Byte i of each word.
__attribute__((always_inline)) static inline void bytes_widen(const uint32_t *words, int i,
                                                              enum tensor_type type, v8i *out) {
    enum { e = 4 };
    v8u word;
    memcpy(&word, words, sizeof word);
    const v8u top = word << 8 * (e - 1 - i);
    *out = type == TENSOR_S8 ? (v8i)top >> 24 : (v8i)(top >> 24);
}

// Exact: 32 products of at most 2^16 each.
CLONED static void integers_multiply(const struct tensor_mma *mma, struct operands *in) {
    enum { e = 4 };
    const int words = mma->k / e;
    v8i b[words_max][e];
    for (int w = 0; w < words; w++)
        for (int i = 0; i < e; i++) bytes_widen(in->b[w], i, mma->b, &b[w][i]);
    for (int m = 0; m < rows_m; m++) {
        v8i a[e], sum = {0};
        v8u start;
        for (int i = 0; i < e; i++) bytes_widen(in->a[m], i, mma->a, &a[i]);
        for (int w = 0; w < words; w++)
            for (int i = 0; i < e; i++) sum += a[i][w] * b[w][i];
        memcpy(&start, in->c[m], sizeof start);
        const v8u wrapped = start + (v8u)sum;
        memcpy(in->c[m], &wrapped, sizeof wrapped);
        for (int n = 0; n < columns_n && mma->saturate; n++) {
            const int64_t total = (int64_t)(int32_t)start[n] + sum[n];
            if (total > INT32_MAX) in->c[m][n] = INT32_MAX;
            if (total < INT32_MIN) in->c[m][n] = (uint32_t)INT32_MIN;
        }
    }
}

// --- numbers ------------------------------------------------------------------------------------

// A number as a signed significand and the exponent of its leading place as stored: 1.5 in F16 is
// 1536 = 1.5 * 2^10 and 0. A subnormal has the smallest exponent there is. A zero takes no part in
// the alignment, and what is not finite is set apart and counts as zero.
enum { exponent_of_zero = -4096, exponent_floor = -900 };

struct numbers {
    v8i significand, exponent;
    v8i special; // -1 where not finite
};

// Bits after the leading place.
static int fraction_bits(enum tensor_type type) {
    switch (type) {
    case TENSOR_BF16:
        return 7;
    case TENSOR_F32:
        return 23;
    default:
        return 10; // F16, and TF32, whose low 13 bits are not looked at
    }
}

// words: a number in the low bits of each.
__attribute__((always_inline)) static inline void
numbers_decode(const v8u *words, enum tensor_type type, struct numbers *out) {
    const int fraction = fraction_bits(type);
    const int top = type == TENSOR_F16 ? 31 : 255, bias = top / 2;
    const v8u bits = type == TENSOR_TF32 ? *words >> 13 : *words;
    const v8i field = (v8i)(bits >> fraction) & top;
    const v8i low = (v8i)bits & ((1 << fraction) - 1);
    const v8i sign = -((v8i)(bits >> (fraction + (top == 31 ? 5 : 8))) & 1);
    const v8i subnormal = field == 0;
    const v8i magnitude = low | (~subnormal & 1 << fraction);
    const v8i zero = magnitude == 0;
    out->special = field == top;
    out->significand = ((magnitude ^ sign) - sign) & ~out->special;
    out->exponent = ((field - subnormal - bias) & ~zero) | (zero & exponent_of_zero);
}

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool is_finite(float value) {
    return value - value == 0;
}

// The i-th number of a word, infinities and NaNs included.
static float number_value(uint32_t word, int i, enum tensor_type type) {
    const uint32_t half = word >> 16 * i & 0xffff;
    switch (type) {
    case TENSOR_F16: {
        const float value = float_of_bits((half & 0x7fff) << 13) * 0x1p112f;
        const float special = half & 0x3ff ? __builtin_nanf("") : __builtin_inff();
        const float whole = (half & 0x7c00) == 0x7c00 ? special : value;
        return half & 0x8000 ? -whole : whole;
    }
    case TENSOR_BF16:
        return float_of_bits(half << 16);
    case TENSOR_TF32:
        return float_of_bits(word & ~0x1fffu);
    default:
        return float_of_bits(word);
    }
}

static double power_of_two(int exponent) {
    const uint64_t bits = (uint64_t)(int64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// value is exact; towards zero to F32 where that is subnormal and has fewer bits.
static uint32_t f32_truncate_small(double value) {
    const float narrow = (float)((double)(int64_t)(value / 0x1p-149) * 0x1p-149);
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return bits;
}

// value is exact; to nearest even.
static uint32_t f16_round(double value) {
    uint64_t wide;
    memcpy(&wide, &value, sizeof wide);
    const uint32_t sign = (uint32_t)(wide >> 63) << 15;
    const double magnitude = value < 0 ? -value : value;
    if (magnitude == 0) return sign;
    int exponent = (int)(wide >> 52 & 2047) - 1023;
    if (exponent > 15) return sign | 0x7c00;
    if (exponent < -14) exponent = -14;
    const double scaled = magnitude * power_of_two(10 - exponent); // below 2^11
    uint32_t whole = (uint32_t)scaled;
    const double rest = scaled - whole;
    if (rest > 0.5 || (rest == 0.5 && (whole & 1))) whole++;
    // A carry out of the significand moves into the exponent by itself, up to infinity.
    return sign | (((uint32_t)(exponent + 14) << 10) + whole);
}

// --- floating point -----------------------------------------------------------------------------

// [i][...][word]: element i of each word. Rows of A are read one number at a time.
struct decoded {
    int32_t a[2][rows_m][words_max], a_exponent[2][rows_m][words_max];
    v8i b[2][words_max], b_exponent[2][words_max];
    bool finite;
};

// 16-bit types have two elements in a word; TF32 has one.
__attribute__((always_inline)) static inline void
matrices_decode_as(enum tensor_type type, const struct operands *in, struct decoded *out) {
    const int e = type == TENSOR_TF32 ? 1 : 2;
    v8i special = {0};
    for (int i = 0; i < e; i++) {
        for (int m = 0; m < rows_m; m++) {
            v8u word;
            struct numbers numbers;
            memcpy(&word, in->a[m], sizeof word);
            if (e == 2) word = word >> 16 * i & 0xffff;
            numbers_decode(&word, type, &numbers);
            memcpy(out->a[i][m], &numbers.significand, sizeof numbers.significand);
            memcpy(out->a_exponent[i][m], &numbers.exponent, sizeof numbers.exponent);
            special |= numbers.special;
        }
        for (int w = 0; w < words_max; w++) {
            v8u word;
            struct numbers numbers;
            memcpy(&word, in->b[w], sizeof word);
            if (e == 2) word = word >> 16 * i & 0xffff;
            numbers_decode(&word, type, &numbers);
            out->b[i][w] = numbers.significand;
            out->b_exponent[i][w] = numbers.exponent;
            special |= numbers.special;
        }
    }
    out->finite = true;
    for (int n = 0; n < columns_n; n++) out->finite &= special[n] == 0;
}

CLONED static void matrices_decode(enum tensor_type type, const struct operands *in,
                                   struct decoded *out) {
    switch (type) {
    case TENSOR_F16:
        matrices_decode_as(TENSOR_F16, in, out);
        break;
    case TENSOR_BF16:
        matrices_decode_as(TENSOR_BF16, in, out);
        break;
    default:
        matrices_decode_as(TENSOR_TF32, in, out);
        break;
    }
}

enum { kept_bits = 24, block_words = 4 }; // kept below the largest exponent of a block

// Adds a significand in units of the last place kept, cut towards zero.
__attribute__((always_inline)) static inline void
aligned_add(v8i *sum, const v8i *significand, int fraction, const v8i *below_largest) {
    enum { far = 31 }; // nothing is left
    const v8i sign = *significand >> 31, is_far = *below_largest > far;
    const v8i shift = (is_far & far) | (*below_largest & ~is_far);
    const v8u magnitude = (v8u)((*significand ^ sign) - sign) << (kept_bits - fraction);
    *sum += ((v8i)(magnitude >> (v8u)shift) ^ sign) - sign;
}

// One row of D over one block of k, which is four words of all these types. c: the row's
// accumulators; sums: the exact sums of the aligned terms. Each product is below 4 * 2^largest, so
// each term is below 2^26 and nine of them fit.
__attribute__((always_inline)) static inline void block_sum(const struct decoded *in, int e,
                                                            int product_fraction, int m, int block,
                                                            const struct numbers *c, int c_fraction,
                                                            v8d *sums) {
    const int first = block * block_words;
    v8i exponents[2 * block_words], largest = c->exponent;
    for (int t = 0; t < e * block_words; t++) {
        const int i = t / block_words, w = first + t % block_words;
        exponents[t] = in->a_exponent[i][m][w] + in->b_exponent[i][w];
        const v8i above = exponents[t] > largest;
        largest = (exponents[t] & above) | (largest & ~above);
    }
    v8i sum = {0}, below = largest - c->exponent;
    aligned_add(&sum, &c->significand, c_fraction, &below);
    for (int t = 0; t < e * block_words; t++) {
        const int i = t / block_words, w = first + t % block_words;
        const v8i product = in->a[i][m][w] * in->b[i][w];
        below = largest - exponents[t];
        aligned_add(&sum, &product, product_fraction, &below);
    }
    const v8i floored = largest < exponent_floor; // nothing but zeros: any unit will do
    const v8i place = (floored & exponent_floor) | (largest & ~floored);
    const v8i biased = place - kept_bits + 1023;
    const v8d unit = (v8d)(__builtin_convertvector(biased, v8q) << 52);
    *sums = __builtin_convertvector(sum, v8d) * unit;
}

__attribute__((always_inline)) static inline void multiply_f32_as(const struct decoded *in, int e,
                                                                  int product_fraction, int blocks,
                                                                  uint32_t c[rows_m][columns_n]) {
    for (int m = 0; m < rows_m; m++) {
        v8u bits;
        memcpy(&bits, c[m], sizeof bits);
        for (int block = 0; block < blocks; block++) {
            struct numbers numbers;
            v8d sums;
            numbers_decode(&bits, TENSOR_F32, &numbers);
            block_sum(in, e, product_fraction, m, block, &numbers, fraction_bits(TENSOR_F32),
                      &sums);
            // Towards zero: without the 52 - 23 bits that F32 does not have. Past the largest it
            // becomes an infinity here.
            const v8d cut = (v8d)((v8q)sums & ~((UINT64_C(1) << 29) - 1));
            bits = (v8u) __builtin_convertvector(cut, v8f);
            // Where F32 is subnormal it has still fewer bits.
            const v8i small = (v8i)(bits & 0x7f800000) <= 0x00800000;
            int any = 0;
            for (int n = 0; n < columns_n; n++) any |= small[n];
            for (int n = 0; n < columns_n && any; n++)
                if (sums[n] < 0x1p-126 && sums[n] > -0x1p-126)
                    bits[n] = f32_truncate_small(sums[n]);
        }
        memcpy(c[m], &bits, sizeof bits);
    }
}

CLONED static void multiply_f32(enum tensor_type type, const struct decoded *in, int blocks,
                                uint32_t c[rows_m][columns_n]) {
    switch (type) { // constants, so that the loops are made for them
    case TENSOR_F16:
        multiply_f32_as(in, 2, 20, blocks, c);
        break;
    case TENSOR_BF16:
        multiply_f32_as(in, 2, 14, blocks, c);
        break;
    default:
        multiply_f32_as(in, 1, 20, blocks, c);
        break;
    }
}

CLONED static void multiply_f16(const struct decoded *in, int blocks,
                                uint32_t c[rows_m][columns_n]) {
    const int fraction = fraction_bits(TENSOR_F16);
    for (int m = 0; m < rows_m; m++)
        for (int block = 0; block < blocks; block++) {
            v8u bits;
            struct numbers numbers;
            v8d sums;
            memcpy(&bits, c[m], sizeof bits);
            numbers_decode(&bits, TENSOR_F16, &numbers);
            block_sum(in, 2, 2 * fraction, m, block, &numbers, fraction, &sums);
            for (int n = 0; n < columns_n; n++) c[m][n] = f16_round(sums[n]);
        }
}

// Infinities and NaNs do not depend on the order: what plain arithmetic makes of them is the
// answer. before: the operands; c: the result so far.
static void specials_set(const struct tensor_mma *mma, const struct operands *before,
                         uint32_t c[rows_m][columns_n]) {
    const bool single = mma->d == TENSOR_F32;
    const int e = 32 / type_bits(mma->a);
    for (int m = 0; m < rows_m; m++)
        for (int n = 0; n < columns_n; n++) {
            double sum = (double)number_value(before->c[m][n], 0, mma->c);
            bool finite = is_finite((float)sum);
            for (int k = 0; k < mma->k; k++) {
                const float x = number_value(before->a[m][k / e], k % e, mma->a);
                const float y = number_value(before->b[k / e][n], k % e, mma->b);
                finite &= is_finite(x) && is_finite(y);
                sum += (double)x * (double)y;
            }
            if (finite) continue;
            const uint32_t sign = sum < 0;
            if (sum != sum)
                c[m][n] = single ? 0x7fffffff : 0x7fff;
            else
                c[m][n] = single ? 0x7f800000 | sign << 31 : 0x7c00 | sign << 15;
        }
}

static void numbers_multiply(const struct tensor_mma *mma, struct operands *operands) {
    const int blocks = mma->k * type_bits(mma->a) / (32 * block_words);
    const struct operands before = *operands;
    struct decoded in;
    matrices_decode(mma->a, operands, &in);
    const uint32_t special = mma->c == TENSOR_F32 ? 0x7f800000 : 0x7c00;
    uint32_t specials = !in.finite;
    for (int m = 0; m < rows_m; m++)
        for (int n = 0; n < columns_n; n++) specials |= (before.c[m][n] & special) == special;
    if (mma->c == TENSOR_F32)
        multiply_f32(mma->a, &in, blocks, operands->c);
    else
        multiply_f16(&in, blocks, operands->c);
    if (specials) specials_set(mma, &before, operands->c);
}

void tensor_mma_run(const struct tensor_mma *mma, uint32_t *const d[], const uint32_t *const a[],
                    const uint32_t *const b[], const uint32_t *const c[]) {
    assert(mma_is_known(mma));
    struct operands operands = {0};
    operands_gather(mma, a, b, c, &operands);
    if (mma->d == TENSOR_S32)
        integers_multiply(mma, &operands);
    else
        numbers_multiply(mma, &operands);
    result_scatter(mma, &operands, d);
}

// --- ldmatrix and movmatrix --------------------------------------------------------------------

// Lane l receives the elements 2 * (l % 4) and the next one of row l / 4; transposed, of column l
// / 4.
static void matrix_scatter(bool transposed, uint16_t in[8][8], uint32_t *d) {
    for (int lane = 0; lane < tensor_lanes; lane++) {
        const int major = lane / 4, minor = lane % 4 * 2;
        const uint32_t low = transposed ? in[minor][major] : in[major][minor];
        const uint32_t high = transposed ? in[minor + 1][major] : in[major][minor + 1];
        d[lane] = low | high << 16;
    }
}

void tensor_ldmatrix(int matrices, bool transposed, const uint8_t rows[][tensor_row_bytes],
                     uint32_t *const d[]) {
    assert(matrices == 1 || matrices == 2 || matrices == 4);
    for (int j = 0; j < matrices; j++) {
        uint16_t matrix[8][8];
        memcpy(matrix, rows[8 * j], sizeof matrix);
        matrix_scatter(transposed, matrix, d[j]);
    }
}

void tensor_movmatrix(uint32_t *d, const uint32_t *a) {
    uint16_t matrix[8][8];
    for (int lane = 0; lane < tensor_lanes; lane++) {
        matrix[lane / 4][lane % 4 * 2] = (uint16_t)a[lane];
        matrix[lane / 4][lane % 4 * 2 + 1] = (uint16_t)(a[lane] >> 16);
    }
    matrix_scatter(true, matrix, d);
}

// --- cp.async ----------------------------------------------------------------------------------

void tensor_async_copy(struct tensor_async *async, int lane, uint64_t source, uint32_t target,
                       int bytes, int read, const uint8_t *data) {
    assert(bytes == 4 || bytes == 8 || bytes == 16);
    assert(lane >= 0 && lane < tensor_lanes && read >= 0 && read <= bytes);
    if (async->count == async->room) {
        const size_t room = async->room ? 2 * async->room : 128;
        struct tensor_copy *copies = realloc(async->copies, room * sizeof *copies);
        if (!copies) abort();
        async->copies = copies;
        async->room = room;
    }
    struct tensor_copy *copy = &async->copies[async->count++];
    *copy = (struct tensor_copy){
        .source = source,
        .target = target,
        .group = async->groups[lane],
        .lane = (uint8_t)lane,
        .bytes = (uint8_t)bytes,
        .read = (uint8_t)read,
    };
    if (read) memcpy(copy->data, data, (size_t)read);
}

void tensor_async_commit(struct tensor_async *async, uint32_t lanes) {
    for (int lane = 0; lane < tensor_lanes; lane++) async->groups[lane] += lanes >> lane & 1;
}

// Lands the copies of the lanes' groups below until[lane], and closes the gaps they leave.
static void copies_land(struct tensor_async *async, uint32_t lanes, const uint32_t *until,
                        tensor_land *land, void *context) {
    size_t kept = 0;
    for (size_t i = 0; i < async->count; i++) {
        const struct tensor_copy *copy = &async->copies[i];
        if (lanes >> copy->lane & 1 && copy->group < until[copy->lane])
            land(context, copy);
        else
            async->copies[kept++] = *copy;
    }
    async->count = kept;
}

void tensor_async_wait(struct tensor_async *async, uint32_t lanes, uint32_t pending,
                       tensor_land *land, void *context) {
    uint32_t until[tensor_lanes];
    for (int lane = 0; lane < tensor_lanes; lane++)
        until[lane] = async->groups[lane] > pending ? async->groups[lane] - pending : 0;
    copies_land(async, lanes, until, land, context);
}

void tensor_async_wait_all(struct tensor_async *async, uint32_t lanes, tensor_land *land,
                           void *context) {
    uint32_t until[tensor_lanes];
    for (int lane = 0; lane < tensor_lanes; lane++) until[lane] = UINT32_MAX;
    copies_land(async, lanes, until, land, context);
}

size_t tensor_async_pending(const struct tensor_async *async, uint32_t lanes) {
    size_t pending = 0;
    for (size_t i = 0; i < async->count; i++) pending += lanes >> async->copies[i].lane & 1;
    return pending;
}

void tensor_async_clear(struct tensor_async *async) {
    free(async->copies);
    *async = (struct tensor_async){0};
}
