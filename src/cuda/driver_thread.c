#include "cuda/driver_thread.h"

#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "cuda/kernel_call.h"

/* RTLD_NOW of glibc's dlfcn.h: what is missing shows here, not in the middle of a step. */
enum { DL_NOW = 2 };

/* Below the block, on the new stack. The signal mask stays as it was for the clone. */
__attribute__((used)) _Noreturn static void driver_thread_begin(const struct driver_start *start) {
    const stack_t alternate = {.ss_sp = (void *)(uintptr_t)start->alternate,
                               .ss_size = start->n_alternate};
    kernel_call(SYS_sigaltstack, kernel_pointer(&alternate), 0, 0, 0);
    kernel_call(SYS_prctl, PR_SET_NAME, kernel_pointer("driver"), 0, 0);
    /* As the kernel starts a program: rdx is what atexit would be given, rbp ends backtraces. */
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%edx, %%edx\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "jmp *%1"
                     :
                     : "a"(start->block), "c"(start->entry)
                     : "memory");
    __builtin_unreachable();
}

int32_t driver_thread_start(struct driver_start *start) {
    const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                           CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                           CLONE_CHILD_CLEARTID;
    /* Code reads its own address at fs:0. */
    start->storage[0] = kernel_pointer(start->storage);
    register uint64_t child_id __asm__("r10") = kernel_pointer(&start->cleared);
    register uint64_t storage __asm__("r8") = kernel_pointer(start->storage);
    register struct driver_start *kept __asm__("r12") = start;
    long result;
    __asm__ volatile("syscall\n\t"
                     "test %%eax, %%eax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r12, %%rdi\n\t"
                     "call driver_thread_begin\n"
                     "1:"
                     : "=a"(result)
                     : "a"(SYS_clone), "D"(flags), "S"(start->block), "d"(start->thread),
                       "r"(child_id), "r"(storage), "r"(kept)
                     : "rcx", "r11", "memory");
    return (int32_t)result;
}

void driver_thread_receive(void *context, const struct foreign_functions *functions) {
    struct foreign *f = context;
    f->functions.open = functions->open;
    f->functions.symbol = functions->symbol;
    f->functions.close = functions->close;
    f->functions.error = functions->error;
    mailbox_answer(&f->box, 0);
    mailbox_serve(&f->box);
}

int64_t driver_thread_open(void *context) {
    struct driver_open *job = context;
    const struct foreign_functions *functions = &job->foreign->functions;
    job->error[0] = '\0';
    job->foreign->library = functions->open(job->foreign->libraries.cuda, DL_NOW);
    if (job->foreign->library != NULL) return 0;
    const char *error = functions->error();
    uint32_t n = 0;
    while (error != NULL && error[n] != '\0' && n + 1 < job->error_bytes) {
        job->error[n] = error[n];
        n++;
    }
    job->error[n] = '\0';
    return -1;
}

int64_t driver_thread_symbol(void *context) {
    struct driver_symbol *job = context;
    job->found = job->foreign->functions.symbol(job->foreign->library, job->name);
    return 0;
}
