#include "wire/listing.h"

#include "base/panic.h"
#include "wire/line.h"

enum {
    CODE_IDS = 240,
    CODE_TEXT = 241,
    ID_CHARS_MAX = 8 /* `1048575,` */
};

void listing_carve(struct listing *listing, struct arena *arena) {
    listing->client = NULL;
    listing->ids = arena_take(arena, LISTING_IDS_MAX * sizeof(int32_t), ARENA_ALIGN);
    listing->text = (char *)listing->ids;
}

void listing_begin(struct listing *listing, struct client *client, enum listing_kind kind,
                   uint32_t tag, uint32_t n, uint64_t now_ns) {
    wick_assert(listing->client == NULL);
    listing->client = client;
    listing->kind = kind;
    listing->tag = tag;
    listing->n = n;
    listing->at = 0;
    listing->begun = false;
    listing->since_ns = now_ns;
}

static void ids_add(struct listing *listing, struct line *line) {
    if (!listing->begun) line_add(line, "tokens=%u ", listing->n);
    line_add(line, "ids=");
    const char *comma = "";
    while (listing->at < listing->n && line_room(line) >= ID_CHARS_MAX) {
        line_add(line, "%s%d", comma, listing->ids[listing->at++]);
        comma = ",";
    }
}

static void line_compose(struct listing *listing, struct line *line) {
    int code = listing->kind == LISTING_IDS ? CODE_IDS : CODE_TEXT;
    line_begin(line, code, LINE_LAST, listing->tag);
    if (listing->kind == LISTING_IDS) {
        ids_add(listing, line);
    } else {
        listing->at += (uint32_t)line_text(line, listing->text + listing->at,
                                           listing->n - listing->at, FRAME_LINE_MAX);
    }
    if (listing->at < listing->n) line->bytes[3] = LINE_MORE; /* after the code */
}

void listing_continue(struct listing *listing, size_t reserve, uint64_t now_ns) {
    wick_assert(listing->client != NULL);
    struct output *output = &listing->client->output;
    while (output_free(output) >= reserve + FRAME_LINE_MAX + FRAME_TRAILER_MAX) {
        struct line line;
        line_compose(listing, &line);
        line_send(&line, output);
        listing->begun = true;
        listing->since_ns = now_ns;
        if (listing->at == listing->n) {
            listing_end(listing);
            return;
        }
    }
}

void listing_end(struct listing *listing) {
    listing->client = NULL;
}
