/* bandwidth: how fast this machine reads memory: the roofline of decoding. */
#ifndef WICK_LAB_BANDWIDTH_H
#define WICK_LAB_BANDWIDTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"

struct bandwidth; /* a team of its own and a buffer far larger than the caches */

/* NULL with a fault when there is no memory for `bytes`. Open it before a backend: threads pin
 * themselves by the affinity mask that they find, and a backend pins the caller. */
struct bandwidth *bandwidth_open(uint32_t threads, uint64_t bytes, struct fault *fault);

/* One pass over the buffer by all threads; bytes per second. */
double bandwidth_measure(struct bandwidth *bandwidth);

void bandwidth_close(struct bandwidth *bandwidth);

#endif
