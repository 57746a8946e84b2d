/* crash: how PID 1 ends when it finds a bug of its own. If it just ended, the kernel would panic
 * with an exit status for an explanation; so it says what it knows first. */
#ifndef WICK_BOOT_CRASH_H
#define WICK_BOOT_CRASH_H

#include <stdbool.h>

/* Handles faults of the processor and failed asserts from here on. `reboots`: they end in a
 * restart; else in a kernel panic, which panic= of the kernel command line turns into one and which
 * a virtual machine's monitor is told of. */
void crash_watch(bool reboots);

#endif
