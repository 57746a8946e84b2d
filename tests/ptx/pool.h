#ifndef WICK_TESTS_PTX_POOL_H
#define WICK_TESTS_PTX_POOL_H

/* Everything a module is made of lives in one pool and goes with it. */

#include <stddef.h>

struct pool {
    struct pool_chunk *chunks;
};

/* Zeroed, aligned to 64 bytes. Never NULL: out of memory ends the program. */
void *pool_take(struct pool *pool, size_t size);
char *pool_copy(struct pool *pool, const char *text, size_t length);
void pool_free(struct pool *pool);

/* A list that grows in a pool: room for one more element after `count`. */
void *pool_grow(struct pool *pool, void *list, size_t count, size_t element);

#endif
