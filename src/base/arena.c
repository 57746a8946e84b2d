#include "base/arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/panic.h"

/* Size of a large page on x86-64. */
enum { HUGE_PAGE = 2 << 20 };

void arena_measure(struct arena *arena) {
    *arena = (struct arena){.state = ARENA_MEASURING};
}

void arena_open(struct arena *arena, void *memory, size_t size) {
    wick_assert(memory != NULL);
    memset(memory, 0, size);
    *arena = (struct arena){.state = ARENA_OPEN, .base = memory, .size = size};
}

void arena_lay(struct arena *arena, uint64_t address, size_t size) {
    wick_assert(address != 0);
    *arena =
        (struct arena){.state = ARENA_OPEN, .base = (uint8_t *)(uintptr_t)address, .size = size};
}

bool arena_map(struct arena *arena, size_t size, struct fault *fault) {
    wick_assert(size > 0);
    uint64_t span; /* one large page more than needed, to find an aligned start in it */
    if (!checked_add(size, 2 * HUGE_PAGE, &span)) {
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES,
                         "memory: %zu bytes are more than an address space holds", size);
    }
    size_t mapped = round_up(size, ARENA_PAGE);
    span = mapped + HUGE_PAGE;
    uint8_t *start = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES,
                         "memory: mapping %zu bytes failed: %s; lower ctx, slots or kv_tokens",
                         size, strerror(errno));
    }
    size_t before = (size_t)(-(uintptr_t)start & (HUGE_PAGE - 1));
    size_t after = HUGE_PAGE - before;
    if (before > 0) munmap(start, before);
    if (after > 0) munmap(start + before + mapped, after);
    uint8_t *base = start + before;
    wick_assert((uintptr_t)base % HUGE_PAGE == 0);
    madvise(base, mapped, MADV_HUGEPAGE); /* a wish: kernels without large pages refuse it */
    *arena = (struct arena){.state = ARENA_OPEN, .base = base, .size = mapped};
    return true;
}

void arena_section(struct arena *arena, const char *name) {
    wick_assert(arena->state != ARENA_SEALED);
    for (arena->current = 0; arena->current < arena->n_sections; arena->current++) {
        if (strcmp(arena->section[arena->current].name, name) == 0) return;
    }
    wick_assert(arena->n_sections < ARENA_SECTIONS_MAX);
    arena->section[arena->n_sections++] = (struct arena_section){.name = name};
}

void *arena_take(struct arena *arena, size_t bytes, size_t align) {
    wick_assert(arena->state != ARENA_SEALED);
    wick_assert(align > 0 && align <= ARENA_PAGE && (align & (align - 1)) == 0);
    if (arena->n_sections == 0) arena_section(arena, "other");

    size_t pad = -((uintptr_t)arena->base + arena->used) & (align - 1);
    uint64_t taken;
    uint64_t end;
    if (!checked_add(bytes, pad, &taken) || !checked_add(arena->used, taken, &end)) {
        /* A plan beyond 2^64 bytes is the world's error: its owner sees that it does not fit. */
        wick_assert(arena->state == ARENA_MEASURING);
        arena->section[arena->current].bytes += SIZE_MAX - arena->used;
        arena->used = SIZE_MAX;
        return NULL;
    }
    wick_assert(arena->state == ARENA_MEASURING || end <= arena->size);
    uint8_t *memory = arena->base == NULL ? NULL : arena->base + arena->used + pad;
    arena->section[arena->current].bytes += taken;
    arena->used = end;
    return memory;
}

void arena_seal(struct arena *arena) {
    wick_assert(arena->state == ARENA_OPEN);
    arena->state = ARENA_SEALED;
}
