#ifndef WICK_TESTS_PTX_WORKER_H
#define WICK_TESTS_PTX_WORKER_H

/* A host thread that runs blocks. */

#include "tests/ptx/warp.h"

/* The warp can run again. */
void worker_ready(struct worker *worker, struct warp *warp);

/* Runs the grid with this many host threads. False: error is written. */
bool grid_run(struct grid *grid, uint32_t threads);

#endif
