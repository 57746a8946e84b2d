#include "engine/kv_pages.h"

#include <string.h>

#include "base/panic.h"

enum { PAGES_MAX = 1 << 30 };

void kv_pages_carve(struct kv_pages *kv, uint32_t n_pages, struct arena *arena) {
    wick_assert(n_pages >= 1 && n_pages <= PAGES_MAX);
    kv->n_pages = n_pages;
    kv->n_buckets = 1;
    while (kv->n_buckets < n_pages) kv->n_buckets *= 2;
    kv->bucket = arena_take(arena, (size_t)kv->n_buckets * sizeof *kv->bucket, ARENA_ALIGN);
    kv->page = arena_take(arena, (size_t)n_pages * sizeof *kv->page, ARENA_ALIGN);
}

static void free_push(struct kv_pages *kv, uint32_t page) {
    kv->page[page].state = KV_FREE;
    kv->page[page].chain = kv->free;
    kv->free = page;
    kv->n_free++;
}

void kv_pages_open(struct kv_pages *kv) {
    kv->n_free = kv->n_cached = kv->promised = 0;
    kv->free = kv->oldest = kv->newest = KV_NO_PAGE;
    for (uint32_t b = 0; b < kv->n_buckets; b++) kv->bucket[b] = KV_NO_PAGE;
    memset(kv->page, 0, (size_t)kv->n_pages * sizeof *kv->page);
    for (uint32_t p = kv->n_pages; p-- > 0;) free_push(kv, p);
}

uint32_t kv_pages_for(uint32_t n_positions) {
    return n_positions / KV_PAGE_TOKENS + (n_positions % KV_PAGE_TOKENS != 0);
}

void kv_pages_unreserve(struct kv_pages *kv, uint32_t n) {
    wick_assert(n <= kv->promised);
    kv->promised -= n;
}

/* FNV-1a's steps over whole words, then the finish of MurmurHash3 so that low bits depend on all.
 */
static uint64_t key_hash(uint32_t parent, const int32_t tokens[KV_PAGE_TOKENS]) {
    uint64_t hash = (0xCBF29CE484222325ULL ^ parent) * 0x100000001B3ULL;
    for (int i = 0; i < KV_PAGE_TOKENS; i++) {
        hash = (hash ^ (uint32_t)tokens[i]) * 0x100000001B3ULL;
        hash ^= hash >> 29;
    }
    hash = (hash ^ (hash >> 33)) * 0xFF51AFD7ED558CCDULL;
    return hash ^ (hash >> 33);
}

static uint32_t *bucket_of(const struct kv_pages *kv, uint64_t hash) {
    return &kv->bucket[hash & (kv->n_buckets - 1)];
}

static bool key_equals(const struct kv_page *page, uint64_t hash, uint32_t parent,
                       const int32_t tokens[KV_PAGE_TOKENS]) {
    return page->hash == hash && page->parent == parent &&
           memcmp(page->token, tokens, sizeof page->token) == 0;
}

static uint32_t key_find(const struct kv_pages *kv, uint64_t hash, uint32_t parent,
                         const int32_t tokens[KV_PAGE_TOKENS]) {
    uint32_t p = *bucket_of(kv, hash);
    while (p != KV_NO_PAGE && !key_equals(&kv->page[p], hash, parent, tokens))
        p = kv->page[p].chain;
    return p;
}

static void cached_remove(struct kv_pages *kv, uint32_t page) {
    struct kv_page *p = &kv->page[page];
    wick_assert(p->state == KV_CACHED && kv->n_cached > 0);
    *(p->older == KV_NO_PAGE ? &kv->oldest : &kv->page[p->older].newer) = p->newer;
    *(p->newer == KV_NO_PAGE ? &kv->newest : &kv->page[p->newer].older) = p->older;
    kv->n_cached--;
}

static void cached_append(struct kv_pages *kv, uint32_t page) {
    struct kv_page *p = &kv->page[page];
    p->state = KV_CACHED;
    p->older = kv->newest;
    p->newer = KV_NO_PAGE;
    *(kv->newest == KV_NO_PAGE ? &kv->oldest : &kv->page[kv->newest].newer) = page;
    kv->newest = page;
    kv->n_cached++;
}

/* The longest unused page is no longer findable, and free. */
static void evict(struct kv_pages *kv) {
    uint32_t page = kv->oldest;
    wick_assert(page != KV_NO_PAGE);
    struct kv_page *p = &kv->page[page];
    wick_assert(p->users == 0 && p->children == 0);
    cached_remove(kv, page);
    uint32_t *link = bucket_of(kv, p->hash);
    while (*link != page) {
        wick_assert(*link != KV_NO_PAGE);
        link = &kv->page[*link].chain;
    }
    *link = p->chain;
    if (p->parent != KV_NO_PAGE) kv->page[p->parent].children--;
    free_push(kv, page);
}

uint32_t kv_pages_take(struct kv_pages *kv) {
    wick_assert(kv->promised > 0);
    if (kv->n_free == 0) evict(kv);
    uint32_t page = kv->free;
    struct kv_page *p = &kv->page[page];
    wick_assert(p->state == KV_FREE && p->users == 0);
    kv->free = p->chain;
    kv->n_free--;
    kv->promised--;
    p->state = KV_OWNED;
    p->users = 1;
    return page;
}

static void user_add(struct kv_pages *kv, uint32_t page) {
    struct kv_page *p = &kv->page[page];
    wick_assert(p->state == KV_SHARED || p->state == KV_CACHED);
    if (p->state == KV_CACHED) cached_remove(kv, page);
    p->state = KV_SHARED;
    p->users++;
}

bool kv_pages_admit(struct kv_pages *kv, const int32_t *tokens, uint32_t n_shareable,
                    uint32_t n_pages, uint32_t *table, uint32_t *n_shared) {
    uint32_t shared = 0, woken = 0, parent = KV_NO_PAGE;
    wick_assert(n_shareable / KV_PAGE_TOKENS <= n_pages);
    for (; (shared + 1) * KV_PAGE_TOKENS <= n_shareable; shared++) {
        const int32_t *own = tokens + shared * KV_PAGE_TOKENS;
        uint32_t page = key_find(kv, key_hash(parent, own), parent, own);
        if (page == KV_NO_PAGE) break;
        woken += kv->page[page].state == KV_CACHED;
        table[shared] = parent = page;
    }
    /* A shared page that leaves the cache is one less for the promises of others. */
    if (n_pages - shared + woken > kv->n_free + kv->n_cached - kv->promised) return false;
    for (uint32_t i = 0; i < shared; i++) user_add(kv, table[i]);
    kv->promised += n_pages - shared;
    *n_shared = shared;
    return true;
}

static void user_remove(struct kv_pages *kv, uint32_t page) {
    struct kv_page *p = &kv->page[page];
    wick_assert(p->users > 0 && (p->state == KV_OWNED || p->state == KV_SHARED));
    if (--p->users > 0) return;
    if (p->state == KV_SHARED)
        cached_append(kv, page);
    else
        free_push(kv, page);
}

uint32_t kv_pages_publish(struct kv_pages *kv, uint32_t page, uint32_t parent,
                          const int32_t tokens[KV_PAGE_TOKENS]) {
    struct kv_page *p = &kv->page[page];
    wick_assert(p->state == KV_OWNED && p->users == 1);
    wick_assert(parent == KV_NO_PAGE || kv->page[parent].state == KV_SHARED);
    uint64_t hash = key_hash(parent, tokens);
    uint32_t same = key_find(kv, hash, parent, tokens);
    if (same != KV_NO_PAGE) {
        user_remove(kv, page);
        user_add(kv, same);
        return same;
    }
    p->state = KV_SHARED;
    p->parent = parent;
    p->children = 0;
    p->hash = hash;
    memcpy(p->token, tokens, sizeof p->token);
    uint32_t *bucket = bucket_of(kv, hash);
    p->chain = *bucket;
    *bucket = page;
    if (parent != KV_NO_PAGE) kv->page[parent].children++;
    return page;
}

void kv_pages_release_all(struct kv_pages *kv, const uint32_t *table, uint32_t n) {
    while (n-- > 0) user_remove(kv, table[n]);
}

static const char *lists_check(const struct kv_pages *kv) {
    uint32_t n = 0;
    for (uint32_t p = kv->free; p != KV_NO_PAGE; p = kv->page[p].chain) {
        if (kv->page[p].state != KV_FREE) return "a page in the free list is not free";
        if (++n > kv->n_free) return "the free list is longer than its count";
    }
    if (n != kv->n_free) return "the free list is shorter than its count";
    uint32_t before = KV_NO_PAGE;
    n = 0;
    for (uint32_t p = kv->oldest; p != KV_NO_PAGE; p = kv->page[p].newer) {
        if (kv->page[p].state != KV_CACHED) return "a page in the cached list is not cached";
        if (kv->page[p].older != before) return "a link of the cached list is broken";
        if (++n > kv->n_cached) return "the cached list is longer than its count";
        before = p;
    }
    if (n != kv->n_cached || before != kv->newest) return "the cached list ends early";
    return NULL;
}

const char *kv_pages_check(const struct kv_pages *kv) {
    if (kv->promised > kv->n_free + kv->n_cached) return "more is promised than there is";
    const char *wrong = lists_check(kv);
    if (wrong != NULL) return wrong;
    uint32_t n_free = 0, n_cached = 0;
    uint64_t children = 0, with_parent = 0;
    for (uint32_t i = 0; i < kv->n_pages; i++) {
        const struct kv_page *p = &kv->page[i];
        bool published = p->state == KV_SHARED || p->state == KV_CACHED;
        n_free += p->state == KV_FREE;
        n_cached += p->state == KV_CACHED;
        bool used = p->state == KV_OWNED || p->state == KV_SHARED;
        if (used != (p->users > 0)) return "state and users disagree";
        if (p->state == KV_OWNED && p->users != 1) return "an unpublished page has several users";
        if (!published) continue;
        if (key_find(kv, p->hash, p->parent, p->token) != i) return "a key is there twice, or lost";
        if (p->hash != key_hash(p->parent, p->token)) return "a page changed under its key";
        children += p->children;
        if (p->parent == KV_NO_PAGE) continue;
        with_parent++;
        const struct kv_page *parent = &kv->page[p->parent];
        if (parent->state != KV_SHARED && parent->state != KV_CACHED) return "a parent is gone";
        if (p->state == KV_SHARED && parent->users < 1) return "a child has users, its parent none";
    }
    if (n_free != kv->n_free || n_cached != kv->n_cached) return "pages are in no list";
    if (children != with_parent) return "children are counted wrongly";
    return NULL;
}
