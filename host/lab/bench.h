/* bench: prompt and decode speed of a model, beside the read bandwidth measured in the same run. */
#ifndef WICK_LAB_BENCH_H
#define WICK_LAB_BENCH_H

#include "base/config.h"

/* Returns the exit status. */
int bench_run(const struct config *config);

#endif
