/* staging: a fixed pool of texts that clients put together with PUT. */
#ifndef WICK_WIRE_STAGING_H
#define WICK_WIRE_STAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"

enum { STAGING_PLACES_MAX = 16 };

struct staged {
    uint32_t client; /* 0: the place is free */
    uint32_t tag;
    uint32_t bytes;
    char *text; /* (ENGINE_TEXT_MAX) */
};

struct staging {
    uint32_t n_places;
    struct staged place[STAGING_PLACES_MAX];
};

void staging_carve(struct staging *staging, uint32_t n_places, struct arena *arena);

/* NULL: this client has nothing staged under the tag. */
struct staged *staging_find(struct staging *staging, uint32_t client, uint32_t tag);

/* A free place, made this client's; NULL: there is none. */
struct staged *staging_take(struct staging *staging, uint32_t client, uint32_t tag);

enum staging_status { STAGING_DONE, STAGING_TOO_LONG };

/* Puts n bytes at `at` <= staged->bytes, where the text then ends, or changes nothing when the
 * limits of a text would be passed. *chars: what it has then. */
enum staging_status staging_put(struct staged *staged, uint32_t at, const char *bytes, uint32_t n,
                                uint32_t *chars);

void staging_release(struct staged *staged);
void staging_drop_client(struct staging *staging, uint32_t client);

#endif
