/* hello: the least that can be an init: it loads the listed modules, says READY on the protocol's
 * wire and powers off. How long it takes is what the machine and its kernel take; wick's own part
 * of a boot is measured against it (tests/qemu/boot_time.py). `hello.modules=0` on the kernel
 * command line leaves the modules out, and the greeting then goes to the console. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static void module_load(const char *name, const char *parameters) {
    char path[256];
    snprintf(path, sizeof path, "/lib/modules/%.200s.ko", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    syscall(SYS_finit_module, fd, parameters, 0);
    close(fd);
}

static void modules_load(void) {
    static char list[8192];
    int fd = open("/etc/modules.list", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, list, sizeof list - 1);
    if (fd >= 0) close(fd);
    list[length < 0 ? 0 : length] = '\0';
    for (char *line = list; *line != '\0';) {
        char *end = strchrnul(line, '\n');
        char *next = *end == '\0' ? end : end + 1;
        *end = '\0';
        char *blank = strchrnul(line, ' ');
        const char *parameters = *blank == '\0' ? blank : blank + 1;
        *blank = '\0';
        module_load(line, parameters);
        line = next;
    }
}

/* Whether the kernel command line asks for an init without modules. */
static bool modules_unwanted(void) {
    char line[4096];
    int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t length = read(fd, line, sizeof line - 1);
    close(fd);
    line[length < 0 ? 0 : length] = '\0';
    return strstr(line, "hello.modules=0") != NULL;
}

int main(void) {
    static const char text[] = "READY\n";
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    int wire = STDOUT_FILENO;
    if (!modules_unwanted()) {
        modules_load();
        int hvc = open("/dev/hvc0", O_WRONLY | O_NOCTTY);
        if (hvc >= 0) wire = hvc;
    }
    if (write(wire, text, sizeof text - 1) < 0) return 1;
    reboot(RB_POWER_OFF);
    return 1;
}
