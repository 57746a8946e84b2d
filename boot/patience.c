#include "boot/patience.h"

#include <poll.h>
#include <stddef.h>

#include "base/clock.h"

struct patience patience_for(uint32_t ms, struct watchdog *watchdog) {
    return (struct patience){.end_ns = clock_ns() + ms * 1000000ull, .watchdog = watchdog};
}

bool patience_wait(struct patience *patience) {
    enum { MOMENT_MS = 5 };
    uint64_t now_ns = clock_ns();
    if (now_ns >= patience->end_ns) return false;
    watchdog_feed(patience->watchdog, now_ns);
    poll(NULL, 0, MOMENT_MS);
    return true;
}
