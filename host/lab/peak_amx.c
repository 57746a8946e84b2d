#include <immintrin.h>
#include <string.h>

#include "cpu/tiles.h"
#include "lab/peak.h"

/* Registers only, as many sums as keep the units busy. */
enum { ROUNDS = 20000, SUMS = 12 };

static double run_int8(void) {
    tiles_configure(16, 64, 16);
    for (int i = 0; i < ROUNDS; i++) {
        TILE_INT8(0, 4, 5);
        TILE_INT8(1, 4, 5);
        TILE_INT8(2, 4, 5);
        TILE_INT8(3, 4, 5);
    }
    TILES_RELEASE();
    return 4.0 * ROUNDS * 2 * 16 * 16 * 64;
}

static double run_bf16(void) {
    tiles_configure(16, 64, 16);
    for (int i = 0; i < ROUNDS; i++) {
        TILE_BF16(0, 4, 5);
        TILE_BF16(1, 4, 5);
        TILE_BF16(2, 4, 5);
        TILE_BF16(3, 4, 5);
    }
    TILES_RELEASE();
    return 4.0 * ROUNDS * 2 * 16 * 16 * 32;
}

static double run_vnni(void) {
    __m512i sum[SUMS], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
#pragma GCC unroll 12 /* else they would lie in memory */
    for (int i = 0; i < SUMS; i++) sum[i] = _mm512_setzero_si512();
    for (int round = 0; round < ROUNDS; round++)
#pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++) {
            sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
            __asm__ volatile("" : "+v"(sum[i]));
        }
    return (double)SUMS * ROUNDS * 2 * 64;
}

const struct peak *peak_of(const char *isa, enum input_form form) {
    static const struct peak bf16 = {"AMX bfloat16 tiles", run_bf16};
    static const struct peak int8 = {"AMX int8 tiles", run_int8};
    static const struct peak vnni = {"AVX-512 VNNI", run_vnni};
    const bool amx = strncmp(isa, "amx", 3) == 0;
    if (amx && form == INPUT_BF16) return &bf16;
    if (amx && form == INPUT_INT12) return &int8;
    if (strcmp(isa, "avx512") == 0 && form == INPUT_INT8) return &vnni;
    return NULL;
}
