/* vnni: VPDPBUSD with four bytes for all lanes. Written out, because GCC 12 would load them by an
 * instruction of its own, and instructions are what a core with a busy sibling thread runs out of
 * first. */
#ifndef WICK_CPU_VNNI_H
#define WICK_CPU_VNNI_H

#include <immintrin.h>
#include <stdint.h>

/* sum + the products of four unsigned bytes of each lane of w with the four signed ones at x. */
static inline __attribute__((always_inline)) __m512i vnni_add(__m512i sum, __m512i w,
                                                              const int8_t *x) {
    const struct four { int8_t byte[4]; } *four = (const struct four *)x;
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*four));
    return sum;
}

#endif
