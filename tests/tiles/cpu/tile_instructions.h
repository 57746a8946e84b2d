/* tile_instructions, in software: what src/cpu/tile_instructions.h has as instructions, for unit
 * tests on processors without AMX. What a processor would refuse ends the test. */
#ifndef WICK_CPU_TILE_INSTRUCTIONS_H
#define WICK_CPU_TILE_INSTRUCTIONS_H

#include <stddef.h>

enum { TILES_IN_SOFTWARE = 1 };

enum tile_product { TILE_PRODUCT_S8_S8, TILE_PRODUCT_S8_U8, TILE_PRODUCT_BF16 };

/* Of the calling thread's eight registers. config: the 64 bytes that LDTILECFG reads. */
void tiles_software_configure(const void *config);
void tiles_software_release(void);
void tiles_software_zero(int tile);
void tiles_software_load(int tile, const void *at, size_t stride);
void tiles_software_store(int tile, void *at, size_t stride);
void tiles_software_multiply(enum tile_product product, int c, int a, int b);

#define TILES_CONFIGURE(shapes) tiles_software_configure(&(shapes))
#define TILES_RELEASE() tiles_software_release()
#define TILE_ZERO(c) tiles_software_zero(c)
#define TILE_LOAD(t, at, stride) tiles_software_load(t, at, stride)
#define TILE_STORE(t, at, stride) tiles_software_store(t, at, stride)
#define TILE_INT8(c, a, b) tiles_software_multiply(TILE_PRODUCT_S8_S8, c, a, b)
#define TILE_INT8_UINT8(c, a, b) tiles_software_multiply(TILE_PRODUCT_S8_U8, c, a, b)
#define TILE_BF16(c, a, b) tiles_software_multiply(TILE_PRODUCT_BF16, c, a, b)

#endif
