/* isa: which instruction set the fast kernels may use on this machine. */
#ifndef WICK_CPU_ISA_H
#define WICK_CPU_ISA_H

#include <stddef.h>

#include "base/fault.h"
#include "base/processors.h"
#include "cpu/kernels.h"

/* The kernels for `name` ("auto": the widest that works). NULL with a fault (INVALID_REQUEST)
 * naming what this processor or its operating system lacks, or the names there are. "exact" is not
 * a kernel set. */
const struct cpu_kernels *isa_choose(const char *name, struct fault *fault);

/* "Intel(R) Xeon(R) Processor, 2 threads on processors 0-1", as the processor names itself. */
void isa_describe(uint32_t threads, const struct processors *cpus, char *out, size_t bytes);

#endif
