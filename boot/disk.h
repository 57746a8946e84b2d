/* disk: which block device holds the model.
 *
 *   model=auto         the disk or partition whose content begins with the magic of GGUF
 *   model=label:NAME   the partition of that name (GPT; the kernel reads the table)
 *   model=PATH         a device that may still have to appear, or a file */
#ifndef WICK_BOOT_DISK_H
#define WICK_BOOT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "boot/patience.h"
#include "boot/sysfs.h"

enum { DISK_READ_AHEAD_KB = 4096 }; /* 1111 MB/s in place of 572 (measured, virtio-blk) */

/* What is known of a block device. */
struct disk {
    char name[SYSFS_NAME_BYTES];  /* "vda2" */
    char label[SYSFS_NAME_BYTES]; /* PARTNAME of its uevent; "" */
    uint32_t gguf;                /* the version that follows the magic; 0: no magic */
    bool failed;                  /* its first bytes could not be read */
};

struct disks {
    unsigned n;
    struct disk disk[64];
};

/* The device that `model` ("auto", "label:NAME") means; NULL: none. The first in natural order
 * wins; *others: how many more would do. Pure. */
const struct disk *disk_choose(const struct disks *disks, const char *model, unsigned *others);

/* Waits for the model's device, sets its read-ahead, and writes its path. The fault
 * (MODEL_LOAD_FAILED) says what was looked for and what was found instead. */
bool disk_find(const char *model, struct patience patience, char path[SYSFS_PATH_BYTES],
               struct fault *fault);

#endif
