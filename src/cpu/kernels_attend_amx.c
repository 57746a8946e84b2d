#include <immintrin.h>
#include <math.h>

#include "cpu/kernels.h"
#include "cpu/tiles.h"

/* Attention on bfloat16 tiles. In chunks of positions, as kernels_attend.inc has it, and for 32
 * queries at a time:
 *
 *   scores (queries, positions) = queries, as A tiles of 16 rows and 32 elements
 *                                 x keys, as B tiles of 32 elements and 16 positions
 *   weights = exp(score - max)
 *   sums (queries, elements) = weights, as A tiles of 16 rows and 32 positions
 *                              x values, as B tiles of 32 positions and 16 elements
 *
 * Queries and weights are rounded to the nearest bfloat16, as keys and values were when they were
 * stored; sums are F32 in TDPBF16PS's order. What a tile holds of other queries, or of positions
 * that a query does not see, changes nothing: their weights are zero. Keys are in the cache as B
 * tiles, a page to a column of them; values as halves of B tiles, the upper or the lower, which are
 * put together once for all queries of a job. */

enum {
    PAIR = 2 * KV_PAGE_TOKENS, /* positions of two pages */
    PAIRS = ATTEND_CHUNK / PAIR,
    BLOCK_QUERIES = 2 * TILE_ROWS,
    SCORES_STRIDE = ATTEND_CHUNK + 16, /* not 2 KB: rows would share few sets of the cache */
    HALF_BYTES = TILE_BYTES / 2,
    WEIGHTS_FLOATS = PAIRS * 2 * TILE_BYTES / 4
};
_Static_assert(ATTEND_TILE_SCRATCH == BLOCK_QUERIES * SCORES_STRIDE + WEIGHTS_FLOATS,
               "kernels.h says how much scratch there is");
_Static_assert(ATTEND_TILE_SCRATCH_DIM == ATTEND_CHUNK / 2 + BLOCK_QUERIES / 2 + BLOCK_QUERIES,
               "kernels.h says how much scratch there is");

/* A chunk and the job's scratch. blocks = head_pad / 32. */
struct chunk {
    const struct attend_job *job;
    uint32_t from, to; /* positions */
    uint32_t blocks;
    uint32_t values_done; /* pairs that are tiles by now */
    uint8_t *values;      /* (blocks, PAIRS, 2) B tiles */
    uint8_t *queries;     /* (2, blocks) A tiles */
    uint8_t *weights;     /* (PAIRS, 2) A tiles */
    float *scores;        /* (BLOCK_QUERIES, SCORES_STRIDE) */
    float *sums;          /* (BLOCK_QUERIES, 32 blocks) */
};

/* The page of the cache with positions from `pair` pairs after the chunk's first on, or half a pair
 * later; where none is left, another. */
ALWAYS uint32_t page_at(const struct chunk *c, uint32_t pair, uint32_t half) {
    const uint32_t position = c->from + pair * PAIR + half * KV_PAGE_TOKENS;
    return c->job->pages[(position < c->to ? position : c->from) / KV_PAGE_TOKENS];
}
ALWAYS const uint8_t *page_keys(const struct chunk *c, uint32_t pair, uint32_t half) {
    return kv_keys(c->job->kv, c->job->layer, page_at(c, pair, half), c->job->kv_head);
}
ALWAYS const uint8_t *page_values(const struct chunk *c, uint32_t pair, uint32_t half) {
    return kv_values(c->job->kv, c->job->layer, page_at(c, pair, half), c->job->kv_head);
}

/* The half of a B tile that a page has of its values. */
ALWAYS void half_copy(uint8_t *to, const uint8_t *from) {
#pragma GCC unroll 8
    for (uint32_t r = 0; r < KV_PAGE_TOKENS / 2; r++)
        _mm512_store_si512(to + r * ROW_BYTES, _mm512_load_si512(from + r * ROW_BYTES));
}

/* The same with zeros for positions that are none: whatever is there, times zero, could be NaN. */
static void half_copy_some(uint8_t *to, const uint8_t *from, uint32_t positions) {
    for (uint32_t r = 0; r < KV_PAGE_TOKENS / 2; r++) {
        const __mmask32 even = 2 * r < positions ? 0x55555555 : 0;
        const __mmask32 odd = 2 * r + 1 < positions ? 0xAAAAAAAA : 0;
        const __m512i row = _mm512_load_si512(from + r * ROW_BYTES);
        _mm512_store_si512(to + r * ROW_BYTES, _mm512_maskz_mov_epi16(even | odd, row));
    }
}

/* Values of a pair of pages. */
static void values_fill(struct chunk *c, uint32_t pair) {
    for (uint32_t half = 0; half < 2; half++) {
        const uint8_t *from = page_values(c, pair, half);
        const uint32_t first = c->from + pair * PAIR + half * KV_PAGE_TOKENS;
        const uint32_t left = first < c->to ? c->to - first : 0;
        for (uint32_t t = 0; t < 2 * c->blocks; t++) {
            const size_t tile = (size_t)(t / 2 * PAIRS + pair) * 2 + t % 2;
            uint8_t *to = c->values + tile * TILE_BYTES + half * HALF_BYTES;
            if (left >= KV_PAGE_TOKENS)
                half_copy(to, from + t * HALF_BYTES);
            else
                half_copy_some(to, from + t * HALF_BYTES, left);
        }
    }
}

/* 32 floats, of which `there` are there and zeros the rest, as bfloat16. */
ALWAYS __m512i bf16_32(const float *from, uint32_t there) {
    const uint32_t mask = there < 32 ? (1u << there) - 1 : UINT32_MAX;
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(mask >> 16), from + 16),
                                        _mm512_maskz_loadu_ps((__mmask16)mask, from));
}

static void queries_fill(struct chunk *c, const struct attend_query *query, uint32_t n) {
    for (uint32_t q = 0; q < n; q++)
        for (uint32_t b = 0; b < c->blocks; b++) {
            uint8_t *tile = c->queries + (q / TILE_ROWS * c->blocks + b) * TILE_BYTES;
            _mm512_store_si512(tile + q % TILE_ROWS * ROW_BYTES,
                               bf16_32(query[q].query + 32 * b, c->job->kv->head_dim - 32 * b));
        }
}

/* Scores of `pairs` pairs of pages; the keys of each are fetched with the pair before. */
static void scores_fill(struct chunk *c, uint32_t pairs, uint32_t n) {
    const int rows = n > TILE_ROWS ? 2 : 1;
    const size_t width = (size_t)c->blocks * TILE_BYTES;
    for (uint32_t pair = 0; pair < pairs; pair++) {
        const uint8_t *first = page_keys(c, pair, 0), *second = page_keys(c, pair, 1);
        const uint8_t *third = page_keys(c, pair + 1, 0), *fourth = page_keys(c, pair + 1, 1);
        tiles_zero();
        for (size_t at = 0; at < width; at += TILE_BYTES) {
            lines_prefetch(third + at, TILE_BYTES);
            lines_prefetch(fourth + at, TILE_BYTES);
            tiles_add(first + at, second + at, c->queries + at,
                      rows > 1 ? c->queries + width + at : NULL, 2);
        }
        tiles_store(c->scores + pair * PAIR, SCORES_STRIDE * sizeof(float), rows, 2);
    }
}

/* 2^x by a polynomial of degree 4 in x less the nearest integer, |error| < 7e-6; 0 for x far below
 * zero. */
ALWAYS __m512 power_of_2(__m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT);
    const __m512 f = _mm512_sub_ps(x, whole);
    __m512 p = _mm512_set1_ps(0.009656710288545166f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.055838282946219404f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.2402253009741223f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6931367338836215f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1));
    return _mm512_scalef_ps(p, whole);
}

/* Share `share` of the values of a pair of pages, `bytes` of each: what comes after the weights,
 * which themselves read nothing. */
ALWAYS void values_fetch(const struct chunk *c, uint32_t pair, uint32_t share, size_t bytes) {
    const size_t all = c->job->kv->head_bytes, end = (share + 1) * bytes;
    const uint8_t *first = page_values(c, pair, 0), *second = page_values(c, pair, 1);
    for (size_t at = share * bytes; at < end && at < all; at += ROW_BYTES) {
        __builtin_prefetch(first + at, 0, 2);
        __builtin_prefetch(second + at, 0, 2);
    }
}

/* Scores of one query, which sees `seen` positions of the chunk, to weights of `pairs` pairs. Sets
 * max and total, the sum of the rounded weights. Fetches `fetch` bytes of each page's values, the
 * q-th so many. */
static void weigh(struct chunk *c, uint32_t q, uint32_t seen, uint32_t pairs, size_t fetch,
                  struct attend_sum *sum) {
    float *scores = c->scores + (size_t)q * SCORES_STRIDE;
    for (uint32_t p = seen; p < pairs * PAIR; p++) scores[p] = -1e30f;
    __m512 largest = _mm512_loadu_ps(scores);
    for (uint32_t p = 16; p < seen; p += 16)
        largest = _mm512_max_ps(largest, _mm512_loadu_ps(scores + p));
    const float max = _mm512_reduce_max_ps(largest), scale = c->job->scale * 1.44269504f;
    const __m512 by = _mm512_set1_ps(scale), less = _mm512_set1_ps(-max * scale);
    const __m512i ones = _mm512_set1_epi16(0x3F80);
    uint8_t *row = c->weights + q / TILE_ROWS * TILE_BYTES + q % TILE_ROWS * ROW_BYTES;
    __m512 total = _mm512_setzero_ps();
    for (uint32_t pair = 0; pair < pairs; pair++, scores += PAIR, row += 2 * TILE_BYTES) {
        if (fetch > 0) values_fetch(c, pair, q, fetch);
        __m512 low = _mm512_fmadd_ps(_mm512_loadu_ps(scores), by, less);
        __m512 high = _mm512_fmadd_ps(_mm512_loadu_ps(scores + 16), by, less);
        __m512bh weights = _mm512_cvtne2ps_pbh(power_of_2(high), power_of_2(low));
        _mm512_store_si512(row, (__m512i)weights);
        total = _mm512_dpbf16_ps(total, weights, (__m512bh)ones);
    }
    sum->max = max * c->job->scale;
    sum->total = _mm512_reduce_add_ps(total);
}

/* Weighted sums of the values of `pairs` pairs of pages. */
static void sums_fill(struct chunk *c, uint32_t pairs, uint32_t n) {
    const int rows = n > TILE_ROWS ? 2 : 1;
    for (uint32_t b = 0; b < c->blocks; b++) {
        const uint8_t *tile = c->values + (size_t)b * PAIRS * 2 * TILE_BYTES;
        tiles_zero();
        for (uint32_t pair = 0; pair < pairs; pair++, tile += 2 * TILE_BYTES) {
            if (pair == c->values_done) values_fill(c, c->values_done++);
            const uint8_t *weights = c->weights + pair * 2 * TILE_BYTES;
            tiles_add(tile, tile + TILE_BYTES, weights, rows > 1 ? weights + TILE_BYTES : NULL, 2);
        }
        tiles_store(c->sums + 32 * b, 32 * c->blocks * sizeof(float), rows, 2);
    }
}

/* For those who tap the weights: exp(score - max) of a chunk, with the max so far, which was
 * `before`; what went before is scaled to it. */
static __attribute__((cold)) void tap_weights(const struct chunk *c,
                                              const struct attend_query *query, uint32_t q,
                                              uint32_t seen, float before) {
    const float max = query->sum->max, *scores = c->scores + (size_t)q * SCORES_STRIDE;
    for (uint32_t p = 0; p < c->from; p++) query->weights_out[p] *= expf(before - max);
    for (uint32_t p = 0; p < seen; p++)
        query->weights_out[c->from + p] = expf(scores[p] * c->job->scale - max);
}

/* How many positions of a chunk a query sees. */
ALWAYS uint32_t seen_of(const struct chunk *c, const struct attend_query *query) {
    const uint32_t to = query->n_kv < c->to ? query->n_kv : c->to;
    return to > c->from ? to - c->from : 0;
}

/* Some queries in one chunk, at most BLOCK_QUERIES, merged into what they have so far. */
static void chunk_block(struct chunk *c, const struct attend_query *query, uint32_t n) {
    uint32_t most = 0;
    for (uint32_t q = 0; q < n; q++)
        if (seen_of(c, &query[q]) > most) most = seen_of(c, &query[q]);
    const uint32_t pairs = (most + PAIR - 1) / PAIR;
    /* Few queries wait for values, and share the fetching. */
    const size_t fetch =
        n > TILE_ROWS ? 0 : (c->job->kv->head_bytes / n + ROW_BYTES - 1) / ROW_BYTES * ROW_BYTES;
    struct attend_sum sum[BLOCK_QUERIES];
    queries_fill(c, query, n);
    scores_fill(c, pairs, n);
    for (uint32_t q = 0; q < n; q++) {
        sum[q] = (struct attend_sum){.values = c->sums + (size_t)q * 32 * c->blocks};
        const uint32_t seen = seen_of(c, &query[q]);
        if (seen > 0) weigh(c, q, seen, pairs, fetch, &sum[q]);
    }
    sums_fill(c, pairs, n);
    for (uint32_t q = 0; q < n; q++) {
        const float before = query[q].sum->max;
        cpu_kernels_avx512.attend_merge(query[q].sum, &sum[q], c->job->kv->head_dim);
        if (query[q].weights_out != NULL)
            tap_weights(c, &query[q], q, seen_of(c, &query[q]), before);
    }
}

/* Cuts the scratch into what a chunk keeps there. */
static struct chunk chunk_of(const struct attend_job *job) {
    struct chunk c = {.job = job, .blocks = job->kv->head_pad / 32};
    const size_t pairs = (size_t)PAIRS * 2 * TILE_BYTES;
    c.values = (uint8_t *)job->scratch;
    c.queries = c.values + c.blocks * pairs;
    c.weights = c.queries + 2 * c.blocks * TILE_BYTES;
    c.scores = (float *)(c.weights + pairs);
    c.sums = c.scores + BLOCK_QUERIES * SCORES_STRIDE;
    return c;
}

void bf16_attend(const struct attend_job *job) {
    struct chunk c = chunk_of(job);
    const uint32_t n = job->n_queries;
    uint32_t longest = 0;
    for (uint32_t q = 0; q < n; q++)
        if (job->query[q].n_kv > longest) longest = job->query[q].n_kv;
    const uint32_t end = job->to < longest ? job->to : longest;
    tiles_configure(n < TILE_ROWS ? n : TILE_ROWS, ROW_BYTES, TILE_ROWS);
    for (c.from = job->from; c.from < end; c.from += ATTEND_CHUNK) {
        c.to = end - c.from < ATTEND_CHUNK ? end : c.from + ATTEND_CHUNK;
        c.values_done = 0;
        for (uint32_t q = 0; q < n; q += BLOCK_QUERIES)
            chunk_block(&c, job->query + q, n - q < BLOCK_QUERIES ? n - q : BLOCK_QUERIES);
    }
    TILES_RELEASE();
}

/* Keys: element (d, p) is word 2 p + d % 2 of row d / 2. Values: element (p, d) is word
 * 2 (d % 16) + p % 2 of row p / 2 of half d / 16. Stores are of single words, because another
 * thread may store a neighbour. What pads the head is zero: scores have it in their sums. */
void bf16_store(const struct kv_layout *kv, uint8_t *layer, uint32_t page, uint32_t slot,
                uint32_t head, const float *key, const float *value) {
    uint8_t *keys = layer + kv_keys_offset(kv, page, head) + 4 * slot;
    uint8_t *values = layer + kv_values_offset(kv, page, head) + slot / 2 * ROW_BYTES;
    const __m512i rows = _mm512_slli_epi32(
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 6);
    for (uint32_t d = 0; d < kv->head_pad; d += 32, keys += TILE_BYTES, values += TILE_BYTES) {
        _mm512_i32scatter_epi32(keys, rows, bf16_32(key + d, kv->head_dim - d), 1);
        const __m512i words = bf16_32(value + d, kv->head_dim - d);
        const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(words));
        const __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(words, 1));
        const __mmask32 which = slot % 2 == 0 ? 0x55555555 : 0xAAAAAAAA;
        const __m128i by = _mm_cvtsi32_si128(slot % 2 == 0 ? 0 : 16);
        _mm512_mask_storeu_epi16(values, which, _mm512_sll_epi32(low, by));
        _mm512_mask_storeu_epi16(values + HALF_BYTES, which, _mm512_sll_epi32(high, by));
    }
}
