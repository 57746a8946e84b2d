/* elf_image: a position-independent ELF file laid out in memory as the kernel would do it for a
 * program: segments mapped, nothing relocated (the loader does that, for itself first). */
#ifndef WICK_CUDA_ELF_IMAGE_H
#define WICK_CUDA_ELF_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

struct elf_image {
    uint64_t base;
    uint64_t entry;
    uint64_t headers; /* address of the program headers */
    uint16_t n_headers;
};

/* From bytes in memory, copied to pages of their own. `name` is for the fault. */
bool elf_image_copy(struct elf_image *image, const char *name, const void *bytes, size_t n,
                    struct fault *fault);

/* From a file, mapped privately. */
bool elf_image_map(struct elf_image *image, const char *path, struct fault *fault);

#endif
