/* cpu: the front door of the CPU backend: picks exact or fast, and the instruction set. */
#ifndef WICK_CPU_CPU_H
#define WICK_CPU_CPU_H

#include "backend/backend.h"
#include "base/arena.h"
#include "base/fault.h"
#include "base/processors.h"
#include "model/model.h"

/* Is `isa` ("auto", "exact", "sse2", ...) something this machine can run? INVALID_REQUEST says why
 * not. */
bool cpu_check(const char *isa, struct fault *fault);

/* Measures or takes. NULL while measuring. `isa` has passed cpu_check. "auto" is the widest, but
 * without tiles for 8-bit weights of less than 16 MB. */
struct backend *cpu_carve(const char *isa, const struct model *model,
                          const struct backend_limits *limits, struct arena *arena);

/* The processor of each thread that computes. `listed` (cpus=), or those of the affinity mask, of
 * which no more than the control group's quota; `threads` (threads=) of them, 0: all. More threads
 * than the mask has processors share them. INVALID_REQUEST names a listed processor that this
 * process may not run on, and more threads than are listed. */
bool cpu_choose(const struct processors *listed, uint32_t threads, struct processors *chosen,
                struct fault *fault);

#endif
