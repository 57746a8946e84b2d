/* Fuzz entry: a vocabulary and a text for it. The input is the length of a GGUF file (four bytes,
 * little-endian), the file, a byte of options, and the text. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "token/vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MEMORY_MAX = 64 << 20, TEXT_MAX = 4096 };

static void encode_and_decode(const struct vocab *vocab, struct vocab_scratch *scratch,
                              const char *text, size_t length, uint8_t options) {
    static int32_t ids[4 * TEXT_MAX];
    static char back[64 * TEXT_MAX];
    struct vocab_encode_options how = {options & 1, options & 2};
    size_t n = vocab_encode(vocab, scratch, text, length, how, ids, sizeof ids / sizeof *ids);
    if (n > sizeof ids / sizeof *ids) n = sizeof ids / sizeof *ids;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= vocab->n_tokens) abort();
    vocab_decode(vocab, ids, n, options & 4, back, sizeof back);
}

static void use(const struct gguf *gguf, const char *text, size_t length, uint8_t options) {
    static struct vocab vocab;
    struct vocab_scratch scratch;
    struct arena arena;
    struct fault fault;
    memset(&vocab, 0, sizeof vocab);
    arena_measure(&arena);
    if (!vocab_carve(&vocab, gguf, &arena, &fault)) return;
    vocab_scratch_carve(&scratch, &vocab, TEXT_MAX, &arena);
    size_t bytes = arena.used;
    void *memory =
        bytes <= MEMORY_MAX ? aligned_alloc(ARENA_PAGE, round_up(bytes + 1, ARENA_PAGE)) : NULL;
    if (memory == NULL) return;
    memset(memory, 0, bytes);
    arena_open(&arena, memory, bytes);
    if (vocab_carve(&vocab, gguf, &arena, &fault)) {
        vocab_scratch_carve(&scratch, &vocab, TEXT_MAX, &arena);
        if (vocab_fill(&vocab, gguf, &fault))
            encode_and_decode(&vocab, &scratch, text, length, options);
    }
    free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct gguf gguf;
    struct fault fault;
    if (size < 5) return 0;
    uint32_t file = bytes_u32(data);
    if (file > size - 5) return 0;
    size_t length = size - 5 - file;
    if (length > TEXT_MAX) length = TEXT_MAX;
    if (gguf_parse(&gguf, data + 4, file, &fault))
        use(&gguf, (const char *)data + 5 + file, length, data[4 + file]);
    return 0;
}
