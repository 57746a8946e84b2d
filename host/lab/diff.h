/* diff: how far two models, or two backends on one model, are apart on a text. */
#ifndef WICK_LAB_DIFF_H
#define WICK_LAB_DIFF_H

#include "base/config.h"

/* Returns the exit status. */
int diff_run(const struct config *config);

#endif
