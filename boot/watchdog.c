#include "boot/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

bool watchdog_open(struct watchdog *watchdog, uint32_t seconds) {
    *watchdog = (struct watchdog){.fd = open("/dev/watchdog", O_WRONLY | O_CLOEXEC)};
    if (watchdog->fd < 0) return false;
    int time = (int)seconds;
    /* The C libraries disagree about the type of a request. */
    if (syscall(SYS_ioctl, watchdog->fd, WDIOC_SETTIMEOUT, &time) != 0) {
        int error = errno;
        watchdog_close(watchdog);
        errno = error;
        return false;
    }
    watchdog->seconds = (uint32_t)time; /* devices round */
    watchdog->interval_ns = watchdog->seconds * 1000000000ull / 4;
    watchdog->fed_ns = clock_ns();
    return true;
}

void watchdog_feed(struct watchdog *watchdog, uint64_t now_ns) {
    if (watchdog->fd < 0 || now_ns < watchdog->fed_ns + watchdog->interval_ns) return;
    /* A device that takes no food restarts the machine, which is what should happen then. */
    ssize_t written = write(watchdog->fd, "f", 1);
    (void)written;
    watchdog->fed_ns = now_ns;
}

uint64_t watchdog_next_ns(const struct watchdog *watchdog) {
    return watchdog->fd < 0 ? UINT64_MAX : watchdog->fed_ns + watchdog->interval_ns;
}

void watchdog_close(struct watchdog *watchdog) {
    if (watchdog->fd < 0) return;
    ssize_t written = write(watchdog->fd, "V", 1); /* the magic character: this end is meant */
    (void)written;
    close(watchdog->fd);
    watchdog->fd = -1;
}
