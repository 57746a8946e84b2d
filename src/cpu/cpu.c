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

/* Weights that stay in the caches are not waited for. 8-bit ones then decode faster in integers
 * than in the bfloat16 of tiles (1.35 times on the demo model, whose prompts take twice as long).
 */
static bool cpu_prefers_integers(const struct model *model) {
    enum { CACHED_BYTES = 16 << 20 };
    uint64_t bytes = model->output.bytes;
    for (uint32_t i = 0; i < model->geo.n_layers; i++) {
        const struct model_layer *layer = &model->layer[i];
        bytes += layer->q.bytes + layer->k.bytes + layer->v.bytes + layer->attn_out.bytes +
                 layer->gate.bytes + layer->up.bytes + layer->down.bytes;
    }
    return bytes < CACHED_BYTES && pack_kind_of(model->layer[0].gate.type) == PACK_Q8;
}

struct backend *cpu_carve(const char *isa, const struct model *model,
                          const struct backend_limits *limits, struct arena *arena) {
    if (strcmp(isa, "exact") == 0) return exact_carve(model, limits, arena);
    struct fault fault;
    const struct cpu_kernels *kernels = isa_choose(isa, &fault);
    wick_assert(kernels != NULL);
    if (strcmp(isa, "auto") == 0 && kernels == &cpu_kernels_amx && cpu_prefers_integers(model))
        kernels = &cpu_kernels_avx512;
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
