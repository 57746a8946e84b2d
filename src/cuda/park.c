#include "cuda/park.h"

#include <string.h>
#include <unistd.h>

/* A signal handler can be told nothing: like base/bus.c this is found from anywhere. */
struct park park_state;

static void crash_on(int signal, siginfo_t *info, void *context) {
    const struct sigaction *before = &park_state.before[signal];
    if ((before->sa_flags & SA_SIGINFO) != 0) {
        before->sa_sigaction(signal, info, context);
    } else if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
        before->sa_handler(signal);
    } else {
        /* The instruction runs again, or abort() goes on, and the signal does what it does. */
        sigaction(signal, before, NULL);
    }
}

void park_install(struct mailbox *box) {
    park_state.box = box;
    park_state.ours = crash_on;
    park_state.process = getpid();
    atomic_store(&park_state.driver, 0);
    struct sigaction action = {.sa_sigaction = park_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    for (int signal = 1; signal < PARK_SIGNAL_MAX; signal++) {
        if ((PARK_SIGNALS & PARK_BIT(signal)) != 0) sigdelset(&action.sa_mask, signal);
    }
    for (int signal = 1; signal < PARK_SIGNAL_MAX; signal++) {
        if ((PARK_SIGNALS & PARK_BIT(signal)) == 0) continue;
        struct sigaction before;
        sigaction(signal, &action, &before);
        /* Installed a second time (a child that tries): what stands there is ours. */
        if (before.sa_sigaction != park_signal) park_state.before[signal] = before;
    }
}

void park_watch(int32_t thread) {
    atomic_store(&park_state.driver, thread);
}
