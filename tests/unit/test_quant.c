#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "gguf/gguf.h"
#include "gguf/quant.h"

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n) { /* splitmix64 */
    uint64_t z = random_state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (uint32_t)((z ^ z >> 31) % n);
}

/* binary16 by its definition, in numbers and not in bits: the judge of ours. */
static float half_value(uint16_t bits) {
    int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    double value = exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) value = mantissa == 0 ? INFINITY : NAN;
    return (float)(bits & 0x8000 ? -value : value);
}

/* The nearest half, the even one of two equally near. */
static uint16_t half_of(float value) {
    double magnitude = fabs((double)value);
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    if (magnitude >= 65520) return sign | 0x7C00;
    int exponent = -13;
    if (magnitude > 0)
        (void)frexp(magnitude, &exponent); /* magnitude is in [2^(exponent - 1), 2^exponent) */
    if (exponent < -13) exponent = -13;    /* subnormal */
    int units = (int)nearbyint(ldexp(magnitude, 11 - exponent)); /* of 2^(exponent - 11) */
    return (uint16_t)(sign + ((exponent + 13) << 10) + units); /* 1024 units are one exponent up */
}

static uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

Test(quant, every_binary16_becomes_its_binary32_and_comes_back) {
    for (uint32_t h = 0; h < 65536; h++) {
        float ours = quant_f16_to_f32((uint16_t)h), theirs = half_value((uint16_t)h);
        if ((h & 0x7FFF) > 0x7C00) {
            cr_assert(isnan(ours), "%04x", h);
            uint16_t back = quant_f32_to_f16(ours);
            cr_assert((back & 0x7FFF) > 0x7C00 && (back & 0x8000) == (h & 0x8000), "%04x", h);
            continue;
        }
        cr_assert_eq(float_bits(ours), float_bits(theirs), "%04x", h);
        cr_assert_eq(quant_f32_to_f16(ours), h, "%04x", h);
    }
}

Test(quant, binary32_rounds_to_the_nearest_even_binary16) {
    for (uint32_t h = 0; h <= 0x7C00; h++) { /* around every half and every midpoint */
        uint32_t here = float_bits(half_value((uint16_t)h));
        uint32_t next = h == 0x7C00 ? 0x7F800000 : float_bits(half_value((uint16_t)(h + 1)));
        const uint32_t tried[] = {
            here,    here + 1, (here + next) / 2 - 1, (here + next) / 2, (here + next) / 2 + 1,
            next - 1};
        for (size_t i = 0; i < sizeof tried / sizeof tried[0]; i++) {
            float value = bits_float(tried[i]);
            if (isnan(value)) continue;
            cr_assert_eq(quant_f32_to_f16(value), half_of(value), "%08x", tried[i]);
            cr_assert_eq(quant_f32_to_f16(-value), half_of(-value), "-%08x", tried[i]);
        }
    }
    for (int i = 0; i < 1000000; i++) {
        float value = bits_float(random_below(UINT32_MAX));
        if (!isnan(value)) cr_assert_eq(quant_f32_to_f16(value), half_of(value), "%a", value);
    }
    cr_assert_eq(quant_f32_to_f16(65519.996f), 0x7BFF);
    cr_assert_eq(quant_f32_to_f16(65520.0f), 0x7C00);
    cr_assert_eq(quant_f32_to_f16(0x1p-25f), 0);
    cr_assert_eq(quant_f32_to_f16(0x1.000002p-25f), 1);
}

/* The integers that a block stores. The packers below are written from the side of the quantiser:
 * which value goes to which bits; what the block must expand to is computed from the integers. */
struct integers {
    uint16_t d, m;
    int q[256]; /* as stored, unsigned; Q8_0 signed */
    int scale[16], minimum[16];
};

static const int iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                            1,    13,   25,  38,  53,  69,  89,  113};

static uint8_t low(int q) {
    return (uint8_t)(q & 0xF);
}

static void half_put(uint8_t *at, uint16_t bits) {
    at[0] = (uint8_t)(bits & 0xFF);
    at[1] = (uint8_t)(bits >> 8);
}

static void nibbles_put(uint8_t *at, const int *q) {
    for (int j = 0; j < 16; j++) at[j] = (uint8_t)(low(q[j]) | low(q[j + 16]) << 4);
}

static void fifth_put(uint8_t *at, const int *q) {
    for (int i = 0; i < 32; i++) at[i / 8] |= (uint8_t)((q[i] >> 4) << (i % 8));
}

static void pack_q4_0(const struct integers *in, uint8_t *block) {
    half_put(block, in->d);
    nibbles_put(block + 2, in->q);
}

static void pack_q4_1(const struct integers *in, uint8_t *block) {
    half_put(block, in->d);
    half_put(block + 2, in->m);
    nibbles_put(block + 4, in->q);
}

static void pack_q5_0(const struct integers *in, uint8_t *block) {
    half_put(block, in->d);
    fifth_put(block + 2, in->q);
    nibbles_put(block + 6, in->q);
}

static void pack_q5_1(const struct integers *in, uint8_t *block) {
    half_put(block, in->d);
    half_put(block + 2, in->m);
    fifth_put(block + 4, in->q);
    nibbles_put(block + 8, in->q);
}

static void pack_q8_0(const struct integers *in, uint8_t *block) {
    half_put(block, in->d);
    for (int i = 0; i < 32; i++) block[2 + i] = (uint8_t)in->q[i];
}

static void crumbs_put(uint8_t *at, const int *q) {
    for (int half = 0; half < 2; half++)
        for (int l = 0; l < 32; l++) {
            const int *v = q + 128 * half + l;
            at[32 * half + l] =
                (uint8_t)((v[0] & 3) | (v[32] & 3) << 2 | (v[64] & 3) << 4 | (v[96] & 3) << 6);
        }
}

static void pack_q2_k(const struct integers *in, uint8_t *block) {
    for (int s = 0; s < 16; s++) block[s] = (uint8_t)(in->scale[s] | in->minimum[s] << 4);
    crumbs_put(block + 16, in->q);
    half_put(block + 80, in->d);
    half_put(block + 82, in->m);
}

static void pack_q3_k(const struct integers *in, uint8_t *block) {
    int byte = 0, bit = 0;
    for (int i = 0; i < 256; i++) { /* the upper bits go round the 32 bytes, one bit a round */
        if (in->q[i] >= 4) block[byte] |= (uint8_t)(1 << bit);
        if (++byte == 32) {
            byte = 0;
            bit++;
        }
    }
    crumbs_put(block + 32, in->q);
    uint8_t *packed = block + 96;
    for (int s = 0; s < 16; s++) {
        if (s < 8)
            packed[s] |= low(in->scale[s]);
        else
            packed[s - 8] |= (uint8_t)(low(in->scale[s]) << 4);
        packed[8 + s % 4] |= (uint8_t)((in->scale[s] >> 4) << (2 * (s / 4)));
    }
    half_put(block + 108, in->d);
}

static void scales_put(uint8_t *packed, const struct integers *in) {
    for (int s = 0; s < 4; s++) {
        packed[s] = (uint8_t)(in->scale[s] | in->scale[s + 4] >> 4 << 6);
        packed[s + 4] = (uint8_t)(in->minimum[s] | in->minimum[s + 4] >> 4 << 6);
        packed[s + 8] = (uint8_t)(low(in->scale[s + 4]) | low(in->minimum[s + 4]) << 4);
    }
}

static void pairs_put(uint8_t *at, const int *q) { /* 64 values to 32 bytes, four times */
    for (int pair = 0; pair < 4; pair++)
        for (int l = 0; l < 32; l++)
            at[32 * pair + l] = (uint8_t)(low(q[64 * pair + l]) | low(q[64 * pair + 32 + l]) << 4);
}

static void pack_q4_k(const struct integers *in, uint8_t *block) {
    half_put(block, in->d);
    half_put(block + 2, in->m);
    scales_put(block + 4, in);
    pairs_put(block + 16, in->q);
}

static void pack_q5_k(const struct integers *in, uint8_t *block) {
    half_put(block, in->d);
    half_put(block + 2, in->m);
    scales_put(block + 4, in);
    for (int i = 0; i < 256; i++) block[16 + i % 32] |= (uint8_t)((in->q[i] >> 4) << (i / 32));
    pairs_put(block + 48, in->q);
}

static void pack_q6_k(const struct integers *in, uint8_t *block) {
    for (int half = 0; half < 2; half++)
        for (int l = 0; l < 32; l++) {
            const int *v = in->q + 128 * half + l;
            block[64 * half + l] = (uint8_t)(low(v[0]) | low(v[64]) << 4);
            block[64 * half + 32 + l] = (uint8_t)(low(v[32]) | low(v[96]) << 4);
            block[128 + 32 * half + l] =
                (uint8_t)(v[0] >> 4 | v[32] >> 4 << 2 | v[64] >> 4 << 4 | v[96] >> 4 << 6);
        }
    for (int s = 0; s < 16; s++) block[192 + s] = (uint8_t)in->scale[s];
    half_put(block + 208, in->d);
}

static void pack_iq4_xs(const struct integers *in, uint8_t *block) {
    half_put(block, in->d);
    int upper = 0;
    for (int s = 0; s < 8; s++) {
        upper |= (in->scale[s] >> 4) << (2 * s);
        block[4 + s / 2] |= (uint8_t)(low(in->scale[s]) << (s % 2 == 0 ? 0 : 4));
    }
    half_put(block + 2, (uint16_t)upper);
    for (int s = 0; s < 8; s++) nibbles_put(block + 8 + 16 * s, in->q + 32 * s);
}

/* What value i of the block is, step by step in F32. */
static float expected_value(enum quant_type type, const struct integers *in, int i) {
    float d = half_value(in->d), m = half_value(in->m);
    int q = in->q[i], s16 = in->scale[i / 16], s32 = in->scale[i / 32];
    int min16 = in->minimum[i / 16], min32 = in->minimum[i / 32];
    float scaled16 = d * (float)s16, scaled32 = d * (float)s32;
    switch (type) {
    case QUANT_Q4_0:
        return (float)(q - 8) * d;
    case QUANT_Q5_0:
        return (float)(q - 16) * d;
    case QUANT_Q8_0:
        return (float)q * d;
    case QUANT_Q4_1:
    case QUANT_Q5_1: {
        float product = (float)q * d;
        return product + m;
    }
    case QUANT_Q2_K: {
        float product = scaled16 * (float)q, offset = m * (float)min16;
        return product - offset;
    }
    case QUANT_Q4_K:
    case QUANT_Q5_K: {
        float product = scaled32 * (float)q, offset = m * (float)min32;
        return product - offset;
    }
    case QUANT_Q3_K: {
        float scale = d * (float)(s16 - 32);
        return scale * (float)(q - 4);
    }
    case QUANT_Q6_K:
        return scaled16 * (float)(q - 32);
    case QUANT_IQ4_NL:
        return d * (float)iq4[q];
    case QUANT_IQ4_XS: {
        float scale = d * (float)(s32 - 32);
        return scale * (float)iq4[q];
    }
    default:
        return NAN;
    }
}

struct format {
    enum quant_type type;
    int values, bytes;
    int q_low, q_high, scale_low, scale_high, minimum_high;
    void (*pack)(const struct integers *in, uint8_t *block);
};

static const struct format formats[] = {
    {QUANT_Q4_0, 32, 18, 0, 15, 0, 0, 0, pack_q4_0},
    {QUANT_Q4_1, 32, 20, 0, 15, 0, 0, 0, pack_q4_1},
    {QUANT_Q5_0, 32, 22, 0, 31, 0, 0, 0, pack_q5_0},
    {QUANT_Q5_1, 32, 24, 0, 31, 0, 0, 0, pack_q5_1},
    {QUANT_Q8_0, 32, 34, -128, 127, 0, 0, 0, pack_q8_0},
    {QUANT_Q2_K, 256, 84, 0, 3, 0, 15, 15, pack_q2_k},
    {QUANT_Q3_K, 256, 110, 0, 7, 0, 63, 0, pack_q3_k},
    {QUANT_Q4_K, 256, 144, 0, 15, 0, 63, 63, pack_q4_k},
    {QUANT_Q5_K, 256, 176, 0, 31, 0, 63, 63, pack_q5_k},
    {QUANT_Q6_K, 256, 210, 0, 63, -128, 127, 0, pack_q6_k},
    {QUANT_IQ4_NL, 32, 18, 0, 15, 0, 0, 0, pack_q4_0},
    {QUANT_IQ4_XS, 256, 136, 0, 15, 0, 63, 0, pack_iq4_xs},
};

static int random_between(int low_end, int high_end) {
    return low_end + (int)random_below((uint32_t)(high_end - low_end + 1));
}

Test(quant, blocks_of_every_format_expand_to_what_their_integers_mean) {
    enum { BLOCKS = 40 };
    for (size_t f = 0; f < sizeof formats / sizeof formats[0]; f++) {
        const struct format *format = &formats[f];
        const struct quant_info *info = quant_info((uint32_t)format->type);
        cr_assert_eq(info->block_bytes, format->bytes, "%s", info->name);
        cr_assert_eq(info->block_values, format->values, "%s", info->name);
        static struct integers in[BLOCKS];
        static float out[BLOCKS * 256];
        size_t length = (size_t)format->bytes * BLOCKS;
        uint8_t *memory = calloc(1, length + 1); /* the end is the end for the sanitizer */
        uint8_t *blocks = memory + 1;            /* and the start is odd */
        for (int b = 0; b < BLOCKS; b++) {
            in[b].d = (uint16_t)random_between(0, 0x7BFF); /* any finite half, either sign */
            in[b].m = (uint16_t)random_between(0, 0x7BFF);
            if (b % 2 == 1) in[b].d |= 0x8000;
            if (b % 3 == 1) in[b].m |= 0x8000;
            for (int i = 0; i < format->values; i++)
                in[b].q[i] = random_between(format->q_low, format->q_high);
            for (int s = 0; s < 16; s++) {
                in[b].scale[s] = random_between(format->scale_low, format->scale_high);
                in[b].minimum[s] = random_between(0, format->minimum_high);
            }
            format->pack(&in[b], blocks + b * format->bytes);
        }
        quant_expand(format->type, blocks, out, (size_t)format->values * BLOCKS);
        for (int b = 0; b < BLOCKS; b++)
            for (int i = 0; i < format->values; i++)
                cr_assert_eq(float_bits(out[b * format->values + i]),
                             float_bits(expected_value(format->type, &in[b], i)),
                             "%s, block %d, value %d: %a, not %a", info->name, b, i,
                             out[b * format->values + i], expected_value(format->type, &in[b], i));
        free(memory);
    }
}

/* Bytes and values worked out on paper, so that a mistake shared by packer and reader shows. */
Test(quant, blocks_written_by_hand_expand_to_values_worked_out_by_hand) {
    float out[256];
    uint8_t q4_0[18] = {0x00, 0x38, 0x0F, 0xF0}; /* d = 0.5 */
    quant_expand(QUANT_Q4_0, q4_0, out, 32);
    cr_assert_eq(out[0], 3.5f);
    cr_assert_eq(out[16], -4.0f);
    cr_assert_eq(out[1], -4.0f);
    cr_assert_eq(out[17], 3.5f);
    uint8_t q5_1[24] = {0x00, 0x3C, 0x00, 0xC0, 0x01, 0, 0, 0x80, 0x03}; /* d = 1, m = -2 */
    quant_expand(QUANT_Q5_1, q5_1, out, 32);
    cr_assert_eq(out[0], 17.0f);  /* 16 + 3 - 2 */
    cr_assert_eq(out[31], 14.0f); /* 16 + 0 - 2 */
    cr_assert_eq(out[1], -2.0f);
    uint8_t q8_0[34] = {0x00, 0x40, 0x80, 0x7F}; /* d = 2 */
    quant_expand(QUANT_Q8_0, q8_0, out, 32);
    cr_assert_eq(out[0], -256.0f);
    cr_assert_eq(out[1], 254.0f);
    uint8_t q6_k[210] = {0};
    q6_k[0] = 0x21;   /* value 0: nibble 1; value 64: nibble 2 */
    q6_k[128] = 0x10; /* value 64: crumb 1 */
    q6_k[192] = 3;
    q6_k[196] = 0xFF; /* sub-block 4 has scale -1 */
    q6_k[209] = 0x3C; /* d = 1 */
    quant_expand(QUANT_Q6_K, q6_k, out, 256);
    cr_assert_eq(out[0], -93.0f);                 /* 3 * (1 - 32) */
    cr_assert_eq(out[64], 14.0f);                 /* -1 * (16 + 2 - 32) */
    cr_assert_eq(out[128], 0.0f);                 /* sub-block 8 has scale 0 */
    uint8_t q4_k[144] = {0x00, 0x3C, 0x00, 0x3C}; /* d = dmin = 1 */
    q4_k[4] = 0xC0 | 5;                           /* scale 0 = 5; scale 4 has upper bits 3 */
    q4_k[8] = 0x40 | 7;                           /* minimum 0 = 7; minimum 4 has upper bits 1 */
    q4_k[12] = 0x21;                              /* lower nibbles of scale 4 and minimum 4 */
    q4_k[16] = 0x03;                              /* value 0 */
    q4_k[16 + 64] = 0x0A;                         /* value 128, of sub-block 4 */
    quant_expand(QUANT_Q4_K, q4_k, out, 256);
    cr_assert_eq(out[0], 8.0f);                           /* 5 * 3 - 7 */
    cr_assert_eq(out[128], 49.0f * 10 - 18.0f);           /* scale 3 * 16 + 1, minimum 16 + 2 */
    uint8_t iq4_xs[136] = {0x00, 0x3C, 0x02, 0x00, 0x01}; /* d = 1, scale 0 = 33 */
    iq4_xs[8] = 0xF0;
    quant_expand(QUANT_IQ4_XS, iq4_xs, out, 256);
    cr_assert_eq(out[0], -127.0f);
    cr_assert_eq(out[16], 113.0f);
    cr_assert_eq(out[32], 32.0f * 127); /* scale 0 is -32 */
}

Test(quant, plain_types_expand_bit_for_bit) {
    enum { N = 1000 };
    uint8_t bytes[4 * N + 1];
    float out[N];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)random_below(256);
    quant_expand(QUANT_F32, bytes + 1, out, N);
    for (int i = 0; i < N; i++)
        cr_assert_eq(float_bits(out[i]), bytes_u32(bytes + 1 + 4 * i)); /* NaN and all */
    quant_expand(QUANT_BF16, bytes + 1, out, N);
    for (int i = 0; i < N; i++)
        cr_assert_eq(float_bits(out[i]),
                     (uint32_t)bytes[1 + 2 * i] << 16 | (uint32_t)bytes[2 + 2 * i] << 24);
    quant_expand(QUANT_F16, bytes + 1, out, N);
    for (int i = 0; i < N; i++) {
        float value = half_value((uint16_t)(bytes[1 + 2 * i] | bytes[2 + 2 * i] << 8));
        if (!isnan(value))
            cr_assert_eq(float_bits(out[i]), float_bits(value));
        else
            cr_assert(isnan(out[i]));
    }
}

Test(quant, types_are_found_by_id_and_by_name) {
    int runnable = 0;
    for (uint32_t type = 0; type < QUANT_TYPES; type++) {
        const struct quant_info *info = quant_info(type);
        if (info == NULL) continue;
        int expected = info->block_bytes > 0 ? (int)type : -1;
        cr_assert_eq(quant_by_name(info->name), expected, "%s", info->name);
        runnable += info->block_bytes > 0;
        cr_assert_eq(info->block_bytes > 0, info->block_values > 0, "%s", info->name);
    }
    cr_assert_eq(runnable, 15);
    cr_assert_eq(quant_by_name("q4_k"), QUANT_Q4_K);
    cr_assert_eq(quant_by_name("iq4_xs"), QUANT_IQ4_XS);
    cr_assert_eq(quant_by_name("Q4_K_M"), -1);
    cr_assert_eq(quant_by_name(""), -1);
    cr_assert_null(quant_info(QUANT_TYPES));
    cr_assert_null(quant_info(UINT32_MAX));
    cr_assert_str_eq(quant_info(16)->name, "IQ2_XXS");
    cr_assert_str_eq(quant_info(39)->name, "MXFP4");
}

struct mapped {
    struct gguf gguf;
    uint8_t *bytes;
    size_t length;
};

static void map_open(struct mapped *mapped, const char *name) {
    char path[128];
    struct stat st;
    struct fault fault;
    snprintf(path, sizeof path, "../shared/models/tales-4m-%s.gguf", name);
    int fd = open(path, O_RDONLY);
    cr_assert(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
    mapped->length = (size_t)st.st_size;
    mapped->bytes = mmap(NULL, mapped->length, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    cr_assert(gguf_parse(&mapped->gguf, mapped->bytes, mapped->length, &fault), "%s: %s", path,
              fault.text);
}

static float *tensor_expand(const struct gguf_tensor *tensor, size_t *n) {
    const struct quant_info *info = quant_info((uint32_t)tensor->type);
    *n = tensor->bytes / info->block_bytes * info->block_values;
    float *out = malloc(*n * sizeof *out);
    quant_expand(tensor->type, tensor->data, out, *n);
    return out;
}

/* Relative RMS error of a real model's tensors, of each type, against the F32 they were quantised
 * from: above `least`, or the file would not be of that type; below `most`. */
Test(quant, quantised_reference_models_stay_near_their_f32) {
    if (access("../shared/models", R_OK) != 0) cr_skip_test("../shared/models is not there");
    static const struct {
        const char *file;
        enum quant_type type;
        double least, most;
    } rows[] = {
        {"F32", QUANT_F32, 0, 0},
        {"F16", QUANT_F16, 1e-5, 5e-4},
        {"BF16", QUANT_BF16, 1e-4, 4e-3},
        {"Q8_0", QUANT_Q8_0, 1e-3, 0.01},
        {"Q6_K", QUANT_Q6_K, 5e-3, 0.03},
        {"Q5_K_M", QUANT_Q5_K, 0.01, 0.06},
        {"Q5_1", QUANT_Q5_1, 0.01, 0.06},
        {"Q5_0", QUANT_Q5_0, 0.01, 0.06},
        {"Q4_K_M", QUANT_Q4_K, 0.03, 0.1},
        {"IQ4_XS", QUANT_IQ4_XS, 0.03, 0.1},
        {"IQ4_NL", QUANT_IQ4_NL, 0.03, 0.1},
        {"Q4_1", QUANT_Q4_1, 0.03, 0.1},
        {"Q4_0", QUANT_Q4_0, 0.03, 0.12},
        {"Q3_K_M", QUANT_Q3_K, 0.08, 0.25},
        {"Q2_K", QUANT_Q2_K, 0.15, 0.5},
    };
    static struct mapped exact, rounded;
    map_open(&exact, "F32");
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        map_open(&rounded, rows[r].file);
        int compared = 0;
        for (uint32_t t = 0; t < rounded.gguf.n_tensors; t++) {
            const struct gguf_tensor *tensor = &rounded.gguf.tensor[t];
            if (tensor->type != rows[r].type || tensor->n_dims != 2) continue;
            char name[GGUF_NAME_MAX + 1];
            snprintf(name, sizeof name, "%.*s", (int)tensor->name.length, tensor->name.text);
            const struct gguf_tensor *truth = gguf_find_tensor(&exact.gguf, name);
            cr_assert_not_null(truth);
            size_t n, n_true;
            float *values = tensor_expand(tensor, &n), *wanted = tensor_expand(truth, &n_true);
            cr_assert_eq(n, n_true);
            double error = 0, power = 0;
            for (size_t i = 0; i < n; i++) {
                double difference = (double)values[i] - (double)wanted[i];
                error += difference * difference;
                power += (double)wanted[i] * (double)wanted[i];
            }
            double relative = sqrt(error / power);
            cr_assert(relative >= rows[r].least && relative <= rows[r].most,
                      "%s %s: relative error %.5f, not %g to %g", rows[r].file, name, relative,
                      rows[r].least, rows[r].most);
            free(values);
            free(wanted);
            compared++;
        }
        cr_assert(compared >= 5, "%s: %d tensors compared", rows[r].file, compared);
        munmap(rounded.bytes, rounded.length);
    }
    munmap(exact.bytes, exact.length);
}
