/* duties: what PID 1 does for the machine while the server runs (wire/host.h): keeps the lease and
 * the watchdog, reaps, hears the power button, reads the kernel's log. Calls only read, write,
 * wait4 and syslog. */
#ifndef WICK_BOOT_DUTIES_H
#define WICK_BOOT_DUTIES_H

#include "wire/host.h"

extern const struct host_ops boot_duties;

/* boot.c */
void boot_complain(struct host *host, const char *what);

/* The kernel's log as syslog(2) gives it, without the level in front of each line and without the
 * rest of a first line that was cut; in place, returns the length. Pure. */
size_t kernel_log_tidy(char *text, size_t n);

/* The kernel logs its command line, and it may hold keys: the value of every word `wick.…key=` is
 * overwritten with stars. Pure. */
void kernel_log_mask(char *text, size_t n);

#endif
