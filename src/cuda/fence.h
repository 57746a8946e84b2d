/* fence: what code that is not ours may ask the kernel for, from the start of the driver on.
 *
 * The driver is free to do what it likes (ioctl, mmap, threads) except for what would end the
 * process, or keep us from noticing that a thread of the driver has crashed:
 * - exit_group raises SIGSYS, and the handler parks the thread (park.h);
 * - blocking the signals of faults is left out, handlers for them are not installed (rt_sigprocmask
 *   raises SIGSYS, and the handler does the rest of it; rt_sigaction does nothing);
 * - standard output belongs to the wires: writing to it fails;
 * - nothing is executed (a program would run under this filter too, and look killed when it
 *   exits: the device nodes must be there already), mounted, traced, loaded or rebooted. */
#ifndef WICK_CUDA_FENCE_H
#define WICK_CUDA_FENCE_H

#include <stdbool.h>

#include "base/fault.h"

/* For this thread and for all that are started later. */
bool fence_raise(struct fault *fault);

#endif
