#ifndef WICK_TESTS_PTX_CONFLICT_H
#define WICK_TESTS_PTX_CONFLICT_H

/* Global memory that two threads of one launch touch. Every word keeps who wrote it last, and in
 * which launch. A thread that reads or overwrites what another one has written in the same launch
 * needs a barrier between; another block's words can only be had by atomics and fences, so that in
 * a kernel without them any touch is a race. Kernels with them are not looked at: what they order
 * cannot be told from here. And what a launch writes it may not read through ld.global.nc, which
 * sees the memory as it was before, or not.
 *
 * Writing over a word that is read later is not noticed; in another order of the warps it is a read
 * of what was written. Writing the same bytes again is no race. */

#include "tests/ptx/warp.h"

/* One a word of global memory. */
struct conflict_record {
    uint32_t launch, block; /* 0: no launch has written it */
    uint32_t thread;        /* as in struct shared: warp, lane, clock */
    uint8_t bytes;          /* of the word, a bit each */
    bool several;           /* threads have written their own bytes of it */
};

/* Before a load; nc: it is an ld.global.nc. False: the fault is written. */
bool conflict_read(struct warp *w, const struct instruction *in, uint32_t mask,
                   uint8_t *const places[LANES], unsigned bytes, bool nc);
bool conflict_read_lane(struct warp *w, const struct instruction *in, int lane, uint64_t address,
                        unsigned bytes, bool nc);
/* Before a store of `bytes` bytes at `from[lane]`. */
bool conflict_write(struct warp *w, const struct instruction *in, uint32_t mask,
                    uint8_t *const places[LANES], const uint8_t (*from)[16], unsigned bytes);

#endif
