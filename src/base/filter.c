#include "base/filter.h"

#include <asm/unistd.h>
#include <errno.h>
#include <linux/audit.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/panic.h"

/* Where our code begins and ends: from every linker's own script, and from linker/wick.ld. */
extern const char __executable_start[];
extern const char etext[];

static void emit(struct filter *filter, uint16_t code, uint32_t yes, uint32_t no, uint32_t k) {
    wick_assert(filter->length < FILTER_CODE_MAX && yes <= UINT8_MAX && no <= UINT8_MAX);
    filter->code[filter->length++] =
        (struct sock_filter){.code = code, .jt = (uint8_t)yes, .jf = (uint8_t)no, .k = k};
}

/* A 32-bit field of seccomp_data. */
static void load(struct filter *filter, size_t offset) {
    emit(filter, BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)offset);
}

void filter_load_argument(struct filter *filter, unsigned index) {
    wick_assert(index < 6);
    load(filter, offsetof(struct seccomp_data, args) + index * sizeof(uint64_t));
}

void filter_load_number(struct filter *filter) {
    load(filter, offsetof(struct seccomp_data, nr));
}

void filter_equal(struct filter *filter, uint32_t value, uint32_t yes, uint32_t no) {
    emit(filter, BPF_JMP | BPF_JEQ | BPF_K, yes, no, value);
}

void filter_return(struct filter *filter, uint32_t action) {
    emit(filter, BPF_RET | BPF_K, 0, 0, action);
}

void filter_begin(struct filter *filter) {
    filter->length = 0;
    load(filter, offsetof(struct seccomp_data, arch));
    filter_equal(filter, AUDIT_ARCH_X86_64, 1, 0);
    filter_return(filter, SECCOMP_RET_KILL_PROCESS);
    filter_load_number(filter);
}

void filter_origin(struct filter *filter, uint32_t ours, uint32_t theirs) {
    const size_t at = offsetof(struct seccomp_data, instruction_pointer);
    uint64_t start = (uint64_t)(uintptr_t)__executable_start;
    uint64_t end = (uint64_t)(uintptr_t)etext;
    wick_assert(start < end && end >> 32 == 0); /* a program that is not relocated */
    load(filter, at + sizeof(uint32_t));        /* the high half */
    filter_equal(filter, 0, 0, 3 + theirs);
    load(filter, at);
    emit(filter, BPF_JMP | BPF_JGE | BPF_K, 0, 1 + theirs, (uint32_t)start);
    emit(filter, BPF_JMP | BPF_JGE | BPF_K, theirs, ours, (uint32_t)end);
}

bool filter_install(const struct filter *filter, unsigned long flags, struct fault *fault) {
    wick_assert(filter->length > 0);
    struct sock_fprog program = {.len = filter->length,
                                 .filter = (struct sock_filter *)(uintptr_t)filter->code};
    /* Without this only root may filter itself; and a wick has no program to run anyway. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "sandbox: no_new_privs refused: %s",
                         strerror(errno));
    }
    long status = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
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
