#include "engine/plan.h"

#include <stdio.h>
#include <string.h>

enum { PLAN_MIB = 1 << 20, PLAN_CPUS_BYTES = 32 };

static const char *plan_row(char out[PLAN_LINE_BYTES], const char *name, uint64_t bytes,
                            const char *note) {
    snprintf(out, PLAN_LINE_BYTES, "%-22s %16llu  %10.2f MiB%s%s", name, (unsigned long long)bytes,
             (double)bytes / PLAN_MIB, note[0] != '\0' ? "  " : "", note);
    return out;
}

/* What a section's size comes from. */
static const char *plan_note(const struct engine *engine, const char *name, char *out,
                             size_t bytes) {
    out[0] = '\0';
    if (strstr(name, "KV cache") != NULL)
        snprintf(out, bytes, "slots=%u ctx=%u pages=%u", engine->slots, engine->ctx,
                 engine->n_pages);
    if (strstr(name, "stacks") != NULL) {
        char cpus[PLAN_CPUS_BYTES];
        processors_show(&engine->cpus, cpus, sizeof cpus);
        snprintf(out, bytes, "threads=%u on processors %s", engine->cpus.n, cpus);
    }
    return out;
}

const char *plan_line(const struct arena *arena, const struct engine *engine, size_t index,
                      char out[PLAN_LINE_BYTES]) {
    char note[64];
    if (index == 0) {
        snprintf(out, PLAN_LINE_BYTES, "%-22s %16s  %14s", "memory", "bytes", "");
        return out;
    }
    index--;
    if (index < arena->n_sections) {
        const struct arena_section *section = &arena->section[index];
        return plan_row(out, section->name, section->bytes,
                        plan_note(engine, section->name, note, sizeof note));
    }
    index -= arena->n_sections;
    if (index == 0) return plan_row(out, "arena, in all", arena->used, "one mapping");
    if (engine->cuda) {
        const struct arena *vram = &engine->vram;
        if (index <= vram->n_sections) {
            const struct arena_section *section = &vram->section[index - 1];
            return plan_row(out, section->name, section->bytes,
                            plan_note(engine, section->name, note, sizeof note));
        }
        index -= vram->n_sections;
        if (index == 1) return plan_row(out, "GPU memory, in all", vram->used, "one allocation");
        if (index == 2) return plan_row(out, "pinned memory", engine->pinned.used, "the driver's");
        index -= 2;
    }
    if (index == 1)
        return plan_row(out, "model file", engine->file_bytes,
                        engine->mapped ? "stays mapped: weights are not packed"
                                       : "mapped while loading only");
    if (index == 2 && engine->mapped)
        return plan_row(out, "saved", engine_saved(engine), "of what weights=packed takes");
    return NULL;
}
