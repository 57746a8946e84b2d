/* spm: SentencePiece BPE, GGUF's tokenizer 'llama'. Spaces become U+2581, characters are merged by
 * the score of what they become, and what is no token falls back to byte tokens or the unknown
 * token. */
#ifndef WICK_TOKEN_SPM_H
#define WICK_TOKEN_SPM_H

#include "token/ids.h"
#include "token/vocab.h"

/* Working memory for texts of at most text_max bytes, aligned to 16. */
size_t spm_memory_bytes(size_t text_max);

/* Appends the ids of text to *ids; with a space in front if `prefix`. Knows no special tokens. */
void spm_encode(const struct vocab *vocab, void *memory, size_t text_max, const char *text,
                size_t length, bool prefix, struct ids *ids);

#endif
