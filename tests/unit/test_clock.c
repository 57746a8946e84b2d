#include <criterion/criterion.h>
#include <stdint.h>
#include <time.h>

#include "base/clock.h"

static uint64_t ns_of(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A clock that is set back a day moves no deadline. That nothing else asks for the time:
 * tests/build/run.sh. */
Test(clock, is_the_one_that_nobody_sets) {
    uint64_t before = ns_of(CLOCK_MONOTONIC), now = clock_ns(), after = ns_of(CLOCK_MONOTONIC);
    cr_expect(before <= now && now <= after);
}
