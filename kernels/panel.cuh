// panel.cuh: the product of a unit of weights (16 rows) with tiles of operand B (8 columns).
//
// Quantised kinds, for each scale (32 columns, or 16), in the order of columns:
//   isum = sum of n_w * n_x (exact, int32)       acc = fma(s_w * s_x, isum, acc)
//   where the kind has a min                      acc = fma(+-m_w, s_x * sum of n_x, acc)
// which is what the CPU's kernels do. Float kinds: two mma a step of 16 columns, hi then lo.
#ifndef WICK_KERNELS_PANEL_CUH
#define WICK_KERNELS_PANEL_CUH

#include "lane.cuh"

// What the compiler must know of a kind to specialise.
template <uint32_t k> struct kind_facts {
    static constexpr struct gpu_kind_info info = gpu_kind_info(k);
    static constexpr uint32_t kind = k;
    static constexpr uint32_t columns = info.unit_columns, bytes = info.unit_bytes;
    static constexpr uint32_t chunks = columns >= 64 ? columns / 64 : 1; // of a unit
    static constexpr bool quantised = info.sub != 0, super = info.super, has_min = info.has_min;
    static constexpr bool four_bits = info.bits == 4, halves = info.sub == 16;
    static constexpr int subs = halves ? 2 : 1; // scales of a block of 32
    static constexpr uint32_t unit_subs = quantised ? columns / info.sub : 1;
    static constexpr uint32_t form = gpu_form_of(k), chunk_used = gpu_chunk_used(k);
    static constexpr uint32_t chunk_bytes = gpu_chunk_bytes(form);
    static constexpr bool powers = form == GPU_FORM_F16 || form == GPU_FORM_BF16;
    static constexpr int fragments = quantised ? 1 : 4; // 16-byte words a lane of a chunk
};

// --- operand B ----------------------------------------------------------------------------------

// Where a tile of operand B lies: as operand_sink, to be read.
struct operand_view {
    const uint8_t *fragments, *scales;
    uint32_t fragment_stride, scale_stride;
    uint32_t columns; // of a tile that are there: 8, or fewer in shared memory
};

// One chunk of a tile as a lane holds it.
template <typename facts> struct operand {
    uint4 fragment[facts::fragments];
    float4 scale;  // block 0: columns 2 t, 2 t + 1 of the tile; block 1: the same
    float4 sum[2]; // sub 32: sum[0] as scale; sub 16: one a block: first half, second half
};

template <typename facts>
DEVICE operand<facts> operand_load(const operand_view &view, uint32_t chunk, uint32_t lane) {
    const uint32_t g = lane / 4, t = lane % 4;
    operand<facts> x;
    const uint8_t *fragments = view.fragments + chunk * view.fragment_stride;
#pragma unroll
    for (int s = 0; s < facts::fragments; s++) {
        x.fragment[s] = make_uint4(0, 0, 0, 0);
        if (g < view.columns)
            x.fragment[s] =
                *(const uint4 *)(fragments + s * 64 * view.columns + 64 * g + 16 * t);
    }
    if (!facts::quantised) return x;
    const uint8_t *scales = view.scales + chunk * view.scale_stride + 16 * t;
    x.scale = *(const float4 *)scales;
    if (!facts::has_min) return x;
    if (!facts::halves) {
        x.sum[0] = *(const float4 *)(scales + 64);
    } else {
        x.sum[0] = *(const float4 *)(scales + 128);
        x.sum[1] = *(const float4 *)(scales + 192);
    }
    return x;
}

// One block of 32 columns of a tile.
template <typename facts> struct operand_block {
    uint32_t b[2];
    float2 scale, sum[facts::subs]; // columns 2 t, 2 t + 1 of the tile
};

template <typename facts> DEVICE operand_block<facts> operand_half(const operand<facts> &x, int b) {
    const uint4 &f = x.fragment[0];
    operand_block<facts> y;
    y.b[0] = b == 0 ? f.x : f.z;
    y.b[1] = b == 0 ? f.y : f.w;
    y.scale = b == 0 ? make_float2(x.scale.x, x.scale.y) : make_float2(x.scale.z, x.scale.w);
    if (!facts::has_min) return y;
    const float4 &sum = x.sum[facts::halves ? b : 0];
    if (facts::halves || b == 0) y.sum[0] = make_float2(sum.x, sum.y);
    if (facts::halves || b == 1) y.sum[facts::subs - 1] = make_float2(sum.z, sum.w);
    return y;
}

// The same straight from memory; tile: of 8 columns, its chunk.
template <typename facts>
DEVICE operand_block<facts> operand_block_load(const uint8_t *tile, int b, uint32_t lane) {
    operand_block<facts> y;
    const uint2 f = *(const uint2 *)(tile + 16 * lane + 8 * b);
    y.b[0] = f.x, y.b[1] = f.y;
    const uint8_t *scales = tile + 512 + 16 * (lane % 4);
    y.scale = *(const float2 *)(scales + 8 * b);
    if (!facts::has_min) return y;
    if (!facts::halves) {
        y.sum[0] = *(const float2 *)(scales + 64 + 8 * b);
    } else {
        const float4 sum = *(const float4 *)(scales + 128 + 64 * b);
        y.sum[0] = make_float2(sum.x, sum.y);
        y.sum[facts::subs - 1] = make_float2(sum.z, sum.w);
    }
    return y;
}

// --- operand A ----------------------------------------------------------------------------------

// One block of 32 columns of 16 rows: fragments, and what scales rows g and g + 8.
template <typename facts> struct weight_block {
    uint32_t a[4];
    float scale[facts::subs][2];
    float min[facts::subs][2];
};

// Raw nibbles to int8. With a zero (8 or 4), bits are moved up and the sign bit is flipped, so that
// the byte is (raw - zero) * 16 or * 32; the scale takes the factor back, exactly.
template <typename facts> DEVICE uint32_t nibbles(uint32_t word, bool high) {
    constexpr uint32_t zero = facts::info.zero;
    if (zero == 8) return ((high ? word : word << 4) & 0xF0F0F0F0) ^ 0x80808080;
    if (zero == 4) return ((high ? word << 1 : word << 5) & 0xE0E0E0E0) ^ 0x80808080;
    return (high ? word >> 4 : word) & 0x0F0F0F0F;
}
template <typename facts> DEVICE constexpr float nibble_factor() {
    return facts::info.zero == 8 ? 1.0f / 16 : facts::info.zero == 4 ? 1.0f / 32 : 1.0f;
}

// Block b (0, 1) of a chunk of a unit.
template <typename facts>
DEVICE void weight_values(const uint8_t *unit, uint32_t chunk, int b, uint32_t lane,
                          weight_block<facts> &w) {
    if (facts::four_bits) {
        const uint4 both = *(const uint4 *)(unit + GPU_LINE_BYTES * chunk + 16 * lane);
        const uint32_t low = b == 0 ? both.x : both.z, high = b == 0 ? both.y : both.w;
        w.a[0] = nibbles<facts>(low, false);
        w.a[1] = nibbles<facts>(high, false);
        w.a[2] = nibbles<facts>(low, true);
        w.a[3] = nibbles<facts>(high, true);
        return;
    }
    const uint4 v = *(const uint4 *)(unit + GPU_LINE_BYTES * (2 * chunk + b) + 16 * lane);
    w.a[0] = v.x, w.a[1] = v.y, w.a[2] = v.z, w.a[3] = v.w;
}

// Two binary16: rows g, g + 8.
DEVICE void halves_read(uint32_t word, float out[2], float factor) {
    out[0] = __fmul_rn(half_to_float(word & 0xFFFF), factor);
    out[1] = __fmul_rn(half_to_float(word >> 16), factor);
}
DEVICE float signed_byte(uint32_t word, uint32_t byte) {
    return __int2float_rn((int32_t)(word << (24 - 8 * byte)) >> 24);
}
DEVICE float unsigned_byte(uint32_t word, uint32_t byte) {
    return __uint2float_rn(word >> 8 * byte & 0xFF);
}

// Offset of a sub-block's two bytes from the first scale (or min) of a super unit.
template <typename facts> DEVICE uint32_t super_at(uint32_t sub, uint32_t g) {
    if (facts::unit_subs <= 4) return 8 * g + 2 * sub;
    return 128 * (sub / 8) + 16 * g + 2 * (sub % 8);
}

template <typename facts>
DEVICE void weight_scales(const uint8_t *unit, uint32_t chunk, int b, uint32_t lane,
                          weight_block<facts> &w) {
    const uint8_t *head = unit + GPU_VALUES_BYTES;
    const uint32_t g = lane / 4, block = 2 * chunk + b;
    constexpr float factor = nibble_factor<facts>();
    if (!facts::super) {
        const uint8_t *at = head + 128 * (block / 4) + 16 * g + 4 * (block % 4);
        halves_read(*(const uint32_t *)at, w.scale[0], factor);
        if (facts::has_min) halves_read(*(const uint32_t *)(at + facts::columns), w.min[0], 1.0f);
        return;
    }
    const uint2 both = *(const uint2 *)(head + 8 * g);
    float d[2], m[2];
    halves_read(both.x, d, factor);
    halves_read(both.y, m, 1.0f);
    const uint8_t *scales = head + 64 + super_at<facts>(facts::subs * block, g);
    const uint8_t *mins = scales + 16 * facts::unit_subs;
    uint32_t s, n = 0; // one or two sub-blocks of two bytes
    if (facts::halves) {
        s = *(const uint32_t *)scales;
        if (facts::has_min) n = *(const uint32_t *)mins;
    } else {
        s = *(const uint16_t *)scales;
        if (facts::has_min) n = *(const uint16_t *)mins;
    }
#pragma unroll
    for (int i = 0; i < facts::subs; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            w.scale[i][h] = __fmul_rn(d[h], signed_byte(s, 2 * i + h));
            if (facts::has_min) w.min[i][h] = -__fmul_rn(m[h], unsigned_byte(n, 2 * i + h));
        }
}

template <typename facts>
DEVICE weight_block<facts> weight_load(const uint8_t *unit, uint32_t chunk, int b, uint32_t lane) {
    weight_block<facts> w;
    weight_values<facts>(unit, chunk, b, lane, w);
    weight_scales<facts>(unit, chunk, b, lane, w);
    return w;
}

// --- products -----------------------------------------------------------------------------------

template <typename facts>
DEVICE void scale_add(const weight_block<facts> &w, int sub, const integer_sums &sums,
                      const operand_block<facts> &x, float acc[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float sx = i % 2 == 0 ? x.scale.x : x.scale.y;
        acc[i] = __fmaf_rn(__fmul_rn(w.scale[sub][i / 2], sx), integer_sum(sums, i), acc[i]);
        if (facts::has_min)
            acc[i] = __fmaf_rn(w.min[sub][i / 2], i % 2 == 0 ? x.sum[sub].x : x.sum[sub].y, acc[i]);
    }
}

// One block of 32 columns.
template <typename facts>
DEVICE void block_multiply(const weight_block<facts> &w, const operand_block<facts> &x,
                           float acc[4]) {
    if (!facts::halves) {
        scale_add<facts>(w, 0, mma_k32(w.a, x.b[0], x.b[1]), x, acc);
    } else {
        scale_add<facts>(w, 0, mma_k16(w.a[0], w.a[1], x.b[0]), x, acc);
        scale_add<facts>(w, facts::subs - 1, mma_k16(w.a[2], w.a[3], x.b[1]), x, acc);
    }
}

// One step of 16 columns of weights of 16 bits: hi, then lo.
template <typename facts> DEVICE void step_multiply(const uint4 &w, const uint4 &x, float acc[4]) {
    mma_float<facts::kind == GPU_BF16>(acc, w, x.x, x.y);
    mma_float<facts::kind == GPU_BF16>(acc, w, x.z, x.w);
}

// One chunk of a unit of 16 rows times `tiles` tiles, of which `there` are.
template <typename facts, int tiles>
DEVICE void chunk_multiply(const uint8_t *unit, uint32_t chunk, uint32_t lane,
                           const operand<facts> x[tiles], uint32_t there, float acc[tiles][4]) {
    if constexpr (facts::quantised) {
#pragma unroll
        for (int b = 0; b < 2; b++) {
            const weight_block<facts> w = weight_load<facts>(unit, chunk, b, lane);
#pragma unroll
            for (uint32_t i = 0; i < tiles; i++) {
                if (i >= there) break;
                block_multiply<facts>(w, operand_half<facts>(x[i], b), acc[i]);
            }
        }
    } else {
#pragma unroll
        for (int s = 0; s < 4; s++) {
            const uint4 w = *(const uint4 *)(unit + GPU_LINE_BYTES * (4 * chunk + s) + 16 * lane);
#pragma unroll
            for (uint32_t i = 0; i < tiles; i++) {
                if (i >= there) break;
                step_multiply<facts>(w, x[i].fragment[s], acc[i]);
            }
        }
    }
}

// --- F32 ----------------------------------------------------------------------------------------

// Lane l: columns l / 4 + 8 i, rows 4 (l % 4) + 0..3; sums for eight columns of operand B.
struct plain_sums {
    float at[4][GPU_TILE];
};

DEVICE void plain_multiply(const uint8_t *unit, const operand_view &view, uint32_t column,
                           uint32_t lane, plain_sums &acc) {
#pragma unroll
    for (uint32_t line = 0; line < 4; line++) {
        const float4 w = *(const float4 *)(unit + GPU_LINE_BYTES * line + 16 * lane);
        const uint32_t k = column + 8 * line + lane / 4;
        const float4 *x =
            (const float4 *)(view.fragments + k / 64 * view.fragment_stride + 32 * (k % 64));
        const float4 low = x[0], high = x[1];
        const float weights[4] = {w.x, w.y, w.z, w.w};
        const float values[GPU_TILE] = {low.x,  low.y,  low.z,  low.w,
                                        high.x, high.y, high.z, high.w};
#pragma unroll
        for (int r = 0; r < 4; r++)
#pragma unroll
            for (int n = 0; n < GPU_TILE; n++)
                acc.at[r][n] = __fmaf_rn(weights[r], values[n], acc.at[r][n]);
    }
}

// Adds up the lanes of a row and stores the tile as the fragments of a result: lane 4 (row % 8) +
// n / 2 has element 2 (row / 8) + n % 2.
DEVICE void plain_store(const plain_sums &acc, uint32_t lane, float *tile) {
#pragma unroll
    for (int n = 0; n < GPU_TILE; n++)
#pragma unroll
        for (int r = 0; r < 4; r++) {
            float sum = acc.at[r][n];
            sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, 4));
            sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, 8));
            sum = __fadd_rn(sum, __shfl_xor_sync(ALL_LANES, sum, 16));
            uint32_t row = 4 * (lane % 4) + r;
            if (lane / 4 == n) tile[4 * (4 * (row % 8) + n / 2) + 2 * (row / 8) + n % 2] = sum;
        }
}

#endif
