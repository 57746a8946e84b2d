#include "base/bus.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/panic.h"

/* wick-lab diff has two files. */
enum { SECTOR_BYTES = 512, EXIT_DISK = 1, WATCHED_MAX = 2 };

/* A signal handler can be told nothing: like the log's descriptor this is found from anywhere. Set
 * before the threads that read the mapping are started. */
static struct watched {
    uintptr_t base;
    uint64_t bytes; /* 0: nothing is mapped */
    const char *path;
} watched[WATCHED_MAX];
static struct sigaction before; /* who was asked until now */

/* The file in whose mapping an address lies; NULL: none. */
static const struct watched *watched_find(uintptr_t address) {
    for (int i = 0; i < WATCHED_MAX; i++)
        if (address - watched[i].base < watched[i].bytes) return &watched[i];
    return NULL;
}

static void bus_tell(const struct watched *file, uintptr_t address) {
    char text[LOG_LINE_BYTES];
    const char *head = log_is_kernel() ? "<2>wick " : "";
    int length;
    if (file != NULL) {
        uint64_t offset = address - file->base;
        length = snprintf(text, sizeof text,
                          "%serror disk %s: no data at offset %llu (sector %llu), address 0x%llx: "
                          "the disk failed or the file was cut; check the disk, write the model "
                          "again\n",
                          head, file->path, (unsigned long long)offset,
                          (unsigned long long)(offset / SECTOR_BYTES), (unsigned long long)address);
    } else {
        length = snprintf(text, sizeof text, "%serror bus address 0x%llx\n", head,
                          (unsigned long long)address);
    }
    size_t bytes = length < (int)sizeof text ? (size_t)length : sizeof text - 1;
    ssize_t written = write(log_fd(), text, bytes);
    (void)written; /* nobody is left to tell */
}

static void bus_error(int signal_number, siginfo_t *info, void *context) {
    const struct watched *file = watched_find((uintptr_t)info->si_addr);
    if (file == NULL && (before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(signal_number, info, context); /* a driver's (cuda/park.h) */
        return;
    }
    bus_tell(file, (uintptr_t)info->si_addr);
    panic_hook_run();
    if (file != NULL) _exit(EXIT_DISK);
    signal(signal_number, SIG_DFL); /* the instruction runs again, and ends the process */
}

void bus_watch(const void *base, uint64_t bytes, const char *path) {
    struct watched *file = watched;
    for (int i = 1; i < WATCHED_MAX && file->bytes != 0; i++) file++;
    wick_assert(file->bytes == 0);
    *file = (struct watched){(uintptr_t)base, bytes, path};
    struct sigaction action = {.sa_sigaction = bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction other;
    sigaction(SIGBUS, &action, &other);
    if (other.sa_sigaction != bus_error) before = other;
}

void bus_forget(const void *base) {
    for (int i = 0; i < WATCHED_MAX; i++)
        if (watched[i].base == (uintptr_t)base) watched[i].bytes = 0;
}
