/* gguf_maker: a small valid GGUF in memory, whose every field can be found and overwritten, so that
 * a malformed file is one line of a table. */
#ifndef TEST_GGUF_MAKER_H
#define TEST_GGUF_MAKER_H

#include <stddef.h>
#include <stdint.h>

/* The fields of the made file, in its order:
 *
 *   key-values  general.architecture = "llama", general.alignment = u32 32, made.flag = bool 1,
 *               made.words = ["one", "two", "three"], made.numbers = i32 [1, 2, 3, 4],
 *               made.flags = bool [0, 1], split.count = u16 1, made.last = u64 7
 *   tensors     a.weight Q8_0 (64, 3) at 0, b.weight F32 (8) at 224, c.weight Q4_K (256, 2) at 256
 */
enum gguf_field {
    FIELD_NONE,
    FIELD_MAGIC,
    FIELD_VERSION,
    FIELD_N_TENSORS,
    FIELD_N_KV,
    FIELD_ARCHITECTURE_KEY_LENGTH,
    FIELD_ARCHITECTURE_TYPE,
    FIELD_ARCHITECTURE_LENGTH,
    FIELD_ALIGNMENT_KEY_TEXT, /* eight bytes: "general." */
    FIELD_ALIGNMENT_TYPE,
    FIELD_ALIGNMENT,
    FIELD_FLAG_KEY_TEXT, /* "made.flag", at its end 'f' 'l' 'a' 'g' */
    FIELD_FLAG,
    FIELD_WORDS_ELEMENT,
    FIELD_WORDS_COUNT,
    FIELD_WORD_LENGTH, /* of "one" */
    FIELD_LAST_WORD_LENGTH,
    FIELD_NUMBERS_ELEMENT,
    FIELD_NUMBERS_COUNT,
    FIELD_FLAGS_COUNT,
    FIELD_SECOND_FLAG,
    FIELD_SPLIT_COUNT,
    FIELD_LAST_KEY_TEXT, /* "made.last", its last four bytes */
    FIELD_LAST,
    FIELD_A_OFFSET_IN_HEADER, /* nothing to write: where the entry of a.weight starts */
    FIELD_A_NAME_LENGTH,
    FIELD_A_NAME_TEXT, /* one byte: 'a' */
    FIELD_A_N_DIMS,
    FIELD_A_COLS,
    FIELD_A_ROWS,
    FIELD_A_TYPE,
    FIELD_A_OFFSET,
    FIELD_B_NAME_TEXT,
    FIELD_B_COLS,
    FIELD_B_TYPE,
    FIELD_B_OFFSET,
    FIELD_C_ROWS,
    FIELD_C_TYPE,
    FIELD_C_OFFSET,
    GGUF_FIELDS
};

enum { GGUF_MADE_BYTES = 4096 };

struct gguf_made {
    uint8_t bytes[GGUF_MADE_BYTES];
    size_t length;
    size_t header_bytes; /* where the tensor table ends; padding and data follow */
    struct {
        size_t at;
        uint8_t width; /* 1, 2, 4 or 8 bytes, little endian */
    } field[GGUF_FIELDS];
};

void gguf_make(struct gguf_made *made);

/* Overwrites a field with the low bytes of value. */
void gguf_made_set(struct gguf_made *made, enum gguf_field field, uint64_t value);

#endif
