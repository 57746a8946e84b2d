/* logits: log-sum-exp and the 20 largest logits of every position of a prompt, then of greedy
 * steps, as tab-separated lines on stdout. Made to be compared with another engine's numbers. */
#ifndef WICK_LAB_LOGITS_H
#define WICK_LAB_LOGITS_H

#include "base/config.h"

/* Returns the exit status. */
int logits_run(const struct config *config);

#endif
