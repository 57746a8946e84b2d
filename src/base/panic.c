#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

_Noreturn void panic_at(const char *file, int line, const char *what) {
    char text[LOG_LINE_BYTES];
    int length = snprintf(text, sizeof text, "panic %s:%d: %s\n", file, line, what);
    if (length >= (int)sizeof text) {
        length = (int)sizeof text;
        text[length - 1] = '\n';
    }
    if (length > 0) {
        ssize_t written = write(log_fd(), text, (size_t)length);
        (void)written; /* nobody is left to tell */
    }
    abort();
}
