#include "boot/power.h"

#include <fcntl.h>
#include <linux/input.h>
#include <stdio.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "boot/sysfs.h"

static bool has_power_key(int fd) {
    unsigned char keys[KEY_MAX / 8 + 1] = {0};
    /* The C libraries disagree about the type of a request. */
    if (syscall(SYS_ioctl, fd, EVIOCGBIT(EV_KEY, sizeof keys), keys) < 0) return false;
    return (keys[KEY_POWER / 8] >> KEY_POWER % 8 & 1) != 0;
}

void power_open(struct power *power) {
    power->n_buttons = 0;
    reboot(RB_DISABLE_CAD);
    struct sysfs_names names;
    if (!sysfs_list("/dev/input", &names)) return;
    for (unsigned i = 0; i < names.n && power->n_buttons < POWER_BUTTONS_MAX; i++) {
        char path[SYSFS_PATH_BYTES];
        snprintf(path, sizeof path, "/dev/input/%s", names.name[i]);
        int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) continue;
        if (has_power_key(fd)) {
            power->button[power->n_buttons++] = fd;
        } else {
            close(fd);
        }
    }
}

bool power_pressed(int button) {
    struct input_event event;
    bool pressed = false;
    while (read(button, &event, sizeof event) == (ssize_t)sizeof event) {
        pressed |= event.type == EV_KEY && event.code == KEY_POWER && event.value == 1;
    }
    return pressed;
}

_Noreturn void power_finish(enum power_end end) {
    sync();
    reboot(end == POWER_RESTART ? RB_AUTOBOOT : RB_POWER_OFF);
    _exit(0); /* no machine after all, but a namespace */
}
