/* gguf_file: a GGUF opened, mapped and parsed, for the tools of the workstation. */
#ifndef WICK_LAB_GGUF_FILE_H
#define WICK_LAB_GGUF_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "gguf/gguf.h"

struct gguf_file {
    const char *path;
    const uint8_t *bytes;
    uint64_t length;
    struct gguf *gguf; /* on the heap: it is large */
};

/* The fault's text begins with the path. */
bool gguf_file_open(struct gguf_file *file, const char *path, struct fault *fault);
void gguf_file_close(struct gguf_file *file);

#endif
