/* privilege: what the kernel allows a thread beyond what it allows everybody, and the files that
 * the process can name. Both only ever get less. */
#ifndef WICK_BASE_PRIVILEGE_H
#define WICK_BASE_PRIVILEGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"

/* A set of capabilities: bits 1 << CAP_... of linux/capability.h. */
#define PRIVILEGE(capability) (UINT64_C(1) << (capability))

/* The calling thread keeps those of `kept` that it has, and loses all others for good. */
bool privilege_keep(uint64_t kept, struct fault *fault);

/* Root only, for all threads; anybody else's files stay in sight (to be opened they would need a
 * call that the sandbox does not allow). The root and the working directory become a directory that
 * is removed at once: no path leads anywhere, and none can be made. Descriptors that are open stay
 * so. Fails with INSUFFICIENT_RESOURCES when no directory can be made in /tmp, /run, /dev/shm or /.
 */
bool privilege_hide_files(struct fault *fault);

#endif
