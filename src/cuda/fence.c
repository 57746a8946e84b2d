#include "cuda/fence.h"

#include <asm/unistd.h>
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "base/filter.h"
#include "base/sandbox.h"
#include "cuda/park.h"

/* A call, and what becomes of it. */
struct fence_call {
    uint32_t number;
    uint32_t action;
};

static const struct fence_call calls[] = {
    {__NR_exit_group, SECCOMP_RET_TRAP},
    {__NR_rt_sigprocmask, SECCOMP_RET_TRAP},
    /* As on an old kernel: glibc turns to clone, which cannot take our handlers from a child. */
    {__NR_clone3, SECCOMP_RET_ERRNO | ENOSYS},
    /* As if the file were not there. */
    {__NR_execve, SECCOMP_RET_ERRNO | ENOENT},
    {__NR_execveat, SECCOMP_RET_ERRNO | ENOENT},
    {__NR_ptrace, SECCOMP_RET_ERRNO | EPERM},
    {__NR_process_vm_writev, SECCOMP_RET_ERRNO | EPERM},
    {__NR_mount, SECCOMP_RET_ERRNO | EPERM},
    {__NR_umount2, SECCOMP_RET_ERRNO | EPERM},
    {__NR_pivot_root, SECCOMP_RET_ERRNO | EPERM},
    {__NR_chroot, SECCOMP_RET_ERRNO | EPERM},
    {__NR_reboot, SECCOMP_RET_ERRNO | EPERM},
    {__NR_kexec_load, SECCOMP_RET_ERRNO | EPERM},
    {__NR_kexec_file_load, SECCOMP_RET_ERRNO | EPERM},
    {__NR_init_module, SECCOMP_RET_ERRNO | EPERM},
    {__NR_finit_module, SECCOMP_RET_ERRNO | EPERM},
    {__NR_delete_module, SECCOMP_RET_ERRNO | EPERM},
    {__NR_bpf, SECCOMP_RET_ERRNO | EPERM},
};

/* Calls that take a descriptor first and write to it. */
static const uint32_t writes[] = {__NR_write, __NR_writev, __NR_pwrite64, __NR_sendfile};

bool fence_raise(struct fault *fault) {
    struct filter filter;
    sandbox_expect_driver();
    filter_begin(&filter);
    filter_origin(&filter, 0, 1);
    filter_return(&filter, SECCOMP_RET_ALLOW);
    filter_load_number(&filter);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        filter_equal(&filter, calls[i].number, 0, 1);
        filter_return(&filter, calls[i].action);
    }
    for (size_t i = 0; i < sizeof writes / sizeof writes[0]; i++) {
        filter_equal(&filter, writes[i], 0, 4);
        filter_load_argument(&filter, 0);
        filter_equal(&filter, STDOUT_FILENO, 0, 1);
        filter_return(&filter, SECCOMP_RET_ERRNO | EBADF);
        filter_return(&filter, SECCOMP_RET_ALLOW);
    }
    filter_equal(&filter, __NR_rt_sigaction, 1, 0);
    filter_return(&filter, SECCOMP_RET_ALLOW);
    filter_load_argument(&filter, 0);
    for (uint32_t signal = 1; signal <= 64; signal++) {
        if ((PARK_SIGNALS >> (signal - 1) & 1) == 0) continue;
        filter_equal(&filter, signal, 0, 1);
        filter_return(&filter, SECCOMP_RET_ERRNO | 0);
    }
    filter_return(&filter, SECCOMP_RET_ALLOW);
    return filter_install(&filter, 0, fault);
}
