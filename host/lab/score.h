/* score: perplexity of a text file under a model. */
#ifndef WICK_LAB_SCORE_H
#define WICK_LAB_SCORE_H

#include "base/config.h"

/* Returns the exit status. */
int score_run(const struct config *config);

#endif
