/* boot: wick as PID 1: everything between the kernel and the server, and the machine's end.
 *
 *   boot_start -> (engine, server) -> boot_up -> server -> boot_finish
 *
 * Nothing that fails here ends it: what can go on goes on, the log and HEALTH tell the rest. */
#ifndef WICK_BOOT_BOOT_H
#define WICK_BOOT_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/fault.h"
#include "boot/net.h"
#include "boot/power.h"
#include "boot/sysfs.h"
#include "boot/watchdog.h"
#include "wire/host.h"

enum { BOOT_CMDLINE_BYTES = 4096 /* COMMAND_LINE_SIZE is 2048 on x86 */ };

struct boot {
    struct host host; /* for the server */
    uint64_t started_ns;
    char cmdline[BOOT_CMDLINE_BYTES]; /* the configuration points into it */
    char model[SYSFS_PATH_BYTES];     /* where it was found */
    char notice[HOST_NOTICE_BYTES];   /* what failed and did not stop the boot; "" */
    bool counted;                     /* the counter of failed boots works */
    bool safe;                        /* too many of them in a row */
    struct watchdog watchdog;
    struct power power;
    struct net net;
    int children; /* signalfd for SIGCHLD */
};

/* Did the kernel start us as the first process of a machine? A container's first process finds
 * /proc mounted already and is a plain process. */
bool boot_is_ours(void);

/* All of it, in order. `config` holds the defaults and is filled from the kernel command line;
 * config->model becomes a path. False: there is no model to serve, *fault says why. */
bool boot_start(struct boot *boot, struct config *config, struct fault *fault);

/* The machine answers on its wires: this boot has not failed. `ready`: with a model. Safe mode
 * stays until an orderly end. */
void boot_up(struct boot *boot, bool ready);

/* Capabilities (base/privilege.h) that PID 1 uses until the end: to restart the machine, to read
 * the kernel's log, and to set the address of a lease. */
uint64_t boot_privileges(const struct boot *boot);

/* The end of the machine, as it was asked for. */
_Noreturn void boot_finish(struct boot *boot, enum power_end end);

/* Not even a server that tells what is wrong can run: a restart, after time to read the console. */
_Noreturn void boot_abandon(struct boot *boot);

#endif
