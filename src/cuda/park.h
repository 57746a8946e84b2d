/* park: what happens to a thread of the driver that faults: it is put to sleep for ever, in the
 * signal's handler, and the driver is marked dead. A fault of ours goes on as it would without.
 *
 * Whose a thread is: the main thread is ours; another one is when the signal found it in our code,
 * unless it is the driver thread. */
#ifndef WICK_CUDA_PARK_H
#define WICK_CUDA_PARK_H

#include <signal.h>
#include <stdint.h>

#include "cuda/mailbox.h"

#define PARK_BIT(signal) ((uint64_t)1 << ((signal)-1))

/* As the kernel keeps sets of signals: bit signal - 1. */
static const uint64_t PARK_SIGNALS = PARK_BIT(SIGILL) | PARK_BIT(SIGTRAP) | PARK_BIT(SIGABRT) |
                                     PARK_BIT(SIGBUS) | PARK_BIT(SIGFPE) | PARK_BIT(SIGSEGV) |
                                     PARK_BIT(SIGSYS);

enum { PARK_SIGNAL_MAX = 32 };

/* What the handler needs to know, and nobody can tell it. */
struct park {
    struct mailbox *box; /* who is to be buried */
    int32_t process;
    _Atomic int32_t driver; /* the driver thread; 0: not started */
    void (*ours)(int signal, siginfo_t *info, void *context); /* a fault of ours goes on */
    struct sigaction before[PARK_SIGNAL_MAX];
};

/* Installs the handler for this process; whoever had one before is called for faults of ours. */
void park_install(struct mailbox *box);

/* The driver thread's id, as soon as there is one. */
void park_watch(int32_t thread);

/* The handler (freestanding). */
void park_signal(int signal, siginfo_t *info, void *context);

/* The handler's. */
extern struct park park_state;

#endif
