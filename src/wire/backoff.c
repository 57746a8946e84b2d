#include "wire/backoff.h"

#include <stddef.h>
#include <string.h>

enum { MS = 1000 * 1000 /* ns */ };

struct address address_group(const struct address *address) {
    static const uint8_t four[12] = {[10] = 0xFF, [11] = 0xFF}; /* ::ffff:0:0/96 */
    struct address group = *address;
    if (memcmp(address->bytes, four, sizeof four) != 0) memset(group.bytes + 8, 0, 8);
    return group;
}

bool address_equal(const struct address *a, const struct address *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

static struct backoff_entry *entry_find(const struct backoff *backoff,
                                        const struct address *address) {
    struct address group = address_group(address);
    for (size_t i = 0; i < BACKOFF_ADDRESSES; i++) {
        const struct backoff_entry *entry = &backoff->entry[i];
        if (entry->failures == 0 || !address_equal(&entry->address, &group)) continue;
        return (struct backoff_entry *)(uintptr_t)entry;
    }
    return NULL;
}

bool backoff_allows(const struct backoff *backoff, const struct address *address, uint64_t now_ns) {
    const struct backoff_entry *entry = entry_find(backoff, address);
    return entry == NULL || now_ns >= entry->until_ns;
}

/* A free place, or that of the failure longest ago. */
static struct backoff_entry *entry_take(struct backoff *backoff, const struct address *address) {
    struct backoff_entry *oldest = &backoff->entry[0];
    for (size_t i = 0; i < BACKOFF_ADDRESSES && oldest->failures > 0; i++) {
        struct backoff_entry *entry = &backoff->entry[i];
        if (entry->failures == 0 || entry->failed_ns < oldest->failed_ns) oldest = entry;
    }
    *oldest = (struct backoff_entry){.address = address_group(address)};
    return oldest;
}

uint32_t backoff_fail(struct backoff *backoff, const struct address *address, uint64_t now_ns) {
    struct backoff_entry *entry = entry_find(backoff, address);
    if (entry == NULL) entry = entry_take(backoff, address);
    if (now_ns - entry->failed_ns > (uint64_t)BACKOFF_FORGET_MS * MS) entry->failures = 0;
    entry->failed_ns = now_ns;
    entry->failures++;
    uint32_t ms = 0;
    for (uint32_t i = BACKOFF_FREE; i < entry->failures && ms < BACKOFF_LONGEST_MS; i++) {
        ms = ms == 0 ? BACKOFF_FIRST_MS : 2 * ms;
    }
    entry->until_ns = now_ns + (uint64_t)ms * MS;
    return ms;
}

void backoff_clear(struct backoff *backoff, const struct address *address) {
    struct backoff_entry *entry = entry_find(backoff, address);
    if (entry != NULL) entry->failures = 0;
}
