/* quant_blocks: the expand functions behind quant.c's table, one a block format. Shared by
 * quant*.c only. */
#ifndef WICK_GGUF_QUANT_BLOCKS_H
#define WICK_GGUF_QUANT_BLOCKS_H

#include <stddef.h>

enum {
    QUANT_SMALL = 32, /* values of a block of the simple formats */
    QUANT_SUPER = 256 /* values of a super-block: 8 x 32 or 16 x 16 with a scale each */
};

/* quant_small.c */
void quant_expand_q4_0(const void *blocks, float *out, size_t n);
void quant_expand_q4_1(const void *blocks, float *out, size_t n);
void quant_expand_q5_0(const void *blocks, float *out, size_t n);
void quant_expand_q5_1(const void *blocks, float *out, size_t n);
void quant_expand_q8_0(const void *blocks, float *out, size_t n);

/* quant_k.c */
void quant_expand_q2_k(const void *blocks, float *out, size_t n);
void quant_expand_q3_k(const void *blocks, float *out, size_t n);
void quant_expand_q4_k(const void *blocks, float *out, size_t n);
void quant_expand_q5_k(const void *blocks, float *out, size_t n);
void quant_expand_q6_k(const void *blocks, float *out, size_t n);

/* quant_iq.c */
void quant_expand_iq4_nl(const void *blocks, float *out, size_t n);
void quant_expand_iq4_xs(const void *blocks, float *out, size_t n);

#endif
