/* kv_layout: how the CPU keeps keys and values.
 *
 * The cache is (n_layers, n_pages / 16, 2, n_kv_heads, 16): clusters of 16 pages, in which each KV
 * head has its pages of KV_PAGE_TOKENS = 16 positions of keys, then of values. So attention of one
 * head reads a stream where pages follow each other, and memory that nobody used stays untouched.
 *
 *   keys    transposed, lane = position: element (d, p) at 16 d + p, 16 scores at once;
 *           Q8_0: first the scales, (head_dim / 32, 16) binary16
 *   values  row-major: element (p, d) at head_pad * p + d;
 *           Q8_0: first the scales, (16, head_dim / 32) binary16
 *
 * Tiles of bfloat16 are in place of F16 where bfloat16 tiles attend; kernels_attend_amx.c says how
 * they lie. head_pad is head_dim rounded up to 32; what pads is not written. Q8_0 keeps 32
 * consecutive elements of a head as int8 and one scale. */
#ifndef WICK_CPU_KV_LAYOUT_H
#define WICK_CPU_KV_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"

enum { KV_CLUSTER = 16 /* pages */ };

struct kv_layout {
    uint32_t type; /* enum config_kv */
    bool tiles;    /* bfloat16 in tiles, in place of F16 */
    uint32_t n_kv_heads, head_dim, head_pad;
    uint32_t element_bytes;
    uint32_t scales_bytes; /* of one head's keys (or values) of one page; 0 unless Q8_0 */
    size_t head_bytes;     /* one head's keys (or values) of one page, scales first */
    size_t layer_bytes;    /* multiple of 64 */
};

struct kv_layout kv_layout_of(uint32_t type, bool tiles, uint32_t n_kv_heads, uint32_t head_dim,
                              uint32_t n_pages);

/* Where in a layer the keys, or the values, of one head in one page are. */
static inline size_t kv_keys_offset(const struct kv_layout *kv, uint32_t page, uint32_t head) {
    const size_t cluster = (size_t)(page / KV_CLUSTER) * 2 * kv->n_kv_heads + head;
    return (cluster * KV_CLUSTER + page % KV_CLUSTER) * kv->head_bytes;
}
static inline size_t kv_values_offset(const struct kv_layout *kv, uint32_t page, uint32_t head) {
    return kv_keys_offset(kv, page, kv->n_kv_heads + head);
}

/* There, to read. */
static inline const uint8_t *kv_keys(const struct kv_layout *kv, const uint8_t *layer,
                                     uint32_t page, uint32_t head) {
    return layer + kv_keys_offset(kv, page, head);
}
static inline const uint8_t *kv_values(const struct kv_layout *kv, const uint8_t *layer,
                                       uint32_t page, uint32_t head) {
    return layer + kv_values_offset(kv, page, head);
}

/* Stores one position's key and value of one head, (head_dim) each; not into tiles. */
void kv_store(const struct kv_layout *kv, uint8_t *layer, uint32_t page, uint32_t slot,
              uint32_t head, const float *key, const float *value);

#endif
