/* bus: a mapped file whose pages the disk does not deliver. The kernel says so with SIGBUS, in the
 * middle of a load instruction: there is no value to go on with, so the process ends and says which
 * byte of which file it was. */
#ifndef WICK_BASE_BUS_H
#define WICK_BASE_BUS_H

#include <stdint.h>

/* From here on a SIGBUS in [base, base + bytes) is told as an address, an offset and a sector of
 * that file, and ends the process with status 1, or as the panic hook does. `path` must stay. */
void bus_watch(const void *base, uint64_t bytes, const char *path);

/* The mapping at `base` is gone. */
void bus_forget(const void *base);

#endif
