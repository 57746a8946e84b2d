#include "tests/ptx/tensor.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- shapes -------------------------------------------------------------------------------------

enum { rows_m = 16, columns_n = 8, depth_max = 32 };

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
    enum { words_max = 12, word_max = 12 };
    static const char *const fixed[] = {"mma", "sync", "aligned"};
    char words[words_max][word_max];
    int count = 0;
    for (const char *at = opcode; *at;) {
        size_t length = strcspn(at, ".");
        if (count == words_max || length >= word_max) return false;
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

static uint32_t element(uint32_t word, int bits, int i) {
    return bits == 32 ? word : word >> (bits * i) & ((1u << bits) - 1);
}

static void a_gather(const struct tensor_mma *mma, const uint32_t *const a[],
                     uint32_t out[rows_m][depth_max]) {
    const int bits = type_bits(mma->a), e = 32 / bits;
    for (int r = 0; r < mma->a_registers; r++)
        for (int lane = 0; lane < tensor_lanes; lane++)
            for (int i = 0; i < e; i++)
                out[lane / 4 + 8 * (r % 2)][lane % 4 * e + i + 4 * e * (r / 2)] =
                    element(a[r][lane], bits, i);
}

static void b_gather(const struct tensor_mma *mma, const uint32_t *const b[],
                     uint32_t out[depth_max][columns_n]) {
    const int bits = type_bits(mma->b), e = 32 / bits;
    for (int r = 0; r < mma->b_registers; r++)
        for (int lane = 0; lane < tensor_lanes; lane++)
            for (int i = 0; i < e; i++)
                out[lane % 4 * e + i + 4 * e * r][lane / 4] = element(b[r][lane], bits, i);
}

static void c_gather(const struct tensor_mma *mma, const uint32_t *const c[],
                     uint32_t out[rows_m][columns_n]) {
    const int bits = type_bits(mma->c), e = 32 / bits;
    for (int j = 0; j < 4; j++)
        for (int lane = 0; lane < tensor_lanes; lane++)
            out[lane / 4 + 8 * (j / 2)][lane % 4 * 2 + j % 2] =
                element(c[j / e][lane], bits, j % e);
}

static void d_scatter(const struct tensor_mma *mma, const uint32_t in[rows_m][columns_n],
                      uint32_t *const d[]) {
    const bool packed = type_bits(mma->d) == 16;
    for (int lane = 0; lane < tensor_lanes; lane++)
        for (int half = 0; half < 2; half++) {
            const uint32_t *pair = &in[lane / 4 + 8 * half][lane % 4 * 2];
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

static int32_t widen(uint32_t byte, enum tensor_type type) {
    return type == TENSOR_S8 ? (int8_t)byte : (int32_t)byte;
}

// Exact: 32 products of at most 2^16 each.
static void integers_multiply(const struct tensor_mma *mma, uint32_t a_raw[rows_m][depth_max],
                              uint32_t b_raw[depth_max][columns_n], uint32_t c[rows_m][columns_n]) {
    int32_t b[depth_max][columns_n];
    for (int k = 0; k < mma->k; k++)
        for (int n = 0; n < columns_n; n++) b[k][n] = widen(b_raw[k][n], mma->b);
    for (int m = 0; m < rows_m; m++) {
        int32_t sum[columns_n] = {0};
        for (int k = 0; k < mma->k; k++) {
            const int32_t a = widen(a_raw[m][k], mma->a);
            for (int n = 0; n < columns_n; n++) sum[n] += a * b[k][n];
        }
        for (int n = 0; n < columns_n; n++) {
            const int64_t total = (int64_t)(int32_t)c[m][n] + sum[n];
            if (mma->saturate && total > INT32_MAX)
                c[m][n] = INT32_MAX;
            else if (mma->saturate && total < INT32_MIN)
                c[m][n] = (uint32_t)INT32_MIN;
            else
                c[m][n] = (uint32_t)total;
        }
    }
}

// --- floating point
// ---------------------------------------------------------------------------------

// A number as its value and the exponent of its significand as stored: that of a subnormal is the
// smallest one. A zero takes no part in the alignment.
struct number {
    double value;
    int32_t exponent;
    bool finite;
};

enum { exponent_of_zero = -4096, exponent_floor = -900 };

static double power_of_two(int exponent) {
    assert(exponent > -1023 && exponent < 1024);
    const uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static struct number number_decode(uint32_t raw, enum tensor_type type) {
    uint32_t bits = raw;
    int bias = 127, fraction = 23;
    switch (type) {
    case TENSOR_F16:
        bias = 15, fraction = 10;
        break;
    case TENSOR_BF16:
        fraction = 7;
        break;
    case TENSOR_TF32:
        bits = raw >> 13, fraction = 10;
        break; // the low 13 bits are not looked at
    default:
        break;
    }
    const uint32_t sign = bits >> (type == TENSOR_F16 || type == TENSOR_BF16 ? 15
                                   : type == TENSOR_TF32                     ? 18
                                                                             : 31);
    const uint32_t mask = type == TENSOR_F16 ? 31 : 255;
    const uint32_t field = bits >> fraction & mask;
    const uint32_t low = bits & ((1u << fraction) - 1);
    struct number number = {.finite = field != mask};
    if (!number.finite) {
        number.value = low ? (double)__builtin_nanf("") : (double)__builtin_inff();
        number.exponent = exponent_of_zero;
    } else {
        const int exponent = (field ? (int)field : 1) - bias;
        const uint32_t significand = low | (uint32_t)(field != 0) << fraction;
        number.value = (double)significand * power_of_two(exponent - fraction);
        number.exponent = significand ? exponent : exponent_of_zero;
    }
    if (sign & 1) number.value = -number.value;
    return number;
}

// value is exact; towards zero to F32, past the largest to infinity.
static uint32_t f32_truncate(double value) {
    uint64_t wide;
    memcpy(&wide, &value, sizeof wide);
    const double smallest = power_of_two(-126), unit = power_of_two(-149);
    const double magnitude = value < 0 ? -value : value;
    double cut;
    if (magnitude < smallest) {
        cut = (double)(int64_t)(value / unit) * unit;
    } else {
        wide &= ~((UINT64_C(1) << 29) - 1); // 52 - 23 bits that F32 does not have
        memcpy(&cut, &wide, sizeof cut);
    }
    const float narrow = (float)cut;
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

// One matrix of decoded numbers, values apart from exponents so that the loops below vectorise.
struct decoded {
    double a[rows_m][depth_max], b[depth_max][columns_n];
    int32_t a_exponent[rows_m][depth_max], b_exponent[depth_max][columns_n];
    bool finite;
};

static void numbers_decode(const struct tensor_mma *mma, uint32_t a[rows_m][depth_max],
                           uint32_t b[depth_max][columns_n], struct decoded *out) {
    out->finite = true;
    for (int k = 0; k < mma->k; k++) {
        for (int m = 0; m < rows_m; m++) {
            const struct number number = number_decode(a[m][k], mma->a);
            out->finite &= number.finite;
            out->a[m][k] = number.finite ? number.value : 0;
            out->a_exponent[m][k] = number.exponent;
        }
        for (int n = 0; n < columns_n; n++) {
            const struct number number = number_decode(b[k][n], mma->b);
            out->finite &= number.finite;
            out->b[k][n] = number.finite ? number.value : 0;
            out->b_exponent[k][n] = number.exponent;
        }
    }
}

// One row of D over one block of k: c becomes the row's new accumulators.
static void block_multiply(const struct decoded *in, int m, int k0, int k1, enum tensor_type type,
                           uint32_t c[columns_n]) {
    enum { kept_bits = 24 }; // below the largest exponent
    int32_t largest[columns_n], sum[columns_n];
    double value[columns_n], scale[columns_n];
    for (int n = 0; n < columns_n; n++) {
        const struct number number = number_decode(c[n], type);
        value[n] = number.finite ? number.value : 0;
        largest[n] = number.exponent;
    }
    for (int k = k0; k < k1; k++)
        for (int n = 0; n < columns_n; n++) {
            const int32_t exponent = in->a_exponent[m][k] + in->b_exponent[k][n];
            largest[n] = exponent > largest[n] ? exponent : largest[n];
        }
    for (int n = 0; n < columns_n; n++) {
        if (largest[n] < exponent_floor) largest[n] = exponent_floor; // nothing but zeros
        scale[n] = power_of_two(kept_bits - largest[n]);
        sum[n] = (int32_t)(value[n] * scale[n]);
    }
    // Each product is below 4 * 2^largest, so each term is below 2^26 and nine of them fit.
    for (int k = k0; k < k1; k++) {
        const double a = in->a[m][k];
        for (int n = 0; n < columns_n; n++) sum[n] += (int32_t)(a * in->b[k][n] * scale[n]);
    }
    for (int n = 0; n < columns_n; n++) {
        const double exact = (double)sum[n] / scale[n];
        c[n] = type == TENSOR_F32 ? f32_truncate(exact) : f16_round(exact);
    }
}

// Infinities and NaNs do not depend on the order: what plain arithmetic makes of them is the
// answer.
static void specials_set(const struct tensor_mma *mma, uint32_t a[rows_m][depth_max],
                         uint32_t b[depth_max][columns_n], uint32_t c[rows_m][columns_n],
                         uint32_t d[rows_m][columns_n]) {
    const bool wide = mma->d == TENSOR_F32;
    for (int m = 0; m < rows_m; m++)
        for (int n = 0; n < columns_n; n++) {
            struct number sum = number_decode(c[m][n], mma->c);
            for (int k = 0; k < mma->k; k++) {
                const struct number x = number_decode(a[m][k], mma->a);
                const struct number y = number_decode(b[k][n], mma->b);
                sum.finite &= x.finite && y.finite;
                sum.value += x.value * y.value;
            }
            if (sum.finite) continue;
            const uint32_t sign = sum.value < 0;
            if (sum.value != sum.value)
                d[m][n] = wide ? 0x7fffffff : 0x7fff;
            else
                d[m][n] = wide ? 0x7f800000 | sign << 31 : 0x7c00 | sign << 15;
        }
}

static void numbers_multiply(const struct tensor_mma *mma, uint32_t a[rows_m][depth_max],
                             uint32_t b[depth_max][columns_n], uint32_t c[rows_m][columns_n]) {
    struct decoded in;
    uint32_t before[rows_m][columns_n];
    numbers_decode(mma, a, b, &in);
    memcpy(before, c, sizeof before);
    for (int m = 0; m < rows_m; m++)
        for (int n = 0; n < columns_n; n++) in.finite &= number_decode(c[m][n], mma->c).finite;

    const int block = mma->a == TENSOR_TF32 ? 4 : 8;
    for (int m = 0; m < rows_m; m++)
        for (int k = 0; k < mma->k; k += block) block_multiply(&in, m, k, k + block, mma->c, c[m]);
    if (!in.finite) specials_set(mma, a, b, before, c);
}

void tensor_mma_run(const struct tensor_mma *mma, uint32_t *const d[], const uint32_t *const a[],
                    const uint32_t *const b[], const uint32_t *const c[]) {
    uint32_t a_raw[rows_m][depth_max], b_raw[depth_max][columns_n], c_raw[rows_m][columns_n];
    assert(mma_is_known(mma));
    a_gather(mma, a, a_raw);
    b_gather(mma, b, b_raw);
    c_gather(mma, c, c_raw);
    if (mma->d == TENSOR_S32)
        integers_multiply(mma, a_raw, b_raw, c_raw);
    else
        numbers_multiply(mma, a_raw, b_raw, c_raw);
    d_scatter(mma, (const uint32_t(*)[columns_n])c_raw, d);
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
