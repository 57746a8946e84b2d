/* log: one line an event, to one descriptor (stderr, or the kernel log); never on a protocol wire.
 * A line is formatted on the stack, cut at LOG_LINE_BYTES, and written with one write(2). Never
 * allocates. */
#ifndef WICK_BASE_LOG_H
#define WICK_BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum { LOG_LINE_BYTES = 512 };

/* Set once in main, before any thread starts. The default is stderr and LOG_INFO. */
void log_open(int fd, enum log_level level);

/* `event` is a short stable word ("load", "ready", "job"); the rest reads key=value. */
void log_event(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The descriptor, for panics. */
int log_fd(void);

#endif
