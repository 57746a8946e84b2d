/* log: one line an event, to one descriptor (stderr, or the kernel log); never on a protocol wire.
 * A line is formatted on the stack, cut at LOG_LINE_BYTES, and written with one write(2). The last
 * LOG_RING_BYTES of them are kept for the verb LOG. Never allocates. */
#ifndef WICK_BASE_LOG_H
#define WICK_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum { LOG_LINE_BYTES = 512, LOG_RING_BYTES = 16 * 1024 };

/* Set once in main, before any thread starts. The default is stderr and LOG_INFO. */
void log_open(int fd, enum log_level level);

/* The same for /dev/kmsg: each line begins with its level as the kernel writes it ("<5>"), and the
 * kernel adds the time. */
void log_open_kernel(int fd, enum log_level level);
bool log_is_kernel(void);

/* `event` is a short stable word ("load", "ready", "job"); the rest reads key=value. */
void log_event(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Copies the end of what was logged, whole lines, at most `size` bytes; returns how many. */
size_t log_tail(char *text, size_t size);

/* The descriptor, for panics. */
int log_fd(void);

#endif
