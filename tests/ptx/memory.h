#ifndef WICK_TESTS_PTX_MEMORY_H
#define WICK_TESTS_PTX_MEMORY_H

/* Device and pinned memory as the running machine sees it: allocations and a byte of shadow for
 * each of their bytes. */

#include "tests/ptx/machine.h"

enum { SHADOW_WRITTEN = 1, SHADOW_GUARD = 2 };

struct allocation {
    uint64_t base, size;
    uint8_t *shadow;                 /* NULL: everything counts as written */
    struct conflict_record *records; /* of each word; NULL: none (conflict.h) */
    char name[48];
    enum ptx_memory_kind kind;
};

struct ptx_memory {
    struct allocation *allocations; /* ascending */
    size_t count, room;
    uint32_t launches; /* so far: each has a number of its own */
};

/* The allocation that holds address, or NULL. */
const struct allocation *memory_allocation(const struct ptx_memory *memory, uint64_t address);
/* The one that ends last at or before address; NULL: none. For error texts. */
const struct allocation *memory_before(const struct ptx_memory *memory, uint64_t address);

#endif
