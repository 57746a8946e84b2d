/* roofline: how fast this machine reads memory, which limits decoding, and how fast it multiplies,
 * which limits prompts. */
#ifndef WICK_LAB_ROOFLINE_H
#define WICK_LAB_ROOFLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/fault.h"
#include "lab/peak.h"

struct roofline; /* a team of its own and a buffer far larger than the caches */

/* NULL with a fault when there is no memory for `bytes`, or cpus= cannot be had. Open it before a
 * backend: threads are pinned by the affinity mask, and a backend pins the caller. */
struct roofline *roofline_open(const struct config *config, uint64_t bytes, struct fault *fault);

/* One pass over the buffer by all threads; bytes per second. */
double roofline_read(struct roofline *roofline);

/* Operations per second of all threads, two a product. */
double roofline_multiply(struct roofline *roofline, const struct peak *peak);

void roofline_close(struct roofline *roofline);

#endif
