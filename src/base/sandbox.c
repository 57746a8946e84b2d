#include "base/sandbox.h"

#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

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
    /* Architecture and number: 4. A call: compare and allow; the one with a list also: load, a
     * comparison for each value, kill. The end: kill. */
    PROGRAM_MAX =
        4 + 2 * (N_CALLS + N_INIT_CALLS) + 2 + sizeof fcntl_commands / sizeof fcntl_commands[0] + 1
};

struct program {
    struct sock_filter code[PROGRAM_MAX];
    uint16_t length;
};

static void emit(struct program *p, uint16_t code, uint8_t yes, uint8_t no, uint32_t k) {
    wick_assert(p->length < PROGRAM_MAX);
    p->code[p->length++] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

/* Loads a 32-bit field of seccomp_data. */
static void emit_load(struct program *p, size_t offset) {
    emit(p, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

/* Accumulator == value: skip `yes` instructions, else `no`. */
static void emit_equal(struct program *p, uint32_t value, uint32_t yes, uint32_t no) {
    wick_assert(yes <= UINT8_MAX && no <= UINT8_MAX);
    emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint8_t)yes, (uint8_t)no, value);
}

static void emit_return(struct program *p, uint32_t action) {
    emit(p, BPF_RET | BPF_K, 0, 0, action);
}

/* The accumulator holds the call's number, before and after. */
static void emit_call(struct program *p, const struct sandbox_call *call) {
    wick_assert(call->reason != NULL);
    if (call->second == NULL) {
        emit_equal(p, call->number, 0, 1);
        emit_return(p, SECCOMP_RET_ALLOW);
        return;
    }
    emit_equal(p, call->number, 0, call->n_second + 3);
    /* The low half: the kernel takes ioctl requests and fcntl commands as 32-bit numbers. */
    emit_load(p, offsetof(struct seccomp_data, args) + sizeof(uint64_t));
    for (uint32_t i = 0; i < call->n_second; i++) {
        emit_equal(p, call->second[i], call->n_second - i, 0);
    }
    emit_return(p, SECCOMP_RET_KILL_PROCESS);
    emit_return(p, SECCOMP_RET_ALLOW);
}

static void program_build(struct program *p, enum sandbox_role role) {
    p->length = 0;
    emit_load(p, offsetof(struct seccomp_data, arch));
    emit_equal(p, AUDIT_ARCH_X86_64, 1, 0);
    emit_return(p, SECCOMP_RET_KILL_PROCESS);
    emit_load(p, offsetof(struct seccomp_data, nr));
    /* x32 calls need no test: they carry bit 30 in their number and so equal none of the table. */
    for (uint32_t i = 0; i < N_CALLS; i++) emit_call(p, &calls[i]);
    uint32_t n_init = role == SANDBOX_INIT ? N_INIT_CALLS : 0;
    for (uint32_t i = 0; i < n_init; i++) emit_call(p, &init_calls[i]);
    emit_return(p, SECCOMP_RET_KILL_PROCESS);
}

bool sandbox_enter(enum sandbox_role role, struct fault *fault) {
    struct program program;
    program_build(&program, role);
    struct sock_fprog filter = {.len = program.length, .filter = program.code};
    /* Without this only root may filter itself; and a wick has no program to run anyway. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "sandbox: no_new_privs refused: %s",
                         strerror(errno));
    }
    long status = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
    if (status > 0) {
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES,
                         "sandbox: thread %ld has a seccomp filter of its own", status);
    }
    if (status < 0) {
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES,
                         "sandbox: seccomp filter refused: %s; the kernel needs "
                         "CONFIG_SECCOMP_FILTER",
                         strerror(errno));
    }
    return true;
}
