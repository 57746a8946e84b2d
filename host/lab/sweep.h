/* sweep: speed over the rows of a step, the depth of the context or the sequences of a step, as a
 * table and a plot. */
#ifndef WICK_LAB_SWEEP_H
#define WICK_LAB_SWEEP_H

#include <stdbool.h>

#include "lab/session.h"

/* config->sweep is not "none". read_bytes_per_s: what there is to compare with; 0: nothing. */
bool sweep_run(struct session *session, double read_bytes_per_s, struct fault *fault);

#endif
