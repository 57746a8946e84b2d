/* exact_kv: how the exact backend keeps one head of K or V, in each type a cache may have.
 *
 * A stored head is what a later read gives back: F32 rounds to float, F16 to half, Q8_0 to blocks
 * of at most 32 int8 values with one half scale (d = max|x| / 127, as the file format of that
 * name). Private to the exact backend. */
#ifndef WICK_CPU_EXACT_KV_H
#define WICK_CPU_EXACT_KV_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a head of head_dim values; kv_type is enum config_kv. */
size_t exact_kv_bytes(uint32_t kv_type, uint32_t head_dim);

void exact_kv_write(uint32_t kv_type, uint32_t head_dim, const double *values, uint8_t *stored);

void exact_kv_read(uint32_t kv_type, uint32_t head_dim, const uint8_t *stored, double *values);

#endif
