/* kv: how the GPU keeps keys and values. Plain C for gcc and nvcc: the plan of device memory, the
 * kernels and their tests read the same numbers.
 *
 * The cache is (n_layers, n_pages) pages of 16 positions; a page is (n_kv_heads) times
 *
 *   F16    keys (head_pad / 16 blocks), values (head_pad / 16 blocks)
 *   Q8_0   scales of keys, scales of values (head_pad / 32 blocks of 32 bytes each),
 *          keys (head_pad / 32 blocks), values (head_pad / 32 blocks)
 *
 * A block is 512 bytes, 16 for each lane of a warp: the lane's A operands of mma.m16n8k16, so that
 * one load of 16 bytes a lane feeds the tensor cores without a shuffle.
 *
 *   block of       keys, A = 16 positions x elements      values, A = elements x 16 positions
 *   F16: 16        lane 4 (p % 8) + e / 4,                lane 4 (e / 2) + p % 8 / 2,
 *   elements       half 4 (p / 8) + e % 4                 half 4 (p / 8) + 2 (e % 2) + p % 2
 *   Q8_0: 32       lane 4 (p % 8) + e / 8,                lane 4 (e / 4) + p % 8 / 2,
 *   elements       byte 8 (p / 8) + e % 8                 byte 4 (e % 4) + 2 (p / 8) + p % 2
 *   its scales     binary16 at 2 (p % 8) + p / 8          binary16 at 4 (p % 8 / 2) + 2 (p / 8) +
 *                                                         p % 2
 *
 * p = position in the page, e = element in the block. The order of elements is free as long as the
 * queries are read in the same one (a sum over k), and so is the order of a value's elements as
 * long as the result is written back in it.
 *
 * Elements from head_dim to head_pad are zero: kv_store writes them so; the epilogue of the matrix
 * product does not store them, so the cache is cleared once, before its first use. What lies in a
 * page beyond the end of its sequence is never used, whatever it is, but it is read. */
#ifndef WICK_KERNELS_KV_H
#define WICK_KERNELS_KV_H

#include "abi.h"

enum {
    KV_BLOCK_BYTES = 512,
    KV_SCALES_BYTES = 32 /* of a Q8_0 block: one binary16 a position */
};

/* Elements of a block. */
GPU_INLINE uint32_t kv_block(uint32_t type) {
    return type == GPU_KV_F16 ? 16 : 32;
}
/* Blocks of one head's keys in a page, and of its values. */
GPU_INLINE uint32_t kv_blocks(uint32_t type, uint32_t head_dim) {
    return (head_dim + kv_block(type) - 1) / kv_block(type);
}
/* Bytes of a head's part of a page. */
GPU_INLINE uint32_t kv_head_bytes(uint32_t type, uint32_t head_dim) {
    uint32_t block_bytes = KV_BLOCK_BYTES + (type == GPU_KV_F16 ? 0u : KV_SCALES_BYTES);
    return 2 * kv_blocks(type, head_dim) * block_bytes;
}

/* Where things are in a head's part of a page; p = position in the page, d = element of the head.
 */
GPU_INLINE uint32_t kv_keys_at(uint32_t type, uint32_t head_dim) {
    return type == GPU_KV_F16 ? 0 : 2 * kv_blocks(type, head_dim) * KV_SCALES_BYTES;
}
GPU_INLINE uint32_t kv_values_at(uint32_t type, uint32_t head_dim) {
    return kv_keys_at(type, head_dim) + kv_blocks(type, head_dim) * KV_BLOCK_BYTES;
}
GPU_INLINE uint32_t kv_key_at(uint32_t type, uint32_t head_dim, uint32_t p, uint32_t d) {
    uint32_t block = kv_keys_at(type, head_dim) + d / kv_block(type) * KV_BLOCK_BYTES;
    uint32_t e = d % kv_block(type);
    if (type == GPU_KV_F16) return block + 16 * (p % 8 * 4 + e / 4) + 8 * (p / 8) + 2 * (e % 4);
    return block + 16 * (p % 8 * 4 + e / 8) + 8 * (p / 8) + e % 8;
}
GPU_INLINE uint32_t kv_value_at(uint32_t type, uint32_t head_dim, uint32_t p, uint32_t d) {
    uint32_t block = kv_values_at(type, head_dim) + d / kv_block(type) * KV_BLOCK_BYTES;
    uint32_t e = d % kv_block(type);
    if (type == GPU_KV_F16)
        return block + 16 * (e / 2 * 4 + p % 8 / 2) + 8 * (p / 8) + 4 * (e % 2) + 2 * (p % 2);
    return block + 16 * (e / 4 * 4 + p % 8 / 2) + 4 * (e % 4) + 2 * (p / 8) + p % 2;
}
/* Q8_0 only; block = d / 32. */
GPU_INLINE uint32_t kv_key_scale_at(uint32_t p, uint32_t block) {
    return block * KV_SCALES_BYTES + 4 * (p % 8) + 2 * (p / 8);
}
GPU_INLINE uint32_t kv_value_scale_at(uint32_t head_dim, uint32_t p, uint32_t block) {
    return (kv_blocks(GPU_KV_Q8_0, head_dim) + block) * KV_SCALES_BYTES + 8 * (p % 8 / 2) +
           4 * (p / 8) + 2 * (p % 2);
}

#endif
