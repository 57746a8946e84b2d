/* repack: weights as kernels/abi.h lays them out, made from rows of the file.
 *
 * A panel goes through the CPU's panel (model/pack.h), whose values are the same in another order.
 * Pure functions of memory: whoever uploads owns the buffers. */
#ifndef WICK_CUDA_REPACK_H
#define WICK_CUDA_REPACK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/abi.h"
#include "model/model.h"
#include "model/pack.h"

/* The kind of the device, enum gpu_kind, that a type of the file becomes: values of up to four bits
 * keep four there, others, and those that are looked up, become int8. */
uint32_t repack_kind_of(enum quant_type type);

/* "q8_min": the kernels of a kind are in the module "matmul_" + this. */
const char *repack_kind_name(uint32_t kind);

/* 16 rows of a tensor, as in the file (row[i]; NULL from the end of the matrix on) -> a panel of
 * the device. Only the type and the columns of `tensor` are looked at. scratch:
 * repack_scratch_bytes(). */
void repack_rows(const struct model_tensor *tensor, const uint8_t *const row[PACK_ROWS],
                 uint8_t *scratch, uint8_t *out);
size_t repack_scratch_bytes(const struct model_tensor *tensor);

/* The kernels turn rows 2 i and 2 i + 1 of a head together; a NEOX model means rows i and
 * i + rope_dim / 2. Which row of the file (or element of a bias) becomes row `row` on the device:
 * for q and k of NEOX models; anything else stays where it is. */
uint32_t repack_turned_row(uint32_t row, uint32_t head_dim, uint32_t rope_dim);

/* The tables of struct gpu_embed from angles a position: cos and sin of position * frequency[i],
 * for positions 0..255 and for every multiple of 256 below ctx. */
void repack_angles(const double *frequency, uint32_t pairs, uint32_t ctx, double *low,
                   double *high);
static inline uint32_t repack_angles_high(uint32_t ctx) {
    return (ctx + GPU_ROPE_LOW - 1) / GPU_ROPE_LOW;
}

#endif
