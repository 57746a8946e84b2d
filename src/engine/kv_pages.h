/* kv_pages: who owns which page of the KV cache, and which prompt prefixes are still in it.
 *
 *   FREE --take--> OWNED --publish--> SHARED <--admit / release--> CACHED --(needed)--> FREE
 *
 * A page holds KV_PAGE_TOKENS positions of one sequence. Once all of them are computed it can be
 * published under its key, (its parent page, its own tokens), and is read-only from then on: other
 * sequences with the same prefix find and share it. A published page without users stays CACHED
 * until its memory is needed, longest unused first.
 *
 * A parent is never evicted before its children: whoever uses a child uses its parents too, and
 * kv_pages_release_all gives pages back last first. So a page's index names it as a parent.
 *
 * Space is promised before it is taken: after kv_pages_admit, kv_pages_take cannot fail. */
#ifndef WICK_ENGINE_KV_PAGES_H
#define WICK_ENGINE_KV_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/arena.h"

enum { KV_NO_PAGE = 0xFFFFFFFF };

enum kv_page_state { KV_FREE, KV_OWNED, KV_SHARED, KV_CACHED };

struct kv_page {
    enum kv_page_state state;
    uint32_t users;    /* sequences that have it in their page table */
    uint32_t parent;   /* published: the page before it, KV_NO_PAGE for the first of a sequence */
    uint32_t children; /* published pages that name this one as their parent */
    uint32_t chain;    /* next in the hash bucket; next in the free list */
    uint32_t older, newer; /* CACHED: neighbours in order of last use */
    uint64_t hash;
    int32_t token[KV_PAGE_TOKENS];
};

struct kv_pages {
    uint32_t n_pages;
    uint32_t n_free, n_cached;
    uint32_t promised; /* reserved and not yet taken; never more than n_free + n_cached */
    uint32_t free;     /* head of the free list */
    uint32_t oldest, newest;
    uint32_t n_buckets;   /* a power of two, at least n_pages */
    uint32_t *bucket;     /* (n_buckets) */
    struct kv_page *page; /* (n_pages) */
};

void kv_pages_carve(struct kv_pages *kv, uint32_t n_pages, struct arena *arena);

/* All pages free. Once, after carving over an open arena. */
void kv_pages_open(struct kv_pages *kv);

/* Pages that hold n positions. */
uint32_t kv_pages_for(uint32_t n_positions);

/* Room for a sequence: shares the longest published prefix of tokens[0 .. n_shareable), in whole
 * pages, and promises the rest of its n_pages. The shared pages go to table[], their number to
 * *n_shared. False, and nothing changed: there is not that much room. */
bool kv_pages_admit(struct kv_pages *kv, const int32_t *tokens, uint32_t n_shareable,
                    uint32_t n_pages, uint32_t *table, uint32_t *n_shared);

/* Gives back promised pages that were never taken. */
void kv_pages_unreserve(struct kv_pages *kv, uint32_t n);

/* Turns one promised page into an owned one with one user. */
uint32_t kv_pages_take(struct kv_pages *kv);

/* Makes an owned page, whose positions are all computed, findable. `parent` is the page before it
 * in the same table, published as well. Returns the page to use from now on: where one with the
 * same key is there already, that one takes this user over and `page` is free. */
uint32_t kv_pages_publish(struct kv_pages *kv, uint32_t page, uint32_t parent,
                          const int32_t tokens[KV_PAGE_TOKENS]);

/* One user less for each page of the table. */
void kv_pages_release_all(struct kv_pages *kv, const uint32_t *table, uint32_t n);

/* Checks every list, link and count: NULL, or what is wrong. O(n_pages). */
const char *kv_pages_check(const struct kv_pages *kv);

#endif
