/* unicode: the general categories of code points, as far as pre-splits ask about them.
 * The table is unicode_table.c, made from the Unicode Character Database by unicode_table.py. */
#ifndef WICK_TOKEN_UNICODE_H
#define WICK_TOKEN_UNICODE_H

#include <stdint.h>

/* Bits; at most one of the first five is set. */
enum unicode_flag {
    UNICODE_LETTER = 1 << 0,      /* \p{L} */
    UNICODE_NUMBER = 1 << 1,      /* \p{N} */
    UNICODE_PUNCTUATION = 1 << 2, /* \p{P} */
    UNICODE_SYMBOL = 1 << 3,      /* \p{S} */
    UNICODE_MARK = 1 << 4,        /* \p{M} */
    UNICODE_SPACE = 1 << 5        /* \s: property White_Space */
};

/* 0 for what has none of these (controls, unassigned). A code point beyond U+10FFFF (UTF8_BAD
 * above all) counts as U+FFFD does: a symbol. */
uint8_t unicode_flags(uint32_t code_point);

/* The table: ascending, starting at 0; each entry is first code point << 8 | flags. */
extern const uint32_t unicode_ranges[];
extern const uint32_t unicode_n_ranges;

#endif
