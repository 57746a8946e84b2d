#include "base/bus.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/panic.h"

enum { SECTOR_BYTES = 512, EXIT_DISK = 1 };

/* A signal handler can be told nothing: like the log's descriptor this is found from anywhere. Set
 * before the threads that read the mapping are started. */
static struct {
    uintptr_t base;
    uint64_t bytes; /* 0: nothing is mapped */
    const char *path;
    struct sigaction before; /* who was asked until now */
} watched;

static void bus_tell(uintptr_t address) {
    char text[LOG_LINE_BYTES];
    const char *head = log_is_kernel() ? "<2>wick " : "";
    uint64_t offset = address - watched.base;
    int length;
    if (offset < watched.bytes) {
        length = snprintf(text, sizeof text,
                          "%serror disk %s: no data at offset %llu (sector %llu), address 0x%llx: "
                          "the disk failed or the file was cut; check the disk, write the model "
                          "again\n",
                          head, watched.path, (unsigned long long)offset,
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
    bool ours = (uintptr_t)info->si_addr - watched.base < watched.bytes;
    if (!ours && (watched.before.sa_flags & SA_SIGINFO) != 0) {
        watched.before.sa_sigaction(signal_number, info, context); /* a driver's (cuda/park.h) */
        return;
    }
    bus_tell((uintptr_t)info->si_addr);
    panic_hook_run();
    if (ours) _exit(EXIT_DISK);
    signal(signal_number, SIG_DFL); /* the instruction runs again, and ends the process */
}

void bus_watch(const void *base, uint64_t bytes, const char *path) {
    wick_assert(watched.bytes == 0);
    watched.base = (uintptr_t)base;
    watched.path = path;
    watched.bytes = bytes;
    struct sigaction action = {.sa_sigaction = bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction before;
    sigaction(SIGBUS, &action, &before);
    if (before.sa_sigaction != bus_error) watched.before = before;
}

void bus_forget(void) {
    watched.bytes = 0;
}
