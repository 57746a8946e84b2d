/* pack: weights re-laid for the fast kernels: panels of 16 output rows, lane = row.
 *
 * One panel holds 16 rows of a matrix, all columns, as a run of units; every unit is a multiple of
 * 64 bytes, so every load of a kernel is aligned. r = row 0..15 of the panel, j = 0..3, rows beyond
 * the matrix are zero.
 *
 *   F32, F16                 element 16 k + r is column k; columns padded to 32 with zeros
 *   BF16                     element 32 (k / 2) + 2 r + k % 2 is column k: pairs of columns, padded
 *                            likewise; 32 columns are a B tile of TDPBF16PS
 *
 *   flat, two blocks of 32   [0,32) d of block 0, [32,64) d of block 1 (binary16 x 16 rows)
 *   columns a unit           [64,128) m likewise, where the format has a min
 *                            then values of block 0, of block 1
 *
 *   super, 256 columns       [0,32) d, [32,64) m (binary16 x 16 rows)
 *   a unit                   scale  16 s + r  (int8) of sub-block s
 *                            min    16 s + r  (uint8), where the format has one
 *                            then values of eight blocks of 32 columns
 *
 *   values of a block        8 bits: 512 bytes, 64 g + 4 r + j is the int8 of column 4 g + j
 *                            fewer: raw, without sign, in planes of the powers of two that make
 *                            up the bits, largest and lowest bits first (5 bits: 4, then 1). A
 *                            plane of w bits has w runs of 64 bytes: run g % w has column 4 g + j
 *                            in its byte 4 r + j, from bit w * (g / w) on
 *
 * 64 bytes of values are 16 rows x 4 columns: what VPDPBUSD takes with a broadcast activation, and
 * eight of them are one AMX B tile. Packing loses nothing: pack_row_expand gives back what
 * quant_expand does. */
#ifndef WICK_MODEL_PACK_H
#define WICK_MODEL_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gguf/quant.h"
#include "model/model.h"

enum { PACK_ROWS = 16, PACK_BLOCK = 32 /* columns */ };

/* How the values of a format are computed with: the kernels are specialised by these. */
enum pack_kind {
    PACK_F32,
    PACK_F16,
    PACK_BF16,
    PACK_Q8,        /* flat, 8 bits:            Q8_0 */
    PACK_Q5,        /*       5 bits, zero 16:   Q5_0 */
    PACK_Q5_MIN,    /*       5 bits, min:       Q5_1 */
    PACK_Q4,        /*       4 bits, zero 8:    Q4_0 */
    PACK_Q4_MIN,    /*       4 bits, min:       Q4_1 */
    PACK_IQ4,       /*       4 bits, looked up: IQ4_NL */
    PACK_IS4_32,    /* super, 4 bits, looked up, sub 32:  IQ4_XS */
    PACK_S6_16,     /*        6 bits, zero 32,   sub 16:  Q6_K */
    PACK_S5_32_MIN, /*        5 bits, min,       sub 32:  Q5_K */
    PACK_S4_32_MIN, /*        4 bits, min,       sub 32:  Q4_K */
    PACK_S3_16,     /*        3 bits, zero 4,    sub 16:  Q3_K */
    PACK_S2_16_MIN, /*        2 bits, min,       sub 16:  Q2_K */
    PACK_KINDS
};

struct pack_format {
    const char *name;
    uint16_t unit_columns; /* 32 for the float kinds */
    uint16_t unit_bytes;
    uint16_t values_offset; /* in a unit */
    uint8_t bits;           /* of a value: 32, 16, 8, 6, 5, 4, 3, 2 */
    uint8_t sub;            /* columns of a scale; 0: float */
    int8_t zero;
    bool has_min;
    bool looked_up;
};

const struct pack_format *pack_format(enum pack_kind kind);
enum pack_kind pack_kind_of(enum quant_type type);

/* Of 32 columns of values: 64 a bit. */
static inline uint32_t pack_block_bytes(const struct pack_format *format) {
    return 64u * format->bits;
}

/* A matrix in panels: (ceil(rows / 16), panel_bytes). */
struct packed_matrix {
    const uint8_t *panels; /* NULL: none */
    size_t panel_bytes;
    uint32_t rows, cols;
    uint32_t n_panels;
    enum pack_kind kind;
    const struct model_tensor *tensor; /* what it is packed from, and its file may be gone */
};

/* Describes a matrix without memory: panels is NULL, everything else is set. */
struct packed_matrix pack_describe(const struct model_tensor *tensor);
size_t pack_matrix_bytes(const struct packed_matrix *matrix);

/* Packs rows [16 * panel, 16 * panel + 16) of the tensor into `out` (panel_bytes). */
void pack_panel(const struct packed_matrix *matrix, uint32_t panel, uint8_t *out);

/* Which element of a panel of F32, F16 or BF16 is column k of row r. */
size_t pack_float_element(enum pack_kind kind, uint32_t k, uint32_t r);

/* A block of values as if they had 8 bits, zero subtracted, looked up: (8, 16, 4). */
void pack_block_widen(const struct pack_format *format, const uint8_t *block, int8_t *out);

/* Row `row` of a packed matrix as F32, (cols). */
void pack_row_expand(const struct packed_matrix *matrix, uint32_t row, float *out);

#endif
