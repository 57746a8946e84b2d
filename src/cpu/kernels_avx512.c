#include "cpu/lanes_avx512.h"

#include "cpu/kernels.inc"

/* Tiles for as many rows as fill them, vectors for the rest: the same bits either way. */
static void kernel_matmul_amx(const struct packed_matrix *weights, uint32_t panel,
                              uint32_t n_panels, const struct activations *x, uint32_t n_rows,
                              float *out, uint32_t out_stride) {
    if (kernels_input(&cpu_kernels_amx, weights) == INPUT_BF16) {
        bf16_matmul(weights, panel, n_panels, x, n_rows, out, out_stride);
        return;
    }
    uint32_t done = amx_matmul(weights, panel, n_panels, x, n_rows, out, out_stride);
    struct activations rest = rows_from(x, done);
    kernel_matmul(weights, panel, n_panels, &rest, n_rows - done, out + (size_t)done * out_stride,
                  out_stride);
}

const struct cpu_kernels cpu_kernels_amx = {
    KERNELS_COMMON("amx", kernel_matmul_amx),
    .bf16_kinds = 1u << PACK_Q8 | 1u << PACK_F16 | 1u << PACK_BF16, .round = bf16_round};
