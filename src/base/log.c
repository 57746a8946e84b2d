#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"

/* The one exception to "no state outside main's struct": a panic must find its descriptor from
 * anywhere. Set before threads start, read only after that. */
static struct {
    int fd;
    enum log_level level;
    bool kernel;         /* /dev/kmsg */
    bool may_block;      /* the other end is a reader that may stop reading */
    atomic_uint dropped; /* lines lost to such a reader */
} out = {STDERR_FILENO, LOG_INFO, false, false, 0};

/* What was logged last; `written` counts all bytes ever. Any thread may log. */
static struct {
    atomic_flag busy;
    uint64_t written;
    char bytes[LOG_RING_BYTES];
} ring = {ATOMIC_FLAG_INIT, 0, {0}};

static const char *const level_words[] = {"error", "warn", "info", "debug"};

static void ring_lock(void) {
    while (atomic_flag_test_and_set_explicit(&ring.busy, memory_order_acquire)) {
        /* held for a copy of one line, or of the ring when somebody asks for it */
    }
}

static void ring_unlock(void) {
    atomic_flag_clear_explicit(&ring.busy, memory_order_release);
}

static void ring_put(const char *line, size_t n) {
    ring_lock();
    for (size_t i = 0; i < n; i++) ring.bytes[(ring.written + i) % LOG_RING_BYTES] = line[i];
    ring.written += n;
    ring_unlock();
}

size_t log_tail(char *text, size_t size) {
    ring_lock();
    uint64_t kept = ring.written < LOG_RING_BYTES ? ring.written : LOG_RING_BYTES;
    size_t n = kept < size ? (size_t)kept : size;
    for (size_t i = 0; i < n; i++) text[i] = ring.bytes[(ring.written - n + i) % LOG_RING_BYTES];
    bool whole = n == ring.written;
    ring_unlock();
    if (whole) return n;
    /* The first line has lost its beginning. */
    const char *newline = memchr(text, '\n', n);
    size_t cut = newline == NULL ? n : (size_t)(newline - text) + 1;
    memmove(text, text + cut, n - cut);
    return n - cut;
}

void log_open_kernel(int fd, enum log_level level) {
    log_open(fd, level);
    out.kernel = true;
    out.may_block = false;
}

bool log_is_kernel(void) {
    return out.kernel;
}

void log_open(int fd, enum log_level level) {
    wick_assert(fd >= 0);
    wick_assert(level <= LOG_DEBUG);
    out.fd = fd;
    out.level = level;
    out.kernel = false;
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
    int time = snprintf(line, room, "[%5llu.%06llu] ", (unsigned long long)(now_us / 1000000),
                        (unsigned long long)(now_us % 1000000));
    int head =
        time + snprintf(line + time, room - (size_t)time, "wick %s %s ", level_words[level], event);
    wick_assert(time > 3 && (size_t)head < room);

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
    ring_put(line, bytes + 1);
    const char *record = line;
    if (out.kernel) {
        /* The kernel puts the time in front itself; in its place stands the level. */
        /* Error, warning, debug are the kernel's; info is its notice, which a console can show
         * (loglevel=6) without the kernel's own info, some hundred lines a boot. */
        static const char levels[] = "3457";
        line[time - 3] = '<';
        line[time - 2] = levels[level];
        line[time - 1] = '>';
        record = line + time - 3;
    }
    bool written = line_write(record, (size_t)(line + bytes + 1 - record));
    if (!written) atomic_fetch_add(&out.dropped, dropped + 1);
}
