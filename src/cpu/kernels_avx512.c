#include "cpu/lanes_avx512.h"

#include "cpu/kernels.inc"

/* Tiles for as many rows as fill them, vectors for the rest: the same bits either way. */
static void kernel_matmul_amx(const struct packed_matrix *weights, uint32_t panel,
                              const struct activations *x, uint32_t n_rows, float *out,
                              uint32_t out_stride) {
    uint32_t done = amx_matmul(weights, panel, x, n_rows, out, out_stride);
    struct activations rest = rows_from(x, done);
    kernel_matmul(weights, panel, &rest, n_rows - done, out + (size_t)done * out_stride,
                  out_stride);
}

const struct cpu_kernels cpu_kernels_amx = KERNELS_TABLE("amx", kernel_matmul_amx);
