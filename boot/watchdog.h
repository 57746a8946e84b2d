/* watchdog: the device that restarts the machine unless it is fed (linux/watchdog.h). */
#ifndef WICK_BOOT_WATCHDOG_H
#define WICK_BOOT_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

struct watchdog {
    int fd;               /* -1: there is none, or it was not asked for */
    uint32_t seconds;     /* as the device has it */
    uint64_t fed_ns;      /* last time */
    uint64_t interval_ns; /* a quarter of its time */
};

/* Opens /dev/watchdog and sets its time. False: errno; there is no watchdog then. */
bool watchdog_open(struct watchdog *watchdog, uint32_t seconds);

/* Feeds it when it is time to. Only ever called by who has just got something done. */
void watchdog_feed(struct watchdog *watchdog, uint64_t now_ns);

/* When it wants to be fed next; UINT64_MAX: never. */
uint64_t watchdog_next_ns(const struct watchdog *watchdog);

/* Switches it off, as an orderly end does. */
void watchdog_close(struct watchdog *watchdog);

#endif
