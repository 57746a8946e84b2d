/* dump: every stage of the network, one raw F32 file each, with an index.tsv, into the directory
 * out=. With max_tokens=N each of N greedy steps after the prompt is dumped into step-0, step-1 ...
 * below it. */
#ifndef WICK_LAB_DUMP_H
#define WICK_LAB_DUMP_H

#include "base/config.h"

/* Returns the exit status. */
int dump_run(const struct config *config);

#endif
