/* run: one text generated from a prompt, to stdout as it comes; a summary to stderr. */
#ifndef WICK_LAB_RUN_H
#define WICK_LAB_RUN_H

#include "base/config.h"

/* Returns the exit status. */
int run_run(const struct config *config);

#endif
