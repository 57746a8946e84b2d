#include "boot/nodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/text_file.h"
#include "boot/sysfs.h"

enum { DEVICES_BYTES = 4096, CONTROL_MINOR = 255 /* of /dev/nvidiactl */ };

int nodes_major(const char *devices, const char *name) {
    size_t n = strlen(name);
    for (const char *line = devices; *line != '\0';) {
        if (strncmp(line, "Block devices:", 14) == 0) return -1;
        char *end;
        long major = strtol(line, &end, 10);
        const char *newline = strchrnul(line, '\n');
        if (end != line && *end == ' ' && (size_t)(newline - end - 1) == n &&
            memcmp(end + 1, name, n) == 0) {
            return (int)major;
        }
        line = *newline == '\0' ? newline : newline + 1;
    }
    return -1;
}

int nodes_gpu_minor(const char *information) {
    static const char name[] = "Device Minor:";
    const char *at = strstr(information, name);
    if (at == NULL) return -1;
    at += sizeof name - 1;
    at += strspn(at, " \t");
    return *at >= '0' && *at <= '9' ? (int)strtol(at, NULL, 10) : -1;
}

struct making {
    node_complaint *complain;
    void *context;
    unsigned made;
};

static void node_make(struct making *making, const char *path, int major, int minor) {
    if (mknod(path, S_IFCHR | 0600, makedev((unsigned)major, (unsigned)minor)) == 0 ||
        errno == EEXIST) {
        making->made++;
    } else {
        making->complain(making->context, path, strerror(errno));
    }
}

/* One for each GPU that the driver has found. */
static void gpus_make(struct making *making, int major) {
    static const char directory[] = "/proc/driver/nvidia/gpus";
    struct sysfs_names gpus;
    if (!sysfs_list(directory, &gpus)) return;
    for (unsigned i = 0; i < gpus.n; i++) {
        char path[SYSFS_PATH_BYTES];
        char information[1024];
        snprintf(path, sizeof path, "%s/%s/information", directory, gpus.name[i]);
        int minor = -1;
        if (text_file_read(path, information, sizeof information) > 0) {
            minor = nodes_gpu_minor(information);
        }
        if (minor < 0) {
            making->complain(making->context, path, "no Device Minor");
            continue;
        }
        snprintf(path, sizeof path, "/dev/nvidia%d", minor);
        node_make(making, path, major, minor);
    }
}

unsigned nodes_make(node_complaint *complain, void *context) {
    struct making making = {.complain = complain, .context = context};
    char devices[DEVICES_BYTES];
    if (text_file_read("/proc/devices", devices, sizeof devices) < 0) return 0;
    int major = nodes_major(devices, "nvidia"); /* its name from 550.40 on */
    if (major < 0) major = nodes_major(devices, "nvidia-frontend");
    if (major >= 0) {
        node_make(&making, "/dev/nvidiactl", major, CONTROL_MINOR);
        gpus_make(&making, major);
    }
    int uvm = nodes_major(devices, "nvidia-uvm");
    if (uvm >= 0) {
        node_make(&making, "/dev/nvidia-uvm", uvm, 0);
        node_make(&making, "/dev/nvidia-uvm-tools", uvm, 1);
    }
    return making.made;
}
