#include "cuda/park.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "cuda/kernel_call.h"

/* Where our code begins and ends (base/filter.c). */
extern const char __executable_start[];
extern const char etext[];

enum { CHILD_CRASHED = 128 }; /* and the signal: as a shell tells it */

static uint64_t register_of(const ucontext_t *context, int number) {
    return (uint64_t)context->uc_mcontext.gregs[number];
}

static bool code_is_ours(uint64_t at) {
    return at >= kernel_pointer(__executable_start) && at < kernel_pointer(etext);
}

/* The rest of a rt_sigprocmask that the fence has caught: as the kernel does it, but faults are
 * never blocked. What stands in the context is the thread's mask once the handler returns. */
static int64_t mask_change(ucontext_t *context) {
    uint64_t mask;
    uint64_t how = register_of(context, REG_RDI);
    const uint64_t *set = (const uint64_t *)(uintptr_t)register_of(context, REG_RSI);
    uint64_t *before = (uint64_t *)(uintptr_t)register_of(context, REG_RDX);
    if (register_of(context, REG_R10) != sizeof mask) return -EINVAL;
    __builtin_memcpy(&mask, &context->uc_sigmask, sizeof mask);
    uint64_t change = set == NULL ? 0 : *set;
    if (before != NULL) *before = mask;
    if (set == NULL) return 0;
    if (how == SIG_BLOCK)
        mask |= change;
    else if (how == SIG_UNBLOCK)
        mask &= ~change;
    else if (how == SIG_SETMASK)
        mask = change;
    else
        return -EINVAL;
    mask &= ~PARK_SIGNALS;
    __builtin_memcpy(&context->uc_sigmask, &mask, sizeof mask);
    return 0;
}

_Noreturn static void thread_park(void) {
    _Atomic uint32_t never = 0;
    for (;;) kernel_call(SYS_futex, kernel_pointer(&never), FUTEX_WAIT_PRIVATE, 0, 0);
}

/* A process that the driver has forked, before it executes something. */
_Noreturn static void child_end(uint64_t status) {
    for (;;) kernel_call(SYS_exit, status, 0, 0, 0);
}

void park_signal(int signal, siginfo_t *info, void *raw_context) {
    ucontext_t *context = raw_context;
    bool caught = signal == SIGSYS && info->si_code == 1; /* SYS_SECCOMP */
    if (caught && info->si_syscall == SYS_rt_sigprocmask) {
        context->uc_mcontext.gregs[REG_RAX] = mask_change(context);
        return;
    }
    bool exits = caught && info->si_syscall == SYS_exit_group;
    int32_t status = (int32_t)(uint8_t)register_of(context, REG_RDI);
    if (kernel_call(SYS_getpid, 0, 0, 0, 0) != park_state.process) {
        child_end(exits ? (uint64_t)status : CHILD_CRASHED + (uint64_t)signal);
    }
    int32_t thread = (int32_t)kernel_call(SYS_gettid, 0, 0, 0, 0);
    uint64_t at = register_of(context, REG_RIP);
    if (thread == park_state.process || (code_is_ours(at) && thread != park_state.driver)) {
        park_state.ours(signal, info, raw_context);
        return;
    }
    struct death death = {.cause = exits ? DEATH_EXIT : DEATH_SIGNAL,
                          .number = exits ? status : signal,
                          .thread = thread,
                          .at = at};
    if (signal == SIGSEGV || signal == SIGBUS) death.address = kernel_pointer(info->si_addr);
    mailbox_bury(park_state.box, &death);
    thread_park();
}
