/* merge: the loop that both tokenizers are made of. A row of symbols; the neighbours that may
 * become one wait in a heap, best first; a merge may make new candidates with its neighbours.
 * Of equal ranks the leftmost goes first. O(n log n). */
#ifndef WICK_TOKEN_MERGE_H
#define WICK_TOKEN_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct merge_symbol {
    uint32_t start, length; /* bytes of the text; length 0: merged into the one on its left */
    int32_t previous, next; /* -1: none */
    int32_t id;             /* token; -1: none */
};

struct merge_candidate {
    uint64_t order;  /* rank << 32 | index of the left symbol: smallest first */
    uint32_t length; /* bytes of both symbols together: another length means the pair is gone */
    int32_t id;      /* what the pair becomes */
};

/* May these neighbours become one token? Then its id, and its rank: smaller goes first. */
typedef bool merge_find(const void *context, const struct merge_symbol *left,
                        const struct merge_symbol *right, int32_t *id, uint32_t *rank);

struct merge {
    struct merge_symbol *symbol; /* (symbols_max) */
    uint32_t n_symbols, symbols_max;
    struct merge_candidate *heap; /* (merge_heap_max(symbols_max)) */
    uint32_t n_heap;
};

/* Each of the n - 1 first pairs is a candidate, and each of the at most n - 1 merges makes at most
 * two more. */
static inline size_t merge_heap_max(size_t symbols_max) {
    return 3 * symbols_max;
}

/* Bytes of working memory for that many symbols, a multiple of 16. */
size_t merge_memory_bytes(size_t symbols_max);

/* `memory`: merge_memory_bytes(symbols_max) bytes, aligned to 16. */
void merge_open(struct merge *merge, void *memory, size_t symbols_max);

/* Forgets all symbols. */
void merge_clear(struct merge *merge);

void merge_append(struct merge *merge, uint32_t start, uint32_t length, int32_t id);

/* Merges until nothing can be merged. The symbols left are symbol[0] and on by `next`. */
void merge_run(struct merge *merge, merge_find *find, const void *context);

#endif
