/* Tile registers and their instructions, as Intel's manual has them (volume 1, chapter 18; volume
 * 2, TDP*), palette 1. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/tile_instructions.h"

enum { TILE_COUNT = 8, ROWS_MAX = 16, ROW_BYTES_MAX = 64 };

/* What LDTILECFG reads. */
struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

static _Thread_local struct {
    bool configured;
    struct tile_shapes shapes;
    _Alignas(64) uint8_t row[TILE_COUNT][ROWS_MAX][ROW_BYTES_MAX];
} tiles;

static void refuse_unless(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "tile instruction refused: %s\n", what);
    abort();
}

static void check(int tile) {
    refuse_unless(tiles.configured, "no tiles are configured");
    refuse_unless(tile >= 0 && tile < TILE_COUNT, "there is no such register");
    refuse_unless(tiles.shapes.rows[tile] > 0, "a tile without rows");
}

void tiles_software_configure(const void *config) {
    const struct tile_shapes *shapes = config;
    refuse_unless(shapes->palette == 1 && shapes->start_row == 0, "another palette, or a start");
    for (size_t i = 0; i < sizeof shapes->reserved; i++)
        refuse_unless(shapes->reserved[i] == 0, "a reserved byte is set");
    for (size_t t = 0; t < 16; t++) {
        uint32_t rows = shapes->rows[t], bytes = shapes->row_bytes[t];
        refuse_unless(t < TILE_COUNT || (rows == 0 && bytes == 0), "shape of no register");
        refuse_unless(rows <= ROWS_MAX && bytes <= ROW_BYTES_MAX && bytes % 4 == 0, "too large");
        refuse_unless((rows == 0) == (bytes == 0), "rows without columns, or these without those");
    }
    memset(&tiles, 0, sizeof tiles);
    tiles.shapes = *shapes;
    tiles.configured = true;
}

void tiles_software_release(void) {
    memset(&tiles, 0xA5, sizeof tiles);
    tiles.configured = false;
}

void tiles_software_zero(int tile) {
    check(tile);
    memset(tiles.row[tile], 0, sizeof tiles.row[tile]);
}

/* Zeros beyond its rows and columns. */
void tiles_software_load(int tile, const void *at, size_t stride) {
    tiles_software_zero(tile);
    for (size_t r = 0; r < tiles.shapes.rows[tile]; r++)
        memcpy(tiles.row[tile][r], (const uint8_t *)at + r * stride, tiles.shapes.row_bytes[tile]);
}

void tiles_software_store(int tile, void *at, size_t stride) {
    check(tile);
    for (size_t r = 0; r < tiles.shapes.rows[tile]; r++)
        memcpy((uint8_t *)at + r * stride, tiles.row[tile][r], tiles.shapes.row_bytes[tile]);
}

static __m512i word(const uint8_t *at) {
    uint32_t w;
    memcpy(&w, at, sizeof w);
    return _mm512_set1_epi32((int)w);
}

/* Byte i of each lane, with its sign or as it is. */
static __m512i byte_of(__m512i v, int i, bool sign) {
    __m512i top = _mm512_slli_epi32(v, (unsigned)(24 - 8 * i));
    return sign ? _mm512_srai_epi32(top, 24) : _mm512_srli_epi32(top, 24);
}

static void multiply_bytes(uint8_t *c, const uint8_t *a, int b, uint32_t words, bool sign) {
    __m512i sum = _mm512_load_si512(c);
    for (uint32_t k = 0; k < words; k++) {
        const __m512i w = word(a + 4 * k), row = _mm512_load_si512(tiles.row[b][k]);
        for (int i = 0; i < 4; i++)
            sum = _mm512_add_epi32(sum,
                                   _mm512_mullo_epi32(byte_of(w, i, true), byte_of(row, i, sign)));
    }
    _mm512_store_si512(c, sum);
}

static __m512 even(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}
static __m512 odd(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000)));
}

/* Two chains of fused multiply-adds from zero, and their sum to C; denormal values are zeros. */
static void multiply_bf16(uint8_t *c, const uint8_t *a, int b, uint32_t pairs) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(0x9FC0); /* to nearest, denormals are zero and flushed, nothing traps */
    __m512 evens = _mm512_setzero_ps(), odds = _mm512_setzero_ps();
    for (uint32_t k = 0; k < pairs; k++) {
        const __m512i pair = word(a + 4 * k), row = _mm512_load_si512(tiles.row[b][k]);
        evens = _mm512_fmadd_ps(even(pair), even(row), evens);
        odds = _mm512_fmadd_ps(odd(pair), odd(row), odds);
    }
    _mm512_store_ps(c, _mm512_add_ps(_mm512_load_ps(c), _mm512_add_ps(evens, odds)));
    _mm_setcsr(before);
}

void tiles_software_multiply(enum tile_product product, int c, int a, int b) {
    const struct tile_shapes *shapes = &tiles.shapes;
    check(a), check(b), check(c);
    refuse_unless(a != b && b != c && a != c, "a register twice");
    refuse_unless(shapes->rows[c] == shapes->rows[a], "rows of C and A");
    refuse_unless(shapes->row_bytes[c] == shapes->row_bytes[b], "columns of C and B");
    refuse_unless(shapes->row_bytes[a] == 4 * shapes->rows[b], "columns of A and rows of B");
    for (uint32_t m = 0; m < shapes->rows[c]; m++) {
        if (product == TILE_PRODUCT_BF16)
            multiply_bf16(tiles.row[c][m], tiles.row[a][m], b, shapes->rows[b]);
        else
            multiply_bytes(tiles.row[c][m], tiles.row[a][m], b, shapes->rows[b],
                           product == TILE_PRODUCT_S8_S8);
    }
}
