#include "cuda/modules.h"

#include <link.h>
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

/* Whether a loaded segment holds the table: bytes of its file, not only addresses. */
static int segment_look(struct dl_phdr_info *program, size_t size, void *found) {
    uintptr_t table = (uintptr_t)ptx_modules - program->dlpi_addr;
    (void)size;
    for (int i = 0; i < program->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &program->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && table - segment->p_vaddr < segment->p_filesz)
            *(bool *)found = true;
    }
    return 0;
}

bool modules_present(void) {
    bool found = false;
    dl_iterate_phdr(segment_look, &found);
    return found;
}

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
