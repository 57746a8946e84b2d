#include "base/sandbox.h"

#include <asm/unistd.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>

#include "base/filter.h"
#include "base/panic.h"

bool sandbox_supported(void) {
#ifdef __SANITIZE_ADDRESS__
    return false;
#else
    return true;
#endif
}

static const uint32_t fcntl_commands[] = {F_GETFL, F_SETFL, F_GETFD};

/* A call that serving needs; a new feature adds its own here. With `second`, only with one of these
 * as its second argument. */
struct sandbox_call {
    uint32_t number;
    const char *reason; /* documentation that stays beside the number */
    const uint32_t *second;
    uint32_t n_second;
};

#define ANY NULL, 0
#define ONLY(list) list, sizeof(list) / sizeof(list)[0]

static const struct sandbox_call calls[] = {
    {__NR_futex, "the team sleeps between steps", ANY},
    {__NR_read, "wires, signals", ANY},
    {__NR_write, "wires, the log", ANY},
    {__NR_poll, "the main loop waits; the log asks whether its reader stalls", ANY},
    {__NR_ppoll, "poll, as other C libraries make it", ANY},
    {__NR_accept4, "a client comes", ANY},
    {__NR_setsockopt, "TCP_NODELAY and keepalive of a new client", ANY},
    {__NR_shutdown, "a client is sent away", ANY},
    {__NR_close, "a client goes", ANY},
    {__NR_fcntl, "stdio is made blocking again at the end", ONLY(fcntl_commands)},
    {__NR_clock_gettime, "time, where the vDSO cannot tell it", ANY},
    {__NR_sched_yield, "a waiting member of the team lets others go first", ANY},
    {__NR_restart_syscall, "the kernel resumes an interrupted wait", ANY},
    {__NR_rt_sigreturn, "a signal handler returns", ANY},
    {__NR_rt_sigprocmask, "abort() and the end of a thread", ANY},
    {__NR_rt_sigaction, "a crash ends as the signal that it is", ANY},
    {__NR_getpid, "abort()", ANY},
    {__NR_gettid, "abort()", ANY},
    {__NR_tkill, "abort()", ANY},
    {__NR_tgkill, "abort()", ANY},
    {__NR_exit, "a thread ends", ANY},
    {__NR_exit_group, "the process ends", ANY},
};

/* Of PID 1 as well. */
static const struct sandbox_call init_calls[] = {
    {__NR_wait4, "orphans that the driver leaves behind are reaped", ANY},
    {__NR_syslog, "LOG reads the kernel's messages", ANY},
    {__NR_sync, "before power is switched off", ANY},
    {__NR_reboot, "SHUTDOWN, REBOOT, a bug", ANY},
};

enum {
    N_CALLS = sizeof calls / sizeof calls[0],
    N_INIT_CALLS = sizeof init_calls / sizeof init_calls[0],
    /* Architecture and number: 4. Whose code it is: 7. A call: compare and allow; the one with a
     * list also: load, a comparison for each value, kill. The end: kill. */
    PROGRAM_MAX = 4 + 7 + 2 * (N_CALLS + N_INIT_CALLS) + 2 +
                  sizeof fcntl_commands / sizeof fcntl_commands[0] + 1
};
_Static_assert((int)PROGRAM_MAX <= (int)FILTER_CODE_MAX, "the table fits in a filter");

/* The call's number is loaded, before and after. */
static void call_allow(struct filter *filter, const struct sandbox_call *call) {
    wick_assert(call->reason != NULL);
    if (call->second == NULL) {
        filter_equal(filter, call->number, 0, 1);
        filter_return(filter, SECCOMP_RET_ALLOW);
        return;
    }
    filter_equal(filter, call->number, 0, call->n_second + 3);
    /* The low half: the kernel takes ioctl requests and fcntl commands as 32-bit numbers. */
    filter_load_argument(filter, 1);
    for (uint32_t i = 0; i < call->n_second; i++) {
        filter_equal(filter, call->second[i], call->n_second - i, 0);
    }
    filter_return(filter, SECCOMP_RET_KILL_PROCESS);
    filter_return(filter, SECCOMP_RET_ALLOW);
}

bool sandbox_enter(uint32_t role, struct fault *fault) {
    wick_assert((role & ~(uint32_t)(SANDBOX_INIT | SANDBOX_DRIVER)) == 0);
    struct filter filter;
    filter_begin(&filter);
    if ((role & SANDBOX_DRIVER) != 0) {
        filter_origin(&filter, 1, 0);
        filter_return(&filter, SECCOMP_RET_ALLOW); /* its own fence stays (cuda/fence.c) */
        filter_load_number(&filter);
    }
    for (uint32_t i = 0; i < N_CALLS; i++) call_allow(&filter, &calls[i]);
    uint32_t n_init = (role & SANDBOX_INIT) != 0 ? N_INIT_CALLS : 0;
    for (uint32_t i = 0; i < n_init; i++) call_allow(&filter, &init_calls[i]);
    filter_return(&filter, SECCOMP_RET_KILL_PROCESS);
    return filter_install(&filter, SECCOMP_FILTER_FLAG_TSYNC, fault);
}
