// kv.cuh: storing keys and values; the layout is in kv.h.
//
// For the epilogue of the matrix product that makes them, and for kv_store, which takes rows of
// F32.
#ifndef WICK_KERNELS_KV_CUH
#define WICK_KERNELS_KV_CUH

#include "kv.h"

// A head's part of a page.
__device__ static inline uint8_t *kv_head(const struct gpu_kv &kv, uint32_t page, uint32_t head) {
    return kv.layer + page * kv.page_bytes + head * kv_head_bytes(kv.type, kv.head_dim);
}

__device__ static inline uint16_t kv_half(float x) {
    uint16_t half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
}

__device__ static inline float kv_float(uint16_t half) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
}

// Nothing infinite goes into the cache: a zero weight times an infinity would spoil every sum.
__device__ static inline float kv_clamp(float x) {
    return fminf(fmaxf(x, -65504.0f), 65504.0f);
}

// F16: element d of one head's key or value at position `slot` (0 .. 15) of a page.
__device__ static inline void kv_store_f16(const struct gpu_kv &kv, uint32_t page, uint32_t slot,
                                           uint32_t head, uint32_t d, bool is_value, float x) {
    uint32_t at = is_value ? kv_value_at(GPU_KV_F16, kv.head_dim, slot, d)
                           : kv_key_at(GPU_KV_F16, kv.head_dim, slot, d);
    *(uint16_t *)(kv_head(kv, page, head) + at) = kv_half(kv_clamp(x));
}

// Q8_0 needs 32 elements of a position at once: a whole warp, lane = element. Rounds as the CPU's
// cache does: scale = max|x| / 127 in binary16, q = x / scale to nearest.
struct kv_rounded {
    uint16_t scale;
    uint8_t q;
};
__device__ static inline struct kv_rounded kv_round(float x) {
    x = kv_clamp(x);
    float largest = fabsf(x);
    for (int mask = 16; mask > 0; mask /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, mask));
    struct kv_rounded rounded;
    rounded.scale = kv_half(__fdiv_rn(largest, 127.0f));
    float scale = kv_float(rounded.scale), inverse = scale > 0 ? __frcp_rn(scale) : 0;
    float steps = fminf(fmaxf(rintf(__fmul_rn(x, inverse)), -127.0f), 127.0f);
    rounded.q = (uint8_t)(int)steps;
    return rounded;
}
__device__ static inline void kv_store_q8(const struct gpu_kv &kv, uint32_t page, uint32_t slot,
                                          uint32_t head, uint32_t block, uint32_t lane,
                                          bool is_value, float x) {
    struct kv_rounded rounded = kv_round(x);
    uint8_t *to = kv_head(kv, page, head);
    uint32_t d = 32 * block + lane;
    to[is_value ? kv_value_at(GPU_KV_Q8_0, kv.head_dim, slot, d)
                : kv_key_at(GPU_KV_Q8_0, kv.head_dim, slot, d)] = rounded.q;
    if (lane == 0)
        *(uint16_t *)(to + (is_value ? kv_value_scale_at(kv.head_dim, slot, block)
                                     : kv_key_scale_at(slot, block))) = rounded.scale;
}

#endif
