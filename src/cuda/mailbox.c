#include "cuda/mailbox.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"

/* As long as the driver thread spins (mailbox_thread.c). */
enum { SPIN_NS = 30 * 1000 };

void mailbox_post(struct mailbox *box, foreign_call *call, void *context) {
    wick_assert(mailbox_idle(box));
    box->call = call;
    box->context = context;
    atomic_fetch_add(&box->posted, 1);
    if (atomic_load(&box->asleep) == 0) return;
    syscall(SYS_futex, &box->posted, FUTEX_WAKE_PRIVATE, 1, NULL);
}

static bool mailbox_settled(const struct mailbox *box) {
    return mailbox_idle(box) || mailbox_dead(box);
}

void mailbox_wait(struct mailbox *box, uint64_t deadline_ns) {
    uint64_t now = clock_ns();
    uint64_t spin_until = now + SPIN_NS;
    while (now < deadline_ns && now < spin_until) {
        if (mailbox_settled(box)) return;
        __builtin_ia32_pause();
        now = clock_ns();
    }
    atomic_store(&box->awaited, 1);
    for (;;) {
        uint32_t heard = atomic_load(&box->bell);
        if (mailbox_settled(box)) break;
        now = clock_ns();
        if (now >= deadline_ns) break;
        uint64_t left = deadline_ns - now;
        const struct timespec limit = {.tv_sec = (time_t)(left / 1000000000),
                                       .tv_nsec = (long)(left % 1000000000)};
        syscall(SYS_futex, &box->bell, FUTEX_WAIT_PRIVATE, heard, &limit);
    }
    atomic_store(&box->awaited, 0);
}
