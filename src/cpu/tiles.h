/* tiles: products of AMX tiles, as the kernels for matrices and for attention share them. */
#ifndef WICK_CPU_TILES_H
#define WICK_CPU_TILES_H

#include <stddef.h>
#include <stdint.h>

#include "cpu/tile_instructions.h"

/* Between two tile instructions that have nothing else between them. On a core alone a 2 x 2 block
 * of TDPBF16PS with its loads takes 64 cycles, whatever its order. With a busy sibling thread, as
 * virtual machines have them, it was measured that
 *   - eight instructions of any kind between two tile instructions make 210 of 330 cycles;
 *   - using fewer of the eight registers makes 150 of those 210, even where that costs more loads:
 *     four sums, one A and one B, or two sums for half of the block. */
#define TILES_SPACE() __asm__ volatile(".rept 8\n\tnop\n\t.endr")

#define ALWAYS static inline __attribute__((always_inline))
/* The compiler does not see how often a loop over `i` runs, and leaves it small. */
#define KEEP_ROLLED(i) __asm__ volatile("" : "+r"(i))

enum {
    TILES = 6,      /* in use, of 8 */
    TILE_ROWS = 16, /* at most */
    ROW_BYTES = 64, /* of a whole tile */
    TILE_BYTES = TILE_ROWS * ROW_BYTES
};

/* C in 0 to 3 (rows x 16 words), A in 4 (rows of a_bytes), B in 5 (b_rows of 64 bytes). */
static inline void tiles_configure(uint32_t rows, uint32_t a_bytes, uint32_t b_rows) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } shapes = {.palette = 1};
    for (int t = 0; t < TILES; t++) {
        shapes.row_bytes[t] = t == 4 ? (uint16_t)a_bytes : 64;
        shapes.rows[t] = (uint8_t)(t == 5 ? b_rows : rows);
    }
    TILES_CONFIGURE(shapes);
}

ALWAYS void lines_prefetch(const uint8_t *ahead, int bytes) {
#pragma GCC unroll 16
    for (int line = 0; line < bytes; line += 64) __builtin_prefetch(ahead + line);
}

ALWAYS void tiles_zero(void) {
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
}

/* Tile registers: C of the first 16 rows with each panel (0, 1), of the next 16 (2, 3), A (4), B
 * (5). `panels` is 1 or 2. `h` and `next` are A tiles of the first and of the next rows; next is
 * NULL for 16 rows or less. One A and one B register, though the first panel's tile is then loaded
 * twice: see TILES_SPACE. */
ALWAYS void tiles_add(const uint8_t *first, const uint8_t *second, const uint8_t *h,
                      const uint8_t *next, int panels) {
    TILES_SPACE();
    TILE_LOAD(4, h, 64);
    TILES_SPACE();
    TILE_LOAD(5, first, 64);
    TILES_SPACE();
    TILE_BF16(0, 4, 5);
    TILES_SPACE();
    if (panels > 1) {
        TILE_LOAD(5, second, 64);
        TILES_SPACE();
        TILE_BF16(1, 4, 5);
        TILES_SPACE();
    }
    if (next == NULL) return;
    TILE_LOAD(4, next, 64);
    TILES_SPACE();
    if (panels > 1) {
        TILE_BF16(3, 4, 5);
        TILES_SPACE();
        TILE_LOAD(5, first, 64);
        TILES_SPACE();
    }
    TILE_BF16(2, 4, 5);
}

ALWAYS void tiles_store(float *out, size_t out_stride, int rows, int panels) {
    float *second = out + TILE_ROWS * out_stride / sizeof(float);
    TILES_SPACE();
    TILE_STORE(0, out, out_stride);
    TILES_SPACE();
    if (panels > 1) TILE_STORE(1, out + TILE_ROWS, out_stride);
    if (rows == 1) return;
    TILES_SPACE();
    TILE_STORE(2, second, out_stride);
    TILES_SPACE();
    if (panels > 1) TILE_STORE(3, second + TILE_ROWS, out_stride);
}

#endif
