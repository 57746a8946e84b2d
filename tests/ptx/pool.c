#include "tests/ptx/pool.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POOL_ALIGN 64u
#define POOL_CHUNK (256u << 10)

struct pool_chunk {
    struct pool_chunk *next;
    size_t used, size;
};

static struct pool_chunk *pool_chunk_add(struct pool *pool, size_t size) {
    size_t head = POOL_ALIGN;
    size_t whole = head + (size > POOL_CHUNK ? size : POOL_CHUNK);
    struct pool_chunk *chunk = aligned_alloc(POOL_ALIGN, whole + (-whole % POOL_ALIGN));
    if (!chunk) {
        fprintf(stderr, "ptx: out of memory (%zu bytes)\n", whole);
        abort();
    }
    *chunk = (struct pool_chunk){.next = pool->chunks, .used = head, .size = whole};
    pool->chunks = chunk;
    return chunk;
}

void *pool_take(struct pool *pool, size_t size) {
    size += -size % POOL_ALIGN;
    struct pool_chunk *chunk = pool->chunks;
    if (!chunk || chunk->size - chunk->used < size) chunk = pool_chunk_add(pool, size);
    void *taken = (uint8_t *)chunk + chunk->used;
    chunk->used += size;
    return memset(taken, 0, size);
}

char *pool_copy(struct pool *pool, const char *text, size_t length) {
    char *copy = pool_take(pool, length + 1);
    memcpy(copy, text, length);
    return copy;
}

void pool_free(struct pool *pool) {
    while (pool->chunks) {
        struct pool_chunk *next = pool->chunks->next;
        free(pool->chunks);
        pool->chunks = next;
    }
}

/* Room doubles at powers of two from 8 on; the old list stays behind in the pool. */
void *pool_grow(struct pool *pool, void *list, size_t count, size_t element) {
    if (count != 0 && (count < 8 || (count & (count - 1)) != 0)) return list;
    size_t room = count == 0 ? 8 : count * 2;
    void *grown = pool_take(pool, room * element);
    if (count) memcpy(grown, list, count * element);
    return grown;
}
