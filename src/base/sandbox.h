/* sandbox: after boot, a seccomp filter that ends the process when it asks the kernel for anything
 * that serving does not need: memory, threads, files, programs, new sockets.
 *
 * Allowed calls and the reason for each stand in tables in sandbox.c: one for the thread that
 * serves, a shorter one for threads that only compute. From sandbox_enter on:
 * - a socket file stays behind at exit (unlink is not allowed): remove a stale one before bind();
 * - a thread may only be joined if its stack is not its own mapping (pthread_attr_setstack);
 * - files, sockets to listen on, timers and event descriptors must be open already. */
#ifndef WICK_BASE_SANDBOX_H
#define WICK_BASE_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"

/* False in a build with AddressSanitizer, whose runtime maps memory at any time. */
bool sandbox_supported(void);

/* Who enters: bits. */
enum sandbox_role {
    SANDBOX_PROCESS = 0,
    SANDBOX_INIT = 1,  /* PID 1 also answers for the machine (boot/) */
    SANDBOX_DRIVER = 2 /* a GPU's driver lives in this process (cuda/foreign.h): calls from code
                        * that is not ours are left to the filter that it was started under, and
                        * all threads get this one list */
};

/* Installs the filter; there is no way back. A call that is not allowed ends the process with
 * SIGSYS. It holds for this thread and those that it starts: all other threads must have called
 * sandbox_compute, except with SANDBOX_DRIVER, when it holds for all of them. Fails with
 * INSUFFICIENT_RESOURCES where the kernel has no seccomp filters. */
bool sandbox_enter(uint32_t role, struct fault *fault);

/* A thread that only computes calls this first: nothing is left to it but to sleep, to wake others,
 * to say on the log why it dies, and to end; and no capability (PID 1: to restart the machine when
 * it dies). Does nothing where a driver lives. What fails here fails in sandbox_enter too, and is
 * told there. */
void sandbox_compute(void);

/* Before the first thread of a driver: filters that differ could not be given to all at once. */
void sandbox_expect_driver(void);

#endif
