#include "wire/staging.h"

#include <string.h>

#include "base/panic.h"
#include "engine/engine.h"
#include "token/utf8.h"
#include "wire/frame.h"

void staging_carve(struct staging *staging, uint32_t n_places, struct arena *arena) {
    wick_assert(n_places >= 1 && n_places <= STAGING_PLACES_MAX);
    staging->n_places = n_places;
    for (uint32_t i = 0; i < n_places; i++) {
        staging->place[i] =
            (struct staged){.text = arena_take(arena, ENGINE_TEXT_MAX, ARENA_ALIGN)};
    }
}

struct staged *staging_find(struct staging *staging, uint32_t client, uint32_t tag) {
    wick_assert(client != 0);
    for (uint32_t i = 0; i < staging->n_places; i++) {
        struct staged *staged = &staging->place[i];
        if (staged->client == client && staged->tag == tag) return staged;
    }
    return NULL;
}

struct staged *staging_take(struct staging *staging, uint32_t client, uint32_t tag) {
    wick_assert(staging_find(staging, client, tag) == NULL);
    for (uint32_t i = 0; i < staging->n_places; i++) {
        struct staged *staged = &staging->place[i];
        if (staged->client != 0) continue;
        staged->client = client;
        staged->tag = tag;
        staged->bytes = 0;
        return staged;
    }
    return NULL;
}

enum staging_status staging_put(struct staged *staged, uint32_t at, const char *bytes, uint32_t n,
                                uint32_t *chars) {
    wick_assert(staged->client != 0 && at <= staged->bytes && staged->bytes <= ENGINE_TEXT_MAX);
    if (n > ENGINE_TEXT_MAX - at) return STAGING_TOO_LONG;
    /* Counted as a whole: a character may have come in two pieces. What is overwritten meanwhile is
     * put back if it is too much. */
    char old[FRAME_LINE_MAX];
    uint32_t covered = staged->bytes - at < n ? staged->bytes - at : n;
    wick_assert(n <= sizeof old);
    memcpy(old, staged->text + at, covered);
    memcpy(staged->text + at, bytes, n);
    size_t count = utf8_count(staged->text, at + n);
    if (count > ENGINE_PROMPT_CHARS_MAX) {
        memcpy(staged->text + at, old, covered);
        return STAGING_TOO_LONG;
    }
    staged->bytes = at + n;
    *chars = (uint32_t)count;
    return STAGING_DONE;
}

void staging_release(struct staged *staged) {
    staged->client = 0;
    staged->bytes = 0;
}

void staging_drop_client(struct staging *staging, uint32_t client) {
    for (uint32_t i = 0; i < staging->n_places; i++) {
        if (staging->place[i].client == client) staging_release(&staging->place[i]);
    }
}
