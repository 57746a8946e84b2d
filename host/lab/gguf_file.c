#include "lab/gguf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_map(struct gguf_file *file, int fd, struct fault *fault) {
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: %s", file->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: not a regular file", file->path);
    file->length = (uint64_t)st.st_size;
    if (file->length == 0) return true; /* nothing to map; the parser says what is wrong */
    void *map = mmap(NULL, (size_t)file->length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: mmap: %s", file->path,
                         strerror(errno));
    file->bytes = map;
    return true;
}

bool gguf_file_open(struct gguf_file *file, const char *path, struct fault *fault) {
    *file = (struct gguf_file){.path = path};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: %s", path, strerror(errno));
    bool mapped = file_map(file, fd, fault);
    close(fd);
    if (!mapped) return false;

    struct fault reason;
    file->gguf = malloc(sizeof *file->gguf);
    bool parsed = false;
    if (file->gguf == NULL)
        fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "%s: out of memory", path);
    else if (!gguf_parse(file->gguf, file->bytes, file->length, &reason))
        fault_set(fault, reason.code, "%s: %s", path, reason.text);
    else
        parsed = true;
    if (!parsed) gguf_file_close(file);
    return parsed;
}

void gguf_file_close(struct gguf_file *file) {
    free(file->gguf);
    if (file->bytes != NULL) munmap((void *)file->bytes, (size_t)file->length);
    *file = (struct gguf_file){0};
}
