#include "gguf_maker.h"

#include <assert.h>
#include <string.h>

#include "gguf/gguf.h"

static void raw(struct gguf_made *made, enum gguf_field field, const void *bytes, size_t length) {
    assert(made->length + length <= GGUF_MADE_BYTES);
    if (field != FIELD_NONE) {
        made->field[field].at = made->length;
        made->field[field].width = (uint8_t)(length < 8 ? length : 8);
    }
    if (length > 0) memcpy(made->bytes + made->length, bytes, length);
    made->length += length;
}

static void u32(struct gguf_made *made, enum gguf_field field, uint32_t value) {
    raw(made, field, &value, sizeof value);
}

static void u64(struct gguf_made *made, enum gguf_field field, uint64_t value) {
    raw(made, field, &value, sizeof value);
}

static void string(struct gguf_made *made, enum gguf_field length_field, const char *text) {
    u64(made, length_field, strlen(text));
    raw(made, FIELD_NONE, text, strlen(text));
}

static void field_mark(struct gguf_made *made, enum gguf_field field, size_t at, uint8_t width) {
    made->field[field].at = at;
    made->field[field].width = width;
}

static void kvs_make(struct gguf_made *made) {
    string(made, FIELD_ARCHITECTURE_KEY_LENGTH, "general.architecture");
    u32(made, FIELD_ARCHITECTURE_TYPE, GGUF_STRING);
    string(made, FIELD_ARCHITECTURE_LENGTH, "llama");

    field_mark(made, FIELD_ALIGNMENT_KEY_TEXT, made->length + 8, 8);
    string(made, FIELD_NONE, "general.alignment");
    u32(made, FIELD_ALIGNMENT_TYPE, GGUF_U32);
    u32(made, FIELD_ALIGNMENT, 32);

    string(made, FIELD_NONE, "made.flag");
    field_mark(made, FIELD_FLAG_KEY_TEXT, made->length - 4, 4);
    u32(made, FIELD_NONE, GGUF_BOOL);
    raw(made, FIELD_FLAG, "\1", 1);

    string(made, FIELD_NONE, "made.words");
    u32(made, FIELD_NONE, GGUF_ARRAY);
    u32(made, FIELD_WORDS_ELEMENT, GGUF_STRING);
    u64(made, FIELD_WORDS_COUNT, 3);
    string(made, FIELD_WORD_LENGTH, "one");
    string(made, FIELD_NONE, "two");
    string(made, FIELD_LAST_WORD_LENGTH, "three");

    string(made, FIELD_NONE, "made.numbers");
    u32(made, FIELD_NONE, GGUF_ARRAY);
    u32(made, FIELD_NUMBERS_ELEMENT, GGUF_I32);
    u64(made, FIELD_NUMBERS_COUNT, 4);
    for (uint32_t i = 1; i <= 4; i++) u32(made, FIELD_NONE, i);

    string(made, FIELD_NONE, "made.flags");
    u32(made, FIELD_NONE, GGUF_ARRAY);
    u32(made, FIELD_NONE, GGUF_BOOL);
    u64(made, FIELD_FLAGS_COUNT, 2);
    raw(made, FIELD_NONE, "\0", 1);
    raw(made, FIELD_SECOND_FLAG, "\1", 1);

    string(made, FIELD_NONE, "split.count");
    u32(made, FIELD_NONE, GGUF_U16);
    raw(made, FIELD_SPLIT_COUNT, "\1\0", 2);

    string(made, FIELD_NONE, "made.last");
    field_mark(made, FIELD_LAST_KEY_TEXT, made->length - 4, 4);
    u32(made, FIELD_NONE, GGUF_U64);
    u64(made, FIELD_LAST, 7);
}

static void tensors_make(struct gguf_made *made) {
    field_mark(made, FIELD_A_OFFSET_IN_HEADER, made->length, 0);
    field_mark(made, FIELD_A_NAME_TEXT, made->length + 8, 1);
    string(made, FIELD_A_NAME_LENGTH, "a.weight");
    u32(made, FIELD_A_N_DIMS, 2);
    u64(made, FIELD_A_COLS, 64);
    u64(made, FIELD_A_ROWS, 3);
    u32(made, FIELD_A_TYPE, QUANT_Q8_0);
    u64(made, FIELD_A_OFFSET, 0);

    field_mark(made, FIELD_B_NAME_TEXT, made->length + 8, 1);
    string(made, FIELD_NONE, "b.weight");
    u32(made, FIELD_NONE, 1);
    u64(made, FIELD_B_COLS, 8);
    u32(made, FIELD_B_TYPE, QUANT_F32);
    u64(made, FIELD_B_OFFSET, 224); /* 3 * 2 * 34 = 204 bytes of a, padded to 32 */

    string(made, FIELD_NONE, "c.weight");
    u32(made, FIELD_NONE, 2);
    u64(made, FIELD_NONE, 256);
    u64(made, FIELD_C_ROWS, 2);
    u32(made, FIELD_C_TYPE, QUANT_Q4_K);
    u64(made, FIELD_C_OFFSET, 256);
}

void gguf_make(struct gguf_made *made) {
    memset(made, 0, sizeof *made);
    raw(made, FIELD_MAGIC, "GGUF", 4);
    u32(made, FIELD_VERSION, 3);
    u64(made, FIELD_N_TENSORS, 3);
    u64(made, FIELD_N_KV, 8);
    kvs_make(made);
    tensors_make(made);
    made->header_bytes = made->length;
    made->length = (made->length + 31) / 32 * 32;
    for (int i = 0; i < 256 + 2 * 144; i++) made->bytes[made->length++] = (uint8_t)(i * 7);
}

void gguf_made_set(struct gguf_made *made, enum gguf_field field, uint64_t value) {
    assert(made->field[field].width > 0);
    memcpy(made->bytes + made->field[field].at, &value, made->field[field].width);
}
