#include "cuda/start_block.h"

#include <elf.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/panic.h"

/* Of our environment, what the driver must not see: it would steer the loader or the allocator. */
static const char *const withheld[] = {"LD_", "GLIBC_TUNABLES=", "MALLOC_"};

/* Set for the driver, unless our environment says otherwise. */
static const char *const wanted[] = {
    "LD_BIND_NOW=1",
    "CUDA_MODULE_LOADING=EAGER", /* nothing is loaded, or allocated, in the middle of a step */
    "CUDA_DEVICE_ORDER=PCI_BUS_ID",
};

/* Libraries that are opened later may have more thread-local storage than glibc sets aside. */
static const char static_tls[] = "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=32768";

static bool begins(const char *text, const char *head) {
    return strncmp(text, head, strlen(head)) == 0;
}

static bool is_withheld(const char *variable) {
    for (size_t i = 0; i < sizeof withheld / sizeof *withheld; i++) {
        if (begins(variable, withheld[i])) return true;
    }
    return false;
}

static uint64_t *push(struct start_block *block, uint64_t *at, uint64_t word) {
    wick_assert(at < block->words + START_BLOCK_WORDS);
    *at = word;
    return at + 1;
}

/* A variable that is not one of ours. */
static uint64_t *push_variable(struct start_block *block, uint64_t *at, const char *name,
                               const char *value) {
    char *text = block->text + block->n_text;
    size_t room = START_TEXT_BYTES - block->n_text;
    int length = snprintf(text, room, "%s%s", name, value);
    wick_assert(length >= 0 && (size_t)length < room);
    block->n_text += (uint32_t)length + 1;
    return push(block, at, (uint64_t)(uintptr_t)text);
}

static uint64_t *push_text(struct start_block *block, uint64_t *at, const char *text) {
    return push(block, at, (uint64_t)(uintptr_t)text);
}

/* Variables beyond the first few hundred are left out: the block is no place for a long list. */
static uint64_t *push_environment(struct start_block *block, uint64_t *at,
                                  const struct start_wish *wish) {
    const uint64_t *end = block->words + START_BLOCK_WORDS / 2;
    at = push_variable(block, at, "LD_LIBRARY_PATH=", wish->library_path);
    if (!wish->no_tunables) at = push_variable(block, at, static_tls, "");
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        size_t name = strcspn(wanted[i], "=") + 1;
        bool given = false;
        for (char **v = environ; *v != NULL && !is_withheld(wanted[i]); v++) {
            given |= strncmp(*v, wanted[i], name) == 0;
        }
        if (!given) at = push_variable(block, at, wanted[i], "");
    }
    for (char **v = environ; *v != NULL && at < end; v++) {
        if (!is_withheld(*v)) at = push_text(block, at, *v);
    }
    return push(block, at, 0);
}

/* Our own vector lies behind our own environment. What stays: without AT_RANDOM glibc crashes,
 * without AT_SYSINFO_EHDR every look at a clock is a system call. */
static const Elf64_auxv_t *vector_of_ours(void) {
    char **v = environ;
    while (*v != NULL) v++;
    return (const Elf64_auxv_t *)(const void *)(v + 1);
}

static uint64_t *push_vector(struct start_block *block, uint64_t *at,
                             const struct elf_image *helper, const struct elf_image *loader,
                             const struct handover *handover) {
    const Elf64_auxv_t ours[] = {
        {AT_PHDR, {helper->headers}},
        {AT_PHENT, {sizeof(Elf64_Phdr)}},
        {AT_PHNUM, {helper->n_headers}},
        {AT_BASE, {loader->base}},
        {AT_ENTRY, {helper->entry}},
        {AT_EXECFN, {(uint64_t)(uintptr_t) "wick"}},
        {AT_FLAGS, {0}},
        {AT_SECURE, {0}}, /* or LD_LIBRARY_PATH, which we have made, is not read */
        {HANDOVER_AUX_TYPE, {(uint64_t)(uintptr_t)handover}},
    };
    for (const Elf64_auxv_t *entry = vector_of_ours(); entry->a_type != AT_NULL; entry++) {
        bool replaced = false;
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
            replaced |= entry->a_type == ours[i].a_type;
        }
        if (replaced) continue;
        at = push(block, at, entry->a_type);
        at = push(block, at, entry->a_un.a_val);
    }
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        at = push(block, at, ours[i].a_type);
        at = push(block, at, ours[i].a_un.a_val);
    }
    at = push(block, at, AT_NULL);
    return push(block, at, 0);
}

void start_block_build(struct start_block *block, const struct start_wish *wish,
                       const struct elf_image *helper, const struct elf_image *loader,
                       const struct handover *handover) {
    block->n_text = 0;
    uint64_t *at = block->words;
    at = push(block, at, 1); /* argc */
    at = push_text(block, at, "wick");
    at = push(block, at, 0);
    at = push_environment(block, at, wish);
    push_vector(block, at, helper, loader, handover);
}
