#include "boot/consoles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/text_file.h"
#include "boot/sysfs.h"

enum { CONSOLES_BYTES = 1024, VIRTIO_CONSOLE_MS = 1000 };

bool consoles_have(const char *consoles, const char *path) {
    static const char directory[] = "/dev/";
    if (strncmp(path, directory, sizeof directory - 1) != 0) return false;
    const char *name = path + sizeof directory - 1;
    size_t n = strlen(name);
    for (const char *line = consoles; *line != '\0';) {
        if (strncmp(line, name, n) == 0 && (line[n] == ' ' || line[n] == '\t')) return true;
        const char *end = strchrnul(line, '\n');
        line = *end == '\0' ? end : end + 1;
    }
    return false;
}

bool console_path(const char *spec, char *path, unsigned size) {
    if (strncmp(spec, "tty:", 4) != 0) return false;
    size_t n = strcspn(spec + 4, ",");
    if (n == 0 || n >= size) return false;
    memcpy(path, spec + 4, n);
    path[n] = '\0';
    return true;
}

/* Nodes are there for lines that are not: only opening one and asking for its mode tells. */
static bool console_works(const char *path) {
    int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return false;
    struct termios mode;
    bool works = tcgetattr(fd, &mode) == 0 && tcsetattr(fd, TCSANOW, &mode) == 0;
    int error = errno;
    close(fd);
    errno = error;
    return works;
}

/* Is there a virtio console, whose terminal the kernel makes some moments after its driver? */
static bool virtio_console_comes(void) {
    static const char console_type[] = "0x0003"; /* Virtio 1.2, section 5 */
    struct sysfs_names names;
    if (!sysfs_list("/sys/bus/virtio/devices", &names)) return false;
    for (unsigned i = 0; i < names.n; i++) {
        char path[SYSFS_PATH_BYTES];
        char type[16];
        snprintf(path, sizeof path, "/sys/bus/virtio/devices/%s/device", names.name[i]);
        if (text_file_read(path, type, sizeof type) > 0 && strcmp(type, console_type) == 0)
            return true;
    }
    return false;
}

static void consoles_default(struct config *config, const char *consoles,
                             struct patience patience) {
    static const char *const serial[] = {"tty:/dev/ttyS0,115200", "tty:/dev/ttyS1,115200"};
    if (!consoles_have(consoles, "/dev/hvc0") && virtio_console_comes()) {
        struct patience shorter = patience_for(VIRTIO_CONSOLE_MS, patience.watchdog);
        bool works;
        while (!(works = console_works("/dev/hvc0")) && patience_wait(&shorter)) {
        }
        if (works) {
            config->listen[config->n_listen++] = "tty:/dev/hvc0";
            return;
        }
    }
    for (unsigned i = 0; i < sizeof serial / sizeof *serial; i++) {
        char path[SYSFS_PATH_BYTES];
        if (!console_path(serial[i], path, sizeof path)) continue;
        if (consoles_have(consoles, path) || !console_works(path)) continue;
        config->listen[config->n_listen++] = serial[i];
        return;
    }
}

void consoles_choose(struct config *config, struct patience patience, console_complaint *complain,
                     void *context) {
    char consoles[CONSOLES_BYTES];
    if (text_file_read("/proc/consoles", consoles, sizeof consoles) < 0) consoles[0] = '\0';
    if (config->n_listen == 0) {
        consoles_default(config, consoles, patience);
        if (config->n_listen == 0) complain(context, "listen", "no terminal for the protocol");
        return;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < config->n_listen; i++) {
        const char *spec = config->listen[i];
        char path[SYSFS_PATH_BYTES];
        if (console_path(spec, path, sizeof path)) {
            if (consoles_have(consoles, path)) {
                complain(context, spec, "is the kernel's console: take console= off it");
                continue;
            }
            while (!console_works(path) && patience_wait(&patience)) {
            }
        }
        config->listen[kept++] = spec;
    }
    config->n_listen = kept;
}
