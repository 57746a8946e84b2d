#include "base/clock.h"

#include <time.h>

#include "base/panic.h"

uint64_t clock_ns(void) {
    struct timespec now;
    int status = clock_gettime(CLOCK_MONOTONIC, &now);
    wick_assert(status == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
