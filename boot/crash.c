#include "boot/crash.h"

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/reboot.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"
#include "base/panic.h"

enum { EXIT_CRASH = 70, STACK_BYTES = 16 * 1024 };

static bool restarts; /* read by handlers, which can be told nothing */

/* The end after something was said. */
static void crash_end(void) {
    sync();
    if (restarts) reboot(RB_AUTOBOOT);
    _exit(EXIT_CRASH); /* the kernel panics: PID 1 has ended */
}

static void crash_fault(int number, siginfo_t *info, void *context) {
    const ucontext_t *at = context;
    char text[LOG_LINE_BYTES];
    int n = snprintf(text, sizeof text, "%spanic signal %d address 0x%llx at 0x%llx\n",
                     log_is_kernel() ? "<2>wick " : "", number,
                     (unsigned long long)(uintptr_t)info->si_addr,
                     (unsigned long long)at->uc_mcontext.gregs[REG_RIP]);
    if (n > 0) {
        ssize_t written = write(log_fd(), text, (size_t)n);
        (void)written; /* nobody is left to tell */
    }
    crash_end();
}

void crash_watch(bool reboots) {
    static char stack[STACK_BYTES]; /* a stack that ran over holds no handler */
    static const int faults[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS, SIGABRT, SIGSYS};
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    restarts = reboots;
    sigaltstack(&other, NULL);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct sigaction action = {.sa_sigaction = crash_fault,
                                   .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigaction(faults[i], &action, NULL);
    }
    panic_hook_set(crash_end);
}
