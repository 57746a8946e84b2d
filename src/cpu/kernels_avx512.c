#include "cpu/lanes_avx512.h"

#include "cpu/kernels.inc"

enum {
    FLOATS_AND_8_BITS = 1 << PACK_F16 | 1 << PACK_BF16 | 1 << PACK_Q8 | 1 << PACK_Q8_MIN |
                        1 << PACK_S8_32 | 1 << PACK_S8_32_MIN | 1 << PACK_S8_16,
    FOUR_BITS = 1 << PACK_Q4 | 1 << PACK_Q4_MIN | 1 << PACK_S4_32_MIN | 1 << PACK_S4_16 |
                1 << PACK_S4_16_MIN
};

/* int8 tiles for as many rows as fill them, vectors for the rest: the same bits either way. */
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

static void kernel_matmul_amx_bf16(const struct packed_matrix *weights, uint32_t panel,
                                   uint32_t n_panels, const struct activations *x, uint32_t n_rows,
                                   float *out, uint32_t out_stride) {
    if (kernels_input(&cpu_kernels_amx_bf16, weights) == INPUT_BF16)
        bf16_matmul(weights, panel, n_panels, x, n_rows, out, out_stride);
    else
        kernel_matmul(weights, panel, n_panels, x, n_rows, out, out_stride);
}

const struct cpu_kernels cpu_kernels_amx = {KERNELS_COMMON("amx", kernel_matmul_amx),
                                            .bf16_kinds = FLOATS_AND_8_BITS, .round = bf16_round};

const struct cpu_kernels cpu_kernels_amx_bf16 = {KERNELS_COMMON("amx-bf16", kernel_matmul_amx_bf16),
                                                 .bf16_kinds = FLOATS_AND_8_BITS | FOUR_BITS,
                                                 .round = bf16_round};
