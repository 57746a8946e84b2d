#include "tests/ptx/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/ptx/conflict.h"

struct ptx_memory *ptx_memory_create(void) {
    return calloc(1, sizeof(struct ptx_memory));
}

/* Four times the size, of which only what kernels write is ever there. */
static size_t records_bytes(const struct allocation *a) {
    return (a->size / 4 + 2) * sizeof(struct conflict_record);
}

static struct conflict_record *records_create(const struct allocation *a) {
    void *records = mmap(NULL, records_bytes(a), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return records == MAP_FAILED ? NULL : records;
}

static void allocation_free(struct allocation *a) {
    free(a->shadow);
    if (a->records) munmap(a->records, records_bytes(a));
}

void ptx_memory_free(struct ptx_memory *memory) {
    if (!memory) return;
    for (size_t i = 0; i < memory->count; i++) allocation_free(&memory->allocations[i]);
    free(memory->allocations);
    free(memory);
}

/* How many allocations start at or before address. */
static size_t memory_rank(const struct ptx_memory *memory, uint64_t address) {
    size_t low = 0, high = memory->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memory->allocations[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct allocation *memory_before(const struct ptx_memory *memory, uint64_t address) {
    size_t rank = memory_rank(memory, address);
    return rank ? &memory->allocations[rank - 1] : NULL;
}

const struct allocation *memory_allocation(const struct ptx_memory *memory, uint64_t address) {
    const struct allocation *a = memory_before(memory, address);
    return a && address - a->base < a->size ? a : NULL;
}

bool ptx_memory_add(struct ptx_memory *memory, void *base, size_t size, const char *name,
                    enum ptx_memory_kind kind) {
    uint64_t address = (uint64_t)(uintptr_t)base;
    size_t rank = memory_rank(memory, address);
    const struct allocation *before = rank ? &memory->allocations[rank - 1] : NULL;
    if (size == 0 || address + size < address) return false;
    if (before && address - before->base < before->size) return false;
    if (rank < memory->count && memory->allocations[rank].base - address < size) return false;
    struct allocation added = {.base = address, .size = size, .kind = kind};
    if (kind == PTX_MEMORY_DEVICE && !(added.shadow = calloc(size, 1))) return false;
    added.records = records_create(&added);
    snprintf(added.name, sizeof added.name, "%s", name ? name : "unnamed");
    if (memory->count == memory->room) {
        memory->room = memory->room ? memory->room * 2 : 16;
        memory->allocations =
            realloc(memory->allocations, memory->room * sizeof *memory->allocations);
        if (!memory->allocations) abort();
    }
    struct allocation *place = memory->allocations + rank;
    memmove(place + 1, place, (memory->count - rank) * sizeof *place);
    *place = added;
    memory->count++;
    return true;
}

bool ptx_memory_remove(struct ptx_memory *memory, void *base) {
    uint64_t address = (uint64_t)(uintptr_t)base;
    size_t rank = memory_rank(memory, address);
    if (!rank || memory->allocations[rank - 1].base != address) return false;
    struct allocation *gone = &memory->allocations[rank - 1];
    allocation_free(gone);
    memmove(gone, gone + 1, (memory->count - rank) * sizeof *gone);
    memory->count--;
    return true;
}

bool ptx_memory_find(const struct ptx_memory *memory, const void *address, size_t size, void **base,
                     size_t *whole) {
    uint64_t at = (uint64_t)(uintptr_t)address;
    const struct allocation *a = memory_allocation(memory, at);
    if (!a || size > a->size - (at - a->base)) return false;
    if (base) *base = (void *)(uintptr_t)a->base;
    if (whole) *whole = a->size;
    return true;
}

/* The shadow of a range that lies in one allocation; NULL: there is none. */
static uint8_t *memory_shadow(const struct ptx_memory *memory, const void *address, size_t *size) {
    uint64_t at = (uint64_t)(uintptr_t)address;
    const struct allocation *a = memory_allocation(memory, at);
    if (!a || !a->shadow) return NULL;
    if (*size > a->size - (at - a->base)) *size = a->size - (at - a->base);
    return a->shadow + (at - a->base);
}

void ptx_memory_mark(struct ptx_memory *memory, const void *address, size_t size, bool written) {
    uint8_t *shadow = memory_shadow(memory, address, &size);
    if (!shadow) return;
    for (size_t i = 0; i < size; i++)
        shadow[i] = (uint8_t)((shadow[i] & ~SHADOW_WRITTEN) | (written ? SHADOW_WRITTEN : 0));
}

void ptx_memory_guard(struct ptx_memory *memory, const void *address, size_t size, bool guarded) {
    struct allocation *a =
        (struct allocation *)(uintptr_t)memory_allocation(memory, (uint64_t)(uintptr_t)address);
    if (a && !a->shadow) {
        a->shadow = malloc(a->size);
        if (!a->shadow) abort();
        memset(a->shadow, SHADOW_WRITTEN, a->size);
    }
    uint8_t *shadow = memory_shadow(memory, address, &size);
    if (!shadow) return;
    for (size_t i = 0; i < size; i++)
        shadow[i] = (uint8_t)((shadow[i] & ~SHADOW_GUARD) | (guarded ? SHADOW_GUARD : 0));
}

size_t ptx_memory_written(const struct ptx_memory *memory, const void *address, size_t size) {
    const uint8_t *shadow = memory_shadow(memory, address, &size);
    size_t n = 0;
    if (!shadow) return size;
    while (n < size && shadow[n] & SHADOW_WRITTEN) n++;
    return n;
}

void ptx_memory_copy_state(struct ptx_memory *memory, const void *to, const void *from,
                           size_t size) {
    uint8_t *target = memory_shadow(memory, to, &size);
    const uint8_t *source = memory_shadow(memory, from, &size);
    if (!target) return;
    for (size_t i = 0; i < size; i++) {
        uint8_t written = source ? source[i] & SHADOW_WRITTEN : SHADOW_WRITTEN;
        target[i] = (uint8_t)((target[i] & SHADOW_GUARD) | written);
    }
}
