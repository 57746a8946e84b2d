#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"

/* The one exception to "no state outside main's struct": a panic must find its descriptor from
 * anywhere. Set before threads start, read only after that. */
static struct {
    int fd;
    enum log_level level;
    bool may_block;      /* the other end is a reader that may stop reading */
    atomic_uint dropped; /* lines lost to such a reader */
} out = {STDERR_FILENO, LOG_INFO, false, 0};

static const char *const level_words[] = {"error", "warn", "info", "debug"};

void log_open(int fd, enum log_level level) {
    wick_assert(fd >= 0);
    wick_assert(level <= LOG_DEBUG);
    out.fd = fd;
    out.level = level;
    /* Regular files do not block, and /dev/kmsg never reports POLLOUT: poll only what can stall. */
    struct stat status;
    out.may_block = fstat(fd, &status) == 0 &&
                    (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || isatty(fd));
}

int log_fd(void) {
    return out.fd;
}

/* One write(2) a line, so that lines of several processes on one pipe do not mix. A log reader that
 * stalls costs log lines, never service: the loss is counted and told with the next line. */
static bool line_write(const char *line, size_t bytes) {
    struct pollfd wait = {.fd = out.fd, .events = POLLOUT};
    if (out.may_block && (poll(&wait, 1, 0) != 1 || (wait.revents & POLLOUT) == 0)) return false;
    ssize_t written;
    do {
        written = write(out.fd, line, bytes);
    } while (written < 0 && errno == EINTR);
    return written >= 0;
}

void log_event(enum log_level level, const char *event, const char *format, ...) {
    wick_assert(level <= LOG_DEBUG);
    if (level > out.level) return;

    /* Seconds of CLOCK_MONOTONIC, as the kernel log counts them. */
    uint64_t now_us = clock_ns() / 1000;
    char line[LOG_LINE_BYTES];
    size_t room = sizeof line - 1; /* for the newline */
    int head =
        snprintf(line, room, "[%5llu.%06llu] wick %s %s ", (unsigned long long)(now_us / 1000000),
                 (unsigned long long)(now_us % 1000000), level_words[level], event);
    wick_assert(head > 0 && (size_t)head < room);

    va_list args;
    va_start(args, format);
    int body = vsnprintf(line + head, room - (size_t)head, format, args);
    va_end(args);
    size_t bytes = (size_t)head + (body < 0 ? 0 : (size_t)body);
    if (bytes > room - 1) bytes = room - 1;

    unsigned dropped = atomic_exchange(&out.dropped, 0);
    if (dropped > 0) {
        int tail = snprintf(line + bytes, room - bytes, " lines_dropped=%u", dropped);
        bytes = tail < 0 || bytes + (size_t)tail > room - 1 ? room - 1 : bytes + (size_t)tail;
    }
    /* One event is one line, whatever a file or a client put into it. */
    for (size_t i = (size_t)head; i < bytes; i++) {
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7F) line[i] = '?';
    }
    line[bytes] = '\n';
    if (!line_write(line, bytes + 1)) atomic_fetch_add(&out.dropped, dropped + 1);
}
