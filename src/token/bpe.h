/* bpe: byte-level BPE, GGUF's tokenizer 'gpt2'. Text is cut into pieces (presplit.h); the bytes of
 * a piece are merged by the rank of the pair in the file's list. Tokens spell bytes with the
 * printable characters of GPT-2's table. */
#ifndef WICK_TOKEN_BPE_H
#define WICK_TOKEN_BPE_H

#include "token/ids.h"
#include "token/vocab.h"

/* Working memory for texts of at most text_max bytes, aligned to 16. */
size_t bpe_memory_bytes(size_t text_max);

/* Appends the ids of text to *ids. Knows no special tokens. */
void bpe_encode(const struct vocab *vocab, void *memory, size_t text_max, const char *text,
                size_t length, struct ids *ids);

/* The character that spells a byte, as UTF-8 (1 or 2 bytes), and the byte a character spells
 * (-1: none). */
size_t bpe_spell_byte(uint8_t byte, char out[2]);
int bpe_byte_of(uint32_t code_point);

/* The merge list: the rank of a pair is its place in the file. The first of equal pairs counts. */
bool bpe_merge_find(const struct vocab *vocab, int32_t left, int32_t right, int32_t *id,
                    uint32_t *rank);
void bpe_merge_insert(struct vocab *vocab, int32_t left, int32_t right, int32_t id, uint32_t rank);

#endif
