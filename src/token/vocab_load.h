/* vocab_load: what loading a vocabulary (vocab_load.c) and using it (vocab.c) share. */
#ifndef WICK_TOKEN_VOCAB_LOAD_H
#define WICK_TOKEN_VOCAB_LOAD_H

#include <stddef.h>
#include <stdint.h>

/* Of the table text -> id. */
uint32_t vocab_text_hash(const char *text, size_t length);

/* The byte that a byte token's text "<0xHH>" names; -1 if it is not spelled so. */
int vocab_byte_spelled(const char *text, size_t length);

#endif
