/* gpus: `wick-lab gpus`: the GPUs that the driver knows, one a line. */
#ifndef WICK_LAB_GPUS_H
#define WICK_LAB_GPUS_H

#include "base/config.h"

int gpus_run(const struct config *config);

#endif
