/* rig: what the tests of the kernels share: a list of tests with names, device memory that is given
 * back after each, random matrices on both sides, and what the CPU's arithmetic makes of them. */
#ifndef WICK_TESTS_KERNELS_RIG_H
#define WICK_TESTS_KERNELS_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/abi.h"
#include "model/model.h"
#include "model/pack.h"

/* --- tests ------------------------------------------------------------------------------------ */

struct rig_test {
    const char *name;
    void (*run)(void);
};

/* main of a test program: LIBRARY [part of a name]. Prints a line for each test and, at the end,
 * "N passed, N failed, N skipped". */
int rig_main(int argc, char **argv, const struct rig_test *tests, size_t n_tests);

/* The running test failed; the first failures are printed. printf's format. */
void rig_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool rig_failed(void);

/* What the following launches are about, for failures. */
void rig_about(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* --- numbers ---------------------------------------------------------------------------------- */

uint64_t rig_random(void);
uint32_t rig_below(uint32_t n);
/* About normal, deviation 1, with an outlier of 20 now and then. */
float rig_normal(void);

/* --- device memory: given back when the test ends -----------------------------------------------
 */

/* Unwritten. */
uint64_t rig_room(size_t bytes);
uint64_t rig_copy(const void *data, size_t bytes);
/* Host memory, freed when the test ends; zero. */
void *rig_host(size_t bytes);
/* A host copy of device memory, every byte of which was written. */
void *rig_get(uint64_t from, size_t bytes);

/* args: the kernel's one argument. */
void rig_launch(const char *module, const char *kernel, uint32_t grid_x, uint32_t grid_y,
                uint32_t block, uint32_t shared, const void *args);

/* --- matrices --------------------------------------------------------------------------------- */

struct rig_matrix {
    struct model_tensor tensor;
    struct packed_matrix cpu;
    struct gpu_matrix gpu;
    uint32_t kind;
    char module[32]; /* matmul_<kind> */
};

/* Random blocks. */
struct rig_matrix rig_matrix_make(enum quant_type type, uint32_t rows, uint32_t cols);
/* One type for each kind, in the order of enum gpu_kind. */
extern const enum quant_type rig_types[GPU_KINDS];

/* (rows, stride) of random numbers; the padding is NaN. */
float *rig_rows(uint32_t rows, uint32_t cols, uint32_t stride);

/* What kernels/abi.h says comes out of an INT8 product: the CPU's kernels, segment by segment.
 * x: (rows, stride). out: (rows, matrix rows). False: this processor lacks AVX2. */
bool rig_product_cpu(const struct rig_matrix *m, const float *x, uint32_t stride, uint32_t rows,
                     uint32_t planes, float *out);
/* In double precision. bound: how far a product may be from that; planes: 0 for weights that are
 * floats. Both (rows, matrix rows). */
void rig_product_exact(const struct rig_matrix *m, const float *x, uint32_t stride, uint32_t rows,
                       uint32_t planes, double *out, double *bound);

#endif
