/* make_model: `wick-lab make-model`: a GGUF with random weights, of any geometry and type, with the
 * vocabulary of another GGUF. For benchmarks and tests of shapes that nobody ships; what it writes
 * is noise, but every tool that reads GGUF files loads it. */
#ifndef WICK_LAB_MAKE_MODEL_H
#define WICK_LAB_MAKE_MODEL_H

#include "base/config.h"

/* Returns the exit status: 0, or 1 after a line on stderr. The same configuration writes the same
 * bytes. */
int make_model_run(const struct config *config);

#endif
