#include "cuda/elf_image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/panic.h"

enum { PAGE = 4096, HEADERS_MAX = 32 };

/* Where the bytes of the segments come from: memory, or a file. */
struct elf_source {
    const char *name;
    const uint8_t *bytes; /* NULL: the file */
    size_t n_bytes;
    int fd;
    Elf64_Ehdr header;
    Elf64_Phdr segment[HEADERS_MAX];
};

static uint64_t page_down(uint64_t address) {
    return address & ~(uint64_t)(PAGE - 1);
}

static uint64_t page_up(uint64_t address) {
    return page_down(address + PAGE - 1);
}

static bool source_read(const struct elf_source *source, void *to, size_t n, uint64_t offset) {
    if (source->bytes == NULL) return pread(source->fd, to, n, (off_t)offset) == (ssize_t)n;
    if (offset > source->n_bytes || n > source->n_bytes - offset) return false;
    memcpy(to, source->bytes + offset, n);
    return true;
}

static bool source_refuse(const struct elf_source *source, const char *why, struct fault *fault) {
    return fault_set(fault, FAULT_CUDA_ERROR, "mapping %s: %s", source->name, why);
}

/* Reads and checks the headers, and finds the span of all segments in bytes. */
static bool source_open(struct elf_source *source, uint64_t *span, struct fault *fault) {
    Elf64_Ehdr *header = &source->header;
    if (!source_read(source, header, sizeof *header, 0) ||
        memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64 ||
        header->e_machine != EM_X86_64 || header->e_type != ET_DYN) {
        return source_refuse(source, "not a shared object for x86-64", fault);
    }
    size_t bytes = (size_t)header->e_phnum * sizeof(Elf64_Phdr);
    if (header->e_phnum > HEADERS_MAX || header->e_phentsize != sizeof(Elf64_Phdr) ||
        !source_read(source, source->segment, bytes, header->e_phoff)) {
        return source_refuse(source, "its program headers cannot be read", fault);
    }
    *span = 0;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        const Elf64_Phdr *s = &source->segment[i];
        if (s->p_type != PT_LOAD) continue;
        /* 2^40: no sum below can overflow. */
        if (s->p_vaddr >> 40 != 0 || s->p_memsz >> 40 != 0 || s->p_filesz > s->p_memsz ||
            (s->p_vaddr - s->p_offset) % PAGE != 0) {
            return source_refuse(source, "a segment has impossible numbers", fault);
        }
        if (s->p_vaddr + s->p_memsz > *span) *span = page_up(s->p_vaddr + s->p_memsz);
    }
    return *span > 0 || source_refuse(source, "it has no segments", fault);
}

static int segment_protection(const Elf64_Phdr *s) {
    return ((s->p_flags & PF_R) ? PROT_READ : 0) | ((s->p_flags & PF_W) ? PROT_WRITE : 0) |
           ((s->p_flags & PF_X) ? PROT_EXEC : 0);
}

/* The pages are there, writable and zero. */
static bool segment_copy(const struct elf_source *source, const Elf64_Phdr *s, uint64_t base) {
    uint64_t start = page_down(base + s->p_vaddr);
    return source_read(source, (void *)(uintptr_t)(base + s->p_vaddr), s->p_filesz, s->p_offset) &&
           mprotect((void *)(uintptr_t)start, page_up(base + s->p_vaddr + s->p_memsz) - start,
                    segment_protection(s)) == 0;
}

static bool segment_map(const struct elf_source *source, const Elf64_Phdr *s, uint64_t base) {
    uint64_t start = page_down(base + s->p_vaddr);
    uint64_t file_end = base + s->p_vaddr + s->p_filesz;
    uint64_t end = page_up(base + s->p_vaddr + s->p_memsz);
    int protection = segment_protection(s);
    if (s->p_filesz > 0 &&
        mmap((void *)(uintptr_t)start, file_end - start, protection, MAP_PRIVATE | MAP_FIXED,
             source->fd, (off_t)page_down(s->p_offset)) == MAP_FAILED) {
        return false;
    }
    if (s->p_memsz == s->p_filesz) return true;
    /* What follows the file's bytes is zero: the rest of their page, and more pages. */
    uint64_t zero_end = page_up(file_end);
    if ((protection & PROT_WRITE) == 0) return false;
    memset((void *)(uintptr_t)file_end, 0, zero_end - file_end);
    return zero_end >= end ||
           mprotect((void *)(uintptr_t)zero_end, end - zero_end, protection) == 0;
}

static bool source_lay_out(const struct elf_source *source, uint64_t span, struct elf_image *image,
                           struct fault *fault) {
    const Elf64_Ehdr *header = &source->header;
    void *pages = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return source_refuse(source, strerror(errno), fault);
    uint64_t base = (uint64_t)(uintptr_t)pages;
    for (unsigned i = 0; i < header->e_phnum; i++) {
        const Elf64_Phdr *s = &source->segment[i];
        if (s->p_type != PT_LOAD) continue;
        bool fine =
            source->bytes != NULL ? segment_copy(source, s, base) : segment_map(source, s, base);
        if (!fine) return source_refuse(source, "a segment cannot be mapped", fault);
    }
    image->base = base;
    image->entry = base + header->e_entry;
    image->headers = base + header->e_phoff;
    image->n_headers = header->e_phnum;
    return true;
}

static bool source_load(struct elf_source *source, struct elf_image *image, struct fault *fault) {
    uint64_t span = 0;
    return source_open(source, &span, fault) && source_lay_out(source, span, image, fault);
}

bool elf_image_copy(struct elf_image *image, const char *name, const void *bytes, size_t n,
                    struct fault *fault) {
    wick_assert(bytes != NULL);
    struct elf_source source = {.name = name, .bytes = bytes, .n_bytes = n, .fd = -1};
    return source_load(&source, image, fault);
}

bool elf_image_map(struct elf_image *image, const char *path, struct fault *fault) {
    struct elf_source source = {.name = path, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (source.fd < 0) return source_refuse(&source, strerror(errno), fault);
    bool fine = source_load(&source, image, fault);
    close(source.fd);
    return fine;
}
