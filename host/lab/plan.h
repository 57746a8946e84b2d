/* plan: the memory map that wick would carve for a model and a configuration. */
#ifndef WICK_LAB_PLAN_H
#define WICK_LAB_PLAN_H

#include "base/config.h"

/* Returns the exit status: 1 when the plan does not fit this machine. */
int plan_run(const struct config *config);

#endif
