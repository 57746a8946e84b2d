#include "boot/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text_file.h"

static const char label_prefix[] = "label:";

/* How well a device fits: 0 not at all. */
static int disk_fits(const struct disk *disk, const char *model) {
    if (strncmp(model, label_prefix, sizeof label_prefix - 1) == 0) {
        return strcmp(disk->label, model + sizeof label_prefix - 1) == 0 ? 2 : 0;
    }
    if (disk->gguf == 0) return 0;
    return disk->gguf == 2 || disk->gguf == 3 ? 2 : 1; /* the versions that gguf.c reads */
}

const struct disk *disk_choose(const struct disks *disks, const char *model, unsigned *others) {
    const struct disk *chosen = NULL;
    int best = 0;
    *others = 0;
    for (unsigned i = 0; i < disks->n; i++) {
        int fits = disk_fits(&disks->disk[i], model);
        if (fits > best) {
            best = fits;
            chosen = &disks->disk[i];
            *others = 0;
        } else if (fits > 0 && fits == best) {
            ++*others;
        }
    }
    return chosen;
}

static void disk_look(struct disk *disk, const char *name) {
    char path[SYSFS_PATH_BYTES];
    char uevent[1024];
    struct {
        char magic[4];
        uint32_t version;
    } head;
    memset(disk, 0, sizeof *disk);
    snprintf(disk->name, sizeof disk->name, "%s", name);
    snprintf(path, sizeof path, "/sys/class/block/%s/uevent", name);
    if (text_file_read(path, uevent, sizeof uevent) > 0) {
        if (!sysfs_uevent_find(uevent, "PARTNAME", disk->label, sizeof disk->label)) {
            disk->label[0] = '\0';
        }
    }
    snprintf(path, sizeof path, "/dev/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, &head, sizeof head);
    if (fd >= 0) close(fd);
    disk->failed = n < 0 && errno != ENOMEDIUM;
    bool is_gguf = n == (ssize_t)sizeof head && memcmp(head.magic, "GGUF", 4) == 0;
    disk->gguf = !is_gguf ? 0 : head.version != 0 ? head.version : UINT32_MAX;
}

/* An empty one: no loop device has anything, and a card reader has no card. */
static bool disk_is_empty(const char *name) {
    char path[SYSFS_PATH_BYTES];
    char text[32];
    snprintf(path, sizeof path, "/sys/class/block/%s/size", name);
    return text_file_read(path, text, sizeof text) <= 0 || strcmp(text, "0") == 0;
}

/* Adds the devices that are new. Each is read once only: a slow or broken one costs time. */
static void disks_look(struct disks *disks) {
    struct sysfs_names names;
    if (!sysfs_list("/sys/class/block", &names)) return;
    struct disks before = *disks;
    disks->n = 0;
    for (unsigned i = 0; i < names.n; i++) {
        const struct disk *known = NULL;
        for (unsigned k = 0; k < before.n; k++) {
            if (strcmp(before.disk[k].name, names.name[i]) == 0) known = &before.disk[k];
        }
        if (known != NULL) {
            disks->disk[disks->n++] = *known;
        } else if (!disk_is_empty(names.name[i])) {
            disk_look(&disks->disk[disks->n++], names.name[i]);
        }
    }
}

/* "vda, vda1 (label boot), vdb" */
static void disks_list(const struct disks *disks, char *text, size_t size) {
    size_t length = 0;
    snprintf(text, size, "none");
    for (unsigned i = 0; i < disks->n && length < size; i++) {
        const struct disk *disk = &disks->disk[i];
        int n = snprintf(text + length, size - length, "%s%s%s%s%s", i > 0 ? ", " : "", disk->name,
                         disk->label[0] != '\0' ? " label:" : "", disk->label,
                         disk->failed ? " (unreadable)" : "");
        if (n > 0) length += (size_t)n;
    }
}

/* Before the device is opened: a file that is open keeps the read-ahead it found. */
static void read_ahead_set(const char *name) {
    char path[SYSFS_PATH_BYTES];
    char value[16];
    snprintf(value, sizeof value, "%d", DISK_READ_AHEAD_KB);
    snprintf(path, sizeof path, "/sys/class/block/%s/queue/read_ahead_kb", name);
    if (sysfs_write(path, value)) return;
    snprintf(path, sizeof path, "/sys/class/block/%s/../queue/read_ahead_kb", name); /* partition */
    if (sysfs_write(path, value)) return;
    log_event(LOG_WARN, "disk", "%s: read-ahead was not set: %s", name, strerror(errno));
}

/* A device or file that is named by its path. */
static bool path_wait(const char *model, struct patience patience, char path[SYSFS_PATH_BYTES],
                      struct fault *fault) {
    while (access(model, R_OK) != 0) {
        int error = errno;
        if (patience_wait(&patience)) continue;
        struct disks disks = {.n = 0};
        char list[128];
        disks_look(&disks);
        disks_list(&disks, list, sizeof list);
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "model=%.80s: %s; disks here: %s; attach the disk, or try model=auto",
                         model, strerror(error), list);
    }
    const char *name = strncmp(model, "/dev/", 5) == 0 ? model + 5 : NULL;
    if (name != NULL && strchr(name, '/') == NULL) read_ahead_set(name);
    snprintf(path, SYSFS_PATH_BYTES, "%s", model);
    return true;
}

bool disk_find(const char *model, struct patience patience, char path[SYSFS_PATH_BYTES],
               struct fault *fault) {
    bool by_label = strncmp(model, label_prefix, sizeof label_prefix - 1) == 0;
    if (!by_label && strcmp(model, "auto") != 0) return path_wait(model, patience, path, fault);
    struct disks disks = {.n = 0};
    const struct disk *found;
    unsigned others;
    do {
        disks_look(&disks);
        found = disk_choose(&disks, model, &others);
    } while (found == NULL && patience_wait(&patience));
    char list[160];
    disks_list(&disks, list, sizeof list);
    if (found == NULL) {
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "model=%.80s: no %s; disks here: %s; write a GGUF file to a disk or "
                         "partition and attach it",
                         model, by_label ? "partition of that name" : "disk begins with GGUF",
                         list);
    }
    if (others > 0) {
        log_event(LOG_WARN, "disk", "%s is taken; %u more would do for model=%s: %s", found->name,
                  others, model, list);
    }
    read_ahead_set(found->name);
    snprintf(path, SYSFS_PATH_BYTES, "/dev/%s", found->name);
    log_event(LOG_INFO, "disk", "model=%s is %s; disks: %s", model, path, list);
    return true;
}
