#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sandbox.h"

struct call {
    const char *name;
    long number;
    long a, b, c, d, e, f;
};

enum { SURVIVED = 42, NO_SANDBOX = 43 };

/* For status_of_call_as: a thread that only computes. */
enum { COMPUTES = 1000 };

/* _exit without the sanitizer's hook, which makes calls of its own before one that never returns.
 */
static void leave(int code) {
    syscall(SYS_exit_group, code);
}

/* Makes the call in a sandboxed child; returns the child's wait status. Raw calls only: the runtime
 * of the sanitizer must not see them. */
static int status_of_call_as(unsigned role, const struct call *call) {
    pid_t child = fork();
    if (child == 0) {
        struct fault fault;
        if (role == COMPUTES) {
            sandbox_compute();
        } else if (!sandbox_enter(role, &fault)) {
            leave(NO_SANDBOX);
        }
        syscall(call->number, call->a, call->b, call->c, call->d, call->e, call->f);
        leave(SURVIVED);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

static int status_of_call(const struct call *call) {
    return status_of_call_as(SANDBOX_PROCESS, call);
}

Test(sandbox, calls_that_serving_does_not_need_kill_the_process) {
    long page = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, (size_t)page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    const struct call forbidden[] = {
        {"mmap", SYS_mmap, 0, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0},
        {"brk", SYS_brk, 0, 0, 0, 0, 0, 0},
        {"mremap", SYS_mremap, (long)memory, page, 2 * page, MREMAP_MAYMOVE, 0, 0},
        {"munmap", SYS_munmap, (long)memory, page, 0, 0, 0, 0},
        {"mprotect", SYS_mprotect, (long)memory, page, PROT_EXEC, 0, 0, 0},
        {"madvise", SYS_madvise, (long)memory, page, MADV_DONTNEED, 0, 0, 0},
        {"clone", SYS_clone, SIGCHLD, 0, 0, 0, 0, 0},
        {"clone3", SYS_clone3, 0, 0, 0, 0, 0, 0},
        {"fork", SYS_fork, 0, 0, 0, 0, 0, 0},
        {"vfork", SYS_vfork, 0, 0, 0, 0, 0, 0},
        {"execve", SYS_execve, 0, 0, 0, 0, 0, 0},
        {"execveat", SYS_execveat, 0, 0, 0, 0, 0, 0},
        {"open", SYS_open, (long)"/dev/null", O_RDONLY, 0, 0, 0, 0},
        {"openat", SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDONLY, 0, 0, 0},
        {"openat2", SYS_openat2, AT_FDCWD, (long)"/dev/null", 0, 0, 0, 0},
        {"io_uring_setup", SYS_io_uring_setup, 1, 0, 0, 0, 0, 0},
        {"socket", SYS_socket, AF_INET, SOCK_STREAM, 0, 0, 0, 0},
        {"socketpair", SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, (long)memory, 0, 0},
        {"bind", SYS_bind, -1, 0, 0, 0, 0, 0},
        {"connect", SYS_connect, -1, 0, 0, 0, 0, 0},
        {"unlink", SYS_unlink, (long)"/nonexistent", 0, 0, 0, 0, 0},
        {"ptrace", SYS_ptrace, 0, 0, 0, 0, 0, 0},
        {"process_vm_writev", SYS_process_vm_writev, 0, 0, 0, 0, 0, 0},
        {"memfd_create", SYS_memfd_create, (long)"x", 0, 0, 0, 0, 0},
        {"kill", SYS_kill, 0, 0, 0, 0, 0, 0},
        {"prctl", SYS_prctl, 0, 0, 0, 0, 0, 0},
        {"seccomp", SYS_seccomp, 0, 0, 0, 0, 0, 0},
        {"ioctl TIOCSTI", SYS_ioctl, terminal, TIOCSTI, (long)"x", 0, 0, 0},
        {"fcntl F_DUPFD", SYS_fcntl, 0, F_DUPFD, 0, 0, 0, 0},
        {"fcntl F_SETOWN", SYS_fcntl, 0, F_SETOWN, 0, 0, 0, 0},
        {"sendmsg, which could pass descriptors", SYS_sendmsg, -1, 0, 0, 0, 0, 0},
        {"recvmsg, which could take descriptors", SYS_recvmsg, -1, 0, 0, 0, 0, 0},
        {"dup", SYS_dup, 0, 0, 0, 0, 0, 0},
        {"capset", SYS_capset, 0, 0, 0, 0, 0, 0},
        {"chroot", SYS_chroot, (long)"/", 0, 0, 0, 0, 0},
        {"mount", SYS_mount, 0, 0, 0, 0, 0, 0},
        {"a call that does not exist", 4000, 0, 0, 0, 0, 0, 0},
        {"write as an x32 call", 0x40000000 + SYS_write, 1, 0, 0, 0, 0, 0},
    };
    static const unsigned roles[] = {SANDBOX_PROCESS, COMPUTES};
    for (size_t i = 0; i < 2 * sizeof forbidden / sizeof forbidden[0]; i++) {
        int status = status_of_call_as(roles[i % 2], &forbidden[i / 2]);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: status 0x%x",
                  forbidden[i / 2].name, (unsigned)status);
    }
}

Test(sandbox, a_thread_that_computes_may_sleep_and_say_its_last_word_and_no_more) {
    static char buffer[256];
    struct pollfd none = {.fd = -1};
    const struct call allowed[] = {
        {"write to the log", SYS_write, STDERR_FILENO, (long)buffer, 0, 0, 0, 0},
        {"futex", SYS_futex, (long)buffer, 1 /* FUTEX_WAKE */, 1, 0, 0, 0},
        {"getpid", SYS_getpid, 0, 0, 0, 0, 0, 0},
    };
    const struct call forbidden[] = {
        {"write elsewhere", SYS_write, STDOUT_FILENO, (long)buffer, 0, 0, 0, 0},
        {"read", SYS_read, -1, (long)buffer, 1, 0, 0, 0},
        {"poll", SYS_poll, (long)&none, 1, 0, 0, 0, 0},
        {"accept4", SYS_accept4, -1, 0, 0, SOCK_NONBLOCK, 0, 0},
        {"shutdown", SYS_shutdown, -1, SHUT_WR, 0, 0, 0, 0},
        {"close", SYS_close, -1, 0, 0, 0, 0, 0},
        {"fcntl F_GETFL", SYS_fcntl, 0, F_GETFL, 0, 0, 0, 0},
        {"setsockopt", SYS_setsockopt, -1, 0, 0, 0, 0, 0},
        {"sync, when not PID 1", SYS_sync, 0, 0, 0, 0, 0, 0},
        {"reboot, when not PID 1", SYS_reboot, 0, 0, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
        int status = status_of_call_as(COMPUTES, &allowed[i]);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED, "%s: status 0x%x",
                  allowed[i].name, (unsigned)status);
    }
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        int status = status_of_call_as(COMPUTES, &forbidden[i]);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: status 0x%x",
                  forbidden[i].name, (unsigned)status);
    }
}

Test(sandbox, calls_of_serving_survive) {
    static char buffer[256];
    static struct timespec instant = {0, 1};
    struct pollfd none = {.fd = -1};
    const struct call allowed[] = {
        {"write", SYS_write, -1, (long)buffer, 1, 0, 0, 0},
        {"read", SYS_read, -1, (long)buffer, 1, 0, 0, 0},
        {"poll", SYS_poll, (long)&none, 1, 0, 0, 0, 0},
        {"accept4", SYS_accept4, -1, 0, 0, SOCK_NONBLOCK, 0, 0},
        {"shutdown", SYS_shutdown, -1, SHUT_WR, 0, 0, 0, 0},
        {"close", SYS_close, -1, 0, 0, 0, 0, 0},
        {"futex", SYS_futex, (long)buffer, 1 /* FUTEX_WAKE */, 1, 0, 0, 0},
        {"fcntl F_GETFL", SYS_fcntl, 0, F_GETFL, 0, 0, 0, 0},
        {"fcntl F_SETFL", SYS_fcntl, -1, F_SETFL, O_NONBLOCK, 0, 0, 0},
        {"clock_gettime", SYS_clock_gettime, CLOCK_MONOTONIC, (long)&instant, 0, 0, 0, 0},
        {"sched_yield", SYS_sched_yield, 0, 0, 0, 0, 0, 0},
        {"setsockopt", SYS_setsockopt, -1, 0, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
        int status = status_of_call(&allowed[i]);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED, "%s: status 0x%x",
                  allowed[i].name, (unsigned)status);
    }
}

Test(sandbox, calls_for_the_machine_are_pid_1s_alone) {
    static char buffer[256];
    const struct call calls[] = {
        {"wait4", SYS_wait4, -1, 0, 1 /* WNOHANG */, 0, 0, 0},
        {"syslog", SYS_syslog, 99, (long)buffer, 1, 0, 0, 0},
        {"sync", SYS_sync, 0, 0, 0, 0, 0, 0},
        {"reboot", SYS_reboot, 0, 0, 0, 0, 0, 0}, /* without the magic numbers: refused */
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int status = status_of_call_as(SANDBOX_INIT, &calls[i]);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == SURVIVED, "%s: status 0x%x",
                  calls[i].name, (unsigned)status);
        status = status_of_call(&calls[i]);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: status 0x%x",
                  calls[i].name, (unsigned)status);
    }
}

static atomic_bool entered;

static void *map_when_entered(void *context) {
    while (!atomic_load(&entered)) sched_yield();
    syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    leave(SURVIVED);
    return context;
}

Test(sandbox, where_a_driver_lives_threads_that_were_there_before_are_inside_too) {
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        struct fault fault;
        sandbox_expect_driver();
        if (pthread_create(&thread, NULL, map_when_entered, NULL) != 0) leave(1);
        if (!sandbox_enter(SANDBOX_PROCESS, &fault)) leave(NO_SANDBOX);
        atomic_store(&entered, true);
        for (;;) sched_yield();
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "status 0x%x", (unsigned)status);
}

Test(sandbox, an_abort_inside_still_ends_with_sigabrt) {
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        struct fault fault;
        if (!sandbox_enter(SANDBOX_PROCESS, &fault)) leave(NO_SANDBOX);
        raise(SIGABRT); /* what abort() does first */
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status 0x%x", (unsigned)status);
}
