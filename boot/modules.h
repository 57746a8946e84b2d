/* modules: kernel modules from the list file of the initramfs, in its order.
 *
 * A line of the list: a path, or the name of a file in MODULES_DIRECTORY (".ko" may be left out),
 * then the module's parameters. What follows a '#' is a remark. */
#ifndef WICK_BOOT_MODULES_H
#define WICK_BOOT_MODULES_H

#include <stdbool.h>

#include "boot/sysfs.h"

#define MODULES_LIST "/etc/modules.list"
#define MODULES_DIRECTORY "/lib/modules"

enum { MODULES_LIST_BYTES = 8192, MODULES_PARAMETERS_BYTES = 256 };

struct module_line {
    char path[SYSFS_PATH_BYTES];
    char parameters[MODULES_PARAMETERS_BYTES]; /* as finit_module wants them */
    bool too_long;                             /* path or parameters did not fit */
};

/* The next module of the list from *at on, which moves past its line; false: there is no more.
 * Pure. */
bool module_line_next(const char **at, struct module_line *line);

/* Tells about a module that was not loaded: its path and the reason. */
typedef void module_complaint(void *context, const char *path, const char *reason);

/* Loads what the list names; returns how many were loaded. A module that is there already counts as
 * loaded; without a list there is nothing to load. */
unsigned modules_load(module_complaint *complain, void *context);

#endif
