/* utf8: checking text, and holding back the unfinished character at the end of a stream. */
#ifndef WICK_TOKEN_UTF8_H
#define WICK_TOKEN_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes one character at text[0..length). Returns its byte count (1 to 4) and its code point, or
 * 1 and UTF8_BAD for a byte that starts no valid character here (overlong, surrogate, beyond
 * U+10FFFF, cut). */
enum { UTF8_BAD = 0xFFFFFFFF };
size_t utf8_decode(const char *text, size_t length, uint32_t *code_point);
/* 1 to 4 bytes. */
size_t utf8_encode(uint32_t code_point, char out[4]);

/* How many bytes at the end of text are the beginning of a character that more bytes could still
 * finish (0 to 3). Bytes that can never become valid do not count. */
size_t utf8_unfinished(const char *text, size_t length);

/* Copies text to out, each invalid byte sequence replaced by U+FFFD (maximal subpart practice,
 * Unicode 3.9). out must hold 3 * length bytes. Returns bytes written. */
size_t utf8_repair(const char *text, size_t length, char *out);

/* Characters in text, an invalid byte counting as one. */
size_t utf8_count(const char *text, size_t length);

#endif
