#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kv_pages.h"
#include "engine/sampler.h"

enum { P = KV_PAGE_TOKENS, TABLE_MAX = 64 };

static void open_pages(struct kv_pages *kv, uint32_t n_pages) {
    struct arena arena;
    struct fault fault;
    cr_assert(arena_map(&arena, 1 << 22, &fault), "%s", fault.text);
    kv_pages_carve(kv, n_pages, &arena);
    kv_pages_open(kv);
}

static void check(const struct kv_pages *kv) {
    const char *wrong = kv_pages_check(kv);
    cr_assert_null(wrong, "%s", wrong);
}

/* A sequence as a slot of the scheduler has it. */
struct sequence {
    int32_t token[TABLE_MAX * P];
    uint32_t table[TABLE_MAX];
    uint32_t n_pages, n_shared, n_promised, n_published;
};

static bool admit(struct kv_pages *kv, struct sequence *q, uint32_t n_shareable, uint32_t total) {
    memset(&q->n_pages, 0, sizeof *q - offsetof(struct sequence, n_pages));
    if (!kv_pages_admit(kv, q->token, n_shareable, total, q->table, &q->n_shared)) return false;
    q->n_pages = q->n_published = q->n_shared;
    q->n_promised = total - q->n_shared;
    return true;
}

/* Takes the next page and fills and publishes it. */
static void grow(struct kv_pages *kv, struct sequence *q) {
    uint32_t i = q->n_pages++;
    q->table[i] = kv_pages_take(kv);
    q->n_promised--;
    uint32_t parent = i == 0 ? (uint32_t)KV_NO_PAGE : q->table[i - 1];
    q->table[i] = kv_pages_publish(kv, q->table[i], parent, q->token + i * P);
    q->n_published++;
}

static void leave(struct kv_pages *kv, struct sequence *q) {
    kv_pages_release_all(kv, q->table, q->n_pages);
    kv_pages_unreserve(kv, q->n_promised);
}

static void fill(struct sequence *q, int32_t first, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) q->token[i] = first + (int32_t)i;
}

Test(kv_pages, positions_round_up_to_pages) {
    cr_assert_eq(kv_pages_for(1), 1);
    cr_assert_eq(kv_pages_for(P), 1);
    cr_assert_eq(kv_pages_for(P + 1), 2);
}

Test(kv_pages, promises_never_exceed_what_there_is) {
    static struct sequence a, b;
    struct kv_pages kv;
    open_pages(&kv, 4);
    cr_assert(admit(&kv, &a, 0, 3));
    cr_assert_not(admit(&kv, &b, 0, 2));
    cr_assert(admit(&kv, &b, 0, 1));
    check(&kv);
    leave(&kv, &a);
    leave(&kv, &b);
    cr_assert_eq(kv.n_free, 4);
    check(&kv);
}

Test(kv_pages, published_prefix_is_found_by_the_next_sequence) {
    static struct sequence a, b;
    struct kv_pages kv;
    open_pages(&kv, 8);
    fill(&a, 0, 4 * P);
    cr_assert(admit(&kv, &a, 4 * P, 4));
    for (int i = 0; i < 3; i++) grow(&kv, &a);
    fill(&b, 0, 4 * P);
    b.token[2 * P + 5] = -7; /* the third page differs */
    cr_assert(admit(&kv, &b, 4 * P, 4));
    cr_assert_eq(b.n_shared, 2);
    cr_assert_eq(b.table[0], a.table[0]);
    cr_assert_eq(b.table[1], a.table[1]);
    check(&kv);
    leave(&kv, &a);
    leave(&kv, &b);
    cr_assert_eq(kv.n_cached, 3);
    check(&kv);
}

Test(kv_pages, only_whole_pages_within_the_limit_are_shared) {
    static struct sequence a;
    struct kv_pages kv;
    open_pages(&kv, 8);
    fill(&a, 0, 2 * P);
    cr_assert(admit(&kv, &a, 0, 2));
    grow(&kv, &a);
    grow(&kv, &a);
    leave(&kv, &a);
    cr_assert(admit(&kv, &a, 2 * P - 1, 2));
    cr_assert_eq(a.n_shared, 1);
    leave(&kv, &a);
}

Test(kv_pages, page_is_not_found_before_it_is_published) {
    static struct sequence a, b;
    struct kv_pages kv;
    open_pages(&kv, 8);
    fill(&a, 0, 2 * P);
    fill(&b, 0, 2 * P);
    cr_assert(admit(&kv, &a, 2 * P, 2));
    a.table[a.n_pages++] = kv_pages_take(&kv);
    a.n_promised--;
    cr_assert(admit(&kv, &b, 2 * P, 2));
    cr_assert_eq(b.n_shared, 0);
    leave(&kv, &a);
    cr_assert_eq(kv.n_cached, 0, "an unpublished page is free at once");
}

Test(kv_pages, same_tokens_behind_another_prefix_are_another_page) {
    static struct sequence a, b;
    struct kv_pages kv;
    open_pages(&kv, 8);
    fill(&a, 0, 2 * P);
    cr_assert(admit(&kv, &a, 2 * P, 2));
    grow(&kv, &a);
    grow(&kv, &a);
    memcpy(b.token, a.token + P, P * sizeof *b.token); /* a's second page comes first */
    cr_assert(admit(&kv, &b, P, 1));
    cr_assert_eq(b.n_shared, 0);
}

/* Puts page `a` before page `b` in b's bucket, with b's hash. */
static void forge_collision(struct kv_pages *kv, uint32_t a, uint32_t b) {
    uint32_t *link = &kv->bucket[kv->page[a].hash & (kv->n_buckets - 1)];
    while (*link != a) link = &kv->page[*link].chain;
    *link = kv->page[a].chain;
    kv->page[a].hash = kv->page[b].hash;
    link = &kv->bucket[kv->page[b].hash & (kv->n_buckets - 1)];
    kv->page[a].chain = *link;
    *link = a;
}

Test(kv_pages, equal_hashes_do_not_make_equal_pages) {
    static struct sequence a, b;
    struct kv_pages kv;
    open_pages(&kv, 8);
    fill(&a, 0, 2 * P);
    fill(&b, 0, P);
    b.token[P - 1]++; /* only the last token differs */
    cr_assert(admit(&kv, &a, 0, 2));
    cr_assert(admit(&kv, &b, 0, 1));
    grow(&kv, &a);
    grow(&kv, &a);
    grow(&kv, &b);
    uint32_t page = b.table[0];
    forge_collision(&kv, a.table[0], page);
    leave(&kv, &b);
    cr_assert(admit(&kv, &b, P, 1));
    cr_assert(b.n_shared == 1 && b.table[0] == page, "told apart by the tokens");
    leave(&kv, &b);

    memcpy(b.token, a.token + P, P * sizeof *b.token); /* a's second page, without the first */
    cr_assert(admit(&kv, &b, 0, 1));
    grow(&kv, &b);
    page = b.table[0];
    forge_collision(&kv, a.table[1], page);
    leave(&kv, &b);
    cr_assert(admit(&kv, &b, P, 1));
    cr_assert(b.n_shared == 1 && b.table[0] == page, "told apart by the parent");
}

Test(kv_pages, twins_computed_at_the_same_time_become_one) {
    static struct sequence a, b;
    struct kv_pages kv;
    open_pages(&kv, 8);
    fill(&a, 0, 2 * P);
    fill(&b, 0, 2 * P);
    cr_assert(admit(&kv, &a, 2 * P, 2));
    cr_assert(admit(&kv, &b, 2 * P, 2));
    grow(&kv, &a);
    grow(&kv, &b);
    cr_assert_eq(a.table[0], b.table[0]);
    cr_assert_eq(kv.n_free, 7);
    grow(&kv, &b);
    grow(&kv, &a);
    cr_assert_eq(a.table[1], b.table[1]);
    check(&kv);
    leave(&kv, &a);
    leave(&kv, &b);
    check(&kv);
}

Test(kv_pages, longest_unused_prefix_makes_room_first_and_its_end_before_its_beginning) {
    static struct sequence old, young, big;
    struct kv_pages kv;
    open_pages(&kv, 6);
    fill(&old, 0, 3 * P);
    fill(&young, 1000, 3 * P);
    struct sequence *both[] = {&old, &young};
    for (int i = 0; i < 2; i++) {
        cr_assert(admit(&kv, both[i], 3 * P, 3));
        for (int k = 0; k < 3; k++) grow(&kv, both[i]);
        leave(&kv, both[i]);
    }
    fill(&big, 5000, 2 * P);
    cr_assert(admit(&kv, &big, 2 * P, 2));
    grow(&kv, &big);
    grow(&kv, &big);
    check(&kv);
    cr_assert(admit(&kv, &old, 3 * P, 3));
    cr_assert_eq(old.n_shared, 1, "two pages of the old prefix made room");
    leave(&kv, &old);
    cr_assert(admit(&kv, &young, 3 * P, 3));
    cr_assert_eq(young.n_shared, 3);
    check(&kv);
}

Test(kv_pages, shared_page_woken_from_the_cache_counts_against_promises) {
    static struct sequence a, b, c;
    struct kv_pages kv;
    open_pages(&kv, 4);
    fill(&a, 0, 2 * P);
    cr_assert(admit(&kv, &a, 2 * P, 2));
    grow(&kv, &a);
    grow(&kv, &a);
    leave(&kv, &a); /* 2 free, 2 cached */
    fill(&b, 5000, P);
    cr_assert(admit(&kv, &b, 0, 3)); /* promised: one of the cached ones as well */
    fill(&c, 0, 2 * P);
    cr_assert_not(admit(&kv, &c, 2 * P, 2), "waking both would break the promise to b");
    check(&kv);
    cr_assert(admit(&kv, &c, P, 1));
    check(&kv);
}

Test(kv_pages, random_life_keeps_every_invariant) {
    enum { SEQUENCES = 6 };
    static struct sequence q[SEQUENCES];
    static bool live[SEQUENCES];
    struct kv_pages kv;
    struct sampler_rng rng;
    open_pages(&kv, 23);
    sampler_rng_seed(&rng, 5);
    uint64_t shared = 0, refused = 0;
    for (int round = 0; round < 40000; round++) {
        struct sequence *s = &q[sampler_rng_next(&rng) % SEQUENCES];
        bool *alive = &live[s - q];
        if (!*alive) {
            uint32_t n = 1 + (uint32_t)(sampler_rng_next(&rng) % 8);
            for (uint32_t i = 0; i < n; i++) { /* two sorts of pages: prefixes are often equal */
                int32_t sort = (int32_t)(sampler_rng_next(&rng) % 2);
                for (uint32_t k = 0; k < P; k++) s->token[i * P + k] = sort;
            }
            *alive = admit(&kv, s, n * P - 1, n);
            shared += *alive ? s->n_shared : 0;
            refused += !*alive;
        } else if (s->n_promised > 0 && sampler_rng_next(&rng) % 8 != 0) {
            grow(&kv, s);
        } else {
            leave(&kv, s);
            *alive = false;
        }
        check(&kv);
    }
    cr_assert(shared > 1000 && refused > 100, "the test did not test");
    for (int i = 0; i < SEQUENCES; i++)
        if (live[i]) leave(&kv, &q[i]);
    cr_assert_eq(kv.n_free + kv.n_cached, 23);
    check(&kv);
}
