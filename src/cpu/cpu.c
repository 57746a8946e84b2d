#include "cpu/cpu.h"

#include <sched.h>
#include <string.h>

#include "base/panic.h"
#include "cpu/exact.h"
#include "cpu/fast.h"
#include "cpu/isa.h"
#include "cpu/team.h"

bool cpu_check(const char *isa, struct fault *fault) {
    return strcmp(isa, "exact") == 0 || isa_choose(isa, fault) != NULL;
}

struct backend *cpu_carve(const char *isa, const struct model *model,
                          const struct backend_limits *limits, struct arena *arena) {
    if (strcmp(isa, "exact") == 0) return exact_carve(model, limits, arena);
    struct fault fault;
    const struct cpu_kernels *kernels = isa_choose(isa, &fault);
    wick_assert(kernels != NULL);
    return fast_carve(kernels, model, limits, arena);
}

uint32_t cpu_count(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    int count = CPU_COUNT(&allowed);
    return count < 1 ? 1 : count > TEAM_THREADS_MAX ? TEAM_THREADS_MAX : (uint32_t)count;
}
