/* consoles: terminals as wires: which the appliance listens on when nobody says, and which belong
 * to the kernel and are none. */
#ifndef WICK_BOOT_CONSOLES_H
#define WICK_BOOT_CONSOLES_H

#include <stdbool.h>

#include "base/config.h"
#include "boot/patience.h"

/* Is "/dev/ttyS0" in what /proc/consoles says? Pure. */
bool consoles_have(const char *consoles, const char *path);

/* The path of a "tty:/dev/ttyS1,115200"; false: the wire is no tty. Pure. */
bool console_path(const char *spec, char *path, unsigned size);

/* Tells about a wire that is left out. */
typedef void console_complaint(void *context, const char *spec, const char *reason);

/* Waits for the terminals of config->listen, takes out those that the kernel writes to, and where
 * nothing is given puts in hvc0, or the first serial line that there is. */
void consoles_choose(struct config *config, struct patience patience, console_complaint *complain,
                     void *context);

#endif
