#include "cpu/kernels.h"
#include "cpu/lanes_sse2.h"

/* The loops, in order of use: each file builds on the one before. */
#include "cpu/kernels_matmul.inc"

#include "cpu/kernels_rows.inc"

#include "cpu/kernels_attend.inc"

const struct cpu_kernels cpu_kernels_sse2 = {
    .name = "sse2",
    .matmul = kernel_matmul,
    .quantise = kernel_quantise,
    .rms_norm = kernel_rms_norm,
    .silu_mul = kernel_silu_mul,
    .add = kernel_add,
    .attend = kernel_attend,
};
