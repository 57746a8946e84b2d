/* batch: several sequences that decode together, one row of each in a step. */
#ifndef WICK_LAB_BATCH_H
#define WICK_LAB_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "lab/session.h"

/* Gives each of config.batch sequences `depth` tokens in the KV cache. *tokens_per_s: of the last
 * sequence's prompt, when all is warm; 0 where depth is. */
bool batch_fill(struct session *session, uint32_t depth, double *tokens_per_s, struct fault *fault);

/* Decodes `count` tokens of each of `sequences` behind `depth` tokens. *tokens_per_s: of all
 * sequences together. */
bool batch_decode(struct session *session, uint32_t sequences, uint32_t depth, uint32_t count,
                  double *tokens_per_s, struct fault *fault);

#endif
