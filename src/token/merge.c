#include "token/merge.h"

#include "base/bytes.h"
#include "base/panic.h"

size_t merge_memory_bytes(size_t symbols_max) {
    return round_up(symbols_max * sizeof(struct merge_symbol), 16) +
           merge_heap_max(symbols_max) * sizeof(struct merge_candidate);
}

void merge_open(struct merge *merge, void *memory, size_t symbols_max) {
    wick_assert(symbols_max <= INT32_MAX / 4 && (uintptr_t)memory % 16 == 0);
    merge->symbol = memory;
    merge->symbols_max = (uint32_t)symbols_max;
    size_t bytes = round_up(symbols_max * sizeof(struct merge_symbol), 16);
    merge->heap = (void *)((uint8_t *)memory + bytes);
    merge_clear(merge);
}

void merge_clear(struct merge *merge) {
    merge->n_symbols = 0;
    merge->n_heap = 0;
}

void merge_append(struct merge *merge, uint32_t start, uint32_t length, int32_t id) {
    wick_assert(merge->n_symbols < merge->symbols_max && length > 0);
    int32_t index = (int32_t)merge->n_symbols++;
    merge->symbol[index] = (struct merge_symbol){start, length, index - 1, -1, id};
    if (index > 0) merge->symbol[index - 1].next = index;
}

static void heap_push(struct merge *merge, struct merge_candidate candidate) {
    wick_assert(merge->n_heap < merge_heap_max(merge->symbols_max));
    struct merge_candidate *heap = merge->heap;
    uint32_t at = merge->n_heap++;
    while (at > 0) {
        uint32_t parent = (at - 1) / 2;
        if (heap[parent].order <= candidate.order) break;
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = candidate;
}

static struct merge_candidate heap_pop(struct merge *merge) {
    wick_assert(merge->n_heap > 0);
    struct merge_candidate *heap = merge->heap;
    struct merge_candidate top = heap[0], last = heap[--merge->n_heap];
    uint32_t at = 0, n = merge->n_heap;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child + 1].order < heap[child].order) child++;
        if (last.order <= heap[child].order) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static void try_pair(struct merge *merge, merge_find *find, const void *context, int32_t left) {
    if (left < 0) return;
    const struct merge_symbol *a = &merge->symbol[left];
    if (a->next < 0) return;
    const struct merge_symbol *b = &merge->symbol[a->next];
    int32_t id;
    uint32_t rank;
    if (!find(context, a, b, &id, &rank)) return;
    heap_push(merge, (struct merge_candidate){(uint64_t)rank << 32 | (uint32_t)left,
                                              a->length + b->length, id});
}

void merge_run(struct merge *merge, merge_find *find, const void *context) {
    for (uint32_t i = 0; i + 1 < merge->n_symbols; i++) try_pair(merge, find, context, (int32_t)i);
    while (merge->n_heap > 0) {
        struct merge_candidate best = heap_pop(merge);
        int32_t index = (int32_t)(best.order & UINT32_MAX);
        struct merge_symbol *left = &merge->symbol[index];
        if (left->length == 0 || left->next < 0) continue;
        struct merge_symbol *right = &merge->symbol[left->next];
        /* Symbols only ever grow, so an unchanged sum means an unchanged pair. */
        if (left->length + right->length != best.length) continue;
        left->length = best.length;
        left->id = best.id;
        left->next = right->next;
        right->length = 0;
        if (left->next >= 0) merge->symbol[left->next].previous = index;
        try_pair(merge, find, context, left->previous);
        try_pair(merge, find, context, index);
    }
}
