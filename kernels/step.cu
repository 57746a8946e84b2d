// step.cu: what a step does besides products and attention: embed, prepare, top_slice, top_merge,
// finish.
#include "input.cuh"
#include "lane.cuh"

// --- embed --------------------------------------------------------------------------------------

// Where a line keeps the value of row r (0..15), column c (of the line), as 16-byte lanes.
DEVICE uint32_t embed_lane(uint32_t r, uint32_t c4) { // c4: columns counted in words
    return 16 * (r % 8 * 4 + c4);
}

// The raw value of row r, column c of a unit of integers.
DEVICE int32_t embed_integer(const uint8_t *unit, const struct gpu_kind_info &info, uint32_t r,
                             uint32_t c) {
    const uint32_t at = embed_lane(r, c / 4 % 4) + c % 4;
    if (info.bits == 8) // words: rows g and g + 8 of the first 16 columns, then of the last 16
        return (int8_t)unit[GPU_LINE_BYTES * (c / 32) + at + 4 * (r / 8) + 8 * (c / 16 % 2)];
    uint8_t both = unit[GPU_LINE_BYTES * (c / 64) + at + 4 * (r / 8) + 8 * (c / 32 % 2)];
    return c % 32 < 16 ? both & 15 : both >> 4;
}

DEVICE float embed_half(const uint8_t *at) {
    return half_to_float(*(const uint16_t *)at);
}

// As pack_row_expand of the CPU rounds it.
DEVICE float embed_quantised(const uint8_t *unit, const struct gpu_kind_info &info, uint32_t r,
                             uint32_t c) {
    const uint8_t *head = unit + GPU_VALUES_BYTES;
    const uint32_t g = r % 8, h = r / 8;
    const float n = __int2float_rn(embed_integer(unit, info, r, c) - info.zero);
    if (!info.super) {
        const uint32_t b = c / 32, at = 128 * (b / 4) + 16 * g + 4 * (b % 4) + 2 * h;
        const float x = __fmul_rn(n, embed_half(head + at));
        return info.has_min ? __fadd_rn(x, embed_half(head + info.unit_columns + at)) : x;
    }
    const uint32_t s = c / info.sub, subs = info.unit_columns / info.sub;
    const uint32_t at = 64 + (subs <= 4 ? 8 * g + 2 * s : 128 * (s / 8) + 16 * g + 2 * (s % 8)) + h;
    const float scale =
        __fmul_rn(embed_half(head + 8 * g + 2 * h), __int2float_rn((int8_t)head[at]));
    const float x = __fmul_rn(scale, n);
    if (!info.has_min) return x;
    return __fsub_rn(x, __fmul_rn(embed_half(head + 8 * g + 4 + 2 * h),
                                  __uint2float_rn(head[at + 16 * subs])));
}

DEVICE float embed_float(const uint8_t *unit, uint32_t kind, uint32_t r, uint32_t c) {
    if (kind == GPU_F32)
        return *(const float *)(unit + GPU_LINE_BYTES * (c / 8) + 16 * (4 * (c % 8) + r / 4) +
                                4 * (r % 4));
    const uint8_t *at = unit + GPU_LINE_BYTES * (c / 16) + embed_lane(r, c / 2 % 4) + 4 * (r / 8) +
                        8 * (c / 8 % 2) + 2 * (c % 2);
    if (kind == GPU_F16) return embed_half(at);
    return __uint_as_float((uint32_t) * (const uint16_t *)at << 16);
}

extern "C" __global__ void __launch_bounds__(256) embed(const __grid_constant__ gpu_embed a) {
    const uint32_t row = blockIdx.x;
    if (row >= a.batch.step->n_rows) return;
    const gpu_row place = a.batch.row[row];
    const struct gpu_kind_info info = gpu_kind_info(a.kind);
    const uint32_t token = (uint32_t)place.token, r = token % GPU_PANEL_ROWS;
    const uint8_t *panel = a.table.panels + token / GPU_PANEL_ROWS * a.table.panel_bytes;
    float *x = a.x + (uint64_t)row * a.x_stride;
    for (uint32_t k = threadIdx.x; k < a.x_stride; k += blockDim.x) {
        float value = 0;
        if (k < a.cols) {
            const uint8_t *unit = panel + (uint64_t)(k / info.unit_columns) * info.unit_bytes;
            const uint32_t c = k % info.unit_columns;
            value = info.sub == 0 ? embed_float(unit, a.kind, r, c)
                                  : embed_quantised(unit, info, r, c);
        }
        x[k] = value;
    }
    // cos(a + b) and sin(a + b)
    const double2 *low = (const double2 *)a.angle_low + place.position % GPU_ROPE_LOW * a.pairs;
    const double2 *high = (const double2 *)a.angle_high + place.position / GPU_ROPE_LOW * a.pairs;
    float2 *angle = (float2 *)a.angle + (uint64_t)row * a.pairs;
    for (uint32_t i = threadIdx.x; i < a.pairs; i += blockDim.x) {
        const double2 p = low[i], q = high[i];
        const double c = __dsub_rn(__dmul_rn(q.x, p.x), __dmul_rn(q.y, p.y));
        const double s = __dadd_rn(__dmul_rn(q.y, p.x), __dmul_rn(q.x, p.y));
        angle[i] = make_float2(__double2float_rn(c), __double2float_rn(s));
    }
}

// --- prepare ------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(32 * STRIPES)
    prepare(const __grid_constant__ gpu_prepare a) {
    __shared__ row_sums sums;
    const gpu_input &in = a.in;
    const uint32_t row = blockIdx.x, n = *in.n, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t tile_rows = GPU_TILE / in.planes;
    if (row >= gpu_round_up(n, tile_rows)) return;
    const bool there = row < n; // else a row of zeros, to fill the last tile
    const float *x = there ? input_row(in, row) : nullptr;
    float factor = 1, power = 1;
    if (there && in.weight != nullptr) {
        const float squares = input_squares(in, x, warp, lane);
        if (lane == 0) sums.squares[warp] = squares;
        __syncthreads();
        factor = input_factor(in, sums);
    }
    if (there && in.form == GPU_FORM_F16) {
        const float largest = input_largest(in, x, factor, warp, lane);
        if (lane == 0) sums.largest[warp] = largest;
        __syncthreads();
        power = input_power(in, sums);
    }
    const uint64_t tile_bytes = gpu_tile_bytes(in.form, in.cols);
    const uint32_t column = row * in.planes, stride = gpu_chunk_bytes(in.form);
    uint8_t *tile = a.out + column / GPU_TILE * tile_bytes;
    const operand_sink sink = {tile, tile + 512, stride, stride, GPU_TILE, true, true};
    float *tap = there && in.tap != nullptr ? in.tap + (uint64_t)row * in.x_stride : nullptr;
    input_stretches(in, sink, in.form, column % GPU_TILE, x, tap, factor, power, warp, STRIPES);
    if (threadIdx.x == 0 && (in.form == GPU_FORM_F16 || in.form == GPU_FORM_BF16))
        ((float *)(a.out + in.tiles * tile_bytes))[row] = __fdiv_rn(1.0f, power);
}

// --- choosing -----------------------------------------------------------------------------------

// A logit that can be compared and subtracted: NaN and minus infinity are the lowest float.
DEVICE float logit_read(float x) {
    if (!(x > -FLOAT_MAX)) return -FLOAT_MAX;
    return fminf(x, FLOAT_MAX);
}
// Larger key: larger logit, then lower id. 0: no candidate (NaN, minus infinity).
DEVICE uint64_t logit_key(float x, uint32_t id) {
    if (x == -FLOAT_MAX) return 0;
    uint32_t bits = __float_as_uint(x == 0 ? 0.0f : x); // one zero only
    bits ^= bits >> 31 != 0 ? 0xFFFFFFFF : 0x80000000;
    return (uint64_t)bits << 32 | (0xFFFFFFFF - id);
}
DEVICE float key_logit(uint64_t key) {
    uint32_t bits = (uint32_t)(key >> 32);
    bits ^= bits >> 31 != 0 ? 0x80000000 : 0xFFFFFFFF;
    return __uint_as_float(bits);
}
DEVICE uint64_t warp_largest(uint64_t key) {
#pragma unroll 1
    for (int apart = 16; apart > 0; apart /= 2) {
        uint64_t other = __shfl_xor_sync(ALL_LANES, key, apart);
        key = other > key ? other : key;
    }
    return key;
}

// Bitonic sort of a slice in shared memory, largest first.
DEVICE void slice_sort(uint64_t *key) {
#pragma unroll 1
    for (uint32_t run = 2; run <= GPU_TOP_SLICE; run *= 2)
#pragma unroll 1
        for (uint32_t apart = run / 2; apart > 0; apart /= 2) {
#pragma unroll 1
            for (uint32_t i = threadIdx.x; i < GPU_TOP_SLICE / 2; i += blockDim.x) {
                uint32_t low = 2 * apart * (i / apart) + i % apart, high = low + apart;
                bool falling = (low & run) == 0;
                uint64_t x = key[low], y = key[high];
                if ((x < y) == falling) key[low] = y, key[high] = x;
            }
            __syncthreads();
        }
}

// Largest logit of the slice and sum of exp(logit - largest), in one fixed order.
// each: (8) of shared memory.
DEVICE void slice_sum(const float *logit, uint32_t count, float *each, float *part) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float largest = -FLOAT_MAX, sum = 0;
    for (uint32_t i = threadIdx.x; i < count; i += 256) largest = fmaxf(largest, logit[i]);
    largest = warp_max(largest);
    if (lane == 0) each[warp] = largest;
    __syncthreads();
    for (int w = 0; w < 8; w++) largest = fmaxf(largest, each[w]);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < count; i += 256)
        sum = __fadd_rn(sum, exp_exact(__fsub_rn(logit[i], largest)));
    sum = warp_sum(sum);
    if (lane == 0) each[warp] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    sum = each[0];
    for (int w = 1; w < 8; w++) sum = __fadd_rn(sum, each[w]);
    part[0] = largest;
    part[1] = sum;
}

extern "C" __global__ void __launch_bounds__(256) top_slice(const __grid_constant__ gpu_top a) {
    __shared__ float logit[GPU_TOP_SLICE];
    __shared__ uint64_t key[GPU_TOP_SLICE];
    __shared__ float parts[8];
    __shared__ uint64_t each[8];
    const uint32_t slice = blockIdx.x, row = blockIdx.y, top = a.step->top;
    if (row >= a.step->n_logits || slice >= a.slices) return;
    const uint32_t first = slice * GPU_TOP_SLICE, count = min(a.vocab - first, GPU_TOP_SLICE);
    const float *from = a.logits + (uint64_t)row * a.stride + first;
    for (uint32_t i = threadIdx.x; i < GPU_TOP_SLICE; i += blockDim.x) {
        float x = i < count ? logit_read(from[i]) : -FLOAT_MAX;
        logit[i] = x;
        key[i] = logit_key(x, first + i);
    }
    // A thread sums the logits that it has read; the barriers of that are the keys' as well.
    const uint64_t at = (uint64_t)row * a.slices + slice;
    slice_sum(logit, count, parts, a.part + 2 * at);
    uint64_t *out = a.key + at * GPU_TOP_MAX;
    if (top == 1) {
        uint64_t best = 0;
        for (uint32_t i = threadIdx.x; i < GPU_TOP_SLICE; i += blockDim.x)
            best = key[i] > best ? key[i] : best;
        best = warp_largest(best);
        if (threadIdx.x % 32 == 0) each[threadIdx.x / 32] = best;
        __syncthreads();
        if (threadIdx.x != 0) return;
        for (int w = 1; w < 8; w++) best = each[w] > best ? each[w] : best;
        out[0] = best;
    } else if (top > 1) {
        slice_sort(key);
        for (uint32_t i = threadIdx.x; i < min(top, GPU_TOP_MAX); i += blockDim.x) out[i] = key[i];
    }
}

// A warp per row. Lane l has the lists of slices l, l + 32, ...; the best head of all goes next.
extern "C" __global__ void __launch_bounds__(32) top_merge(const __grid_constant__ gpu_top a) {
    enum { SLICES_MAX = 512 }; // a vocabulary of 2^20
    __shared__ uint8_t taken[SLICES_MAX];
    const uint32_t row = blockIdx.x, lane = threadIdx.x, top = min(a.step->top, GPU_TOP_MAX);
    if (row >= a.step->n_logits) return;
    const float *part = a.part + 2 * (uint64_t)row * a.slices;
    const uint64_t *key = a.key + (uint64_t)row * a.slices * GPU_TOP_MAX;
    gpu_choice *choice = a.choice + row;
    float largest = -FLOAT_MAX, sum = 0;
    for (uint32_t s = lane; s < a.slices; s += 32) largest = fmaxf(largest, part[2 * s]);
    largest = warp_max(largest);
    for (uint32_t s = lane; s < a.slices; s += 32)
        sum = __fmaf_rn(part[2 * s + 1], exp_exact(__fsub_rn(part[2 * s], largest)), sum);
    sum = warp_sum(sum);
    for (uint32_t s = lane; s < a.slices; s += 32) taken[s] = 0;
    uint32_t count = 0;
#pragma unroll 1
    for (; count < top; count++) {
        uint64_t best = 0;
        uint32_t from = 0;
#pragma unroll 1
        for (uint32_t s = lane; s < a.slices; s += 32)
            if (taken[s] < top) {
                const uint64_t head = key[s * GPU_TOP_MAX + taken[s]];
                if (head > best) best = head, from = s;
            }
        const uint64_t winner = warp_largest(best);
        if (winner == 0) break;
        if (best == winner) {
            taken[from]++;
            choice->logit[count] = key_logit(winner);
            choice->id[count] = (int32_t)(0xFFFFFFFF - (uint32_t)winner);
        }
    }
    if (lane != 0) return;
    choice->max = largest;
    choice->sum = sum;
    choice->count = count;
}

// --- finish -------------------------------------------------------------------------------------

extern "C" __global__ void __launch_bounds__(1) finish(const __grid_constant__ gpu_finish a) {
    // Release: what this thread knows to be written, by the kernels before it, is seen before this.
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(a.flag)),
                 "r"(a.step->ticket)
                 : "memory");
}
