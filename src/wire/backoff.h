/* backoff: addresses whose logins fail wait longer from failure to failure.
 *
 * A fixed table; times are handed in. IPv6 counts by /64, which is what one subscriber has. */
#ifndef WICK_WIRE_BACKOFF_H
#define WICK_WIRE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

enum {
    BACKOFF_ADDRESSES = 1024, /* 40 KB; looked through at each connection, in microseconds */
    BACKOFF_FREE = 3,         /* failures without a wait: a person who mistypes */
    BACKOFF_FIRST_MS = 500,   /* after the next one; doubles with each */
    BACKOFF_LONGEST_MS = 8000,
    BACKOFF_FORGET_MS = 60000 /* without a failure */
};

/* IPv6, or IPv4 as ::ffff:a.b.c.d. */
struct address {
    uint8_t bytes[16];
};

struct backoff_entry {
    struct address address;
    uint32_t failures; /* 0: the place is free */
    uint64_t failed_ns;
    uint64_t until_ns;
};

struct backoff {
    struct backoff_entry entry[BACKOFF_ADDRESSES];
};

/* What counts as one. */
struct address address_group(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);

/* May the address try now? */
bool backoff_allows(const struct backoff *backoff, const struct address *address, uint64_t now_ns);

/* Returns how long it must wait now, in ms. */
uint32_t backoff_fail(struct backoff *backoff, const struct address *address, uint64_t now_ns);

void backoff_clear(struct backoff *backoff, const struct address *address);

#endif
