#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/panic.h"

/* A pipe that log lines go to; returns the end to read. */
static int log_into_pipe(enum log_level level) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    log_open(ends[1], level);
    return ends[0];
}

static size_t drain(int fd, char *text, size_t size) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    ssize_t bytes = read(fd, text, size - 1);
    size_t length = bytes < 0 ? 0 : (size_t)bytes;
    text[length] = '\0';
    return length;
}

Test(log, event_is_one_line_with_level_word_and_text) {
    int fd = log_into_pipe(LOG_INFO);
    char text[1024];
    log_event(LOG_WARN, "load", "percent=%d", 50);
    drain(fd, text, sizeof text);
    cr_assert_eq(text[0], '[');
    cr_assert_not_null(strstr(text, "] wick warn load percent=50\n"), "%s", text);
}

Test(log, lower_levels_are_silent) {
    int fd = log_into_pipe(LOG_WARN);
    char text[1024];
    log_event(LOG_INFO, "load", "x");
    log_event(LOG_DEBUG, "load", "x");
    cr_assert_eq(drain(fd, text, sizeof text), 0);
}

Test(log, control_bytes_cannot_forge_a_line) {
    int fd = log_into_pipe(LOG_INFO);
    char text[1024];
    log_event(LOG_INFO, "job", "%s",
              "a\nb\x1b[2J\x7f"
              "c");
    size_t length = drain(fd, text, sizeof text);
    cr_assert_not_null(strstr(text, "a?b?[2J?c\n"), "%s", text);
    cr_assert_eq(strchr(text, '\n'), text + length - 1);
}

Test(log, long_line_is_cut_and_still_ends) {
    int fd = log_into_pipe(LOG_INFO);
    char text[2048];
    log_event(LOG_INFO, "job", "%01000d", 1);
    size_t length = drain(fd, text, sizeof text);
    cr_assert_leq(length, LOG_LINE_BYTES);
    cr_assert_geq(length, LOG_LINE_BYTES - 2);
    cr_assert_eq(text[length - 1], '\n');
}

Test(log, stalled_reader_costs_lines_not_the_caller, .timeout = 5) {
    int fd = log_into_pipe(LOG_INFO);
    for (int i = 0; i < 2000; i++) log_event(LOG_INFO, "job", "%0400d", i);
    static char text[1 << 20];
    cr_assert_gt(drain(fd, text, sizeof text), 0);
    log_event(LOG_INFO, "job", "after");
    drain(fd, text, sizeof text);
    cr_assert_not_null(strstr(text, "after lines_dropped="), "%s", text);
    log_event(LOG_INFO, "job", "later");
    drain(fd, text, sizeof text);
    cr_assert_null(strstr(text, "lines_dropped="), "%s", text);
}

Test(panic, failed_assert_writes_where_and_what_then_aborts, .signal = SIGABRT) {
    int fd = log_into_pipe(LOG_INFO);
    pid_t child = fork();
    if (child == 0) wick_assert(1 + 1 == 3);
    usleep(200000);
    char text[1024];
    drain(fd, text, sizeof text);
    cr_assert_not_null(strstr(text, "test_log.c:"), "%s", text);
    cr_assert_not_null(strstr(text, ": 1 + 1 == 3\n"), "%s", text);
    wick_assert(false);
}

Test(log, tail_is_the_last_whole_lines) {
    log_into_pipe(LOG_INFO);
    char text[LOG_RING_BYTES];
    size_t before = log_tail(text, sizeof text);
    log_event(LOG_INFO, "one", "x");
    log_event(LOG_INFO, "two", "y");
    size_t length = log_tail(text, sizeof text);
    cr_assert_gt(length, before);
    cr_assert_eq(memcmp(text + length - 2, "y\n", 2), 0);
    /* Room for the last line and a part of the one before. */
    length = log_tail(text, 50);
    cr_assert_eq(text[0], '[');
    text[length] = '\0';
    cr_assert_not_null(strstr(text, " two y\n"), "%s", text);
    cr_assert_null(strstr(text, " one x"), "%s", text);
}

Test(log, ring_forgets_the_oldest_lines_first) {
    log_into_pipe(LOG_INFO);
    char text[LOG_RING_BYTES + 1];
    for (int i = 0; i < 1000; i++) log_event(LOG_INFO, "line", "number=%d", i);
    size_t length = log_tail(text, LOG_RING_BYTES);
    text[length] = '\0';
    cr_assert_leq(length, LOG_RING_BYTES);
    cr_assert_geq(length, LOG_RING_BYTES - LOG_LINE_BYTES);
    cr_assert_eq(text[0], '[');
    cr_assert_not_null(strstr(text, "number=999\n"));
    cr_assert_null(strstr(text, "number=0\n"));
}

Test(log, lines_for_the_kernel_begin_with_their_level) {
    int ends[2];
    char text[1024];
    cr_assert_eq(pipe(ends), 0);
    log_open_kernel(ends[1], LOG_DEBUG);
    log_event(LOG_ERROR, "a", "x");
    log_event(LOG_WARN, "b", "x");
    log_event(LOG_INFO, "c", "x");
    log_event(LOG_DEBUG, "d", "x");
    drain(ends[0], text, sizeof text);
    cr_assert_str_eq(text, "<3>wick error a x\n<4>wick warn b x\n<5>wick info c x\n"
                           "<7>wick debug d x\n");
}
