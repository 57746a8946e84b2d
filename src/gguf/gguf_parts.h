/* gguf_parts: what the files of the GGUF reader share with each other and with nobody else. */
#ifndef WICK_GGUF_GGUF_PARTS_H
#define WICK_GGUF_GGUF_PARTS_H

#include <stdint.h>

#include "gguf/gguf.h"

/* A fault whose text is "offset 0x...: " and the reason. Returns false. */
bool gguf_refuse(struct fault *fault, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Bytes of a value of that type, 0 for strings, arrays and unknown types. */
uint64_t gguf_type_bytes(enum gguf_type type);

/* What a file without the magic of GGUF seems to be, and what to do. Never NULL. */
const char *gguf_foreign_name(const uint8_t *bytes, uint64_t length);

/* Negative, zero or positive, as memcmp; a prefix comes first. */
int gguf_string_compare(struct gguf_string a, struct gguf_string b);

/* Fill the indexes of *gguf and refuse what is there twice or overlaps. */
bool gguf_order_keys(struct gguf *gguf, struct fault *fault);
bool gguf_order_tensors(struct gguf *gguf, struct fault *fault);

#endif
