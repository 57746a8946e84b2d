/* inspect: `wick-lab inspect`: what is in a GGUF file, as tables or as JSON. */
#ifndef WICK_LAB_INSPECT_H
#define WICK_LAB_INSPECT_H

#include "base/config.h"

/* Prints config->model on stdout, as JSON if config->json. Returns the exit status: 0, or 1 after a
 * line on stderr that names file, offset and reason. */
int inspect_run(const struct config *config);

#endif
