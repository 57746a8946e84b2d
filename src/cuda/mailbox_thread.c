#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>

#include "cuda/kernel_call.h"
#include "cuda/mailbox.h"

/* 1000 pauses are 10 to 40 microseconds: about what a sleep and a wake-up cost together. */
enum { SPINS = 1000 };

/* One sleeper at most. */
static void bell_ring(struct mailbox *box) {
    atomic_fetch_add(&box->bell, 1);
    if (atomic_load(&box->awaited) == 0) return;
    kernel_call(SYS_futex, kernel_pointer(&box->bell), FUTEX_WAKE_PRIVATE, 1, 0);
}

void mailbox_answer(struct mailbox *box, int64_t result) {
    box->result = result;
    atomic_store_explicit(&box->done, atomic_load_explicit(&box->posted, memory_order_relaxed),
                          memory_order_release);
    bell_ring(box);
}

/* Until `posted` is not `seen`. */
static void job_await(struct mailbox *box, uint32_t seen) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&box->posted, memory_order_acquire) != seen) return;
        __builtin_ia32_pause();
    }
    atomic_store(&box->asleep, 1);
    while (atomic_load(&box->posted) == seen) {
        kernel_call(SYS_futex, kernel_pointer(&box->posted), FUTEX_WAIT_PRIVATE, seen, 0);
    }
    atomic_store(&box->asleep, 0);
}

_Noreturn void mailbox_serve(struct mailbox *box) {
    for (;;) {
        job_await(box, atomic_load_explicit(&box->done, memory_order_relaxed));
        mailbox_answer(box, box->call(box->context));
    }
}

void mailbox_bury(struct mailbox *box, const struct death *death) {
    uint32_t alive = 0;
    if (!atomic_compare_exchange_strong(&box->dead, &alive, 1)) return;
    box->death.cause = death->cause;
    box->death.number = death->number;
    box->death.thread = death->thread;
    box->death.address = death->address;
    box->death.at = death->at;
    atomic_store(&box->dead, 2);
    bell_ring(box);
}
