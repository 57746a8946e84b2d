/* patience: waiting at boot for something to appear, for so long and no longer. */
#ifndef WICK_BOOT_PATIENCE_H
#define WICK_BOOT_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "boot/watchdog.h"

struct patience {
    uint64_t end_ns;
    struct watchdog *watchdog; /* fed meanwhile: waiting ends, so it is no hang */
};

struct patience patience_for(uint32_t ms, struct watchdog *watchdog);

/* Sleeps a moment. False: the time is over. */
bool patience_wait(struct patience *patience);

#endif
