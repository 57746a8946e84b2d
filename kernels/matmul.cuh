// matmul.cuh: matmul_few and matmul_many, for the kind GPU_KIND (see abi.h); one module a kind.
//
// few    a block of a warp for each segment walks over panels; a warp streams its segment of each
//        panel through a ring in shared memory that only it uses, so that no barrier stands between a
//        load and its use, and the next panel's weights are on their way while this one's results
//        are stored.
// many   a block of eight warps, 8 panels x 8 tiles; a warp has two panels and four tiles. Units of
//        weights and of operand B go through two stages of shared memory.
#ifndef WICK_KERNELS_MATMUL_CUH
#define WICK_KERNELS_MATMUL_CUH

#include "epilogue.cuh"
#include "input.cuh"
#include "panel.cuh"

extern __shared__ uint4 block_shared[];

// --- few: the stream of weights -------------------------------------------------------------------

// A warp's units in the order they are used: its segment of panel after panel. SWIGLU: gate, up.
struct weight_walk {
    const uint8_t *at;
    uint32_t panel, which, unit;
};

struct few_shape {
    uint32_t panels, parts;         // of the launch; matrices of a panel: 2 for SWIGLU
    uint32_t first_unit, end_unit;  // this warp's segment
    uint32_t warp, warps, lane;
};

template <typename facts> DEVICE few_shape few_shape_of(const gpu_matmul &a) {
    few_shape s;
    s.panels = panel_count(a);
    s.parts = a.epilogue == GPU_SWIGLU ? 2 : 1;
    s.warp = threadIdx.x / 32;
    s.warps = blockDim.x / 32;
    s.lane = threadIdx.x % 32;
    const uint32_t units = (a.in.cols + facts::columns - 1) / facts::columns;
    const uint32_t segment = gpu_segment_columns(a.in.cols) / facts::columns;
    s.first_unit = s.warp * segment;
    s.end_unit = min(units, s.first_unit + segment);
    return s;
}

template <typename facts>
DEVICE void walk_enter(const gpu_matmul &a, const few_shape &s, weight_walk &walk) {
    walk.unit = s.first_unit;
    if (walk.panel < s.panels)
        walk.at = panel_weights(a, walk.panel, walk.which) + (uint64_t)s.first_unit * facts::bytes;
}

// Starts copying the next unit into a slot of the ring, if there is one more.
template <typename facts>
DEVICE void walk_copy(const gpu_matmul &a, const few_shape &s, weight_walk &walk, uint8_t *slot) {
    if (walk.panel < s.panels) {
#pragma unroll
        for (uint32_t i = 0; i < facts::bytes; i += 512)
            if (i + 512 <= facts::bytes || i + 16 * s.lane < facts::bytes)
                copy_async(slot + i + 16 * s.lane, walk.at + i + 16 * s.lane);
        walk.at += facts::bytes;
        if (++walk.unit == s.end_unit) {
            if (++walk.which == s.parts) {
                walk.which = 0;
                walk.panel += gridDim.x;
            }
            walk_enter<facts>(a, s, walk);
        }
    }
    copy_commit();
}

// --- few: operand B made by the block itself ------------------------------------------------------

// Prepares n rows into shared memory; returns where they lie. sums: scratch of 8 rows.
template <typename facts>
DEVICE operand_view few_prepare(const gpu_matmul &a, const few_shape &s, uint32_t n, uint8_t *shared,
                                float **power) {
    row_sums *sums = (row_sums *)shared; // (8), 512 bytes; then (8) powers
    *power = (float *)(sums + GPU_TILE);
    const gpu_input &in = a.in;
    const uint32_t columns = n * in.planes;
    const uint32_t chunks = gpu_columns_padded(in.cols) / GPU_CHUNK_COLUMNS;
    operand_sink sink;
    sink.columns = columns;
    sink.fragment_stride = facts::fragments * 64 * columns;
    sink.scale_stride = facts::quantised ? facts::chunk_used - 512 : 0;
    sink.scales = shared + 1024;
    sink.fragments = sink.scales + chunks * sink.scale_stride;
    sink.sum_32 = facts::has_min && !facts::halves;
    sink.sum_16 = facts::has_min && facts::halves;
    if (in.weight != nullptr) {
        for (uint32_t i = s.warp; i < n * STRIPES; i += s.warps) {
            float squares = input_squares(in, input_row(in, i / STRIPES), i % STRIPES, s.lane);
            if (s.lane == 0) sums[i / STRIPES].squares[i % STRIPES] = squares;
        }
        __syncthreads();
    }
    if (facts::kind == GPU_F16) {
        for (uint32_t i = s.warp; i < n * STRIPES; i += s.warps) {
            const uint32_t row = i / STRIPES;
            float factor = in.weight != nullptr ? input_factor(in, sums[row]) : 1.0f;
            float largest = input_largest(in, input_row(in, row), factor, i % STRIPES, s.lane);
            if (s.lane == 0) sums[row].largest[i % STRIPES] = largest;
        }
        __syncthreads();
    }
#pragma unroll 1
    for (uint32_t row = 0; row < n; row++) {
        const float *x = input_row(in, row);
        float factor = in.weight != nullptr ? input_factor(in, sums[row]) : 1.0f;
        float multiplier = facts::kind == GPU_F16 ? input_power(in, sums[row]) : 1.0f;
        if (threadIdx.x == 0) (*power)[row] = __fdiv_rn(1.0f, multiplier);
        float *tap = in.tap != nullptr && blockIdx.x == 0 ? in.tap + (uint64_t)row * in.x_stride
                                                          : nullptr;
        input_stretches(in, sink, facts::form, row * in.planes, x, tap, factor, multiplier, s.warp,
                        s.warps);
    }
    // Scales and sums of columns that are not there: read by lanes whose results nobody uses.
    const uint32_t words = sink.scale_stride / 4;
    for (uint32_t i = threadIdx.x; i < chunks * words; i += blockDim.x)
        if (i % 16 / 4 * 2 + i % 2 >= columns) ((float *)sink.scales)[i] = 0;
    __syncthreads();
    return {sink.fragments, sink.scales, sink.fragment_stride, sink.scale_stride, columns};
}

// --- few: a warp's segment ------------------------------------------------------------------------

// A tile of prepared operand B.
template <typename facts>
DEVICE operand_view prepared_view(const gpu_matmul &a, uint32_t tile) {
    const uint8_t *at = a.prepared + tile * gpu_tile_bytes(facts::form, a.in.cols);
    return {at, at + 512, facts::chunk_bytes, facts::chunk_bytes, GPU_TILE};
}

struct few_ring {
    uint8_t *slots;
    uint32_t slot;
};

// Waits for the next unit, starts the copy that takes the place of the one before it.
template <typename facts>
DEVICE const uint8_t *ring_next(const gpu_matmul &a, const few_shape &s, weight_walk &walk,
                                few_ring &ring) {
    copy_wait<GPU_FEW_STAGES - 2>();
    __syncwarp();
    const uint8_t *unit = ring.slots + ring.slot * facts::bytes;
    uint32_t before = ring.slot == 0 ? GPU_FEW_STAGES - 1 : ring.slot - 1;
    walk_copy<facts>(a, s, walk, ring.slots + before * facts::bytes);
    ring.slot = ring.slot + 1 == GPU_FEW_STAGES ? 0 : ring.slot + 1;
    return unit;
}

// One segment of one panel. One tile: its next chunk is fetched while this one is multiplied.
template <typename facts>
DEVICE void segment_multiply(const gpu_matmul &a, const few_shape &s, const operand_view &view,
                             weight_walk &walk, few_ring &ring, operand<facts> &ahead,
                             float acc[1][4]) {
    const uint32_t first = s.first_unit * facts::chunks, end = s.end_unit * facts::chunks;
    acc[0][0] = acc[0][1] = acc[0][2] = acc[0][3] = 0;
#pragma unroll 1
    for (uint32_t unit = s.first_unit; unit < s.end_unit; unit++) {
        const uint8_t *weights = ring_next<facts>(a, s, walk, ring);
#pragma unroll 2
        for (uint32_t c = 0; c < facts::chunks; c++) {
            uint32_t next = unit * facts::chunks + c + 1;
            if (next == end) next = first;
            const operand<facts> x[1] = {ahead};
            ahead = operand_load<facts>(view, next, s.lane);
            chunk_multiply<facts, 1>(weights, c, s.lane, x, 1, acc);
        }
    }
}

// Several tiles, of which `there` are: the loads of a chunk's tiles overlap each other.
template <typename facts, int tiles>
DEVICE void segment_multiply_tiles(const gpu_matmul &a, const few_shape &s, const operand_view &view,
                                   uint64_t tile_bytes, uint32_t there, weight_walk &walk,
                                   few_ring &ring, float acc[tiles][4]) {
#pragma unroll
    for (int i = 0; i < tiles; i++) acc[i][0] = acc[i][1] = acc[i][2] = acc[i][3] = 0;
#pragma unroll 1
    for (uint32_t unit = s.first_unit; unit < s.end_unit; unit++) {
        const uint8_t *weights = ring_next<facts>(a, s, walk, ring);
#pragma unroll 1
        for (uint32_t c = 0; c < facts::chunks; c++) {
            operand<facts> x[tiles];
#pragma unroll
            for (uint32_t i = 0; i < tiles; i++) {
                if (i >= there) break;
                operand_view tile = view;
                tile.fragments += i * tile_bytes;
                tile.scales += i * tile_bytes;
                x[i] = operand_load<facts>(tile, unit * facts::chunks + c, s.lane);
            }
            chunk_multiply<facts, tiles>(weights, c, s.lane, x, there, acc);
        }
    }
}

template <typename facts, int tiles, bool fused>
DEVICE void few_run(const gpu_matmul &a, uint32_t n, uint32_t column, uint32_t there) {
    const few_shape s = few_shape_of<facts>(a);
    uint8_t *shared = (uint8_t *)block_shared;
    few_ring ring = {shared + s.warp * GPU_FEW_STAGES * facts::bytes, 0};
    float4 *sums = (float4 *)(shared + s.warps * GPU_FEW_STAGES * facts::bytes);
    weight_walk walk = {nullptr, blockIdx.x, 0, 0};
    walk_enter<facts>(a, s, walk);
#pragma unroll 1
    for (int i = 0; i < GPU_FEW_STAGES - 1; i++)
        walk_copy<facts>(a, s, walk, ring.slots + i * facts::bytes);

    const uint64_t tile_bytes = gpu_tile_bytes(facts::form, a.in.cols);
    operand_view view;
    float *power = nullptr;
    if constexpr (fused) {
        view = few_prepare<facts>(a, s, n, (uint8_t *)(sums + s.warps * s.parts * 32), &power);
    } else {
        view = prepared_view<facts>(a, column / GPU_TILE);
        power = (float *)(a.prepared + a.in.tiles * tile_bytes) + column;
    }
    operand<facts> ahead;
    if constexpr (facts::form != GPU_FORM_F32 && tiles == 1)
        ahead = operand_load<facts>(view, s.first_unit * facts::chunks, s.lane);

    // sums: (parts, warps, tiles, 32)
#pragma unroll 1
    for (uint32_t panel = blockIdx.x; panel < s.panels; panel += gridDim.x) {
#pragma unroll 1
        for (uint32_t part = 0; part < s.parts; part++) {
            float4 *to = sums + (part * s.warps + s.warp) * tiles * 32;
            if constexpr (facts::form == GPU_FORM_F32) {
                plain_sums acc = {};
#pragma unroll 1
                for (uint32_t unit = s.first_unit; unit < s.end_unit; unit++)
                    plain_multiply(ring_next<facts>(a, s, walk, ring), view,
                                   unit * facts::columns, s.lane, acc);
                if (part == 0) __syncthreads(); // the panel before is stored
                plain_store(acc, s.lane, (float *)to);
            } else {
                float acc[tiles][4];
                if constexpr (tiles == 1)
                    segment_multiply<facts>(a, s, view, walk, ring, ahead, acc);
                else
                    segment_multiply_tiles<facts, tiles>(a, s, view, tile_bytes, there, walk, ring,
                                                         acc);
                if (part == 0) __syncthreads(); // the panel before is stored
#pragma unroll
                for (int i = 0; i < tiles; i++)
                    to[32 * i + s.lane] = make_float4(acc[i][0], acc[i][1], acc[i][2], acc[i][3]);
            }
        }
        __syncthreads();
        for (uint32_t tile = s.warp; tile < there; tile += s.warps) {
            const result_sums of = {(const float *)(sums + tile * 32), s.warps, tiles * 128,
                                    s.warps * tiles * 128};
            tile_store(a, panel, of, facts::powers ? power + GPU_TILE * tile : nullptr,
                       column + GPU_TILE * tile, n);
        }
    }
    copy_wait<0>();
}

template <typename facts> DEVICE void few(const gpu_matmul &a) {
    constexpr uint32_t columns = gpu_few_columns(facts::kind);
    const uint32_t n = *a.in.n, column = blockIdx.y * columns;
    if (column >= n * a.in.planes || blockIdx.x >= panel_count(a)) return;
    if constexpr (facts::form == GPU_FORM_F32) {
        few_run<facts, 1, false>(a, n, column, 1);
    } else {
        const uint32_t left = n * a.in.planes - column;
        if (a.fused)
            few_run<facts, 1, true>(a, n, column, 1);
        else if (left <= GPU_TILE)
            few_run<facts, 1, false>(a, n, column, 1);
        else
            few_run<facts, columns / GPU_TILE, false>(
                a, n, column, (min(left, columns) + GPU_TILE - 1) / GPU_TILE);
    }
}

// --- many ---------------------------------------------------------------------------------------

enum { MANY_TILES = GPU_MANY_COLUMNS / GPU_TILE, WARP_PANELS = 2, WARP_TILES = 4 };

// Slot `slot` (0..7) of a block's panels; SWIGLU: gate and up of the same panel are neighbours.
struct many_panel {
    uint32_t panel, which;
    bool valid;
};
DEVICE many_panel many_panel_of(const gpu_matmul &a, uint32_t slot) {
    many_panel p = {GPU_MANY_PANELS * blockIdx.y + slot, 0, true};
    if (a.epilogue == GPU_SWIGLU) {
        p.which = p.panel % 2;
        p.panel /= 2;
    }
    const uint32_t count = panel_count(a);
    p.valid = p.panel < count;
    if (!p.valid) p.panel = count - 1; // loaded and computed, not stored
    return p;
}

template <typename facts> struct many_stage {
    static constexpr uint32_t tile_bytes = facts::chunks * facts::chunk_used;
    static constexpr uint32_t operands = GPU_MANY_PANELS * facts::bytes; // after the weights
    static constexpr uint32_t bytes = operands + MANY_TILES * tile_bytes;
};

// A warp copies one panel's unit and one tile's chunks.
template <typename facts>
DEVICE void many_copy(uint8_t *stage, const uint8_t *weights, const uint8_t *tile, uint32_t unit) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint8_t *to = stage + warp * facts::bytes;
    const uint8_t *from = weights + (uint64_t)unit * facts::bytes;
#pragma unroll
    for (uint32_t i = 0; i < facts::bytes; i += 512)
        if (i + 512 <= facts::bytes || i + 16 * lane < facts::bytes)
            copy_async(to + i + 16 * lane, from + i + 16 * lane);
    if (tile == nullptr) return;
    to = stage + many_stage<facts>::operands + warp * many_stage<facts>::tile_bytes;
    from = tile + (uint64_t)unit * facts::chunks * facts::chunk_bytes;
#pragma unroll
    for (uint32_t i = 0; i < many_stage<facts>::tile_bytes; i += 512) {
        const uint32_t at = i + 16 * lane;
        if (i + 512 <= many_stage<facts>::tile_bytes || at < many_stage<facts>::tile_bytes)
            copy_async(to + at, from + at / facts::chunk_used * facts::chunk_bytes +
                                    at % facts::chunk_used);
    }
}

// Adds the product of one unit: two panels, four tiles, of which `tiles` are there.
template <typename facts>
DEVICE void many_multiply(const uint8_t *stage, uint32_t tiles,
                          float acc[WARP_PANELS][WARP_TILES][4]) {
    constexpr uint32_t tile_bytes = many_stage<facts>::tile_bytes;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint8_t *weights = stage + warp % 4 * WARP_PANELS * facts::bytes;
    const uint8_t *operands =
        stage + many_stage<facts>::operands + warp / 4 * WARP_TILES * tile_bytes;
    // A chunk has two blocks of integers or four steps of floats.
#pragma unroll 1
    for (uint32_t c = 0; c < facts::chunks; c++, operands += facts::chunk_used) {
#pragma unroll
        for (int b = 0; b < (facts::quantised ? 2 : 4); b++) {
            if constexpr (facts::quantised) {
                // Panels that take many registers come one after the other.
                constexpr bool wide = facts::has_min || facts::halves || facts::four_bits;
                constexpr int at_once = wide ? 1 : WARP_PANELS;
#pragma unroll
                for (int p = 0; p < WARP_PANELS; p += at_once) {
                    weight_block<facts> w[at_once];
#pragma unroll
                    for (int q = 0; q < at_once; q++)
                        w[q] = weight_load<facts>(weights + (p + q) * facts::bytes, c, b, lane);
#pragma unroll
                    for (uint32_t i = 0; i < WARP_TILES; i++) {
                        if (i >= tiles) break;
                        const operand_block<facts> x =
                            operand_block_load<facts>(operands + i * tile_bytes, b, lane);
#pragma unroll
                        for (int q = 0; q < at_once; q++)
                            block_multiply<facts>(w[q], x, acc[p + q][i]);
                    }
                }
            } else {
                uint4 w[WARP_PANELS];
#pragma unroll
                for (int p = 0; p < WARP_PANELS; p++)
                    w[p] = *(const uint4 *)(weights + p * facts::bytes + GPU_LINE_BYTES * b +
                                            16 * lane);
#pragma unroll
                for (uint32_t i = 0; i < WARP_TILES; i++) {
                    if (i >= tiles) break;
                    const uint4 x = *(const uint4 *)(operands + i * tile_bytes +
                                                     GPU_LINE_BYTES * b + 16 * lane);
#pragma unroll
                    for (int p = 0; p < WARP_PANELS; p++) step_multiply<facts>(w[p], x, acc[p][i]);
                }
            }
        }
    }
}

template <typename facts> DEVICE void many(const gpu_matmul &a) {
    const uint32_t n = *a.in.n, column = blockIdx.x * GPU_MANY_COLUMNS;
    const uint32_t warp = threadIdx.x / 32, columns = n * a.in.planes;
    if (column >= columns) return;
    const uint32_t block_tiles = min((columns - column + GPU_TILE - 1) / GPU_TILE, MANY_TILES);
    const uint32_t first_tile = warp / 4 * WARP_TILES; // this warp's, of the block
    const uint32_t tiles = block_tiles > first_tile ? min(block_tiles - first_tile, WARP_TILES) : 0;
    const many_panel loads = many_panel_of(a, warp);
    const uint8_t *weights = panel_weights(a, loads.panel, loads.which);
    const uint64_t tile_bytes = gpu_tile_bytes(facts::form, a.in.cols);
    const uint8_t *tile =
        warp < block_tiles ? a.prepared + (column / GPU_TILE + warp) * tile_bytes : nullptr;
    const uint32_t units = (a.in.cols + facts::columns - 1) / facts::columns;
    const uint32_t segment = gpu_segment_columns(a.in.cols) / facts::columns;

    uint8_t *shared = (uint8_t *)block_shared;
    float acc[WARP_PANELS][WARP_TILES][4] = {}, total[WARP_PANELS][WARP_TILES][4] = {};
    many_copy<facts>(shared, weights, tile, 0);
    copy_commit();
#pragma unroll 1
    for (uint32_t unit = 0; unit < units; unit++) {
        copy_wait<0>();
        __syncthreads(); // the unit is there for all, and the other stage is free
        if (unit + 1 < units)
            many_copy<facts>(shared + (unit + 1) % GPU_MANY_STAGES * many_stage<facts>::bytes,
                             weights, tile, unit + 1);
        copy_commit();
        many_multiply<facts>(shared + unit % GPU_MANY_STAGES * many_stage<facts>::bytes, tiles, acc);
        if ((unit + 1) % segment != 0 && unit + 1 != units) continue;
#pragma unroll
        for (int p = 0; p < WARP_PANELS; p++)
#pragma unroll
            for (int i = 0; i < WARP_TILES; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    total[p][i][e] = unit < segment ? acc[p][i][e]
                                                    : __fadd_rn(total[p][i][e], acc[p][i][e]);
                    acc[p][i][e] = 0;
                }
    }
    __syncthreads(); // the stages are free: results go there, (warps, panels, tiles, 32 lanes)
    float4 *results = (float4 *)block_shared + warp * WARP_PANELS * WARP_TILES * 32;
#pragma unroll
    for (int p = 0; p < WARP_PANELS; p++)
#pragma unroll
        for (int i = 0; i < WARP_TILES; i++)
            results[(p * WARP_TILES + i) * 32 + threadIdx.x % 32] = make_float4(
                total[p][i][0], total[p][i][1], total[p][i][2], total[p][i][3]);
    __syncwarp();
    const float *power = (const float *)(a.prepared + a.in.tiles * tile_bytes) + column;
#pragma unroll 1
    for (uint32_t i = 0; i < WARP_PANELS * tiles; i++) {
        const uint32_t p = i % WARP_PANELS, tile = i / WARP_PANELS;
        if (p == 1 && a.epilogue == GPU_SWIGLU) continue; // stored with its gate
        const uint32_t at = GPU_TILE * (first_tile + tile);
        const many_panel panel = many_panel_of(a, warp % 4 * WARP_PANELS + p);
        const result_sums of = {(const float *)(results + (p * WARP_TILES + tile) * 32), 1, 0,
                                WARP_TILES * 128};
        if (panel.valid)
            tile_store(a, panel.panel, of, facts::powers ? power + at : nullptr, column + at, n);
    }
}

using module_facts = kind_facts<GPU_KIND>;

// Two blocks a multiprocessor: 128 registers a thread. Q2_K takes more.
constexpr int module_blocks = GPU_KIND == GPU_S4_16_MIN ? 1 : 2;

extern "C" __global__ void __launch_bounds__(32 * GPU_SEGMENTS_MAX, module_blocks)
    matmul_few(const __grid_constant__ gpu_matmul a) {
    few<module_facts>(a);
}

extern "C" __global__ void __launch_bounds__(GPU_MANY_THREADS, module_blocks)
    matmul_many(const __grid_constant__ gpu_matmul a) {
    if constexpr (module_facts::form != GPU_FORM_F32) many<module_facts>(a);
}

#endif
