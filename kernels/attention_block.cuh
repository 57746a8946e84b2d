// attention_block.cuh: what a block of the attention kernels has and does before it computes: the
// mma and its operands, the part of the batch that is the block's, shared memory, and the stream of
// copies from the cache.
#ifndef WICK_KERNELS_ATTENTION_BLOCK_CUH
#define WICK_KERNELS_ATTENTION_BLOCK_CUH

#include "kv.cuh"

// Four words: a lane's A operand of an mma, or the B operands of two.
struct __align__(16) fragment {
    uint32_t x, y, z, w;
};

// Named outside: names inside hold a hash of the file's path, and go into the PTX.
extern "C" __shared__ fragment attend_memory[];

namespace {

constexpr uint32_t type = ATTEND_TYPE;
constexpr int warps = GPU_ATTEND_THREADS / 32;
constexpr int chunk_pages = GPU_CONTEXT_CHUNK / GPU_PAGE_TOKENS;
constexpr int warp_pages = chunk_pages / warps;
constexpr int runs = ATTEND_WIDTH / 16 / warps; // of 16 elements of a value, for each warp
constexpr int few_tiles = GPU_FEW_COLUMNS / 8;
constexpr int many_tiles = gpu_attend_many_columns(ATTEND_WIDTH) / 8;
constexpr uint32_t full = 0xffffffffu;
// Weights are at most 2^6: 64 times a Q8_0 scale (at most 65504 / 127) is still an F16, and what
// F16 rounds away of hi + lo, at most 2^-25, is 2^-31 of the largest weight.
constexpr float weight_exponent = 6;

// --- arithmetic ---------------------------------------------------------------------------------

__device__ inline void mma(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                           uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Relative error at most 2^-22; 2^0 is 1 and 2^-infinity is 0.
__device__ inline float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline uint32_t halves(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ inline float half_low(uint32_t pair) {
    return kv_float((uint16_t)(pair & 0xffff));
}
__device__ inline float half_high(uint32_t pair) {
    return kv_float((uint16_t)(pair >> 16));
}

// Four numbers at consecutive k as the B operands of two mma: hi in x, y and lo in z, w.
__device__ inline fragment split(float x0, float x1, float x2, float x3) {
    fragment f;
    f.x = halves(x0, x1);
    f.y = halves(x2, x3);
    f.z = halves(__fsub_rn(x0, half_low(f.x)), __fsub_rn(x1, half_high(f.x)));
    f.w = halves(__fsub_rn(x2, half_low(f.y)), __fsub_rn(x3, half_high(f.y)));
    return f;
}

// Four int8 as two pairs of F16, exactly: 1024 + (q + 128) has q + 128 in its low byte; 1152 off.
__device__ inline void widen(uint32_t bytes, uint32_t &low, uint32_t &high) {
    uint32_t offset = bytes ^ 0x80808080u;
    uint32_t a = __byte_perm(offset, 0x64646464u, 0x4140);
    uint32_t b = __byte_perm(offset, 0x64646464u, 0x4342);
    asm("sub.f16x2 %0, %1, %2;" : "=r"(low) : "r"(a), "r"(0x64806480u));
    asm("sub.f16x2 %0, %1, %2;" : "=r"(high) : "r"(b), "r"(0x64806480u));
}

// --- what a block computes ----------------------------------------------------------------------

// Columns of one tile and KV head: column c of the tile is its row c / group, head c % group.
struct work {
    const uint8_t *cache;  // the KV head's part of page 0
    const uint32_t *pages; // of the sequence
    uint32_t first_row, first_head, group;
    uint32_t first_column,
        n_columns; // of the tile's columns, those from .. to that are computed here
    int last;      // position of the last of them
};

__device__ inline uint32_t column_row(const work &work, uint32_t column) {
    return work.first_row + column / work.group;
}
__device__ inline uint32_t column_head(const work &work, uint32_t column) {
    return work.first_head + column % work.group;
}

// False: there is nothing to do for this part.
__device__ inline bool work_find(const gpu_attend &args, const gpu_tile &tile, uint32_t kv_head,
                                 uint32_t part, uint32_t columns, work &work) {
    work.group = args.n_heads / args.kv.n_kv_heads;
    work.first_column = part * columns;
    work.n_columns = min(tile.n_rows * work.group, work.first_column + columns);
    if (work.first_column >= work.n_columns) return false;
    work.cache = args.kv.layer + kv_head * kv_head_bytes(type, args.kv.head_dim);
    work.pages = args.batch.page + (size_t)tile.sequence * args.batch.pages_per_sequence;
    work.first_row = tile.first_row;
    work.first_head = kv_head * work.group;
    work.last = args.batch.row[column_row(work, work.n_columns - 1)].position;
    return true;
}

// --- shared memory ------------------------------------------------------------------------------

// Copies under way: a stage is four blocks of the cache for each warp. A lane copies what it will
// read itself, so that no barrier is needed; Q8_0 has up to 8 bytes of scales beside each block.
constexpr int stage_blocks = GPU_ATTEND_STAGE_BLOCKS;

template <int tiles> struct shared_memory {
    static constexpr int columns = tiles * 8;
    static constexpr int stages = gpu_attend_stages(type, columns);

    fragment *queries; // (tiles, steps of 16 elements, 32)
    fragment *weights; // (pages of a chunk, tiles, 32): weight_slot
    fragment *blocks;  // (stages, stage_blocks, threads)
    uint2 *scales;     // (stages, stage_blocks, threads), Q8_0
    float *largest;    // (warps, columns)
    float *sums;       // (warps, columns)
    float *exponents;  // (columns): what makes scores powers of two
    int *last;         // (columns): position; -1: no column

    __device__ shared_memory(uint32_t steps) {
        queries = attend_memory;
        weights = queries + tiles * steps * 32;
        blocks = weights + chunk_pages * tiles * 32;
        scales = (uint2 *)(blocks + stages * stage_blocks * GPU_ATTEND_THREADS);
        largest =
            (float *)(type == GPU_KV_F16 ? scales
                                         : scales + stages * stage_blocks * GPU_ATTEND_THREADS);
        sums = largest + warps * columns;
        exponents = sums + warps * columns;
        last = (int *)(exponents + columns);
    }
};

// Where the weights of a column and of positions 2 pair, 2 pair + 1 (and + 8) lie: lane 4 column +
// pair, but so that the eight columns of one store do not share banks.
__device__ inline int weight_slot(int column, int pair) {
    return column * 4 + (pair ^ column / 2);
}

// --- copying ------------------------------------------------------------------------------------

__device__ inline void copy_16(void *to, const uint8_t *from) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(from) : "memory");
}
template <int bytes> __device__ inline void copy_small(void *to, const uint8_t *from) {
    uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(at), "l"(from), "n"(bytes)
                 : "memory");
}

// A warp's values are runs of 16 elements, the rows of an mma. Of Q8_0 a block has two.
__device__ inline int run_of(int warp, int i) {
    return type == GPU_KV_F16 ? warp + warps * i : warp * runs + i;
}
__device__ inline int run_block(int run) {
    return type == GPU_KV_F16 ? run : run / 2;
}
constexpr int stage_pages = stage_blocks / runs; // of values

// Which stages there are: for each chunk, the keys of the warp's pages (a block of each), then the
// values of all pages (its runs of each).
struct stream {
    int step;       // from chunk to chunk
    int chunk;      // next to be copied
    int stage;      // of the chunk
    int n_pages;    // live in the chunk
    int key_stages; // 0 where none of this warp's pages is live
    int stages;
    uint32_t page; // lane's page of the chunk; 0: not live
    int copied;    // place in the ring
    int used;
};

__device__ inline int chunk_live(const work &work, int chunk) {
    return work.last + 1 - chunk * GPU_CONTEXT_CHUNK;
}

// Pages of a chunk that are in the sequence.
__device__ inline int chunk_pages_live(const work &work, int chunk) {
    int live = chunk_live(work, chunk);
    return live <= 0 ? 0 : min((live + GPU_PAGE_TOKENS - 1) / GPU_PAGE_TOKENS, chunk_pages);
}

__device__ inline void stream_chunk(stream &s, const gpu_attend &args, const work &work) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    s.n_pages = chunk_pages_live(work, s.chunk);
    s.page = lane < s.n_pages ? work.pages[s.chunk * chunk_pages + lane] : 0;
    s.stage = 0;
    int blocks = kv_blocks(type, args.kv.head_dim);
    bool has_keys = warp * warp_pages < s.n_pages, has_values = run_block(run_of(warp, 0)) < blocks;
    s.key_stages = has_keys ? blocks : 0;
    s.stages = s.key_stages + (has_values ? (s.n_pages + stage_pages - 1) / stage_pages : 0);
}

__device__ inline const uint8_t *stream_page(const stream &s, const gpu_attend &args,
                                             const work &work, int page) {
    return work.cache + __shfl_sync(full, s.page, page) * args.kv.page_bytes;
}

// Of a page that is not live, page 0 of the cache is copied: its scores and weights count for
// nothing.
template <int tiles>
__device__ inline void stream_copy_keys(const stream &s, const gpu_attend &args, const work &work,
                                        const shared_memory<tiles> &shared, int slot) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    uint32_t at = kv_keys_at(type, args.kv.head_dim) + s.stage * KV_BLOCK_BYTES + lane * 16;
    for (int i = 0; i < warp_pages; i++) {
        const uint8_t *from = stream_page(s, args, work, warp * warp_pages + i);
        copy_16(&shared.blocks[slot + i * GPU_ATTEND_THREADS], from + at);
        if (type == GPU_KV_Q8_0)
            copy_small<4>(&shared.scales[slot + i * GPU_ATTEND_THREADS],
                          from + s.stage * KV_SCALES_BYTES + lane / 4 * 4);
    }
}

template <int tiles>
__device__ inline void stream_copy_values(const stream &s, const gpu_attend &args, const work &work,
                                          const shared_memory<tiles> &shared, int slot) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int blocks = kv_blocks(type, args.kv.head_dim);
    uint32_t at = kv_values_at(type, args.kv.head_dim) + lane * 16;
    for (int j = 0; j < stage_pages; j++) {
        int page = (s.stage - s.key_stages) * stage_pages + j;
        const uint8_t *from = stream_page(s, args, work, page);
        for (int i = 0; i < runs; i++, slot += GPU_ATTEND_THREADS) {
            int run = run_of(warp, i), block = run_block(run);
            if (block >= blocks) continue;
            if (type == GPU_KV_F16) {
                copy_16(&shared.blocks[slot], from + at + block * KV_BLOCK_BYTES);
                continue;
            }
            // One copy for the two runs of a block, if they are both this warp's.
            if (runs == 1)
                copy_small<8>(&shared.blocks[slot],
                              from + at + block * KV_BLOCK_BYTES + run % 2 * 8);
            else if (i % 2 == 0)
                copy_16(&shared.blocks[slot], from + at + block * KV_BLOCK_BYTES);
            if (i % 2 == 0)
                copy_small<8>(&shared.scales[slot],
                              from + (blocks + block) * KV_SCALES_BYTES + lane % 4 * 8);
        }
    }
}

template <int tiles>
__device__ inline void stream_copy(stream &s, const gpu_attend &args, const work &work,
                                   const shared_memory<tiles> &shared) {
    while (s.stage == s.stages && s.n_pages > 0) {
        s.chunk += s.step;
        stream_chunk(s, args, work);
    }
    if (s.stage < s.stages) {
        int slot = s.copied * stage_blocks * GPU_ATTEND_THREADS + threadIdx.x;
        if (s.stage < s.key_stages)
            stream_copy_keys(s, args, work, shared, slot);
        else
            stream_copy_values(s, args, work, shared, slot);
        s.stage++;
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    s.copied = s.copied + 1 == shared.stages ? 0 : s.copied + 1;
}

template <int tiles>
__device__ inline void stream_start(stream &s, const gpu_attend &args, const work &work,
                                    const shared_memory<tiles> &shared, int first, int step) {
    s.step = step;
    s.chunk = first;
    s.copied = s.used = 0;
    stream_chunk(s, args, work);
    for (int i = 0; i < shared.stages - 1; i++) stream_copy(s, args, work, shared);
}

// The next stage, for this thread: its first block; the others follow at GPU_ATTEND_THREADS. The
// stage before it is given back.
template <int tiles>
__device__ inline int stream_next(stream &s, const gpu_attend &args, const work &work,
                                  const shared_memory<tiles> &shared) {
    asm volatile("cp.async.wait_group %0;" ::"n"(shared_memory<tiles>::stages - 2) : "memory");
    stream_copy(s, args, work, shared);
    int slot = s.used * stage_blocks * GPU_ATTEND_THREADS + threadIdx.x;
    s.used = s.used + 1 == shared.stages ? 0 : s.used + 1;
    return slot;
}

} // namespace

#endif
