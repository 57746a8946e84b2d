#include "cpu/lanes_avx512.h"

#include "cpu/kernels.inc"

void block_widen_avx512(const struct pack_format *format, int zero, const uint8_t *block,
                        uint8_t *out) {
    block_widen(format, zero, block, out);
}

enum {
    TO_BF16 = 1 << PACK_F16 | 1 << PACK_BF16 | 1 << PACK_Q8 | 1 << PACK_Q5 | 1 << PACK_Q5_MIN |
              1 << PACK_IQ4 | 1 << PACK_IS4_32 | 1 << PACK_S6_16 | 1 << PACK_S5_32_MIN,
    FOUR_BITS = 1 << PACK_Q4 | 1 << PACK_Q4_MIN | 1 << PACK_S4_32_MIN | 1 << PACK_S3_16 |
                1 << PACK_S2_16_MIN
};

KERNEL void matmul_with_tiles(const struct cpu_kernels *kernels,
                              const struct packed_matrix *weights, uint32_t panel,
                              uint32_t n_panels, const struct activations *x, uint32_t n_rows,
                              float *out, uint32_t out_stride) {
    const enum input_form form = kernels_input(kernels, weights);
    if (form == INPUT_BF16)
        bf16_matmul(weights, panel, n_panels, x, n_rows, out, out_stride);
    else if (form == INPUT_INT12)
        int12_matmul(weights, panel, n_panels, x, n_rows, out, out_stride);
    else
        kernel_matmul(weights, panel, n_panels, x, n_rows, out, out_stride);
}

static void kernel_matmul_amx(const struct packed_matrix *weights, uint32_t panel,
                              uint32_t n_panels, const struct activations *x, uint32_t n_rows,
                              float *out, uint32_t out_stride) {
    matmul_with_tiles(&cpu_kernels_amx, weights, panel, n_panels, x, n_rows, out, out_stride);
}

static void kernel_matmul_amx_bf16(const struct packed_matrix *weights, uint32_t panel,
                                   uint32_t n_panels, const struct activations *x, uint32_t n_rows,
                                   float *out, uint32_t out_stride) {
    matmul_with_tiles(&cpu_kernels_amx_bf16, weights, panel, n_panels, x, n_rows, out, out_stride);
}

static void kernel_store_amx(const struct kv_layout *kv, uint8_t *layer, uint32_t page,
                             uint32_t slot, uint32_t head, const float *key, const float *value) {
    (kv->tiles ? bf16_store : kv_store)(kv, layer, page, slot, head, key, value);
}

static void kernel_attend_amx(const struct attend_job *job) {
    if (job->kv->tiles) {
        bf16_attend(job);
        return;
    }
    for (uint32_t first = 0; first < job->n_queries; first += ATTEND_QUERIES) {
        struct attend_job some = *job;
        some.query += first, some.n_queries -= first;
        if (some.n_queries > ATTEND_QUERIES) some.n_queries = ATTEND_QUERIES;
        kernel_attend(&some);
    }
}

#define KERNELS_AMX                                                                                \
    KERNELS_COMMON, .round = bf16_round, .kv_tiles = true, .store = kernel_store_amx,              \
                    .attend_queries = ATTEND_TILE_QUERIES, .attend_scratch = ATTEND_TILE_SCRATCH,  \
                    .attend_scratch_dim = ATTEND_TILE_SCRATCH_DIM, .attend = kernel_attend_amx

const struct cpu_kernels cpu_kernels_amx = {KERNELS_AMX,
                                            .name = "amx",
                                            .matmul = kernel_matmul_amx,
                                            .bf16_kinds = TO_BF16,
                                            .int12_kinds = FOUR_BITS,
                                            .widen = int12_quantise};

const struct cpu_kernels cpu_kernels_amx_bf16 = {KERNELS_AMX, .name = "amx-bf16",
                                                 .matmul = kernel_matmul_amx_bf16,
                                                 .bf16_kinds = TO_BF16 | FOUR_BITS};
