#include <criterion/criterion.h>
#include <string.h>

#include "wire/backoff.h"

static const uint64_t second = 1000000000ull;

static struct address address_of(uint32_t group, uint8_t host) {
    struct address address = {
        .bytes = {0x20, 0x01, [6] = (uint8_t)(group >> 8), [7] = (uint8_t)group, [15] = host}};
    return address;
}

Test(backoff, waits_double_from_the_fourth_failure_up_to_8_seconds) {
    struct backoff backoff = {0};
    struct address address = address_of(1, 1);
    static const uint32_t want[] = {0, 0, 0, 500, 1000, 2000, 4000, 8000, 8000, 8000};
    uint64_t now = 100 * second;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        cr_expect(backoff_allows(&backoff, &address, now));
        cr_expect_eq(backoff_fail(&backoff, &address, now), want[i], "failure %zu", i + 1);
        if (want[i] > 0) cr_expect_not(backoff_allows(&backoff, &address, now));
        now += want[i] * (second / 1000);
    }
}

Test(backoff, counts_by_the_upper_half_of_ipv6_and_by_the_whole_of_ipv4) {
    struct backoff backoff = {0};
    struct address one = address_of(1, 1);
    struct address neighbour = address_of(1, 2);
    struct address other = address_of(2, 1);
    struct address four = {.bytes = {[10] = 0xFF, 0xFF, 192, 0, 2, 1}};
    struct address next = {.bytes = {[10] = 0xFF, 0xFF, 192, 0, 2, 2}};
    for (int i = 0; i < 5; i++) {
        backoff_fail(&backoff, &one, second);
        backoff_fail(&backoff, &four, second);
    }
    cr_expect_not(backoff_allows(&backoff, &neighbour, second));
    cr_expect(backoff_allows(&backoff, &other, second));
    cr_expect_not(backoff_allows(&backoff, &four, second));
    cr_expect(backoff_allows(&backoff, &next, second));
}

Test(backoff, forgets_after_a_minute_and_after_a_login) {
    struct backoff backoff = {0};
    struct address address = address_of(1, 1);
    for (int i = 0; i < 9; i++) backoff_fail(&backoff, &address, second);
    cr_expect_eq(backoff_fail(&backoff, &address, 100 * second), 0);
    for (int i = 0; i < 9; i++) backoff_fail(&backoff, &address, 100 * second);
    backoff_clear(&backoff, &address);
    cr_expect(backoff_allows(&backoff, &address, 100 * second));
}

Test(backoff, a_full_table_forgets_who_failed_longest_ago) {
    struct backoff backoff = {0};
    struct address first = address_of(0, 1);
    for (int i = 0; i < 8; i++) backoff_fail(&backoff, &first, second);
    for (uint32_t i = 1; i <= BACKOFF_ADDRESSES; i++) {
        cr_expect(!backoff_allows(&backoff, &first, second));
        struct address address = address_of(i, 1);
        cr_expect_eq(backoff_fail(&backoff, &address, (1 + i) * second / 1000 + second), 0);
    }
    cr_expect(backoff_allows(&backoff, &first, second));
}
