#include "cuda/foreign.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "cuda/driver_thread.h"
#include "cuda/elf_image.h"
#include "cuda/fence.h"
#include "cuda/helper_image.h"
#include "cuda/park.h"
#include "cuda/preflight.h"
#include "cuda/start_block.h"

/* The driver thread's memory, from low to high:
 *   stack of signal handlers | a page that nothing may touch | stack | what it starts with
 * Pages of the stack that are never touched cost nothing. */
enum {
    PAGE = 4096,
    ALTERNATE_BYTES = 64 * 1024, /* AMX alone puts 11 KB into a signal's frame */
    STACK_BYTES = 64 * 1024 * 1024,
};

static const uint64_t ns_per_ms = 1000000;
static const uint64_t look_ns = 50 * 1000000; /* how often a silent thread is looked after */

struct driver_memory {
    struct start_block block; /* first: all below it is stack */
    struct driver_start start;
    struct handover handover;
};

/* --- the parts of the start ----------------------------------------------------------------- */

/* Two C libraries that move one program break corrupt each other's heap. With a page in its way
 * neither can, and both turn to mmap. What cannot be guarded has something in its way already, or
 * belongs to valgrind: no reason to stop. */
static void break_guard(void) {
    uint64_t at = (uint64_t)syscall(SYS_brk, 0);
    at = (at + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    void *page = mmap((void *)(uintptr_t)at, PAGE, PROT_NONE, flags, -1, 0);
    if (page == (void *)(uintptr_t)at || (page == MAP_FAILED && errno == EEXIST)) return;
    log_event(LOG_WARN, "cuda", "the program break at 0x%llx is not guarded",
              (unsigned long long)at);
}

/* All signals but those of faults are blocked while it starts, so on all the driver's threads: ours
 * answer them. glibc needs its own two, 32 and 33, for its own threads. */
static int32_t thread_clone(struct driver_start *start) {
    const uint64_t glibc_bits = UINT64_C(3) << 31;
    uint64_t blocked = ~(PARK_SIGNALS | glibc_bits);
    uint64_t before;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, &before, sizeof blocked);
    int32_t thread = driver_thread_start(start);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
    return thread;
}

static bool thread_start(struct foreign *f, struct fault *fault) {
    struct elf_image helper;
    struct elf_image loader;
    if (!elf_image_copy(&helper, "the helper", helper_image,
                        (size_t)(helper_image_end - helper_image), fault) ||
        !elf_image_map(&loader, f->libraries.loader, fault)) {
        return false;
    }
    uint8_t *low = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (low == MAP_FAILED || mprotect(low + ALTERNATE_BYTES, PAGE, PROT_NONE) != 0) {
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "a stack for the driver: %s",
                         strerror(errno));
    }
    struct driver_memory *memory =
        (struct driver_memory *)(void *)(low + STACK_BYTES -
                                         (sizeof *memory + PAGE - 1) / PAGE * PAGE);
    memory->handover = (struct handover){driver_thread_receive, f};
    const struct start_wish wish = {f->libraries.path, f->no_tunables};
    start_block_build(&memory->block, &wish, &helper, &loader, &memory->handover);
    memory->start.entry = loader.entry;
    memory->start.block = (uint64_t)(uintptr_t)memory->block.words;
    memory->start.alternate = (uint64_t)(uintptr_t)low;
    memory->start.n_alternate = ALTERNATE_BYTES;
    memory->start.thread = &f->thread;
    atomic_store(&f->box.posted, 1); /* job 1 is the start; the helper's arrival answers it */
    int32_t thread = thread_clone(&memory->start);
    if (thread < 0) {
        f->thread = 0;
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "starting the driver thread: %s",
                         strerror(-thread));
    }
    park_watch(thread);
    return true;
}

/* Waits for a step of the start. */
static bool step_await(struct foreign *f, const char *step, struct fault *fault) {
    int64_t result;
    uint64_t deadline_ns = clock_ns() + f->timeout_ms * ns_per_ms;
    if (foreign_wait(f, deadline_ns, &result) == FOREIGN_PENDING) foreign_condemn(f, f->timeout_ms);
    if (!mailbox_dead(&f->box)) return true;
    return fault_set(fault, FAULT_CUDA_ERROR, "%s: %s", step, foreign_death(f));
}

/* Everything that the child tries first. */
static bool bring_up(void *context, struct fault *fault) {
    struct foreign *f = context;
    char error[FAULT_TEXT_BYTES / 2];
    char step[LIBRARY_PATH_BYTES + sizeof "opening "];
    memset(&f->box, 0, sizeof f->box);
    park_install(&f->box);
    if (!fence_raise(fault) || !thread_start(f, fault)) return false;
    snprintf(step, sizeof step, "starting %s", f->libraries.loader);
    if (!step_await(f, step, fault)) return false;
    struct driver_open open = {.foreign = f, .error = error, .error_bytes = sizeof error};
    mailbox_post(&f->box, driver_thread_open, &open);
    snprintf(step, sizeof step, "opening %s", f->libraries.cuda);
    if (!step_await(f, step, fault)) return false;
    if (f->library != NULL) return true;
    return fault_set(fault, FAULT_CUDA_ERROR, "%s: %s", step, error);
}

bool foreign_start(struct foreign *f, const struct foreign_config *config, struct fault *fault) {
    wick_assert(f->thread == 0);
    memset(f, 0, sizeof *f);
    f->timeout_ms = config->timeout_ms > 0 ? config->timeout_ms : FOREIGN_TIMEOUT_MS;
#ifdef __GLIBC__
    return fault_set(fault, FAULT_CUDA_ERROR,
                     "this build has glibc itself and cannot hold another");
#endif
    if (!libraries_find(&f->libraries, config->cuda_path, fault)) return false;
    break_guard();
    /* Two steps, each with its own time, and a little for the child itself. */
    uint32_t timeout_ms = 2 * f->timeout_ms + 1000;
    bool fine = preflight(bring_up, f, timeout_ms, fault);
    if (!fine && strstr(fault->text, "processing tunables") != NULL) {
        f->no_tunables = true; /* an old glibc; see start_block.h */
        fine = preflight(bring_up, f, timeout_ms, fault);
    }
    return fine && bring_up(f, fault);
}

/* --- jobs ----------------------------------------------------------------------------------- */

bool foreign_post(struct foreign *f, foreign_call *call, void *context) {
    wick_assert(f->thread != 0);
    if (mailbox_dead(&f->box)) return false;
    mailbox_post(&f->box, call, context);
    return true;
}

/* A thread that ended without a word: nobody rings. */
static void thread_look(struct foreign *f, uint64_t now_ns) {
    if (now_ns - f->looked_ns < look_ns) return;
    f->looked_ns = now_ns;
    if (syscall(SYS_tgkill, getpid(), f->thread, 0) == 0) return;
    const struct death death = {.cause = DEATH_GONE, .thread = f->thread};
    mailbox_bury(&f->box, &death);
}

enum foreign_status foreign_poll(struct foreign *f, int64_t *result) {
    wick_assert(f->thread != 0);
    if (mailbox_dead(&f->box)) return FOREIGN_DEAD;
    if (mailbox_idle(&f->box)) {
        *result = f->box.result;
        return FOREIGN_DONE;
    }
    thread_look(f, clock_ns());
    return mailbox_dead(&f->box) ? FOREIGN_DEAD : FOREIGN_PENDING;
}

enum foreign_status foreign_wait(struct foreign *f, uint64_t deadline_ns, int64_t *result) {
    f->looked_ns = clock_ns();
    for (;;) {
        uint64_t now = clock_ns();
        uint64_t until = now + look_ns < deadline_ns ? now + look_ns : deadline_ns;
        mailbox_wait(&f->box, until);
        enum foreign_status status = foreign_poll(f, result);
        if (status != FOREIGN_PENDING || until == deadline_ns) return status;
    }
}

enum foreign_status foreign_run(struct foreign *f, foreign_call *call, void *context,
                                int64_t *result) {
    if (!foreign_post(f, call, context)) return FOREIGN_DEAD;
    uint64_t deadline_ns = clock_ns() + f->timeout_ms * ns_per_ms;
    enum foreign_status status = foreign_wait(f, deadline_ns, result);
    if (status != FOREIGN_PENDING) return status;
    foreign_condemn(f, f->timeout_ms);
    return FOREIGN_DEAD;
}

void *foreign_symbol(struct foreign *f, const char *name) {
    struct driver_symbol job = {.foreign = f, .name = name};
    int64_t result;
    return foreign_run(f, driver_thread_symbol, &job, &result) == FOREIGN_DONE ? job.found : NULL;
}

/* --- the end -------------------------------------------------------------------------------- */

const char *foreign_death(struct foreign *f) {
    if (!mailbox_dead(&f->box)) return "";
    const struct death *d = &f->box.death;
    char touched[32];
    const char *whose = d->thread == f->thread ? "the driver's thread" : "a thread of the driver";
    switch (d->cause) {
    case DEATH_SIGNAL:
        snprintf(touched, sizeof touched, " touching 0x%llx", (unsigned long long)d->address);
        snprintf(f->death, sizeof f->death, "signal %d (%s) at 0x%llx%s on %s (%d)", d->number,
                 strsignal(d->number), (unsigned long long)d->at,
                 d->number == SIGSEGV || d->number == SIGBUS ? touched : "", whose, d->thread);
        break;
    case DEATH_EXIT:
        snprintf(f->death, sizeof f->death, "exit with status %d on %s (%d)", d->number, whose,
                 d->thread);
        break;
    case DEATH_LATE:
        snprintf(f->death, sizeof f->death, "no answer in %d ms", d->number);
        break;
    case DEATH_GONE:
    case DEATH_NONE:
        snprintf(f->death, sizeof f->death, "%s (%d) has ended", whose, d->thread);
        break;
    }
    return f->death;
}

void foreign_condemn(struct foreign *f, uint32_t late_ms) {
    const struct death death = {
        .cause = DEATH_LATE, .number = (int32_t)late_ms, .thread = f->thread};
    mailbox_bury(&f->box, &death);
}

void foreign_stop(struct foreign *f, foreign_call *last, void *context, uint64_t deadline_ns) {
    int64_t result;
    if (f->thread == 0 || foreign_wait(f, deadline_ns, &result) != FOREIGN_DONE) return;
    if (last != NULL && foreign_post(f, last, context)) foreign_wait(f, deadline_ns, &result);
}
