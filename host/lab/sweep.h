/* sweep: speed over the rows of a step, or over the depth of the context, as a table and a plot. */
#ifndef WICK_LAB_SWEEP_H
#define WICK_LAB_SWEEP_H

#include <stdbool.h>

#include "lab/session.h"

/* config->sweep is "rows" or "depth". read_bytes_per_s: what this machine reads. */
bool sweep_run(struct session *session, double read_bytes_per_s, struct fault *fault);

#endif
