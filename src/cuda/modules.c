#include "cuda/modules.h"

#include <stdint.h>
#include <string.h>

/* The list, and the directory it lies in, come from kernels.mk. */
__asm__(".section .ptx, \"a\"\n"
        ".balign 16\n"
        ".globl ptx_modules\n"
        ".globl ptx_modules_end\n"
        "ptx_modules:\n"
        ".include \"modules.inc\"\n"
        ".previous\n");

/* Offsets from the start of the table. */
struct module_entry {
    uint32_t name, text, bytes;
};
extern const struct module_entry ptx_modules[], ptx_modules_end[];

struct module_text module_at(size_t index) {
    if (index >= (size_t)(ptx_modules_end - ptx_modules)) return (struct module_text){0};
    const struct module_entry *entry = &ptx_modules[index];
    const char *base = (const char *)ptx_modules;
    return (struct module_text){
        .name = base + entry->name, .text = base + entry->text, .bytes = entry->bytes};
}

struct module_text module_find(const char *name) {
    size_t index = 0;
    struct module_text module = module_at(index);
    while (module.name != NULL && strcmp(module.name, name) != 0) module = module_at(++index);
    return module;
}
