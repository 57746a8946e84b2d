#include <stdlib.h>
#include <string.h>

#include "tests/ptx/decode.h"

struct ptx_module *ptx_module_parse(const char *text, struct ptx_error *error) {
    struct ptx_module *module = calloc(1, sizeof *module);
    if (!module) return NULL;
    error->text[0] = 0;
    if (source_parse(module, text, error) && decode_module(module, error)) return module;
    ptx_module_free(module);
    return NULL;
}

void ptx_module_free(struct ptx_module *module) {
    if (!module) return;
    pool_free(&module->pool);
    free(module);
}

static bool variable_is_memory(const struct variable *v) {
    return (v->space == SPACE_GLOBAL || v->space == SPACE_CONST) && v->size > 0;
}

bool ptx_module_attach(struct ptx_module *module, struct ptx_memory *memory) {
    for (size_t i = 0; i < module->variable_count; i++) {
        const struct variable *v = module->variables[i];
        if (!variable_is_memory(v)) continue;
        void *bytes = (void *)(uintptr_t)v->offset;
        if (!ptx_memory_add(memory, bytes, v->size, v->name, PTX_MEMORY_DEVICE)) return false;
        ptx_memory_mark(memory, bytes, v->size, true); /* what is not initialised is zero */
    }
    return true;
}

void ptx_module_detach(struct ptx_module *module, struct ptx_memory *memory) {
    for (size_t i = 0; i < module->variable_count; i++)
        if (variable_is_memory(module->variables[i]))
            (void)ptx_memory_remove(memory, (void *)(uintptr_t)module->variables[i]->offset);
}

unsigned ptx_module_version(const struct ptx_module *module) {
    return module->version;
}

unsigned ptx_module_target(const struct ptx_module *module) {
    return module->target;
}

bool ptx_module_global(const struct ptx_module *module, const char *name, void **address,
                       size_t *size) {
    for (size_t i = 0; i < module->variable_count; i++) {
        const struct variable *v = module->variables[i];
        if (!variable_is_memory(v) || strcmp(v->name, name) != 0) continue;
        if (address) *address = (void *)(uintptr_t)v->offset;
        if (size) *size = v->size;
        return true;
    }
    return false;
}

size_t ptx_module_kernel_count(const struct ptx_module *module) {
    return module->kernel_count;
}

const struct ptx_kernel *ptx_module_kernel(const struct ptx_module *module, size_t index) {
    return index < module->kernel_count ? module->kernels[index] : NULL;
}

const struct ptx_kernel *ptx_kernel_find(const struct ptx_module *module, const char *name) {
    for (size_t i = 0; i < module->kernel_count; i++)
        if (strcmp(module->kernels[i]->facts.name, name) == 0) return module->kernels[i];
    return NULL;
}

struct ptx_kernel_facts ptx_kernel_describe(const struct ptx_kernel *kernel) {
    return kernel->facts;
}
