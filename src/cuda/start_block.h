/* start_block: what lies at the top of a new program's stack: argc, argv, environment, auxiliary
 * vector. The loader and libc.so.6 read it as if the driver thread were a process of its own. */
#ifndef WICK_CUDA_START_BLOCK_H
#define WICK_CUDA_START_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "cuda/elf_image.h"
#include "cuda/helper/handover.h"

enum { START_BLOCK_WORDS = 1024, START_TEXT_BYTES = 2048 };

struct start_block {
    /* The stack pointer at the start. The stack grows down from here, over whatever lies below. */
    _Alignas(16) uint64_t words[START_BLOCK_WORDS];
    char text[START_TEXT_BYTES]; /* variables of its own: glibc writes to what it parses */
    uint32_t n_text;
};

/* What goes into the environment. */
struct start_wish {
    const char *library_path; /* LD_LIBRARY_PATH */
    bool no_tunables;         /* glibc before 2.35 copies GLIBC_TUNABLES to where its program break
                               * was, and gives up when that cannot be moved */
};

/* Fills the block. The environment is ours, without what is meant for a loader or an allocator, and
 * with what the driver needs; the auxiliary vector is ours, with the helper as the program. */
void start_block_build(struct start_block *block, const struct start_wish *wish,
                       const struct elf_image *helper, const struct elf_image *loader,
                       const struct handover *handover);

#endif
