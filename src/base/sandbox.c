#include "base/sandbox.h"

#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "base/filter.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/privilege.h"

static bool driver_expected; /* found from every thread; set before there are any */

bool sandbox_supported(void) {
#ifdef __SANITIZE_ADDRESS__
    return false;
#else
    return true;
#endif
}

static const uint32_t fcntl_commands[] = {F_GETFL, F_SETFL, F_GETFD};

/* A call that serving needs; a new feature adds its own here. With `values`, only with one of these
 * as that argument. */
struct sandbox_call {
    uint32_t number;
    enum { SERVES, COMPUTES } who; /* COMPUTES: a thread that only computes may make it as well */
    const char *reason;            /* documentation that stays beside the number */
    unsigned argument;
    const uint32_t *values;
    uint32_t n_values;
};

#define ANY 0, NULL, 0
#define ONLY(argument, list) argument, list, sizeof(list) / sizeof(list)[0]

static const struct sandbox_call calls[] = {
    {__NR_futex, COMPUTES, "the team sleeps between steps", ANY},
    {__NR_read, SERVES, "wires, signals", ANY},
    {__NR_write, SERVES, "wires, the log", ANY},
    {__NR_poll, SERVES, "the main loop waits; the log asks whether its reader stalls", ANY},
    {__NR_ppoll, SERVES, "poll, as other C libraries make it", ANY},
    {__NR_accept4, SERVES, "a client comes", ANY},
    {__NR_setsockopt, SERVES, "TCP_NODELAY and keepalive of a new client", ANY},
    {__NR_shutdown, SERVES, "a client is sent away", ANY},
    {__NR_close, SERVES, "a client goes", ANY},
    {__NR_fcntl, SERVES, "stdio is made blocking again at the end", ONLY(1, fcntl_commands)},
    {__NR_clock_gettime, COMPUTES, "time, where the vDSO cannot tell it", ANY},
    {__NR_sched_yield, SERVES, "a waiting member of the team lets others go first", ANY},
    {__NR_restart_syscall, COMPUTES, "the kernel resumes an interrupted wait", ANY},
    {__NR_rt_sigreturn, COMPUTES, "a signal handler returns", ANY},
    {__NR_rt_sigprocmask, COMPUTES, "abort() and the end of a thread", ANY},
    {__NR_rt_sigaction, COMPUTES, "a crash ends as the signal that it is", ANY},
    {__NR_getpid, COMPUTES, "abort()", ANY},
    {__NR_gettid, COMPUTES, "abort()", ANY},
    {__NR_tkill, COMPUTES, "abort()", ANY},
    {__NR_tgkill, COMPUTES, "abort()", ANY},
    {__NR_exit, COMPUTES, "a thread ends", ANY},
    {__NR_exit_group, COMPUTES, "the process ends", ANY},
};

/* Of PID 1 as well. */
static const struct sandbox_call init_calls[] = {
    {__NR_wait4, SERVES, "orphans that the driver leaves behind are reaped", ANY},
    {__NR_syslog, SERVES, "LOG reads the kernel's messages", ANY},
    {__NR_sync, COMPUTES, "before power is switched off, or a crash restarts the machine", ANY},
    {__NR_reboot, COMPUTES, "SHUTDOWN, REBOOT, a bug; a crash, with on_fault=reboot", ANY},
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
    if (call->values == NULL) {
        filter_equal(filter, call->number, 0, 1);
        filter_return(filter, SECCOMP_RET_ALLOW);
        return;
    }
    filter_equal(filter, call->number, 0, call->n_values + 3);
    /* The low half: the kernel takes descriptors, ioctl requests and fcntl commands as 32-bit
     * numbers. */
    filter_load_argument(filter, call->argument);
    for (uint32_t i = 0; i < call->n_values; i++) {
        filter_equal(filter, call->values[i], call->n_values - i, 0);
    }
    filter_return(filter, SECCOMP_RET_KILL_PROCESS);
    filter_return(filter, SECCOMP_RET_ALLOW);
}

/* All of a list, or those of a thread that only computes. */
static void calls_allow(struct filter *filter, const struct sandbox_call *list, uint32_t n,
                        bool computing) {
    for (uint32_t i = 0; i < n; i++)
        if (!computing || list[i].who == COMPUTES) call_allow(filter, &list[i]);
}

bool sandbox_enter(uint32_t role, struct fault *fault) {
    wick_assert((role & ~(uint32_t)(SANDBOX_INIT | SANDBOX_DRIVER)) == 0);
    wick_assert(driver_expected || (role & SANDBOX_DRIVER) == 0);
    struct filter filter;
    filter_begin(&filter);
    if ((role & SANDBOX_DRIVER) != 0) {
        filter_origin(&filter, 1, 0);
        filter_return(&filter, SECCOMP_RET_ALLOW); /* its own fence stays (cuda/fence.c) */
        filter_load_number(&filter);
    }
    calls_allow(&filter, calls, N_CALLS, false);
    if ((role & SANDBOX_INIT) != 0) calls_allow(&filter, init_calls, N_INIT_CALLS, false);
    filter_return(&filter, SECCOMP_RET_KILL_PROCESS);
    return filter_install(&filter, driver_expected ? SECCOMP_FILTER_FLAG_TSYNC : 0, fault);
}

void sandbox_expect_driver(void) {
    driver_expected = true;
}

void sandbox_compute(void) {
    if (driver_expected) return;
    struct fault ignored;
    struct filter filter;
    bool init = getpid() == 1;
    const uint32_t log = (uint32_t)log_fd();
    const struct sandbox_call say = {__NR_write, COMPUTES, "a last word", 0, &log, 1};
    privilege_keep(init ? PRIVILEGE(CAP_SYS_BOOT) : 0, &ignored);
    filter_begin(&filter);
    calls_allow(&filter, calls, N_CALLS, true);
    call_allow(&filter, &say);
    if (init) calls_allow(&filter, init_calls, N_INIT_CALLS, true);
    filter_return(&filter, SECCOMP_RET_KILL_PROCESS);
    filter_install(&filter, 0, &ignored);
}
