#include "lab/tokenize.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "lab/gguf_file.h"
#include "token/vocab.h"

/* Loads the vocabulary and the scratch to encode text_max bytes. */
static bool load(const struct gguf *gguf, size_t text_max, struct vocab *vocab,
                 struct vocab_scratch *scratch, struct fault *fault) {
    struct arena arena;
    arena_measure(&arena);
    if (!vocab_carve(vocab, gguf, &arena, fault)) return false;
    vocab_scratch_carve(scratch, vocab, text_max, &arena);
    size_t size = arena.used;
    if (!arena_map(&arena, size, fault) || !vocab_carve(vocab, gguf, &arena, fault)) return false;
    vocab_scratch_carve(scratch, vocab, text_max, &arena);
    return vocab_fill(vocab, gguf, fault);
}

/* The same from a file, whose name every fault then begins with. */
static bool load_file(const char *path, size_t text_max, struct vocab *vocab,
                      struct vocab_scratch *scratch, struct fault *fault) {
    struct gguf_file file;
    struct fault inner;
    if (!gguf_file_open(&file, path, fault)) return false;
    bool ok = load(file.gguf, text_max, vocab, scratch, &inner);
    if (!ok) fault_set(fault, inner.code, "%s: %s", path, inner.text);
    gguf_file_close(&file);
    return ok;
}

/* All of stdin; NULL with a fault when that fails. */
static char *read_stdin(size_t *length, struct fault *fault) {
    size_t capacity = 1 << 16, used = 0;
    char *text = malloc(capacity);
    while (text) {
        if (used == capacity) {
            char *larger = realloc(text, capacity * 2);
            if (!larger) break;
            text = larger;
            capacity *= 2;
        }
        ssize_t n = read(STDIN_FILENO, text + used, capacity - used);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            fault_set(fault, FAULT_INVALID_REQUEST, "stdin: %s", strerror(errno));
            free(text);
            return NULL;
        }
        if (n == 0) {
            *length = used;
            return text;
        }
        used += (size_t)n;
    }
    fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "stdin: out of memory after %zu bytes", used);
    free(text);
    return NULL;
}

static bool print_ids(const struct vocab *vocab, struct vocab_scratch *scratch, const char *text,
                      size_t length, struct vocab_encode_options options, struct fault *fault) {
    /* Every byte makes at most one id, or three where the space in front of a piece falls back to
     * its bytes. */
    size_t cap = 4 * length + 4;
    int32_t *ids = malloc(cap * sizeof *ids);
    if (!ids) return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
    size_t n = vocab_encode(vocab, scratch, text, length, options, ids, cap);
    for (size_t i = 0; i < n && i < cap; i++) printf(i > 0 ? " %d" : "%d", ids[i]);
    printf("\n");
    free(ids);
    if (fflush(stdout) != 0) return fault_set(fault, FAULT_INTERNAL, "stdout: %s", strerror(errno));
    return true;
}

static bool tokenize(const struct config *config, struct fault *fault) {
    if (!config->model)
        return fault_set(fault, FAULT_INVALID_REQUEST, "model= is missing: name a GGUF file");
    size_t length;
    char *text = read_stdin(&length, fault);
    if (!text) return false;
    struct vocab vocab;
    struct vocab_scratch scratch;
    struct vocab_encode_options options = {
        .add_bos = config->add_bos_set && config->add_bos,
        .parse_special = config->parse_special,
    };
    bool ok = load_file(config->model, length, &vocab, &scratch, fault) &&
              print_ids(&vocab, &scratch, text, length, options, fault);
    free(text);
    return ok;
}

int tokenize_run(const struct config *config) {
    struct fault fault;
    if (tokenize(config, &fault)) return 0;
    fprintf(stderr, "wick-lab tokenize: %s: %s\n", fault_kind(fault.code)->word, fault.text);
    return 1;
}
