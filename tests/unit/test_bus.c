#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bus.h"
#include "base/log.h"
#include "base/panic.h"

enum { PAGES = 4, PAGE = 4096, HOOKED = 77 };

/* A mapping whose last pages have lost their file. */
static volatile const char *mapping_cut_short(char path[32]) {
    strcpy(path, "/tmp/wick-test-XXXXXX");
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ftruncate(fd, PAGES * PAGE), 0);
    void *map = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    cr_assert_neq(map, MAP_FAILED);
    cr_assert_eq(ftruncate(fd, 2 * PAGE), 0);
    close(fd);
    unlink(path);
    return map;
}

/* Reads a byte in a child; returns its wait status and what it logged. */
static int status_of_reading(volatile const char *byte, char text[1024], panic_hook *hook) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        log_open(ends[1], LOG_INFO);
        panic_hook_set(hook);
        (void)*byte;
        _exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], text, 1023);
    text[n < 0 ? 0 : n] = '\0';
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

static void end_hooked(void) {
    _exit(HOOKED);
}

Test(bus, a_page_that_the_disk_lacks_is_told_by_offset_and_sector) {
    char path[32];
    char text[1024];
    volatile const char *map = mapping_cut_short(path);
    bus_watch((const void *)(uintptr_t)map, PAGES * PAGE, "/dev/vdx");
    int status = status_of_reading(map + 3 * PAGE + 600, text, NULL);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status 0x%x", (unsigned)status);
    char want[128];
    snprintf(want, sizeof want,
             "error disk /dev/vdx: no data at offset 12888 (sector 25), address %p",
             (void *)(uintptr_t)(map + 3 * PAGE + 600));
    cr_assert_not_null(strstr(text, want), "%s", text);
    status = status_of_reading(map + PAGE, text, NULL);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a page that is there");
}

Test(bus, of_two_files_the_right_one_is_told) {
    char path[32];
    char text[1024];
    volatile const char *first = mapping_cut_short(path), *second = mapping_cut_short(path);
    bus_watch((const void *)(uintptr_t)first, PAGES * PAGE, "first");
    bus_watch((const void *)(uintptr_t)second, PAGES * PAGE, "second");
    status_of_reading(second + 2 * PAGE, text, NULL);
    cr_assert_not_null(strstr(text, "disk second: no data at offset 8192 "), "%s", text);
    status_of_reading(first + 3 * PAGE, text, NULL);
    cr_assert_not_null(strstr(text, "disk first: no data at offset 12288 "), "%s", text);
    bus_forget((const void *)(uintptr_t)first);
    bus_watch((const void *)(uintptr_t)first, PAGES * PAGE, "third");
    status_of_reading(first + 3 * PAGE, text, NULL);
    cr_assert_not_null(strstr(text, "disk third: "), "%s", text);
}

Test(bus, the_panic_hook_has_the_last_word) {
    char path[32];
    char text[1024];
    volatile const char *map = mapping_cut_short(path);
    bus_watch((const void *)(uintptr_t)map, PAGES * PAGE, "/dev/vdx");
    int status = status_of_reading(map + 3 * PAGE, text, end_hooked);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == HOOKED, "status 0x%x", (unsigned)status);
}

Test(bus, an_error_elsewhere_ends_by_its_signal) {
    char path[32];
    char text[1024];
    volatile const char *map = mapping_cut_short(path);
    signal(SIGBUS, SIG_DFL); /* the sanitizer's handler would be asked next */
    bus_watch((const void *)(uintptr_t)map, PAGE, "/dev/vdx");
    int status = status_of_reading(map + 3 * PAGE, text, NULL);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS, "status 0x%x", (unsigned)status);
    cr_assert_not_null(strstr(text, "error bus address"), "%s", text);
}

static void end_before(int number, siginfo_t *info, void *context) {
    (void)info;
    (void)context;
    _exit(number);
}

Test(bus, an_error_elsewhere_goes_to_whoever_was_asked_before) {
    char path[32];
    char text[1024];
    volatile const char *map = mapping_cut_short(path);
    struct sigaction action = {.sa_sigaction = end_before, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
    bus_watch((const void *)(uintptr_t)map, PAGE, "/dev/vdx");
    int status = status_of_reading(map + 3 * PAGE, text, NULL);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == SIGBUS, "status 0x%x", (unsigned)status);
}
