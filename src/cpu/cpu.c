#include "cpu/cpu.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "base/text_file.h"
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

/* Processors' worth of time that the control group grants, rounded up; 0: no limit is known. The
 * file has "QUOTA PERIOD", or "max PERIOD"; inside a container it is the container's own. */
static uint32_t cpu_quota(void) {
    char text[64];
    if (text_file_read("/sys/fs/cgroup/cpu.max", text, sizeof text) <= 0) return 0;
    char *rest;
    unsigned long quota = strtoul(text, &rest, 10), period = strtoul(rest, NULL, 10);
    return quota == 0 || period == 0 ? 0 : (uint32_t)((quota + period - 1) / period);
}

uint32_t cpu_count(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
    uint32_t count = (uint32_t)CPU_COUNT(&allowed), quota = cpu_quota();
    if (quota > 0 && quota < count) count = quota;
    return count < 1 ? 1 : count > TEAM_THREADS_MAX ? TEAM_THREADS_MAX : count;
}
