// input.cuh: rows of F32 -> operand B: RMSNorm or nothing, then rounding to the form of the weights.
//
// One source for the kernel `prepare` and for the prologue of matmul_few, with the same bits: a row
// is cut into stretches of 128 columns, stretch c belongs to stripe c % 8; what is summed over the
// row is summed within each stripe, in order, and then over the stripes, in order. Which warp takes
// which stripe makes no difference.
#ifndef WICK_KERNELS_INPUT_CUH
#define WICK_KERNELS_INPUT_CUH

#include "lane.cuh"

enum { STRIPES = 8, STRETCH = 128, LANE_COLUMNS = 4 };

// Where operand B goes: chunk c of it lies at fragments + c * fragment_stride, its scales and sums
// at scales + c * scale_stride. Columns of a tile: 8, or fewer in shared memory.
struct operand_sink {
    uint8_t *fragments, *scales;
    uint32_t fragment_stride, scale_stride;
    uint32_t columns;
    bool sum_32, sum_16; // which sums are wanted
};

// Facts about one row that need the whole row.
struct row_sums {
    float squares[STRIPES];
    float largest[STRIPES];
};

DEVICE float4 input_load(const gpu_input &in, const float *x, uint32_t column) {
    float4 v = {0, 0, 0, 0};
    if (column < in.cols) v = *(const float4 *)(x + column);
    if (column + 1 >= in.cols) v.y = 0;
    if (column + 2 >= in.cols) v.z = 0;
    if (column + 3 >= in.cols) v.w = 0;
    return v;
}

// Sum of squares of one stripe.
DEVICE float input_squares(const gpu_input &in, const float *x, uint32_t stripe, uint32_t lane) {
    float sum = 0;
#pragma unroll 4
    for (uint32_t at = stripe * STRETCH; at < in.cols; at += STRIPES * STRETCH) {
        float4 v = input_load(in, x, at + LANE_COLUMNS * lane);
        sum = __fmaf_rn(v.x, v.x, sum);
        sum = __fmaf_rn(v.y, v.y, sum);
        sum = __fmaf_rn(v.z, v.z, sum);
        sum = __fmaf_rn(v.w, v.w, sum);
    }
    return warp_sum(sum);
}

// 1 / sqrt(mean(x^2) + eps)
DEVICE float input_factor(const gpu_input &in, const row_sums &sums) {
    float total = sums.squares[0];
#pragma unroll
    for (int s = 1; s < STRIPES; s++) total = __fadd_rn(total, sums.squares[s]);
    float mean = __fdiv_rn(total, __uint2float_rn(in.cols));
    return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, in.eps)));
}

// Four columns of a row and of the norm's weights, as loaded.
struct input_pair {
    float4 x, weight;
};
// x: nullptr: a row of zeros.
DEVICE input_pair input_fetch(const gpu_input &in, const float *x, uint32_t column) {
    input_pair p = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    if (x != nullptr) p.x = input_load(in, x, column);
    if (in.weight != nullptr) p.weight = input_load(in, in.weight, column);
    return p;
}
// What is to be rounded. factor is 1 where there is no norm.
DEVICE float4 input_values(const gpu_input &in, const input_pair &p, float factor) {
    if (in.weight == nullptr) return p.x;
    return {__fmul_rn(__fmul_rn(p.x.x, factor), p.weight.x),
            __fmul_rn(__fmul_rn(p.x.y, factor), p.weight.y),
            __fmul_rn(__fmul_rn(p.x.z, factor), p.weight.z),
            __fmul_rn(__fmul_rn(p.x.w, factor), p.weight.w)};
}

DEVICE float input_largest_of(const float4 &v) {
    return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}

// Largest magnitude of one stripe.
DEVICE float input_largest(const gpu_input &in, const float *x, float factor, uint32_t stripe,
                           uint32_t lane) {
    float largest = 0;
#pragma unroll 2
    for (uint32_t at = stripe * STRETCH; at < in.cols; at += STRIPES * STRETCH)
        largest = fmaxf(largest, input_largest_of(input_values(
                                     in, input_fetch(in, x, at + LANE_COLUMNS * lane), factor)));
    return warp_max(largest);
}

// The power of two that brings the largest value of a row of F16 to [2^13, 2^14): hi overflows
// nowhere, and lo keeps 22 bits of everything above 2^-20 of the largest.
DEVICE float input_power(const gpu_input &in, const row_sums &sums) {
    if (in.form != GPU_FORM_F16) return 1.0f;
    float largest = sums.largest[0];
#pragma unroll
    for (int s = 1; s < STRIPES; s++) largest = fmaxf(largest, sums.largest[s]);
    int32_t exponent = (int32_t)(__float_as_uint(largest) >> 23) - 127;
    if (exponent < -100) exponent = largest > 0 ? -100 : 13;
    return __uint_as_float((uint32_t)(13 - exponent + 127) << 23);
}

// --- int8 ---------------------------------------------------------------------------------------

DEVICE uint32_t pack_bytes(int32_t x, int32_t y, int32_t z, int32_t w) {
    uint32_t low = __byte_perm((uint32_t)x, (uint32_t)y, 0x0040);
    uint32_t high = __byte_perm((uint32_t)z, (uint32_t)w, 0x0040);
    return __byte_perm(low, high, 0x5410);
}

// Steps of one plane: four columns of this lane, of a block of 32 that 8 lanes share.
DEVICE void sink_plane(const operand_sink &sink, uint32_t n, uint32_t column, const int32_t q[4],
                       float step) {
    uint32_t chunk = column / 64, block = column / 32 % 2, word = column / 4 % 8;
    uint32_t t = word % 4, half = word / 4;
    uint8_t *fragment = sink.fragments + chunk * sink.fragment_stride;
    *(uint32_t *)(fragment + 64 * n + 16 * t + 8 * block + 4 * half) =
        pack_bytes(q[0], q[1], q[2], q[3]);
    uint8_t *scales = sink.scales + chunk * sink.scale_stride;
    uint32_t at = 16 * (n / 2) + 8 * block + 4 * (n % 2);
    if (word == 0) *(float *)(scales + at) = step;
    if (!sink.sum_32 && !sink.sum_16) return;
    int32_t sum = q[0] + q[1] + q[2] + q[3];
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    sum += __shfl_xor_sync(ALL_LANES, sum, 2);
    if (sink.sum_16 && t == 0)
        *(float *)(scales + 128 + 64 * block + 16 * (n / 2) + 8 * half + 4 * (n % 2)) =
            __fmul_rn(step, __int2float_rn(sum));
    sum += __shfl_xor_sync(ALL_LANES, sum, 4);
    if (sink.sum_32 && word == 0)
        *(float *)(scales + 64 + at) = __fmul_rn(step, __int2float_rn(sum));
}

// Blocks of 32: steps of max|v| / 127, then, if fine, the remainder in steps 254 times smaller.
DEVICE void sink_int8(const gpu_input &in, const operand_sink &sink, uint32_t n, uint32_t column,
                      const float4 &v) {
    float largest = input_largest_of(v);
    largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 2));
    largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 4));
    float step = __fdiv_rn(largest, 127.0f);
    float inverse = largest > 0 ? __fdiv_rn(127.0f, largest) : 0.0f;
    const float values[4] = {v.x, v.y, v.z, v.w};
    int32_t q[4];
#pragma unroll
    for (int i = 0; i < 4; i++) q[i] = __float2int_rn(__fmul_rn(values[i], inverse));
    sink_plane(sink, n, column, q, step);
    if (in.planes != 2) return;
    float finer = __fmul_rn(inverse, 254.0f);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float left = __fmaf_rn(-__int2float_rn(q[i]), step, values[i]);
        q[i] = __float2int_rn(__fmul_rn(left, finer));
    }
    sink_plane(sink, n + 1, column, q, __fdiv_rn(step, 254.0f));
}

// --- floats -------------------------------------------------------------------------------------

// Two columns as the two words hi and lo.
template <bool bf16> DEVICE uint2 split_pair(float a, float b) {
    uint32_t hi_a, hi_b, lo_a, lo_b;
    if (bf16) {
        hi_a = bf16_from_float(a), hi_b = bf16_from_float(b);
        lo_a = bf16_from_float(__fsub_rn(a, __uint_as_float(hi_a << 16)));
        lo_b = bf16_from_float(__fsub_rn(b, __uint_as_float(hi_b << 16)));
    } else {
        hi_a = half_from_float(a), hi_b = half_from_float(b);
        lo_a = half_from_float(__fsub_rn(a, half_to_float(hi_a)));
        lo_b = half_from_float(__fsub_rn(b, half_to_float(hi_b)));
    }
    return {hi_a | hi_b << 16, lo_a | lo_b << 16};
}

template <bool bf16>
DEVICE void sink_halves(const operand_sink &sink, uint32_t n, uint32_t column, const float4 &v,
                        float power) {
    uint32_t chunk = column / 64, step = column / 16 % 4, pair = column / 2 % 8;
    uint8_t *fragment = sink.fragments + chunk * sink.fragment_stride +
                        step * 64 * sink.columns + 64 * n + 4 * (pair / 4);
    uint2 first = split_pair<bf16>(__fmul_rn(v.x, power), __fmul_rn(v.y, power));
    uint2 second = split_pair<bf16>(__fmul_rn(v.z, power), __fmul_rn(v.w, power));
    uint32_t t = pair % 4; // even: the second pair is in the same half
    *(uint32_t *)(fragment + 16 * t) = first.x;
    *(uint32_t *)(fragment + 16 * t + 8) = first.y;
    *(uint32_t *)(fragment + 16 * t + 16) = second.x;
    *(uint32_t *)(fragment + 16 * t + 24) = second.y;
}

DEVICE void sink_floats(const operand_sink &sink, uint32_t n, uint32_t column, const float4 &v) {
    float *out = (float *)(sink.fragments + column / 64 * sink.fragment_stride) +
                 column % 64 * GPU_TILE + n;
    out[0] = v.x;
    out[GPU_TILE] = v.y;
    out[2 * GPU_TILE] = v.z;
    out[3 * GPU_TILE] = v.w;
}

// --- a row, by all warps of a block ---------------------------------------------------------------

DEVICE void input_sink(const gpu_input &in, const operand_sink &sink, uint32_t form, uint32_t n,
                       uint32_t column, const float4 &v, float power) {
    if (form == GPU_FORM_INT8)
        sink_int8(in, sink, n, column, v);
    else if (form == GPU_FORM_F16)
        sink_halves<false>(sink, n, column, v, power);
    else if (form == GPU_FORM_BF16)
        sink_halves<true>(sink, n, column, v, power);
    else
        sink_floats(sink, n, column, v);
}

// This warp's stretches. n: the row's column of the tile (its first, of two planes). x: the row;
// nullptr: a row of zeros.
DEVICE void input_stretches(const gpu_input &in, const operand_sink &sink, uint32_t form,
                            uint32_t n, const float *x, float *tap, float factor, float power,
                            uint32_t warp, uint32_t warps) {
    const uint32_t end = gpu_columns_padded(in.cols), lane = threadIdx.x % 32;
    uint32_t column = warp * STRETCH + LANE_COLUMNS * lane;
    input_pair ahead = input_fetch(in, x, column);
#pragma unroll 1
    while (column < end) {
        const uint32_t next = column + warps * STRETCH;
        const float4 v = input_values(in, ahead, factor);
        ahead = input_fetch(in, x, next); // on its way while this one is rounded
        if (tap != nullptr) {
            const float values[4] = {v.x, v.y, v.z, v.w};
            for (uint32_t i = 0; i < 4; i++)
                if (column + i < in.cols) tap[column + i] = values[i];
        }
        input_sink(in, sink, form, n, column, v, power);
        column = next;
    }
}

DEVICE const float *input_row(const gpu_input &in, uint32_t row) {
    uint32_t from = in.gather != nullptr ? in.gather[row] : row;
    return in.x + (uint64_t)from * in.x_stride;
}

#endif
