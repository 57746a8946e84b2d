#ifndef WICK_TESTS_PTX_REGISTERS_H
#define WICK_TESTS_PTX_REGISTERS_H

/* Which row each register gets. nvcc writes a new register for every value, thousands of them; what
 * is alive at one time is a few dozen, and a warp whose rows fit the host's cache runs faster.
 *
 * Lanes that have gone different ways share rows without harm: each lane writes its own column and
 * follows its own way through the code. */

#include "tests/ptx/program.h"

/* An instruction reads or writes a register. */
struct touch {
    uint32_t instruction, id;
    bool writes;
};

struct registers {
    uint8_t *bytes; /* of an element of each, by id; 0: a predicate */
    uint32_t count;
    struct touch *touches; /* in the order of the instructions */
    size_t touch_count;
};

/* Rows of registers hold ids in place of offsets; this gives them offsets, and the kernel its
 * register_bytes and the list of those that may be read before they are written. */
void registers_place(struct ptx_kernel *kernel, struct pool *pool,
                     const struct registers *registers);

#endif
