/* ids: where an encoder puts its token ids, counting those that do not fit. */
#ifndef WICK_TOKEN_IDS_H
#define WICK_TOKEN_IDS_H

#include <stddef.h>
#include <stdint.h>

struct ids {
    int32_t *id; /* (cap) */
    size_t cap;
    size_t count; /* may exceed cap */
};

static inline void ids_push(struct ids *ids, int32_t id) {
    if (ids->count < ids->cap) ids->id[ids->count] = id;
    ids->count++;
}

#endif
