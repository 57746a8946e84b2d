// attention.cuh: queries against the pages of keys and values. abi.h has the arguments, kv.h the
// layout of a page. The module says for what it is made:
//
//   ATTEND_TYPE   GPU_KV_F16 or GPU_KV_Q8_0
//   ATTEND_WIDTH  largest head_dim, padded: 64, 128 or 256
//
// Everything is an mma.m16n8k16 of F16 with F32 accumulation. A block of four warps takes one KV
// head and columns: (row, head) pairs of one sequence, 8 to an mma. For a chunk of 256 positions:
//
//   scores   A = keys (16 positions x elements), B = queries (elements x 8 columns). Warp w has
//            pages 4w .. 4w + 3 of the chunk. Queries are split into hi + lo, both F16, after a
//            scaling of each column by a power of two that puts its largest element into
//            [2^10, 2^11).
//   weights  the maximum of the chunk by column (exact, so in any order); weight =
//            2^(score - maximum + 6); their sum: each warp's four pages in a fixed order, then the
//            warps in order.
//   values   A = values (elements x 16 positions), B = weights (16 positions x 8 columns), split
//            into hi + lo. Every warp has other elements and goes through all pages in order.
//
// Every score and every element of a result is one chain of mma in the order of k, whoever computes
// it and whatever the other columns are: that, and the order of the sums, is why a row has the same
// bits alone, in a prompt, split over blocks or not.
//
// Chunks are joined in their order with m = max(m, m_c), a = 2^(m_old - m), b = 2^(m_c - m),
// l = l a + l_c b, o = o a + o_c b; the result is o / l.
#include "attention_block.cuh"

namespace {

// --- queries ------------------------------------------------------------------------------------

// Where four consecutive elements of a column go, as B operands in the order of the keys' blocks.
__device__ inline int query_slot(int quad, int column) {
    if (type == GPU_KV_F16) return quad / 4 * 32 + column * 4 + quad % 4;
    return (quad / 8 * 2 + quad % 2) * 32 + column * 4 + quad % 8 / 2;
}

// 2^10 over the power of two at or below `largest`, and its inverse.
__device__ inline void query_scale(float largest, float &scale, float &inverse) {
    uint32_t exponent = min(max(__float_as_uint(largest) >> 23, 20u), 254u);
    scale = __uint_as_float((264 - exponent) << 23);
    inverse = __uint_as_float((exponent - 10) << 23);
}

__device__ inline float largest_of(float4 x) {
    return fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w)));
}

template <int tiles>
__device__ inline void queries_load(const gpu_attend &args, const work &work,
                                    const shared_memory<tiles> &shared, uint32_t steps) {
    constexpr int quads_max = (ATTEND_WIDTH / 4 + 31) / 32; // of a lane
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = warp; i < shared.columns; i += warps) {
        uint32_t column = work.first_column + i;
        bool used = column < work.n_columns;
        const float *q = args.q + (size_t)column_row(work, column) * args.q_stride +
                         column_head(work, column) * args.kv.head_dim;
        float4 x[quads_max];
        float largest = 0;
        for (int j = 0; j < quads_max; j++) {
            uint32_t element = 4 * (lane + 32 * j);
            x[j] = make_float4(0, 0, 0, 0);
            if (used && element < args.kv.head_dim) x[j] = *(const float4 *)(q + element);
            largest = fmaxf(largest, largest_of(x[j]));
        }
        for (int mask = 16; mask > 0; mask /= 2)
            largest = fmaxf(largest, __shfl_xor_sync(full, largest, mask));
        float scale, inverse;
        query_scale(largest, scale, inverse);
        for (int j = 0; j < quads_max; j++)
            if (lane + 32 * j < steps * 4)
                shared.queries[i / 8 * steps * 32 + query_slot(lane + 32 * j, i % 8)] =
                    split(__fmul_rn(x[j].x, scale), __fmul_rn(x[j].y, scale),
                          __fmul_rn(x[j].z, scale), __fmul_rn(x[j].w, scale));
        if (lane == 0) {
            const float log2e = 1.44269504088896340736f;
            shared.exponents[i] = __fmul_rn(__fmul_rn(args.scale, log2e), inverse);
            shared.last[i] = used ? (int)args.batch.row[column_row(work, column)].position : -1;
        }
    }
}

// --- scores -------------------------------------------------------------------------------------

// Scores of a warp's pages: [page][tile][C operand of an mma: positions g and g + 8, columns 2 t
// and 2 t + 1; g = lane / 4, t = lane % 4].
template <int tiles> using scores = float[warp_pages][tiles][4];

template <int tiles>
__device__ inline void scores_add_f16(const shared_memory<tiles> &shared, const fragment *queries,
                                      uint32_t steps, int slot, scores<tiles> &score) {
    fragment key[warp_pages];
    for (int i = 0; i < warp_pages; i++) key[i] = shared.blocks[slot + i * GPU_ATTEND_THREADS];
    for (int tile = 0; tile < tiles; tile++) {
        fragment query = queries[tile * steps * 32];
        for (int i = 0; i < warp_pages; i++)
            mma(score[i][tile], key[i].x, key[i].z, key[i].y, key[i].w, query.x, query.y);
        for (int i = 0; i < warp_pages; i++)
            mma(score[i][tile], key[i].x, key[i].z, key[i].y, key[i].w, query.z, query.w);
    }
}

// A block of 32 elements is two steps of k; the scale of a position, a row of C, comes after them.
template <int tiles>
__device__ inline void scores_add_q8(const shared_memory<tiles> &shared, const fragment *queries,
                                     uint32_t steps, int slot, scores<tiles> &score) {
    for (int i = 0; i < warp_pages; i++) {
        fragment key = shared.blocks[slot + i * GPU_ATTEND_THREADS];
        uint32_t scale = shared.scales[slot + i * GPU_ATTEND_THREADS].x;
        uint32_t a[2][4];
        widen(key.x, a[0][0], a[0][2]);
        widen(key.y, a[1][0], a[1][2]);
        widen(key.z, a[0][1], a[0][3]);
        widen(key.w, a[1][1], a[1][3]);
        for (int tile = 0; tile < tiles; tile++) {
            float sum[4] = {0, 0, 0, 0};
            for (int step = 0; step < 2; step++) {
                fragment query = queries[(tile * steps + step) * 32];
                mma(sum, a[step][0], a[step][1], a[step][2], a[step][3], query.x, query.y);
                mma(sum, a[step][0], a[step][1], a[step][2], a[step][3], query.z, query.w);
            }
            for (int j = 0; j < 4; j++)
                score[i][tile][j] = __fmaf_rn(sum[j], j < 2 ? half_low(scale) : half_high(scale),
                                              score[i][tile][j]);
        }
    }
}

// Makes scores exponents of two, -infinity where a column must not look, and leaves the largest of
// this warp's in shared memory.
template <int tiles>
__device__ inline void scores_finish(const shared_memory<tiles> &shared, int chunk,
                                     scores<tiles> &score) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int position = chunk * GPU_CONTEXT_CHUNK + warp * warp_pages * GPU_PAGE_TOKENS + lane / 4;
    for (int tile = 0; tile < tiles; tile++) {
        for (int e = 0; e < 2; e++) {
            int column = tile * 8 + lane % 4 * 2 + e, last = shared.last[column];
            float exponent = shared.exponents[column], largest = -INFINITY;
            for (int i = 0; i < warp_pages; i++) {
                for (int half = 0; half < 2; half++) {
                    float &x = score[i][tile][2 * half + e];
                    bool seen = position + i * GPU_PAGE_TOKENS + 8 * half <= last;
                    x = seen ? __fmul_rn(x, exponent) : -INFINITY;
                    largest = fmaxf(largest, x);
                }
            }
            for (int mask = 4; mask < 32; mask *= 2)
                largest = fmaxf(largest, __shfl_xor_sync(full, largest, mask));
            if (lane < 4) shared.largest[warp * shared.columns + column] = largest;
        }
    }
}

// --- weights ------------------------------------------------------------------------------------

// Lane = column: the exponent that its weights are relative to; 0 where the chunk has nothing for
// it.
template <int tiles> __device__ inline float reference_find(const shared_memory<tiles> &shared) {
    int column = threadIdx.x % 32;
    if (column >= shared.columns) return 0;
    float x = shared.largest[column];
    for (int warp = 1; warp < warps; warp++)
        x = fmaxf(x, shared.largest[warp * shared.columns + column]);
    return x == -INFINITY ? 0 : __fsub_rn(x, weight_exponent);
}

// Lane = column: the sum of its weights.
template <int tiles> __device__ inline float sum_find(const shared_memory<tiles> &shared) {
    int column = threadIdx.x % 32;
    if (column >= shared.columns) return 0;
    float sum = shared.sums[column];
    for (int warp = 1; warp < warps; warp++)
        sum = __fadd_rn(sum, shared.sums[warp * shared.columns + column]);
    return sum;
}

// Scores -> weights; leaves the sums of this warp's in shared memory, and the weights as B
// operands: lanes g and g ^ 1 exchange so that each has one column and two consecutive positions.
// For Q8_0 they stay F32, since the scale of a value belongs to a position, which is k here.
template <int tiles>
__device__ inline void weights_store(const shared_memory<tiles> &shared, float reference,
                                     scores<tiles> &score) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    bool odd = lane / 4 % 2 != 0;
    int slot = weight_slot(lane % 4 * 2 + odd, lane / 8);
    for (int tile = 0; tile < tiles; tile++) {
        for (int e = 0; e < 2; e++) {
            int column = tile * 8 + lane % 4 * 2 + e;
            float relative = __shfl_sync(full, reference, column), sum = 0;
            for (int i = 0; i < warp_pages; i++) {
                for (int half = 0; half < 2; half++) {
                    float &x = score[i][tile][2 * half + e];
                    x = power_of_two(__fsub_rn(x, relative));
                    sum = __fadd_rn(sum, x);
                }
            }
            for (int mask = 4; mask < 32; mask *= 2)
                sum = __fadd_rn(sum, __shfl_xor_sync(full, sum, mask));
            if (lane < 4) shared.sums[warp * shared.columns + column] = sum;
        }
        for (int i = 0; i < warp_pages; i++) {
            float pair[2][2]; // [half][position]
            for (int half = 0; half < 2; half++) {
                const float *x = &score[i][tile][2 * half];
                float other = __shfl_xor_sync(full, odd ? x[0] : x[1], 4);
                pair[half][0] = odd ? other : x[0];
                pair[half][1] = odd ? x[1] : other;
            }
            fragment *to = &shared.weights[((warp * warp_pages + i) * tiles + tile) * 32 + slot];
            if (type == GPU_KV_F16)
                *to = split(pair[0][0], pair[0][1], pair[1][0], pair[1][1]);
            else
                *to = fragment{__float_as_uint(pair[0][0]), __float_as_uint(pair[0][1]),
                               __float_as_uint(pair[1][0]), __float_as_uint(pair[1][1])};
        }
    }
}

// --- values -------------------------------------------------------------------------------------

// [run][tile][C operand: elements run_element() and the next one of columns 2 t and 2 t + 1].
template <int tiles> using results = float[runs][tiles][4];

__device__ inline uint32_t run_element(int i) {
    int run = run_of(threadIdx.x / 32, i), g = threadIdx.x % 32 / 4;
    return type == GPU_KV_F16 ? 16 * run + 2 * g : run / 2 * 32 + 4 * g + run % 2 * 2;
}

// Bits of the positions 2 t, 2 t + 1 (low) and 2 t + 8, 2 t + 9 (high) of a page of which `live`
// positions are in the sequence: what lies behind them may be no number.
__device__ inline void position_masks(int live, uint32_t &low, uint32_t &high) {
    int p = threadIdx.x % 4 * 2;
    low = (p < live ? 0xffffu : 0) | (p + 1 < live ? 0xffff0000u : 0);
    high = (p + 8 < live ? 0xffffu : 0) | (p + 9 < live ? 0xffff0000u : 0);
}

template <int tiles>
__device__ inline void values_add_f16(const shared_memory<tiles> &shared, const fragment *weights,
                                      int n_runs, int slot, int live, results<tiles> &hi,
                                      results<tiles> &lo) {
    uint32_t low, high;
    position_masks(live, low, high);
    for (int i = 0; i < runs; i++) {
        if (i >= n_runs) continue;
        fragment a = shared.blocks[slot + i * GPU_ATTEND_THREADS];
        if (live < GPU_PAGE_TOKENS) a = fragment{a.x & low, a.y & low, a.z & high, a.w & high};
        for (int tile = 0; tile < tiles; tile++) {
            fragment weight = weights[tile * 32];
            mma(hi[i][tile], a.x, a.y, a.z, a.w, weight.x, weight.y);
            mma(lo[i][tile], a.x, a.y, a.z, a.w, weight.z, weight.w);
        }
    }
}

// The scale of a position is multiplied into its weights, once for the runs of a block.
template <int tiles>
__device__ inline void values_add_q8(const shared_memory<tiles> &shared, const fragment *weights,
                                     int n_runs, int slot, int live, results<tiles> &hi,
                                     results<tiles> &lo) {
    constexpr int pair = runs < 2 ? 1 : 2;
    uint32_t low, high;
    position_masks(live, low, high);
    for (int i = 0; i < runs; i += pair) {
        if (i >= n_runs) continue;
        const fragment &value = shared.blocks[slot + i * GPU_ATTEND_THREADS];
        uint2 scale = shared.scales[slot + i * GPU_ATTEND_THREADS];
        scale = make_uint2(scale.x & low, scale.y & high);
        uint32_t a[2][4];
        widen(value.x, a[0][0], a[0][2]);
        widen(value.y, a[0][1], a[0][3]);
        if (pair == 2) {
            widen(value.z, a[1][0], a[1][2]);
            widen(value.w, a[1][1], a[1][3]);
        }
        for (int tile = 0; tile < tiles; tile++) {
            fragment f = weights[tile * 32];
            fragment weight = split(__fmul_rn(__uint_as_float(f.x), half_low(scale.x)),
                                    __fmul_rn(__uint_as_float(f.y), half_high(scale.x)),
                                    __fmul_rn(__uint_as_float(f.z), half_low(scale.y)),
                                    __fmul_rn(__uint_as_float(f.w), half_high(scale.y)));
            for (int j = 0; j < pair; j++) {
                mma(hi[i + j][tile], a[j][0], a[j][1], a[j][2], a[j][3], weight.x, weight.y);
                mma(lo[i + j][tile], a[j][0], a[j][1], a[j][2], a[j][3], weight.z, weight.w);
            }
        }
    }
}

// --- a chunk ------------------------------------------------------------------------------------

template <int tiles>
__device__ inline void chunk_scores(stream &s, const gpu_attend &args, const work &work,
                                    const shared_memory<tiles> &shared, int chunk,
                                    scores<tiles> &score) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t blocks = kv_blocks(type, args.kv.head_dim), block_steps = kv_block(type) / 16;
    for (int i = 0; i < warp_pages; i++)
        for (int tile = 0; tile < tiles; tile++)
            for (int j = 0; j < 4; j++) score[i][tile][j] = 0;
    if (warp * warp_pages < chunk_pages_live(work, chunk)) {
#pragma unroll 1
        for (uint32_t block = 0; block < blocks; block++) {
            int slot = stream_next(s, args, work, shared);
            const fragment *queries = shared.queries + block * block_steps * 32 + lane;
            if (type == GPU_KV_F16)
                scores_add_f16(shared, queries, blocks * block_steps, slot, score);
            else
                scores_add_q8(shared, queries, blocks * block_steps, slot, score);
        }
    }
    scores_finish(shared, chunk, score);
}

template <int tiles>
__device__ inline void chunk_values(stream &s, const gpu_attend &args, const work &work,
                                    const shared_memory<tiles> &shared, int chunk,
                                    results<tiles> &hi) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int blocks = kv_blocks(type, args.kv.head_dim), n_runs = 0;
    results<tiles> lo;
    for (int i = 0; i < runs; i++) {
        n_runs += run_block(run_of(warp, i)) < blocks;
        for (int tile = 0; tile < tiles; tile++)
            for (int j = 0; j < 4; j++) hi[i][tile][j] = lo[i][tile][j] = 0;
    }
    int n_pages = n_runs > 0 ? chunk_pages_live(work, chunk) : 0, live = chunk_live(work, chunk);
    const fragment *weights = shared.weights + weight_slot(lane / 4, lane % 4);
#pragma unroll 1
    for (int page = 0; page < n_pages; page += stage_pages) {
        int slot = stream_next(s, args, work, shared);
        for (int j = 0; j < stage_pages; j++) {
            int at = slot + j * runs * GPU_ATTEND_THREADS;
            int left = live - (page + j) * GPU_PAGE_TOKENS;
            const fragment *weight = weights + (page + j) * tiles * 32;
            if (type == GPU_KV_F16)
                values_add_f16(shared, weight, n_runs, at, left, hi, lo);
            else
                values_add_q8(shared, weight, n_runs, at, left, hi, lo);
        }
    }
    for (int i = 0; i < runs; i++)
        for (int tile = 0; tile < tiles; tile++)
            for (int j = 0; j < 4; j++) hi[i][tile][j] = __fadd_rn(hi[i][tile][j], lo[i][tile][j]);
}

// One chunk of the context for all columns of the block. Lane = column: reference exponent and sum
// of weights.
template <int tiles>
__device__ inline void chunk_attend(stream &s, const gpu_attend &args, const work &work,
                                    const shared_memory<tiles> &shared, int chunk, float &reference,
                                    float &sum, results<tiles> &result) {
    {
        scores<tiles> score;
        chunk_scores(s, args, work, shared, chunk, score);
        __syncthreads(); // the largest are there; nobody reads the weights of the chunk before
        reference = reference_find(shared);
        weights_store(shared, reference, score);
    }
    __syncthreads(); // weights and sums are there
    sum = sum_find(shared);
    chunk_values(s, args, work, shared, chunk, result);
}

// --- joining chunks -----------------------------------------------------------------------------

struct joined {
    float reference, sum;
};

// Takes a chunk in; what was there is to be multiplied by `before`, the chunk by `by`. From nothing
// (reference -infinity): 0 and 1.
__device__ inline void join(joined &all, float reference, float sum, float &before, float &by) {
    float larger = fmaxf(all.reference, reference);
    before = power_of_two(__fsub_rn(all.reference, larger));
    by = power_of_two(__fsub_rn(reference, larger));
    all.reference = larger;
    all.sum = __fmaf_rn(all.sum, before, __fmul_rn(sum, by));
}

__device__ inline float join_value(float all, float value, float before, float by) {
    return __fmaf_rn(all, before, __fmul_rn(value, by));
}

// --- few ----------------------------------------------------------------------------------------

// The part-th 8 columns of all tiles with a place in `partial`: a warp looks at 32 tiles at a time.
__device__ inline bool few_find(const gpu_attend &args, uint32_t part, gpu_tile &tile,
                                uint32_t &part_of_tile) {
    uint32_t lane = threadIdx.x % 32, n_tiles = args.batch.step->n_tiles;
    uint32_t group = args.n_heads / args.kv.n_kv_heads;
    for (uint32_t first = 0; first < n_tiles; first += 32) {
        uint32_t parts = 0;
        if (first + lane < n_tiles && args.batch.tile[first + lane].partial != GPU_NONE)
            parts = (args.batch.tile[first + lane].n_rows * group + GPU_FEW_COLUMNS - 1) /
                    GPU_FEW_COLUMNS;
        uint32_t until = parts; // of this tile and those before it
        for (int apart = 1; apart < 32; apart *= 2) {
            uint32_t before = __shfl_up_sync(full, until, apart);
            until += lane >= apart ? before : 0;
        }
        uint32_t found = __ballot_sync(full, part < until);
        if (found != 0) {
            int at = __ffs(found) - 1;
            tile = args.batch.tile[first + at];
            part_of_tile = part - __shfl_sync(full, until - parts, at);
            return true;
        }
        part -= __shfl_sync(full, until, 31);
    }
    return false;
}

__device__ inline float *partial_find(const gpu_attend &args, uint32_t row, uint32_t head,
                                      uint32_t chunk) {
    size_t at = ((size_t)row * args.n_heads + head) * args.chunks + chunk;
    return args.partial + at * (args.kv.head_dim + 2);
}

// What one lane has of a chunk, for one of its two columns.
__device__ inline void partial_store(const gpu_attend &args, const work &work, uint32_t partial,
                                     int chunk, int e, float reference, float sum,
                                     const results<few_tiles> &result) {
    uint32_t column = work.first_column + threadIdx.x % 4 * 2 + e;
    if (column >= work.n_columns) return;
    float *to = partial_find(args, partial + column / work.group, column_head(work, column), chunk);
    for (int i = 0; i < runs; i++)
        if (run_element(i) < args.kv.head_dim)
            *(float2 *)(to + run_element(i)) = make_float2(result[i][0][e], result[i][0][2 + e]);
    if (threadIdx.x < 4) *(float2 *)(to + args.kv.head_dim) = make_float2(reference, sum);
}

} // namespace

extern "C" __global__ void __launch_bounds__(GPU_ATTEND_THREADS, 4)
    attend_few(const __grid_constant__ gpu_attend args) {
    gpu_tile tile;
    uint32_t part;
    work work;
    if (!few_find(args, blockIdx.z, tile, part)) return;
    if (!work_find(args, tile, blockIdx.y, part, GPU_FEW_COLUMNS, work)) return;
    int first = blockIdx.x, step = gridDim.x;
    if (first * GPU_CONTEXT_CHUNK > work.last) return;

    uint32_t steps = gpu_kv_head_pad(type, args.kv.head_dim) / 16;
    shared_memory<few_tiles> shared(steps);
    stream s;
    stream_start(s, args, work, shared, first, step);
    queries_load(args, work, shared, steps);
    __syncthreads();
    for (int chunk = first; chunk * GPU_CONTEXT_CHUNK <= work.last; chunk += step) {
        float reference, sum;
        results<few_tiles> result;
        chunk_attend(s, args, work, shared, chunk, reference, sum, result);
        for (int e = 0; e < 2; e++) {
            int column = threadIdx.x % 4 * 2 + e;
            float reference_e = __shfl_sync(full, reference, column);
            float sum_e = __shfl_sync(full, sum, column);
            partial_store(args, work, tile.partial, chunk, e, reference_e, sum_e, result);
        }
    }
}

// A thread has two elements of a head, of every row of the tile.
extern "C" __global__ void __launch_bounds__(GPU_ATTEND_THREADS)
    attend_combine(const __grid_constant__ gpu_attend args) {
    uint32_t head = blockIdx.x, element = 2 * threadIdx.x, head_dim = args.kv.head_dim;
    if (blockIdx.y >= args.batch.step->n_tiles || element >= head_dim) return;
    const gpu_tile &tile = args.batch.tile[blockIdx.y];
    if (tile.partial == GPU_NONE) return;
    for (uint32_t i = 0; i < tile.n_rows; i++) {
        uint32_t row = tile.first_row + i;
        uint32_t chunks = args.batch.row[row].position / GPU_CONTEXT_CHUNK + 1;
        const float *from = partial_find(args, tile.partial + i, head, 0);
        joined all = {-INFINITY, 0};
        float2 total = make_float2(0, 0);
#pragma unroll 4
        for (uint32_t chunk = 0; chunk < chunks; chunk++, from += head_dim + 2) {
            float2 value = *(const float2 *)(from + element);
            float2 weights = *(const float2 *)(from + head_dim);
            float before, by;
            join(all, weights.x, weights.y, before, by);
            total.x = join_value(total.x, value.x, before, by);
            total.y = join_value(total.y, value.y, before, by);
        }
        float inverse = __frcp_rn(all.sum);
        float *out = args.out + (size_t)row * args.out_stride + head * head_dim + element;
        *(float2 *)out = make_float2(__fmul_rn(total.x, inverse), __fmul_rn(total.y, inverse));
    }
}

// --- many ---------------------------------------------------------------------------------------

// Three blocks fit into an sm_90; two of Q8_0, which takes more registers.
extern "C" __global__ void __launch_bounds__(GPU_ATTEND_THREADS, type == GPU_KV_F16 ? 3 : 2)
    attend_many(const __grid_constant__ gpu_attend args) {
    constexpr int tiles = many_tiles;
    uint32_t group = args.n_heads / args.kv.n_kv_heads;
    uint32_t parts = gpu_attend_many_parts(ATTEND_WIDTH, group);
    if (blockIdx.y >= args.batch.step->n_tiles) return;
    // The last tiles of a prompt have the longest way: they start first.
    const gpu_tile &tile = args.batch.tile[args.batch.step->n_tiles - 1 - blockIdx.y];
    work work;
    if (tile.partial != GPU_NONE) return;
    if (!work_find(args, tile, blockIdx.x / parts, blockIdx.x % parts, tiles * 8, work)) return;

    uint32_t steps = gpu_kv_head_pad(type, args.kv.head_dim) / 16;
    shared_memory<tiles> shared(steps);
    stream s;
    stream_start(s, args, work, shared, 0, 1);
    queries_load(args, work, shared, steps);
    __syncthreads();

    int lane = threadIdx.x % 32;
    joined all = {-INFINITY, 0}; // lane = column
    int last = lane < shared.columns ? shared.last[lane] : -1;
    results<tiles> total;
    for (int i = 0; i < runs; i++)
        for (int t = 0; t < tiles; t++)
            for (int j = 0; j < 4; j++) total[i][t][j] = 0;
    for (int chunk = 0; chunk * GPU_CONTEXT_CHUNK <= work.last; chunk++) {
        float reference, sum, before = 1, by = 0;
        results<tiles> result;
        chunk_attend(s, args, work, shared, chunk, reference, sum, result);
        if (chunk * GPU_CONTEXT_CHUNK <= last) join(all, reference, sum, before, by);
        for (int t = 0; t < tiles; t++) {
            for (int e = 0; e < 2; e++) {
                float before_e = __shfl_sync(full, before, t * 8 + lane % 4 * 2 + e);
                float by_e = __shfl_sync(full, by, t * 8 + lane % 4 * 2 + e);
                for (int i = 0; i < runs; i++)
                    for (int j = e; j < 4; j += 2)
                        total[i][t][j] =
                            join_value(total[i][t][j], result[i][t][j], before_e, by_e);
            }
        }
    }
    float inverse = __frcp_rn(all.sum);
    for (int t = 0; t < tiles; t++) {
        for (int e = 0; e < 2; e++) {
            float inverse_e = __shfl_sync(full, inverse, t * 8 + lane % 4 * 2 + e);
            uint32_t column = work.first_column + t * 8 + lane % 4 * 2 + e;
            if (column >= work.n_columns) continue;
            float *out = args.out + (size_t)column_row(work, column) * args.out_stride +
                         column_head(work, column) * args.kv.head_dim;
            for (int i = 0; i < runs; i++)
                if (run_element(i) < args.kv.head_dim)
                    *(float2 *)(out + run_element(i)) =
                        make_float2(__fmul_rn(total[i][t][e], inverse_e),
                                    __fmul_rn(total[i][t][2 + e], inverse_e));
        }
    }
}

// --- storing ------------------------------------------------------------------------------------

// A warp has 32 elements of one head at a time; lane = element.
extern "C" __global__ void __launch_bounds__(GPU_ATTEND_THREADS)
    kv_store(const __grid_constant__ gpu_kv_store args) {
    uint32_t i = blockIdx.x, head = blockIdx.y, head_dim = args.kv.head_dim;
    if (i >= args.batch.step->n_rows) return;
    const gpu_row &row = args.batch.row[i];
    uint32_t slot = row.position % GPU_PAGE_TOKENS, lane = threadIdx.x % 32;
    uint32_t page = args.batch.page[(size_t)row.sequence * args.batch.pages_per_sequence +
                                    row.position / GPU_PAGE_TOKENS];
    size_t from = (size_t)i * args.kv_stride + head * head_dim;
    uint32_t pad = gpu_kv_head_pad(type, head_dim);
    for (uint32_t block = threadIdx.x / 32; block * 32 < pad; block += warps) {
        uint32_t d = block * 32 + lane;
        float k = d < head_dim ? args.k[from + d] : 0, v = d < head_dim ? args.v[from + d] : 0;
        if (type == GPU_KV_Q8_0) {
            kv_store_q8(args.kv, page, slot, head, block, lane, false, k);
            kv_store_q8(args.kv, page, slot, head, block, lane, true, v);
        } else if (d < pad) {
            kv_store_f16(args.kv, page, slot, head, d, false, k);
            kv_store_f16(args.kv, page, slot, head, d, true, v);
        }
    }
}
