#include "rig.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/kernels.h"
#include "cuda/repack.h"
#include "device.h"
#include "tests/unit/block_rig.h"

/* --- tests --- */

enum { ROOMS_MAX = 4096, FAILURES_SHOWN = 5 };

static struct {
    unsigned failures; /* of the running test */
    char about[256];
    uint64_t device[ROOMS_MAX];
    void *host[ROOMS_MAX];
    size_t n_device, n_host;
    uint64_t random;
} rig;

void rig_about(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(rig.about, sizeof rig.about, format, list);
    va_end(list);
}

void rig_fail(const char *format, ...) {
    if (rig.failures++ >= FAILURES_SHOWN) return;
    va_list list;
    va_start(list, format);
    printf("     %s: ", rig.about);
    vprintf(format, list);
    putchar('\n');
    va_end(list);
}

bool rig_failed(void) {
    return rig.failures > 0;
}

static void rig_release(void) {
    while (rig.n_device > 0) device_free(rig.device[--rig.n_device]);
    while (rig.n_host > 0) free(rig.host[--rig.n_host]);
}

int rig_main(int argc, char **argv, const struct rig_test *tests, size_t n_tests) {
    const char *library = argc > 1 ? argv[1] : "libcuda.so.1", *only = argc > 2 ? argv[2] : "";
    unsigned passed = 0, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    device_open(library);
    for (size_t i = 0; i < n_tests; i++) {
        if (strstr(tests[i].name, only) == NULL) continue;
        rig.failures = 0;
        rig.random = i + 1;
        rig_about("%s", tests[i].name);
        tests[i].run();
        rig_release();
        printf("%s %s\n", rig.failures == 0 ? "ok  " : "FAIL", tests[i].name);
        if (rig.failures == 0)
            passed++;
        else
            failed++;
    }
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed == 0 ? 0 : 1;
}

/* --- numbers --- */

uint64_t rig_random(void) {
    return block_rig_next(&rig.random);
}

uint32_t rig_below(uint32_t n) {
    return (uint32_t)(rig_random() >> 33) % n;
}

float rig_normal(void) {
    float sum = 0;
    for (int i = 0; i < 6; i++) sum += block_rig_real(&rig.random);
    return rig_below(64) == 0 ? 20 * sum : sum / 1.4142135f;
}

/* --- memory --- */

static void *rig_keep(void *memory) {
    if (memory == NULL || rig.n_host == ROOMS_MAX) abort();
    return rig.host[rig.n_host++] = memory;
}

void *rig_host(size_t bytes) {
    return rig_keep(calloc(bytes + 1, 1));
}

uint64_t rig_room(size_t bytes) {
    if (rig.n_device == ROOMS_MAX) abort();
    return rig.device[rig.n_device++] = device_alloc(bytes);
}

uint64_t rig_copy(const void *data, size_t bytes) {
    uint64_t room = rig_room(bytes);
    device_put(room, data, bytes);
    return room;
}

void *rig_get(uint64_t from, size_t bytes) {
    void *copy = rig_host(bytes);
    device_get(copy, from, bytes);
    return copy;
}

void rig_launch(const char *module, const char *kernel, uint32_t grid_x, uint32_t grid_y,
                uint32_t block, uint32_t shared, const void *args) {
    const uint32_t grid[3] = {grid_x, grid_y, 1};
    device_launch(device_module(module), kernel, grid, block, shared, args);
}

/* --- matrices --- */

const enum quant_type rig_types[GPU_KINDS] = {
    QUANT_F32,    QUANT_F16,  QUANT_BF16, QUANT_Q8_0, QUANT_Q5_1, QUANT_Q4_0, QUANT_Q4_1,
    QUANT_IQ4_XS, QUANT_Q5_K, QUANT_Q4_K, QUANT_Q6_K, QUANT_Q3_K, QUANT_Q2_K};

struct rig_matrix rig_matrix_make(enum quant_type type, uint32_t rows, uint32_t cols) {
    const struct quant_info *info = quant_info(type);
    if (cols % info->block_values != 0) abort();
    size_t row_bytes = (size_t)cols / info->block_values * info->block_bytes;
    uint8_t *data = rig_host(rows * row_bytes);
    block_rig_fill(type, data, (size_t)rows * cols, &rig.random);
    struct rig_matrix m = {
        .tensor = {
            .data = data, .type = type, .rows = rows, .cols = cols, .bytes = rows * row_bytes}};
    m.cpu = pack_describe(&m.tensor);
    uint8_t *panels = rig_keep(aligned_alloc(64, round_up(pack_matrix_bytes(&m.cpu), 64)));
    for (uint32_t p = 0; p < m.cpu.n_panels; p++)
        pack_panel(&m.cpu, p, panels + p * m.cpu.panel_bytes);
    m.cpu.panels = panels;
    m.kind = repack_kind_of(type);
    snprintf(m.module, sizeof m.module, "matmul_%s", repack_kind_name(m.kind));
    size_t panel_bytes = gpu_panel_bytes(m.kind, cols);
    uint8_t *gpu = rig_host(panel_bytes * m.cpu.n_panels);
    uint8_t *scratch = rig_host(repack_scratch_bytes(&m.tensor));
    for (uint32_t p = 0; p < m.cpu.n_panels; p++) {
        const uint8_t *row[PACK_ROWS] = {0};
        for (uint32_t r = 0; r < PACK_ROWS && PACK_ROWS * p + r < rows; r++)
            row[r] = data + (PACK_ROWS * p + r) * row_bytes;
        repack_rows(&m.tensor, row, scratch, gpu + p * panel_bytes);
    }
    m.gpu = (struct gpu_matrix){.panels = rig_copy(gpu, panel_bytes * m.cpu.n_panels),
                                .panel_bytes = panel_bytes,
                                .n_panels = m.cpu.n_panels,
                                .rows = rows};
    return m;
}

float *rig_rows(uint32_t rows, uint32_t cols, uint32_t stride) {
    float *x = rig_host((size_t)rows * stride * sizeof *x);
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t k = 0; k < stride; k++)
            x[(size_t)row * stride + k] = k < cols ? rig_normal() : NAN;
    return x;
}

/* Rows of x as the CPU rounds them. */
static struct activations rig_activations(const float *x, uint32_t stride, uint32_t rows,
                                          uint32_t cols, uint32_t planes) {
    uint32_t padded = (uint32_t)round_up(cols, 64);
    struct activations a = {.stride = padded, .fine = planes == 2};
    a.f = rig_keep(aligned_alloc(64, round_up((size_t)rows * padded * sizeof(float), 64)));
    a.q = rig_host((size_t)rows * planes * padded);
    a.scale = rig_host((size_t)rows * planes * (padded / 32) * sizeof(float));
    a.sum16 = rig_host((size_t)rows * planes * (padded / 16) * sizeof(int32_t));
    a.sum32 = rig_host((size_t)rows * planes * (padded / 32) * sizeof(int32_t));
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t k = 0; k < padded; k++)
            a.f[(size_t)row * padded + k] = k < cols ? x[(size_t)row * stride + k] : 0;
        cpu_kernels_avx2.quantise(&a, row, 0, cols);
    }
    return a;
}

bool rig_product_cpu(const struct rig_matrix *m, const float *x, uint32_t stride, uint32_t rows,
                     uint32_t planes, float *out) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
    const uint32_t cols = m->tensor.cols, length = gpu_segment_columns(cols);
    const struct pack_format *format = pack_format(m->cpu.kind);
    struct activations a = rig_activations(x, stride, rows, cols, planes);
    float *part = rig_host((size_t)rows * planes * PACK_ROWS * sizeof *part);
    float *sum = rig_host((size_t)rows * planes * PACK_ROWS * sizeof *sum);
    for (uint32_t panel = 0; panel < m->cpu.n_panels; panel++) {
        for (uint32_t at = 0; at < cols; at += length) {
            struct packed_matrix segment = m->cpu;
            segment.panels += at / format->unit_columns * format->unit_bytes;
            segment.cols = cols - at < length ? cols - at : length;
            struct activations from = a;
            from.q += at, from.scale += at / 32, from.sum16 += at / 16, from.sum32 += at / 32;
            cpu_kernels_avx2.matmul(&segment, panel, 1, &from, rows * planes, part, PACK_ROWS);
            for (uint32_t i = 0; i < rows * planes * PACK_ROWS; i++)
                sum[i] = at == 0 ? part[i] : sum[i] + part[i];
        }
        for (uint32_t row = 0; row < rows; row++)
            for (uint32_t r = 0; r < PACK_ROWS && PACK_ROWS * panel + r < m->tensor.rows; r++) {
                const float *v = sum + (size_t)row * planes * PACK_ROWS + r;
                out[(size_t)row * m->tensor.rows + PACK_ROWS * panel + r] =
                    planes == 2 ? v[0] + v[PACK_ROWS] : v[0];
            }
    }
    return true;
}

/* What a product may be off by, as a share of the sum of the magnitudes of its terms. F32: chains
 * of FMAs, at most some 100 terms each. Integers: one FMA a block. F16: the split of x leaves
 * 2^-22, and each mma cuts what lies 24 bits below its largest term. BF16: the split leaves 2^-16.
 */
static double rig_share(uint32_t kind) {
    return kind == GPU_BF16 ? 0x1p-15 : kind == GPU_F16 ? 0x1p-17 : 0x1p-18;
}

/* Half a step of the block of 32 around column k. */
static double rig_half_step(const float *x, uint32_t cols, uint32_t k, uint32_t planes) {
    double largest = 0;
    for (uint32_t i = k / 32 * 32; i < k / 32 * 32 + 32 && i < cols; i++)
        largest = fmax(largest, fabs((double)x[i]));
    return largest / 127 / 2 / (planes == 2 ? 254 : 1);
}

void rig_product_exact(const struct rig_matrix *m, const float *x, uint32_t stride, uint32_t rows,
                       uint32_t planes, double *out, double *bound) {
    const uint32_t n = m->tensor.rows, cols = m->tensor.cols;
    float *weights = rig_host(cols * sizeof *weights);
    double *half = rig_host((size_t)rows * cols * sizeof *half);
    for (uint32_t i = 0; planes > 0 && i < rows * cols; i++)
        half[i] = rig_half_step(x + (size_t)(i / cols) * stride, cols, i % cols, planes);
    for (uint32_t r = 0; r < n; r++) {
        pack_row_expand(&m->cpu, r, weights);
        for (uint32_t row = 0; row < rows; row++) {
            double sum = 0, magnitude = 0, rounding = 0;
            for (uint32_t k = 0; k < cols; k++) {
                double w = (double)weights[k], term = w * (double)x[(size_t)row * stride + k];
                sum += term;
                magnitude += fabs(term);
                rounding += fabs(w) * half[(size_t)row * cols + k];
            }
            out[(size_t)row * n + r] = sum;
            bound[(size_t)row * n + r] = rounding * 1.01 + magnitude * rig_share(m->kind);
        }
    }
}
