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

/* Weights that stay in the caches are not waited for. Integers then decode faster as such than in
 * the bfloat16 of tiles (1.35 times on the demo model, whose prompts take twice as long).
 */
static bool cpu_prefers_integers(const struct model *model) {
    enum { CACHED_BYTES = 16 << 20 };
    uint64_t bytes = model->output.bytes;
    for (uint32_t i = 0; i < model->geo.n_layers; i++) {
        const struct model_layer *layer = &model->layer[i];
        bytes += layer->q.bytes + layer->k.bytes + layer->v.bytes + layer->attn_out.bytes +
                 layer->gate.bytes + layer->up.bytes + layer->down.bytes;
    }
    const struct packed_matrix gate = pack_describe(&model->layer[0].gate);
    return bytes < CACHED_BYTES && pack_format(gate.kind)->sub != 0 &&
           kernels_input(&cpu_kernels_amx, &gate) == INPUT_BF16;
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

enum { MASK_BITS = 8 * sizeof(cpu_set_t) }; /* musl's CPU_SETSIZE counts bytes */

/* Processors of the affinity mask, as many as fit. */
static bool cpu_allowed(struct processors *allowed, cpu_set_t *mask, struct fault *fault) {
    allowed->n = 0;
    if (sched_getaffinity(0, sizeof *mask, mask) != 0)
        return fault_set(fault, FAULT_INTERNAL, "cannot read the processor affinity mask");
    for (uint32_t cpu = 0; cpu < MASK_BITS && allowed->n < PROCESSORS_MAX; cpu++)
        if (CPU_ISSET(cpu, mask)) allowed->number[allowed->n++] = (uint16_t)cpu;
    return true;
}

static bool cpu_check_listed(const struct processors *listed, uint32_t threads,
                             const struct processors *allowed, const cpu_set_t *mask,
                             struct fault *fault) {
    char there[PROCESSORS_TEXT_BYTES];
    for (uint32_t i = 0; i < listed->n; i++) {
        if (CPU_ISSET(listed->number[i], mask)) continue;
        processors_show(allowed, there, sizeof there);
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "cpus=: processor %u is not there, or not for this process to run on; its "
                         "affinity mask has %s",
                         listed->number[i], there);
    }
    return threads <= listed->n ||
           fault_set(fault, FAULT_INVALID_REQUEST,
                     "threads=%u is more than the %u processors of cpus=", threads, listed->n);
}

bool cpu_choose(const struct processors *listed, uint32_t threads, struct processors *chosen,
                struct fault *fault) {
    _Static_assert((int)PROCESSORS_NUMBER_LAST < (int)MASK_BITS, "a mask has every number");
    struct processors allowed;
    cpu_set_t mask;
    if (!cpu_allowed(&allowed, &mask, fault)) return false;
    if (listed->n > 0 && !cpu_check_listed(listed, threads, &allowed, &mask, fault)) return false;
    const struct processors *from = listed->n > 0 ? listed : &allowed;
    uint32_t quota = listed->n > 0 ? 0 : cpu_quota();
    wick_assert(from->n > 0);
    if (threads == 0) threads = quota > 0 && quota < from->n ? quota : from->n;
    for (uint32_t i = 0; i < threads; i++) chosen->number[i] = from->number[i % from->n];
    chosen->n = threads;
    return true;
}
