#include "tests/ptx/tensor.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The inner loops are built twice, and the loader takes what the processor has. Every operation in
// them is exact, so both give the same bits.
#define CLONED __attribute__((target_clones("avx2", "default")))

// --- shapes -------------------------------------------------------------------------------------

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

// --- fragments
// ------------------------------------------------------------------------------------

// PTX ISA, "Matrix Fragments for mma.m16n8kK". With groupID = lane / 4, threadID = lane % 4 and e
// elements in a register (1, 2 or 4), one formula holds for all shapes here. Element i of
//   A's register r:  row groupID + 8 * (r % 2), k = threadID * e + i + 4e * (r / 2)
//   B's register r:  k = threadID * e + i + 4e * r, column groupID
//   C's element j:   row groupID + 8 * (j / 2), column threadID * 2 + j % 2
// So A and B are plain matrices of words, e neighbours along k in each: k = e * word + i.
enum { words_max = 8 };

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

static void operands_gather(const struct tensor_mma *mma, const uint32_t *const a[],
                            const uint32_t *const b[], const uint32_t *const c[],
                            struct operands *out) {
    const bool packed = type_bits(mma->c) == 16;
    for (int r = 0; r < mma->a_registers; r++)
        for (int lane = 0; lane < tensor_lanes; lane++)
            out->a[lane / 4 + 8 * (r % 2)][lane % 4 + 4 * (r / 2)] = a[r][lane];
    for (int r = 0; r < mma->b_registers; r++)
        for (int lane = 0; lane < tensor_lanes; lane++)
            out->b[lane % 4 + 4 * r][lane / 4] = b[r][lane];
    for (int half = 0; half < 2; half++)
        for (int lane = 0; lane < tensor_lanes; lane++) {
            uint32_t *pair = &out->c[lane / 4 + 8 * half][lane % 4 * 2];
            pair[0] = packed ? c[half][lane] & 0xffff : c[2 * half][lane];
            pair[1] = packed ? c[half][lane] >> 16 : c[2 * half + 1][lane];
        }
}

static void result_scatter(const struct tensor_mma *mma, const struct operands *in,
                           uint32_t *const d[]) {
    const bool packed = type_bits(mma->d) == 16;
    for (int half = 0; half < 2; half++)
        for (int lane = 0; lane < tensor_lanes; lane++) {
            const uint32_t *pair = &in->c[lane / 4 + 8 * half][lane % 4 * 2];
            if (packed) {
                d[half][lane] = pair[0] | pair[1] << 16;
            } else {
                d[2 * half][lane] = pair[0];
                d[2 * half + 1][lane] = pair[1];
            }
        }
}

// --- integers
// -------------------------------------------------------------------------------------

static int32_t byte_widen(uint32_t word, int i, enum tensor_type type) {
    const uint32_t byte = word >> 8 * i;
    return type == TENSOR_S8 ? (int8_t)byte : (uint8_t)byte;
}

// Exact: 32 products of at most 2^16 each.
CLONED static void integers_multiply(const struct tensor_mma *mma, struct operands *in) {
    enum { e = 4 };
    const int words = mma->k / e;
    v8i b[words_max][e];
    for (int w = 0; w < words; w++) {
        v8u word;
        memcpy(&word, in->b[w], sizeof word);
        for (int i = 0; i < e; i++) {
            const v8u top = word << 8 * (e - 1 - i);
            b[w][i] = mma->b == TENSOR_S8 ? (v8i)top >> 24 : (v8i)(top >> 24);
        }
    }
    for (int m = 0; m < rows_m; m++) {
        v8i sum = {0};
        for (int w = 0; w < words; w++)
            for (int i = 0; i < e; i++) sum += byte_widen(in->a[m][w], i, mma->a) * b[w][i];
        for (int n = 0; n < columns_n; n++) {
            const int64_t total = (int64_t)(int32_t)in->c[m][n] + sum[n];
            if (mma->saturate && total > INT32_MAX)
                in->c[m][n] = INT32_MAX;
            else if (mma->saturate && total < INT32_MIN)
                in->c[m][n] = (uint32_t)INT32_MIN;
            else
                in->c[m][n] = (uint32_t)total;
        }
    }
}

// --- numbers
// --------------------------------------------------------------------------------------

// Any number of these types is exact as F32. A bfloat16 is the upper half of one; TF32's low 13
// bits are not looked at; F16's exponent and fraction fit into F32's after a scaling by the
// difference of the biases. The exponent of a number is that of its significand as stored, so a
// subnormal has the smallest; a zero takes no part in the alignment. What is not finite is set
// apart.
enum { exponent_of_zero = -4096, exponent_floor = -900 };

struct numbers {
    v8f value; // 0 where not finite
    v8i exponent;
    v8i special; // -1 where not finite
};

// words: a number in the low bits of each.
__attribute__((always_inline)) static inline void
numbers_decode(const v8u *words, enum tensor_type type, struct numbers *out) {
    const bool half = type == TENSOR_F16;
    v8u bits = *words;
    if (type == TENSOR_BF16) bits <<= 16;
    if (type == TENSOR_TF32) bits &= ~0x1fffu;
    const v8u magnitude = half ? (bits & 0x7fff) << 13 : bits & 0x7fffffff;
    const v8u sign = half ? (bits & 0x8000) << 16 : bits & 0x80000000;
    const v8i field = (v8i)(magnitude >> 23);
    const v8i zero = magnitude == 0, subnormal = field == 0;
    // F16: the bias changes by 112; a subnormal, having no leading one, is given one for a moment.
    // (Scaling by 2^112 would do, but F32 subnormals on the way cost the processor a trap each.)
    const v8u rebased = magnitude + (112u << 23) + ((v8u)subnormal & 1u << 23);
    const v8f lifted = (v8f)rebased - (v8f)((v8u)subnormal & 113u << 23);
    const v8f scaled = half ? lifted : (v8f)magnitude;
    out->special = field >= (half ? 31 : 255);
    out->value = (v8f)(((v8u)scaled | sign) & ~(v8u)out->special);
    out->exponent = ((field - subnormal - (half ? 15 : 127)) & ~zero) | (zero & exponent_of_zero);
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

// --- floating point
// -------------------------------------------------------------------------------

// [i][...][word]: element i of each word. Rows of A are read one number at a time.
struct decoded {
    double a[2][rows_m][words_max];
    int32_t a_exponent[2][rows_m][words_max];
    v8d b[2][words_max];
    v8i b_exponent[2][words_max];
    bool finite;
};

// 16-bit types have two elements in a word; TF32 has one.
__attribute__((always_inline)) static inline void
matrices_decode_as(enum tensor_type type, const struct operands *in, struct decoded *out) {
    const int e = 32 / (type == TENSOR_TF32 ? 32 : 16);
    v8i special = {0};
    for (int i = 0; i < e; i++) {
        for (int m = 0; m < rows_m; m++) {
            v8u word;
            struct numbers numbers;
            memcpy(&word, in->a[m], sizeof word);
            if (e == 2) word = word >> 16 * i & 0xffff;
            numbers_decode(&word, type, &numbers);
            const v8d value = __builtin_convertvector(numbers.value, v8d);
            memcpy(out->a[i][m], &value, sizeof value);
            memcpy(out->a_exponent[i][m], &numbers.exponent, sizeof numbers.exponent);
            special |= numbers.special;
        }
        for (int w = 0; w < words_max; w++) {
            v8u word;
            struct numbers numbers;
            memcpy(&word, in->b[w], sizeof word);
            if (e == 2) word = word >> 16 * i & 0xffff;
            numbers_decode(&word, type, &numbers);
            out->b[i][w] = __builtin_convertvector(numbers.value, v8d);
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

// One row of D over one block of k, which is four words of all these types. c: the row's
// accumulators, replaced by the exact sums of the aligned terms.
__attribute__((always_inline)) static inline void
block_sum(const struct decoded *in, int e, int m, int block, const struct numbers *c, v8d *sums) {
    enum { block_words = 4, kept_bits = 24 }; // kept below the largest exponent
    const int first = block * block_words;
    v8i largest = c->exponent;
    for (int i = 0; i < e; i++)
        for (int w = first; w < first + block_words; w++) {
            const v8i exponent = in->a_exponent[i][m][w] + in->b_exponent[i][w];
            const v8i above = exponent > largest;
            largest = (exponent & above) | (largest & ~above);
        }
    const v8i floored = largest < exponent_floor; // nothing but zeros: any scale will do
    largest = (floored & exponent_floor) | (largest & ~floored);

    // Each product is below 4 * 2^largest, so each term is below 2^26 and nine of them fit.
    const v8i up = kept_bits - largest + 1023, down = largest - kept_bits + 1023;
    const v8d scale = (v8d)(__builtin_convertvector(up, v8q) << 52);
    const v8d unit = (v8d)(__builtin_convertvector(down, v8q) << 52);
    v8i sum = __builtin_convertvector(__builtin_convertvector(c->value, v8d) * scale, v8i);
    for (int i = 0; i < e; i++)
        for (int w = first; w < first + block_words; w++)
            sum += __builtin_convertvector(in->a[i][m][w] * in->b[i][w] * scale, v8i);
    *sums = __builtin_convertvector(sum, v8d) * unit;
}

CLONED static void numbers_multiply_f32(const struct decoded *in, int e, int blocks,
                                        uint32_t c[rows_m][columns_n]) {
    for (int m = 0; m < rows_m; m++) {
        v8u bits;
        memcpy(&bits, c[m], sizeof bits);
        for (int block = 0; block < blocks; block++) {
            struct numbers numbers;
            v8d sums;
            numbers_decode(&bits, TENSOR_F32, &numbers);
            block_sum(in, e, m, block, &numbers, &sums);
            // Towards zero: without the 52 - 23 bits that F32 does not have. Past the largest it
            // becomes an infinity here.
            const v8d cut = (v8d)((v8q)sums & ~((UINT64_C(1) << 29) - 1));
            bits = (v8u) __builtin_convertvector(cut, v8f);
            const v8u exponents = bits & 0x7f800000;
            for (int n = 0; n < columns_n; n++)
                if (exponents[n] <= 0x00800000 && sums[n] != 0)
                    bits[n] = sums[n] < 0x1p-126 && sums[n] > -0x1p-126
                                  ? f32_truncate_small(sums[n])
                                  : bits[n];
        }
        memcpy(c[m], &bits, sizeof bits);
    }
}

CLONED static void numbers_multiply_f16(const struct decoded *in, int e, int blocks,
                                        uint32_t c[rows_m][columns_n]) {
    for (int m = 0; m < rows_m; m++)
        for (int block = 0; block < blocks; block++) {
            v8u bits;
            struct numbers numbers;
            v8d sums;
            memcpy(&bits, c[m], sizeof bits);
            numbers_decode(&bits, TENSOR_F16, &numbers);
            block_sum(in, e, m, block, &numbers, &sums);
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
    const int e = 32 / type_bits(mma->a), blocks = mma->k / (4 * e);
    const struct operands before = *operands;
    struct decoded in;
    matrices_decode(mma->a, operands, &in);
    bool finite = in.finite;
    for (int m = 0; m < rows_m; m++)
        for (int n = 0; n < columns_n; n++)
            finite &= is_finite(number_value(before.c[m][n], 0, mma->c));
    if (mma->c == TENSOR_F32)
        numbers_multiply_f32(&in, e, blocks, operands->c);
    else
        numbers_multiply_f16(&in, e, blocks, operands->c);
    if (!finite) specials_set(mma, &before, operands->c);
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

// --- ldmatrix and movmatrix
// -------------------------------------------------------------------------

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

// --- cp.async
// ---------------------------------------------------------------------------------------

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
