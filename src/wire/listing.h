/* listing: the one long answer that is being written: ids of TOKENIZE or text of DETOKENIZE.
 *
 * It may be larger than any output buffer, so it is written line by line as the client reads. While
 * it lasts, the client's further commands wait; others who need the place are told BUSY. */
#ifndef WICK_WIRE_LISTING_H
#define WICK_WIRE_LISTING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "engine/engine.h"
#include "wire/client.h"

/* A text gives at most one token a byte, and a token or two that the model puts around it. */
enum { LISTING_IDS_MAX = ENGINE_TEXT_MAX + 8 };

enum listing_kind { LISTING_IDS, LISTING_TEXT };

struct listing {
    struct client *client; /* NULL: nothing is being written */
    enum listing_kind kind;
    uint32_t tag;
    uint32_t n;  /* ids, or bytes of text */
    uint32_t at; /* the first that is not written yet */
    bool begun;
    uint64_t since_ns; /* of the last line written */
    int32_t *ids;      /* (LISTING_IDS_MAX); */
    char *text;        /* the same memory, LISTING_IDS_MAX * 4 bytes */
};

void listing_carve(struct listing *listing, struct arena *arena);

/* What is in ids or text is now to be written. */
void listing_begin(struct listing *listing, struct client *client, enum listing_kind kind,
                   uint32_t tag, uint32_t n, uint64_t now_ns);

/* Writes lines while the client's output keeps `reserve` bytes free. */
void listing_continue(struct listing *listing, size_t reserve, uint64_t now_ns);

/* Forgets what is not written. */
void listing_end(struct listing *listing);

#endif
