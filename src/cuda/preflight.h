/* preflight: something dangerous is tried in a child first. */
#ifndef WICK_CUDA_PREFLIGHT_H
#define WICK_CUDA_PREFLIGHT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"

/* True: it worked. Runs in the child. */
typedef bool preflight_try(void *context, struct fault *fault);

/* Forks; the child tries, tells and ends, within `timeout_ms`. The fault is the child's, with the
 * last line that the child wrote to its standard error; or it says how the child ended. */
bool preflight(preflight_try *attempt, void *context, uint32_t timeout_ms, struct fault *fault);

#endif
