/* Indexes over keys and tensors, made by sorting, so that a hostile file with many names costs
 * n log n and not n^2. Heapsort: in place, no recursion, no allocation, no bad case. */
#include <string.h>

#include "base/panic.h"
#include "gguf/gguf_parts.h"

typedef int order_compare(const struct gguf *gguf, uint32_t a, uint32_t b);

static int compare_keys(const struct gguf *gguf, uint32_t a, uint32_t b) {
    return gguf_string_compare(gguf->kv[a].key, gguf->kv[b].key);
}

static int compare_names(const struct gguf *gguf, uint32_t a, uint32_t b) {
    return gguf_string_compare(gguf->tensor[a].name, gguf->tensor[b].name);
}

static int compare_places(const struct gguf *gguf, uint32_t a, uint32_t b) {
    uint64_t left = gguf->tensor[a].data_offset, right = gguf->tensor[b].data_offset;
    return (left > right) - (left < right);
}

/* Lets order[root] sink until no child of it is larger. */
static void sink(const struct gguf *gguf, order_compare *compare, uint32_t *order, uint32_t root,
                 uint32_t n) {
    for (;;) {
        uint32_t child = 2 * root + 1;
        if (child >= n) return;
        if (child + 1 < n && compare(gguf, order[child], order[child + 1]) < 0) child++;
        if (compare(gguf, order[root], order[child]) >= 0) return;
        uint32_t moved = order[root];
        order[root] = order[child];
        order[child] = moved;
        root = child;
    }
}

static void order_sort(const struct gguf *gguf, order_compare *compare, uint32_t *order,
                       uint32_t n) {
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t root = n / 2; root-- > 0;) sink(gguf, compare, order, root, n);
    for (uint32_t last = n; last-- > 1;) {
        uint32_t largest = order[0];
        order[0] = order[last];
        order[last] = largest;
        sink(gguf, compare, order, 0, last);
    }
}

int gguf_string_compare(struct gguf_string a, struct gguf_string b) {
    size_t shorter = a.length < b.length ? a.length : b.length;
    int sign = shorter == 0 ? 0 : memcmp(a.text, b.text, shorter);
    if (sign != 0) return sign;
    return (a.length > b.length) - (a.length < b.length);
}

bool gguf_order_keys(struct gguf *gguf, struct fault *fault) {
    wick_assert(gguf->n_kv <= GGUF_KV_MAX);
    order_sort(gguf, compare_keys, gguf->kv_order, gguf->n_kv);
    for (uint32_t i = 1; i < gguf->n_kv; i++) {
        uint32_t a = gguf->kv_order[i - 1], b = gguf->kv_order[i];
        if (compare_keys(gguf, a, b) != 0) continue;
        const struct gguf_kv *later = &gguf->kv[a > b ? a : b];
        return gguf_refuse(fault, later->offset, "the key '%s' is there twice",
                           gguf_show(later->key).text);
    }
    return true;
}

bool gguf_order_tensors(struct gguf *gguf, struct fault *fault) {
    wick_assert(gguf->n_tensors <= GGUF_TENSORS_MAX);
    order_sort(gguf, compare_names, gguf->order, gguf->n_tensors);
    for (uint32_t i = 1; i < gguf->n_tensors; i++) {
        uint32_t a = gguf->order[i - 1], b = gguf->order[i];
        if (compare_names(gguf, a, b) != 0) continue;
        const struct gguf_tensor *later = &gguf->tensor[a > b ? a : b];
        return gguf_refuse(fault, later->offset, "the tensor '%s' is there twice",
                           gguf_show(later->name).text);
    }
    order_sort(gguf, compare_places, gguf->by_offset, gguf->n_tensors);
    for (uint32_t i = 1; i < gguf->n_tensors; i++) {
        const struct gguf_tensor *before = &gguf->tensor[gguf->by_offset[i - 1]];
        const struct gguf_tensor *after = &gguf->tensor[gguf->by_offset[i]];
        if (after->data_offset - before->data_offset >= before->bytes) continue;
        return gguf_refuse(fault, after->offset, "the tensor '%s' shares bytes with '%s'",
                           gguf_show(after->name).text, gguf_show(before->name).text);
    }
    return true;
}
