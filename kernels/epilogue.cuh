// epilogue.cuh: what becomes of a tile of 16 rows x 8 columns once its sum over K is complete.
//
// A tile lies in shared memory as mma leaves it in a warp: lane (g, t) has, in 4 floats, rows g and
// g + 8 of columns 2 t, 2 t + 1.
#ifndef WICK_KERNELS_EPILOGUE_CUH
#define WICK_KERNELS_EPILOGUE_CUH

#include "kv.cuh"
#include "lane.cuh"

// Which matrix a panel belongs to. Matrices lie one after the other.
struct panel_place {
    uint32_t matrix, panel;
};
DEVICE panel_place panel_find(const gpu_matmul &a, uint32_t panel) {
    uint32_t first = a.matrix[0].n_panels, second = first + a.matrix[1].n_panels;
    if (a.epilogue == GPU_SWIGLU || panel < first) return {0, panel};
    if (panel < second) return {1, panel - first};
    return {2, panel - second};
}
DEVICE uint32_t panel_count(const gpu_matmul &a) {
    uint32_t first = a.matrix[0].n_panels;
    return a.epilogue == GPU_SWIGLU ? first
                                    : first + a.matrix[1].n_panels + a.matrix[2].n_panels;
}
// Weights of a panel; which: 0 gate, 1 up (SWIGLU).
DEVICE const uint8_t *panel_weights(const gpu_matmul &a, uint32_t panel, uint32_t which) {
    panel_place place = panel_find(a, panel);
    uint32_t m = a.epilogue == GPU_SWIGLU ? which : place.matrix;
    return a.matrix[m].panels + (uint64_t)place.panel * a.matrix[m].panel_bytes;
}

DEVICE float silu_times(float gate, float up) {
    float below = __fadd_rn(1.0f, exp_exact(__fsub_rn(0.0f, gate)));
    return __fmul_rn(__fdiv_rn(gate, below), up);
}

// Element `row` of k or v of one row of the batch goes to its page.
DEVICE void cache_store(const gpu_matmul &a, uint32_t token, uint32_t row, bool is_value, float x) {
    const gpu_row place = a.batch.row[token];
    const uint32_t page =
        a.batch.page[(uint64_t)place.sequence * a.batch.pages_per_sequence +
                     place.position / GPU_PAGE_TOKENS];
    kv_store_f16(a.kv, page, place.position % GPU_PAGE_TOKENS, row / a.head_dim, row % a.head_dim,
                 is_value, x);
}

// (a, b) -> (a cos - b sin, a sin + b cos) of rows 2 i, 2 i + 1. Rows g and g ^ 1 are lanes l, l ^ 4.
DEVICE float rotate(const gpu_matmul &a, uint32_t token, uint32_t row, bool valid, float x) {
    float other = __shfl_xor_sync(ALL_LANES, x, 4);
    uint32_t d = row % a.head_dim;
    if (!valid || d >= 2 * a.pairs) return x;
    const float2 angle = ((const float2 *)a.angle)[(uint64_t)token * a.pairs + d / 2];
    return d % 2 == 0 ? __fsub_rn(__fmul_rn(x, angle.x), __fmul_rn(other, angle.y))
                      : __fadd_rn(__fmul_rn(other, angle.y), __fmul_rn(x, angle.x));
}

struct result_place {
    uint32_t matrix, row, token;
    bool valid;
};

// Every lane comes here, also those without a result: rotation exchanges values.
DEVICE void result_store(const gpu_matmul &a, const result_place &at, float x, float up) {
    const uint32_t m = at.matrix;
    const uint64_t place = (uint64_t)at.token * a.out_stride[m] + at.row;
    if (at.valid && a.epilogue == GPU_QKV && a.bias[m] != nullptr)
        x = __fadd_rn(x, a.bias[m][at.row]);
    if (at.valid && a.tap[m] != nullptr) a.tap[m][place] = x;
    if (a.epilogue == GPU_QKV) {
        const uint32_t role = a.role[m];
        if (role != 2) x = rotate(a, at.token, at.row, at.valid, x);
        if (!at.valid) return;
        if (role == 0 || a.kv.type != GPU_KV_F16)
            a.out[m][place] = x;
        else
            cache_store(a, at.token, at.row, role == 2, x);
        return;
    }
    if (!at.valid) return;
    if (a.epilogue == GPU_SWIGLU) {
        if (a.tap[1] != nullptr) a.tap[1][place] = up;
        x = silu_times(x, up);
    }
    if (a.epilogue == GPU_ADD) x = __fadd_rn(a.out[m][place], x);
    a.out[m][place] = x;
}

// The partial sums of a tile: `count` of them, `stride` floats apart; `second` floats further on
// those of up (SWIGLU).
struct result_sums {
    const float *first;
    uint32_t count, stride, second;
};

// Adds the partial sums of one element, in order.
DEVICE float result_add(const result_sums &sums, uint32_t at) {
    float x = sums.first[at];
    for (uint32_t i = 1; i < sums.count; i++) x = __fadd_rn(x, sums.first[i * sums.stride + at]);
    return x;
}
// Element e of this lane; fine: coarse and fine columns added.
DEVICE float result_value(const result_sums &sums, uint32_t part, uint32_t e, bool fine) {
    const uint32_t at = part * sums.second + 4 * (threadIdx.x % 32) + e;
    float x = result_add(sums, at);
    return fine ? __fadd_rn(x, result_add(sums, at + 1)) : x;
}

// Stores a tile. power: of each of its columns, what results are multiplied with (F16, BF16), or
// nullptr. column: the tile's first column of operand B; n: rows there are.
DEVICE void tile_store(const gpu_matmul &a, uint32_t panel, const result_sums &sums,
                       const float *power, uint32_t column, uint32_t n) {
    const uint32_t lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const panel_place place = panel_find(a, panel);
    const bool fine = a.in.planes == 2;
#pragma unroll 1
    for (uint32_t e = 0; e < 4; e += fine ? 2 : 1) {
        const uint32_t i = e % 2, row = GPU_PANEL_ROWS * place.panel + g + 8 * (e / 2);
        const uint32_t token = fine ? column / 2 + t : column + 2 * t + i;
        result_place at = {place.matrix, row, token,
                           token < n && row < a.matrix[place.matrix].rows};
        float x = result_value(sums, 0, e, fine), up = 0;
        if (a.epilogue == GPU_SWIGLU) up = result_value(sums, 1, e, fine);
        if (power != nullptr && at.valid) {
            x = __fmul_rn(x, power[2 * t + i]);
            up = __fmul_rn(up, power[2 * t + i]);
        }
        result_store(a, at, x, up);
    }
}

#endif
