/* exact: the plain CPU reference, isa=exact. Weights expanded exactly as their format says
 * (quant.h), all arithmetic in float64, one obvious loop a formula. Slow; the judge of every fast
 * path. */
#ifndef WICK_CPU_EXACT_H
#define WICK_CPU_EXACT_H

#include "backend/backend.h"
#include "base/arena.h"
#include "model/model.h"

/* Measures or takes. NULL while measuring. The raw tensors are copied into the arena by load(). The
 * KV cache holds values of limits->kv_type (F16 and Q8_0 round what they store; F32 stores float).
 */
struct backend *exact_carve(const struct model *model, const struct backend_limits *limits,
                            struct arena *arena);

#endif
