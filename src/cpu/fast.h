/* fast: the CPU backend that serves: packed panels, integer activations, one kernel table an ISA.
 *
 * A step is a list of phases; each is a function over items that the team shares. Per layer:
 *
 *   attn_norm -> qkv -> rope (+ KV store) -> attend -> attn_in -> attn_out -> ffn_norm -> gate_up
 *             -> down_in -> down
 *
 * between embed at the front and final_norm -> head at the back. */
#ifndef WICK_CPU_FAST_H
#define WICK_CPU_FAST_H

#include "backend/backend.h"
#include "base/arena.h"
#include "cpu/kernels.h"
#include "model/model.h"

/* Measures or takes. NULL while measuring. */
struct backend *fast_carve(const struct cpu_kernels *kernels, const struct model *model,
                           const struct backend_limits *limits, struct arena *arena);

#endif
