/* arena: one block of memory, carved once at boot, sealed for ever.
 *
 *   MEASURING --(sizes known: one mmap)--> OPEN --(arena_seal)--> SEALED
 *
 * Whoever needs memory has a function X_carve(x, ..., arena) that only calls arena_take and keeps
 * the pointers. The same functions run twice: first over a measuring arena, which has no memory,
 * hands out NULL and only counts (that count IS the memory plan), then over the open one. A carve
 * function therefore never touches the memory it takes and never decides by it. */
#ifndef WICK_BASE_ARENA_H
#define WICK_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

enum arena_state { ARENA_MEASURING, ARENA_OPEN, ARENA_SEALED };

enum { ARENA_SECTIONS_MAX = 16, ARENA_ALIGN = 64, ARENA_PAGE = 4096 };

struct arena_section {
    const char *name; /* static string: "packed weights" */
    size_t bytes;
};

struct arena {
    enum arena_state state;
    uint8_t *base; /* NULL while measuring */
    size_t size;   /* bytes mapped; 0 while measuring */
    size_t used;
    uint32_t n_sections;
    uint32_t current; /* index of the section that counts; n_sections 0: none yet */
    struct arena_section section[ARENA_SECTIONS_MAX];
};

/* A measuring arena. */
void arena_measure(struct arena *arena);

/* Maps `size` zeroed bytes in one anonymous mmap, 2 MB aligned, asking for huge pages. The pages
 * are not touched: whoever will stream them touches them first. Fails with INSUFFICIENT_RESOURCES.
 */
bool arena_map(struct arena *arena, size_t size, struct fault *fault);

/* An open arena over memory of the caller's (tests). */
void arena_open(struct arena *arena, void *memory, size_t size);

/* An open arena over addresses of another memory, a device's: nothing there is touched. */
void arena_lay(struct arena *arena, uint64_t address, size_t size);

/* What is taken from here on counts for the section of that name (opened if it is new). What is
 * taken before the first section counts for "other". */
void arena_section(struct arena *arena, const char *name);

/* `bytes` zeroed bytes at a multiple of `align` (a power of two up to ARENA_PAGE; ARENA_ALIGN is
 * usual). NULL while measuring, and `used` stays at SIZE_MAX once a plan is too large to count.
 * Panics when sealed or when the plan is exceeded. */
void *arena_take(struct arena *arena, size_t bytes, size_t align);

/* After this arena_take panics. */
void arena_seal(struct arena *arena);

#endif
