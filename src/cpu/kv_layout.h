/* kv_layout: how the CPU keeps keys and values.
 *
 * The cache is (n_layers, n_pages) pages of KV_PAGE_TOKENS = 16 positions. A page, for each KV
 * head:
 *
 *   keys    transposed, lane = position:  element (d, p) at 16 d + p      -> scores of 16 positions
 * at once Q8_0: first the scales, (head_dim / 32, 16) binary16 values  row-major: element (p, d) at
 * head_pad * p + d Q8_0: first the scales, (16, head_dim / 32) binary16
 *
 * All keys of a page first, then all values. head_pad is head_dim rounded up to 32; the padding of
 * values is zero. Q8_0 keeps 32 consecutive elements of a head as int8 and one scale. */
#ifndef WICK_CPU_KV_LAYOUT_H
#define WICK_CPU_KV_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

struct kv_layout {
    uint32_t type; /* enum config_kv */
    uint32_t n_kv_heads, head_dim, head_pad;
    uint32_t element_bytes;
    uint32_t scales_bytes; /* of one head's keys (or values) of one page; 0 unless Q8_0 */
    size_t head_bytes;     /* one head's keys (or values) of one page, scales first */
    size_t page_bytes;     /* multiple of 64 */
    size_t layer_bytes;
};

struct kv_layout kv_layout_of(uint32_t type, uint32_t n_kv_heads, uint32_t head_dim,
                              uint32_t n_pages);

static inline const uint8_t *kv_keys(const struct kv_layout *kv, const uint8_t *layer,
                                     uint32_t page, uint32_t head) {
    return layer + page * kv->page_bytes + head * kv->head_bytes;
}
static inline const uint8_t *kv_values(const struct kv_layout *kv, const uint8_t *layer,
                                       uint32_t page, uint32_t head) {
    return kv_keys(kv, layer, page, kv->n_kv_heads + head);
}

/* Stores one position's key and value of one head, (head_dim) each. */
void kv_store(const struct kv_layout *kv, uint8_t *layer, uint32_t page, uint32_t slot,
              uint32_t head, const float *key, const float *value);

#endif
