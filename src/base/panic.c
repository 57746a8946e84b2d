#include "base/panic.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

static panic_hook *ending; /* like the log's descriptor: a panic must find it from anywhere */

void panic_hook_set(panic_hook *hook) {
    ending = hook;
}

void panic_hook_run(void) {
    if (ending != NULL) ending();
}

_Noreturn void panic_at(const char *file, int line, const char *what) {
    char text[LOG_LINE_BYTES];
    int length = snprintf(text, sizeof text, "%spanic %s:%d: %s\n",
                          log_is_kernel() ? "<2>wick " : "", file, line, what);
    if (length >= (int)sizeof text) {
        length = (int)sizeof text;
        text[length - 1] = '\n';
    }
    if (length > 0) {
        ssize_t written = write(log_fd(), text, (size_t)length);
        (void)written; /* nobody is left to tell */
    }
    panic_hook_run();
    abort();
}
