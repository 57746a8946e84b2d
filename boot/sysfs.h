/* sysfs: small files of /proc, /sys and /dev written (base/text_file.h reads them), and directories
 * listed without the heap (opendir wants one). */
#ifndef WICK_BOOT_SYSFS_H
#define WICK_BOOT_SYSFS_H

#include <stdbool.h>
#include <stddef.h>

/* Longest name in a directory that is looked at. */
enum { SYSFS_NAME_BYTES = 64, SYSFS_PATH_BYTES = 256 };

/* False: errno. */
bool sysfs_write(const char *path, const char *text);

/* The value of `NAME=` in the lines of a uevent; false: there is none, or it does not fit. Pure. */
bool sysfs_uevent_find(const char *uevent, const char *name, char *value, size_t size);

struct sysfs_names {
    unsigned n;
    char name[64][SYSFS_NAME_BYTES];
};

/* The names in a directory, without those that begin with a dot, in natural order: vda, vdb, vdb2,
 * vdb10. More than fit, or longer ones, are left out. False: there is no such directory. */
bool sysfs_list(const char *path, struct sysfs_names *names);

/* Natural order: runs of digits compare as numbers. Pure. */
int sysfs_name_compare(const char *a, const char *b);

#endif
