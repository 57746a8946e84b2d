/* plan: the memory map as a table: what every byte of the arena is for, known from the GGUF header
 * and the configuration alone, before anything is carved. */
#ifndef WICK_ENGINE_PLAN_H
#define WICK_ENGINE_PLAN_H

#include <stddef.h>

#include "base/arena.h"
#include "engine/engine.h"

enum { PLAN_LINE_BYTES = 128 };

/* Line `index` of the table, without a newline; NULL after the last. `arena` has been measured or
 * carved. */
const char *plan_line(const struct arena *arena, const struct engine *engine, size_t index,
                      char out[PLAN_LINE_BYTES]);

#endif
