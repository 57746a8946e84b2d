#include "cpu/kv_layout.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/config.h"
#include "base/panic.h"
#include "gguf/quant.h"

enum { KV_BLOCK = 32 }; /* elements that share a scale in Q8_0 */

struct kv_layout kv_layout_of(uint32_t type, bool tiles, uint32_t n_kv_heads, uint32_t head_dim,
                              uint32_t n_pages) {
    struct kv_layout kv = {.type = type,
                           .tiles = tiles && type == CONFIG_KV_F16,
                           .n_kv_heads = n_kv_heads,
                           .head_dim = head_dim};
    kv.head_pad = (uint32_t)round_up(head_dim, KV_BLOCK);
    kv.element_bytes = type == CONFIG_KV_F32 ? 4 : type == CONFIG_KV_F16 ? 2 : 1;
    if (type == CONFIG_KV_Q8_0) kv.scales_bytes = KV_PAGE_TOKENS * kv.head_pad / KV_BLOCK * 2;
    kv.head_bytes = kv.scales_bytes + (size_t)KV_PAGE_TOKENS * kv.head_pad * kv.element_bytes;
    kv.layer_bytes = round_up(round_up(n_pages, KV_CLUSTER) * 2 * n_kv_heads * kv.head_bytes, 64);
    return kv;
}

/* Element e of a head's keys or values, for the float types. */
static void kv_put(const struct kv_layout *kv, uint8_t *head, size_t element, float x) {
    if (kv->type == CONFIG_KV_F32) {
        memcpy(head + 4 * element, &x, 4);
    } else {
        uint16_t half = quant_f32_to_f16(x);
        memcpy(head + 2 * element, &half, 2);
    }
}

/* Rounds up to 32 elements to int8 with a binary16 scale: scale = max|x| / 127, q = x / scale. */
static uint16_t kv_round_block(const float *x, uint32_t count, int8_t *q) {
    float largest = 0;
    for (uint32_t i = 0; i < count; i++) largest = fmaxf(largest, fabsf(x[i]));
    uint16_t scale = quant_f32_to_f16(largest / 127.0f);
    float rounded = quant_f16_to_f32(scale), inverse = rounded > 0 ? 1 / rounded : 0;
    for (uint32_t i = 0; i < count; i++) {
        float steps = rintf(x[i] * inverse);
        q[i] = (int8_t)fminf(fmaxf(steps, -127), 127);
    }
    return scale;
}

void kv_store(const struct kv_layout *kv, uint8_t *layer, uint32_t page, uint32_t slot,
              uint32_t head, const float *key, const float *value) {
    wick_assert(slot < KV_PAGE_TOKENS && head < kv->n_kv_heads);
    uint8_t *keys = layer + kv_keys_offset(kv, page, head);
    uint8_t *values = layer + kv_values_offset(kv, page, head);
    wick_assert(!kv->tiles);
    if (kv->type != CONFIG_KV_Q8_0) {
        for (uint32_t d = 0; d < kv->head_dim; d++) {
            kv_put(kv, keys, (size_t)d * KV_PAGE_TOKENS + slot, key[d]);
            kv_put(kv, values, (size_t)slot * kv->head_pad + d, value[d]);
        }
        return;
    }
    uint32_t blocks = kv->head_pad / KV_BLOCK;
    for (uint32_t b = 0; b < blocks; b++) {
        int8_t q[KV_BLOCK];
        uint32_t first = b * KV_BLOCK;
        uint32_t count = kv->head_dim - first < KV_BLOCK ? kv->head_dim - first : KV_BLOCK;
        uint16_t scale = kv_round_block(key + first, count, q);
        memcpy(keys + 2 * (b * KV_PAGE_TOKENS + slot), &scale, 2);
        for (uint32_t i = 0; i < count; i++)
            keys[kv->scales_bytes + (first + i) * KV_PAGE_TOKENS + slot] = (uint8_t)q[i];
        scale = kv_round_block(value + first, count, q);
        memcpy(values + 2 * (slot * blocks + b), &scale, 2);
        memcpy(values + kv->scales_bytes + slot * kv->head_pad + first, q, count);
    }
}
