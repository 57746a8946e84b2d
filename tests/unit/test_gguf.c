#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gguf/gguf.h"
#include "gguf_maker.h"

static struct gguf gguf;
static struct gguf_made made;
static struct fault fault;

/* Parses a copy that ends exactly where the bytes end, so that the sanitizer sees one byte too
 * many. The copy lives until the next call. */
static bool parse_copy(const uint8_t *bytes, size_t length) {
    static uint8_t *copy;
    free(copy);
    copy = malloc(length > 0 ? length : 1);
    if (length > 0) memcpy(copy, bytes, length);
    memset(&fault, 0, sizeof fault);
    return gguf_parse(&gguf, copy, length, &fault);
}

/* A refusal is MODEL_LOAD_FAILED, reads "offset 0x...: reason" and is printable. */
static void assert_refusal(const char *name) {
    cr_assert_eq(fault.code, FAULT_MODEL_LOAD_FAILED, "%s", name);
    cr_assert_eq(strncmp(fault.text, "offset 0x", 9), 0, "%s: %s", name, fault.text);
    char *end;
    (void)strtoull(fault.text + 9, &end, 16);
    cr_assert(end > fault.text + 9 && strncmp(end, ": ", 2) == 0 && strlen(end) > 12, "%s: %s",
              name, fault.text);
    for (const char *c = fault.text; *c != '\0'; c++)
        cr_assert(*c >= ' ' && *c <= '~', "%s: %s", name, fault.text);
}

Test(gguf, made_file_parses_and_says_what_was_put_in) {
    gguf_make(&made);
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    cr_assert_eq(gguf.version, 3);
    cr_assert_eq(gguf.alignment, 32);
    cr_assert_eq(gguf.n_kv, 8);
    cr_assert_eq(gguf.n_tensors, 3);
    cr_assert_eq(gguf.header_bytes, (made.header_bytes + 31) / 32 * 32);
    const struct gguf_tensor *a = gguf_find_tensor(&gguf, "a.weight");
    cr_assert_not_null(a);
    cr_assert_eq(a->n_dims, 2);
    cr_assert_eq(a->dims[0], 64);
    cr_assert_eq(a->dims[1], 3);
    cr_assert_eq(a->dims[2], 1);
    cr_assert_eq(a->type, QUANT_Q8_0);
    cr_assert_eq(a->bytes, 3 * 2 * 34);
    cr_assert_eq(a->data_offset, gguf.header_bytes);
    cr_assert_eq(a->offset, made.field[FIELD_A_OFFSET_IN_HEADER].at);
    const struct gguf_tensor *c = gguf_find_tensor(&gguf, "c.weight");
    cr_assert_eq(c->data_offset, gguf.header_bytes + 256);
    cr_assert_eq(c->data[0], (uint8_t)(256 * 7));
    cr_assert_null(gguf_find_tensor(&gguf, "d.weight"));
    cr_assert_null(gguf_find_tensor(&gguf, "a.weigh"));
}

Test(gguf, typed_reads_give_values_and_leave_absent_ones_alone) {
    gguf_make(&made);
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    uint32_t number = 99;
    cr_assert(gguf_get_u32(&gguf, "general.alignment", &number, &fault));
    cr_assert_eq(number, 32);
    cr_assert(gguf_get_u32(&gguf, "made.last", &number, &fault)); /* a u64 */
    cr_assert_eq(number, 7);
    cr_assert(gguf_get_u32(&gguf, "split.count", &number, &fault)); /* a u16 */
    cr_assert_eq(number, 1);
    number = 99;
    cr_assert(gguf_get_u32(&gguf, "made.nothing", &number, &fault));
    cr_assert_eq(number, 99);
    bool flag = false;
    cr_assert(gguf_get_bool(&gguf, "made.flag", &flag, &fault));
    cr_assert(flag);
    struct gguf_string string = {0};
    cr_assert(gguf_get_string(&gguf, "general.architecture", &string, &fault));
    cr_assert(gguf_string_is(string, "llama"));
    cr_assert_not(gguf_string_is(string, "llam"));
    const struct gguf_kv *words;
    cr_assert(gguf_get_array(&gguf, "made.words", GGUF_STRING, &words, &fault));
    cr_assert_eq(words->count, 3);
    const char *expected[] = {"one", "two", "three"};
    uint64_t cursor = 0;
    for (int i = 0; i < 3; i++) {
        cr_assert(gguf_next_string(words, &cursor, &string));
        cr_assert(gguf_string_is(string, expected[i]));
    }
    cr_assert_not(gguf_next_string(words, &cursor, &string));
    cr_assert(gguf_get_array(&gguf, "made.nothing", GGUF_STRING, &words, &fault));
    cr_assert_null(words);
}

Test(gguf, array_of_another_element_type_is_not_read_as_the_wanted_one) {
    gguf_make(&made);
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    const struct gguf_kv *array;
    const enum gguf_type wrong[] = {GGUF_F32, GGUF_U32, GGUF_STRING, GGUF_BOOL, GGUF_I64};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_assert_not(gguf_get_array(&gguf, "made.numbers", wrong[i], &array, &fault));
        cr_assert_null(array);
        assert_refusal("made.numbers");
        cr_assert(strstr(fault.text, "array of i32") != NULL, "%s", fault.text);
    }
    cr_assert_not(gguf_get_array(&gguf, "made.flag", GGUF_BOOL, &array, &fault));
    cr_assert(gguf_get_array(&gguf, "made.numbers", GGUF_I32, &array, &fault));
    cr_assert_eq(array->count, 4);
}

Test(gguf, values_of_a_wrong_type_or_range_name_the_key) {
    gguf_make(&made);
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    uint32_t number;
    float real;
    bool flag;
    struct gguf_string string;
    cr_assert_not(gguf_get_u32(&gguf, "general.architecture", &number, &fault));
    cr_assert(strstr(fault.text, "'general.architecture' is of type string") != NULL, "%s",
              fault.text);
    cr_assert_not(gguf_get_u32(&gguf, "made.numbers", &number, &fault));
    cr_assert_not(gguf_get_u32(&gguf, "made.flag", &number, &fault));
    cr_assert_not(gguf_get_f32(&gguf, "made.last", &real, &fault));
    cr_assert_not(gguf_get_bool(&gguf, "made.last", &flag, &fault));
    cr_assert_not(gguf_get_string(&gguf, "made.last", &string, &fault));
    assert_refusal("made.last");
}

Test(gguf, negative_integer_is_not_read_as_a_huge_one) {
    uint32_t number = 5;
    gguf_make(&made); /* general.alignment becomes XXXXXXXXalignment = i32 -1 */
    memset(made.bytes + made.field[FIELD_ALIGNMENT_KEY_TEXT].at, 'X', 8);
    gguf_made_set(&made, FIELD_ALIGNMENT_TYPE, GGUF_I32);
    gguf_made_set(&made, FIELD_ALIGNMENT, UINT32_MAX);
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    cr_assert_not(gguf_get_u32(&gguf, "XXXXXXXXalignment", &number, &fault));
    cr_assert(strstr(fault.text, "0 to 4294967295") != NULL, "%s", fault.text);
    cr_assert_eq(number, 5);
    gguf_made_set(&made, FIELD_ALIGNMENT, 7);
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    cr_assert(gguf_get_u32(&gguf, "XXXXXXXXalignment", &number, &fault));
    cr_assert_eq(number, 7);
}

Test(gguf, integer_over_32_bits_is_not_cut) {
    uint32_t number = 5;
    gguf_make(&made);
    gguf_made_set(&made, FIELD_LAST, UINT64_C(0x100000001));
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    cr_assert_not(gguf_get_u32(&gguf, "made.last", &number, &fault));
    cr_assert_eq(number, 5);
    gguf_made_set(&made, FIELD_LAST, UINT32_MAX);
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    cr_assert(gguf_get_u32(&gguf, "made.last", &number, &fault));
    cr_assert_eq(number, UINT32_MAX);
}

/* One malformed file: up to three fields of the made one overwritten. */
struct malformed {
    const char *name;
    struct {
        enum gguf_field field;
        uint64_t value;
    } set[3];
    enum gguf_field at; /* the offset that the refusal names is that of this field ... */
    int64_t plus;       /* ... plus this */
    const char *reason; /* part of the text */
};

static const struct malformed malformed[] = {
    {"magic_of_another_file", {{FIELD_MAGIC, 0x12345678}}, FIELD_MAGIC, 0, "not a GGUF"},
    {"magic_reversed", {{FIELD_MAGIC, 0x47475546}}, FIELD_MAGIC, 0, "big-endian"},
    {"magic_of_zip", {{FIELD_MAGIC, 0x04034B50}}, FIELD_MAGIC, 0, "zip"},
    {"magic_of_ggjt", {{FIELD_MAGIC, 0x67676A74}}, FIELD_MAGIC, 0, "old ggml"},
    {"magic_of_ggla", {{FIELD_MAGIC, 0x67676C61}}, FIELD_MAGIC, 0, "old ggml"},
    {"version_0", {{FIELD_VERSION, 0}}, FIELD_VERSION, 0, "version 0"},
    {"version_1", {{FIELD_VERSION, 1}}, FIELD_VERSION, 0, "GGUF version 1;"},
    {"version_4", {{FIELD_VERSION, 4}}, FIELD_VERSION, 0, "version 4"},
    {"big_endian_version", {{FIELD_VERSION, 0x03000000}}, FIELD_VERSION, 0, "big-endian"},

    {"kv_count_over_cap", {{FIELD_N_KV, GGUF_KV_MAX + 1}}, FIELD_N_KV, 0, "1025 key-values"},
    {"kv_count_times_entry_wraps", {{FIELD_N_KV, 0x0666666666666667}}, FIELD_N_KV, 0, "at most"},
    {"kv_count_negative", {{FIELD_N_KV, UINT64_MAX}}, FIELD_N_KV, 0, "at most"},
    {"kv_count_over_file", {{FIELD_N_KV, 1000}}, FIELD_N_TENSORS, 0, "do not fit"},
    {"kv_count_one_more", {{FIELD_N_KV, 9}}, FIELD_NONE, 0, NULL},
    {"kv_count_one_less", {{FIELD_N_KV, 7}}, FIELD_NONE, 0, NULL},
    {"tensor_count_over_cap",
     {{FIELD_N_TENSORS, GGUF_TENSORS_MAX + 1}},
     FIELD_N_TENSORS,
     0,
     "8193 tensors"},
    {"tensor_count_wraps", {{FIELD_N_TENSORS, 0x2E8BA2E8BA2E8BB}}, FIELD_N_TENSORS, 0, "at most"},
    {"tensor_count_negative", {{FIELD_N_TENSORS, UINT64_MAX}}, FIELD_N_TENSORS, 0, "at most"},
    {"tensor_count_over_file", {{FIELD_N_TENSORS, 4000}}, FIELD_N_TENSORS, 0, "do not fit"},
    {"tensor_count_one_more", {{FIELD_N_TENSORS, 4}}, FIELD_NONE, 0, NULL},

    {"key_length_over_file",
     {{FIELD_ARCHITECTURE_KEY_LENGTH, 1 << 20}},
     FIELD_ARCHITECTURE_KEY_LENGTH,
     8,
     "ends inside the key of key-value 1 of 8"},
    {"key_length_wraps_pointer",
     {{FIELD_ARCHITECTURE_KEY_LENGTH, UINT64_MAX - 7}},
     FIELD_ARCHITECTURE_KEY_LENGTH,
     8,
     "ends inside"},
    {"key_empty",
     {{FIELD_ARCHITECTURE_KEY_LENGTH, 0}},
     FIELD_ARCHITECTURE_KEY_LENGTH,
     0,
     "a key has 0 bytes"},
    {"value_type_unknown",
     {{FIELD_ARCHITECTURE_TYPE, GGUF_TYPES}},
     FIELD_ARCHITECTURE_TYPE,
     0,
     "unknown value type 13"},
    {"value_type_negative",
     {{FIELD_ARCHITECTURE_TYPE, UINT32_MAX}},
     FIELD_ARCHITECTURE_TYPE,
     0,
     "unknown value type"},
    {"string_length_over_file",
     {{FIELD_ARCHITECTURE_LENGTH, 1 << 16}},
     FIELD_ARCHITECTURE_LENGTH,
     8,
     "ends inside"},
    {"string_length_signed",
     {{FIELD_ARCHITECTURE_LENGTH, UINT64_C(1) << 63}},
     FIELD_ARCHITECTURE_LENGTH,
     8,
     "ends inside"},
    {"bool_of_2", {{FIELD_FLAG, 2}}, FIELD_FLAG, 0, "'made.flag' is 2"},
    {"bool_of_255_in_array",
     {{FIELD_SECOND_FLAG, 255}},
     FIELD_SECOND_FLAG,
     0,
     "'made.flags' is 255"},
    {"key_twice",
     {{FIELD_LAST_KEY_TEXT, 0x67616C66}},
     FIELD_LAST_KEY_TEXT,
     -13,
     "'made.flag' is there twice"},

    {"array_of_unknown_type",
     {{FIELD_WORDS_ELEMENT, 77}},
     FIELD_WORDS_ELEMENT,
     0,
     "unknown element type 77"},
    {"array_of_arrays",
     {{FIELD_WORDS_ELEMENT, GGUF_ARRAY}},
     FIELD_WORDS_ELEMENT,
     0,
     "'made.words' holds arrays"},
    {"array_count_over_cap",
     {{FIELD_WORDS_COUNT, GGUF_ARRAY_MAX + 1}},
     FIELD_WORDS_COUNT,
     0,
     "claims 16777217 elements"},
    {"array_count_negative", {{FIELD_WORDS_COUNT, UINT64_MAX}}, FIELD_WORDS_COUNT, 0, "at most"},
    {"array_count_over_file",
     {{FIELD_NUMBERS_COUNT, GGUF_ARRAY_MAX}},
     FIELD_NUMBERS_COUNT,
     8,
     "ends inside the value"},
    {"array_count_times_size_wraps",
     {{FIELD_NUMBERS_COUNT, UINT64_C(1) << 62}},
     FIELD_NUMBERS_COUNT,
     0,
     "at most"},
    {"strings_over_file", {{FIELD_WORDS_COUNT, GGUF_ARRAY_MAX}}, FIELD_NONE, 0, "ends inside"},
    {"element_length_over_file",
     {{FIELD_WORD_LENGTH, 1 << 24}},
     FIELD_WORD_LENGTH,
     8,
     "ends inside a string of key-value 4 of 8"},
    {"element_length_signed",
     {{FIELD_WORD_LENGTH, UINT64_C(0xFFFFFFFF)}},
     FIELD_WORD_LENGTH,
     8,
     "ends inside"},
    {"last_element_length_wraps",
     {{FIELD_LAST_WORD_LENGTH, UINT64_MAX}},
     FIELD_LAST_WORD_LENGTH,
     8,
     "ends inside"},
    {"numbers_read_as_strings",
     {{FIELD_NUMBERS_ELEMENT, GGUF_STRING}},
     FIELD_NONE,
     0,
     "ends inside"},

    {"alignment_0", {{FIELD_ALIGNMENT, 0}}, FIELD_ALIGNMENT, -29, "general.alignment is 0"},
    {"alignment_1", {{FIELD_ALIGNMENT, 1}}, FIELD_ALIGNMENT, -29, "power of two"},
    {"alignment_24", {{FIELD_ALIGNMENT, 24}}, FIELD_ALIGNMENT, -29, "power of two"},
    {"alignment_33", {{FIELD_ALIGNMENT, 33}}, FIELD_ALIGNMENT, -29, "power of two"},
    {"alignment_2_mib", {{FIELD_ALIGNMENT, 2 << 20}}, FIELD_ALIGNMENT, -29, "power of two"},
    {"alignment_2_gib", {{FIELD_ALIGNMENT, UINT64_C(1) << 31}}, FIELD_ALIGNMENT, -29, "to 1048576"},
    {"alignment_all_ones", {{FIELD_ALIGNMENT, UINT32_MAX}}, FIELD_ALIGNMENT, -29, "power of two"},
    {"alignment_a_float",
     {{FIELD_ALIGNMENT_TYPE, GGUF_F32}},
     FIELD_ALIGNMENT,
     -29,
     "'general.alignment' is of type f32; it must be an integer"},
    {"alignment_negative",
     {{FIELD_ALIGNMENT_TYPE, GGUF_I32}, {FIELD_ALIGNMENT, UINT32_MAX - 31}},
     FIELD_ALIGNMENT,
     -29,
     "0 to 4294967295"},
    {"alignment_1_mib_past_the_file",
     {{FIELD_ALIGNMENT, 1 << 20}},
     FIELD_NONE,
     0,
     "past the end of the file"},
    {"split_in_3", {{FIELD_SPLIT_COUNT, 3}}, FIELD_SPLIT_COUNT, -23, "llama-gguf-split --merge"},

    {"name_length_over_file",
     {{FIELD_A_NAME_LENGTH, 1 << 16}},
     FIELD_A_NAME_LENGTH,
     8,
     "ends inside the name of tensor 1 of 3"},
    {"name_length_wraps",
     {{FIELD_A_NAME_LENGTH, UINT64_MAX}},
     FIELD_A_NAME_LENGTH,
     8,
     "ends inside"},
    {"name_empty", {{FIELD_A_NAME_LENGTH, 0}}, FIELD_A_NAME_LENGTH, 0, "name has 0 bytes"},
    {"name_of_65_bytes", {{FIELD_A_NAME_LENGTH, 65}}, FIELD_A_NAME_LENGTH, 0, "name has 65 bytes"},
    {"name_twice", {{FIELD_B_NAME_TEXT, 'a'}}, FIELD_B_NAME_TEXT, -8, "'a.weight' is there twice"},
    {"dims_0", {{FIELD_A_N_DIMS, 0}}, FIELD_A_N_DIMS, 0, "0 dimensions"},
    {"dims_5", {{FIELD_A_N_DIMS, 5}}, FIELD_A_N_DIMS, 0, "5 dimensions"},
    {"dims_4_billion", {{FIELD_A_N_DIMS, UINT32_MAX}}, FIELD_A_N_DIMS, 0, "dimensions"},
    {"cols_0", {{FIELD_A_COLS, 0}}, FIELD_A_OFFSET_IN_HEADER, 0, "dimension 0 "},
    {"rows_0", {{FIELD_A_ROWS, 0}}, FIELD_A_OFFSET_IN_HEADER, 0, "dimension 1 "},
    {"cols_not_whole_blocks",
     {{FIELD_A_COLS, 65}},
     FIELD_A_OFFSET_IN_HEADER,
     0,
     "65 values, no multiple of the 32"},
    {"cols_half_a_block",
     {{FIELD_A_COLS, 16}, {FIELD_A_ROWS, 2}},
     FIELD_A_OFFSET_IN_HEADER,
     0,
     "no multiple"},
    {"dims_product_wraps_to_0",
     {{FIELD_A_COLS, UINT64_C(1) << 32}, {FIELD_A_ROWS, UINT64_C(1) << 32}},
     FIELD_A_OFFSET_IN_HEADER,
     0,
     "larger than the file"},
    {"dims_product_wraps_to_64",
     {{FIELD_A_COLS, 64}, {FIELD_A_ROWS, (UINT64_C(1) << 58) + 1}},
     FIELD_A_OFFSET_IN_HEADER,
     0,
     "larger than the file"},
    {"bytes_wrap",
     {{FIELD_A_COLS, 32}, {FIELD_A_ROWS, UINT64_C(0x0787878787878788)}},
     FIELD_A_OFFSET_IN_HEADER,
     0,
     "larger than the file"},
    {"rows_negative", {{FIELD_A_ROWS, UINT64_MAX}}, FIELD_A_OFFSET_IN_HEADER, 0, "larger"},
    {"shape_larger_than_file",
     {{FIELD_A_ROWS, 1 << 20}},
     FIELD_A_OFFSET_IN_HEADER,
     0,
     "larger than the file"},
    {"type_unknown", {{FIELD_A_TYPE, 200}}, FIELD_A_TYPE, 0, "unknown type 200"},
    {"type_negative", {{FIELD_A_TYPE, UINT32_MAX}}, FIELD_A_TYPE, 0, "unknown type 4294967295"},
    {"type_named_not_run",
     {{FIELD_A_TYPE, 16}},
     FIELD_A_TYPE,
     0,
     "IQ2_XXS, which is not supported"},
    {"type_withdrawn", {{FIELD_A_TYPE, 4}}, FIELD_A_TYPE, 0, "Q4_2"},
    {"type_mxfp4", {{FIELD_A_TYPE, 39}}, FIELD_A_TYPE, 0, "MXFP4"},
    {"type_with_larger_block",
     {{FIELD_A_TYPE, QUANT_Q6_K}},
     FIELD_A_OFFSET_IN_HEADER,
     0,
     "256 in a block of Q6_K"},
    {"offset_unaligned",
     {{FIELD_B_OFFSET, 225}},
     FIELD_B_NAME_TEXT,
     -8,
     "no multiple of the alignment"},
    {"offset_aligned_to_half", {{FIELD_B_OFFSET, 240}}, FIELD_B_NAME_TEXT, -8, "alignment 32"},
    {"offset_past_end", {{FIELD_C_OFFSET, 1 << 16}}, FIELD_NONE, 0, "past the end of the file"},
    {"offset_at_end", {{FIELD_B_OFFSET, 544}}, FIELD_B_NAME_TEXT, -8, "past the end"},
    {"offset_one_step_too_far", {{FIELD_C_OFFSET, 288}}, FIELD_NONE, 0, "past the end"},
    {"offset_plus_bytes_wraps", {{FIELD_C_OFFSET, UINT64_MAX - 31}}, FIELD_NONE, 0, "past the end"},
    {"sizes_add_up_past_2_64",
     {{FIELD_A_OFFSET, UINT64_C(1) << 63}, {FIELD_B_OFFSET, UINT64_C(1) << 63}},
     FIELD_A_OFFSET_IN_HEADER,
     0,
     "past the end"},
    {"tensors_overlap",
     {{FIELD_B_OFFSET, 192}},
     FIELD_B_NAME_TEXT,
     -8,
     "'b.weight' shares bytes with 'a.weight'"},
    {"tensors_at_one_place", {{FIELD_B_OFFSET, 0}}, FIELD_NONE, 0, "shares bytes"},
    {"tensor_in_front_of_its_neighbour",
     {{FIELD_A_OFFSET, 512}, {FIELD_A_ROWS, 1}, {FIELD_C_ROWS, 2}},
     FIELD_NONE,
     0,
     "past the end"},
};

Test(gguf, every_malformed_file_is_refused_with_offset_and_reason) {
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        const struct malformed *row = &malformed[i];
        gguf_make(&made);
        for (int s = 0; s < 3; s++)
            if (row->set[s].field != FIELD_NONE)
                gguf_made_set(&made, row->set[s].field, row->set[s].value);
        cr_assert_not(parse_copy(made.bytes, made.length), "%s is accepted", row->name);
        assert_refusal(row->name);
        if (row->reason != NULL)
            cr_assert(strstr(fault.text, row->reason) != NULL, "%s: %s", row->name, fault.text);
        if (row->at == FIELD_NONE) continue;
        long long offset = (long long)made.field[row->at].at + row->plus;
        char expected[32];
        snprintf(expected, sizeof expected, "offset 0x%llx: ", offset);
        cr_assert_eq(strncmp(fault.text, expected, strlen(expected)), 0, "%s: %s, wanted %s",
                     row->name, fault.text, expected);
    }
}

Test(gguf, names_in_messages_are_sanitised_and_cut) {
    gguf_make(&made);
    made.bytes[made.field[FIELD_A_NAME_TEXT].at] = '\n';
    made.bytes[made.field[FIELD_A_NAME_TEXT].at + 1] = '\x1b';
    gguf_made_set(&made, FIELD_A_TYPE, 16);
    cr_assert_not(parse_copy(made.bytes, made.length));
    cr_assert(strstr(fault.text, "'??weight'") != NULL, "%s", fault.text);
    char longest[GGUF_SHOWN_MAX + 1];
    memset(longest, 'x', sizeof longest);
    cr_assert_eq(strlen(gguf_show((struct gguf_string){longest, GGUF_SHOWN_MAX}).text),
                 GGUF_SHOWN_MAX);
    cr_assert_eq(strlen(gguf_show((struct gguf_string){longest, GGUF_SHOWN_MAX + 1}).text),
                 GGUF_SHOWN_MAX + 3);
}

Test(gguf, file_cut_at_any_byte_is_refused) {
    gguf_make(&made);
    for (size_t length = 0; length < made.length; length++) {
        cr_assert_not(parse_copy(made.bytes, length), "%zu of %zu bytes are accepted", length,
                      made.length);
        assert_refusal("cut");
    }
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
}

Test(gguf, vocabulary_without_tensors_may_end_before_the_alignment) {
    gguf_make(&made);
    gguf_made_set(&made, FIELD_N_TENSORS, 0);
    size_t end = made.field[FIELD_A_OFFSET_IN_HEADER].at;
    cr_assert_neq(end % 32, 0);
    cr_assert(parse_copy(made.bytes, end), "%s", fault.text);
    cr_assert_eq(gguf.n_tensors, 0);
    cr_assert_eq(gguf.header_bytes, end);
}

Test(gguf, version_2_is_read_as_version_3) {
    gguf_make(&made);
    gguf_made_set(&made, FIELD_VERSION, 2);
    cr_assert(parse_copy(made.bytes, made.length), "%s", fault.text);
    cr_assert_eq(gguf.version, 2);
}

Test(gguf, other_alignments_up_to_the_limit_move_the_data) {
    for (uint32_t alignment = 8; alignment <= 64; alignment *= 2) {
        gguf_make(&made);
        gguf_made_set(&made, FIELD_ALIGNMENT, alignment);
        if (alignment == 64) { /* 224 is no multiple of it */
            cr_assert_not(parse_copy(made.bytes, made.length));
            continue;
        }
        cr_assert(parse_copy(made.bytes, made.length), "%u: %s", alignment, fault.text);
        cr_assert_eq(gguf.header_bytes,
                     (made.header_bytes + alignment - 1) / alignment * alignment);
    }
}

Test(gguf, files_of_other_kinds_are_called_by_their_name) {
    const struct {
        const char *bytes, *name;
    } others[] = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"},
        {"\x10\1\1\1\1\1\1\1{\"__metadata__\":{}}", "safetensors"},
        {"PK\3\4\24\10\10\10\10\10", "zip"},
        {"tjgg\3\1\1\1\1\1\1\1", "old ggml"},
        {"lmgg\1\1\1\1", "old ggml"},
        {"algg\1\1\1\1", "old ggml"},
        {"FUGG\1\1\1\1", "big-endian"},
        {"<!DOCTYPE html><html>", "web page"},
        {"{\"error\":\"not found\"}", "JSON"},
        {"\x7f"
         "ELF\2\1\1",
         "ELF"},
        {"Entry not found", "unknown to this reader"},
        {"ab", "2 bytes"},
        {"GGUF\3", "cut short"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        cr_assert_not(parse_copy((const uint8_t *)others[i].bytes, strlen(others[i].bytes)));
        assert_refusal(others[i].name);
        cr_assert(strstr(fault.text, others[i].name) != NULL, "%s: %s", others[i].name, fault.text);
    }
    cr_assert_not(gguf_parse(&gguf, NULL, 0, &fault));
    cr_assert(strstr(fault.text, "0 bytes") != NULL, "%s", fault.text);
}

/* Uses everything that a parsed file offers: none of it may leave the bytes. */
static void parsed_walk(void) {
    static volatile uint64_t sink;
    for (uint32_t i = 0; i < gguf.n_kv; i++) {
        const struct gguf_kv *kv = &gguf.kv[i];
        for (uint64_t b = 0; b < kv->data_bytes; b++) sink += kv->data[b];
        char key[128];
        if (kv->key.length >= sizeof key) continue;
        memcpy(key, kv->key.text, kv->key.length);
        key[kv->key.length] = '\0';
        if (strlen(key) == kv->key.length) cr_assert_eq(gguf_find(&gguf, key), kv);
        uint32_t number;
        float real;
        bool flag;
        struct gguf_string string = {0};
        const struct gguf_kv *array;
        sink += gguf_get_u32(&gguf, key, &number, &fault);
        sink += gguf_get_f32(&gguf, key, &real, &fault);
        sink += gguf_get_bool(&gguf, key, &flag, &fault);
        if (gguf_get_string(&gguf, key, &string, &fault))
            for (size_t b = 0; b < string.length; b++) sink += (uint8_t)string.text[b];
        uint64_t cursor = 0, n = 0;
        if (kv->type == GGUF_ARRAY && kv->element == GGUF_STRING)
            while (gguf_next_string(kv, &cursor, &string)) n++;
        else
            n = kv->count;
        cr_assert_eq(n, kv->count);
        sink += gguf_get_array(&gguf, key, GGUF_STRING, &array, &fault);
    }
    for (uint32_t i = 0; i < gguf.n_tensors; i++) {
        const struct gguf_tensor *tensor = &gguf.tensor[i];
        for (uint64_t b = 0; b < tensor->bytes; b++) sink += tensor->data[b];
    }
}

static uint64_t random_state;

static uint64_t random_below(uint64_t n) { /* splitmix64 */
    uint64_t z = random_state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (z ^ z >> 31) % n;
}

/* One change of a kind that has broken loaders. Most hit the header, where they matter. */
static size_t mutate(uint8_t *bytes, size_t length, size_t header) {
    static const uint64_t lengths[] = {0,
                                       1,
                                       0x7F,
                                       0x80,
                                       0xFF,
                                       0xFFFF,
                                       0x7FFFFFFF,
                                       0x80000000,
                                       0xFFFFFFFF,
                                       0x100000000,
                                       INT64_MAX,
                                       UINT64_C(1) << 63,
                                       UINT64_MAX - 31,
                                       UINT64_MAX - 7,
                                       UINT64_MAX};
    size_t range = random_below(8) > 0 && header < length ? header : length;
    if (range < 8) return length;
    size_t at = random_below(range - 7);
    uint64_t value = lengths[random_below(sizeof lengths / sizeof lengths[0])];
    switch (random_below(8)) {
    case 0:
        bytes[at] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1:
        bytes[at] = (uint8_t)random_below(256);
        break;
    case 2:
        memcpy(bytes + at, &value, 4);
        break;
    case 3:
        memcpy(bytes + at, &value, 8);
        break;
    case 4: { /* a splice: bytes of one place written over another */
        size_t n = 1 + random_below(32), from = random_below(range);
        if (from + n <= length && at + n <= length) memmove(bytes + at, bytes + from, n);
        break;
    }
    case 5: { /* bytes taken out */
        size_t n = 1 + random_below(8);
        memmove(bytes + at, bytes + at + n, length - at - n);
        length -= n;
        break;
    }
    case 6: { /* a field of the table */
        enum gguf_field field = 1 + random_below(GGUF_FIELDS - 1);
        size_t where = made.field[field].at, width = made.field[field].width;
        if (random_below(2) > 0) value = random_below(512);
        if (where + width <= length) memcpy(bytes + where, &value, width);
        break;
    }
    default:
        length = random_below(2) > 0 ? length : random_below(length);
        break;
    }
    return length;
}

Test(gguf, ten_thousand_mutations_end_in_an_answer) {
    static uint8_t bytes[GGUF_MADE_BYTES];
    int accepted = 0;
    random_state = 20240607;
    gguf_make(&made);
    for (int i = 0; i < 10000; i++) {
        memcpy(bytes, made.bytes, made.length);
        size_t length = made.length;
        for (uint64_t n = 1 + random_below(4); n > 0; n--)
            length = mutate(bytes, length, made.header_bytes);
        if (parse_copy(bytes, length)) {
            accepted++;
            parsed_walk();
        } else {
            assert_refusal("mutation");
        }
    }
    cr_assert(accepted > 100 && accepted < 9000, "%d of 10000 were accepted", accepted);
}

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The most keys, alike in all but the last bytes, and the most tensors, both in falling order. */
Test(gguf, hostile_header_of_the_most_names_takes_no_quadratic_time) {
    enum { KEY = 2000, BYTES = GGUF_KV_MAX * (KEY + 32) + GGUF_TENSORS_MAX * (64 + 64) + 4096 };
    uint8_t *bytes = calloc(1, BYTES), *p = bytes;
    uint64_t n_tensors = GGUF_TENSORS_MAX, n_kv = GGUF_KV_MAX;
    memcpy(p, "GGUF\3\0\0\0", 8);
    memcpy(p + 8, &n_tensors, 8);
    memcpy(p + 16, &n_kv, 8);
    p += 24;
    for (uint64_t i = 0; i < n_kv; i++) {
        uint64_t length = KEY;
        uint32_t type = GGUF_U8;
        memcpy(p, &length, 8);
        memset(p + 8, 'k', KEY);
        snprintf((char *)p + 8 + KEY - 5, 6, "%05u", (unsigned)(n_kv - i));
        p += 8 + KEY;
        memcpy(p, &type, 4);
        p += 5;
    }
    for (uint64_t i = 0; i < n_tensors; i++) {
        uint64_t length = 64, cols = 1, offset = (n_tensors - 1 - i) * 32;
        uint32_t dims = 1, type = QUANT_F32;
        memcpy(p, &length, 8);
        memset(p + 8, 't', 64);
        snprintf((char *)p + 8 + 58, 7, "%06u", (unsigned)(n_tensors - i));
        p += 8 + 64;
        memcpy(p, &dims, 4);
        memcpy(p + 4, &cols, 8);
        memcpy(p + 12, &type, 4);
        memcpy(p + 16, &offset, 8);
        p += 24;
    }
    size_t length = (size_t)(p - bytes + 31) / 32 * 32;
    cr_assert(length < BYTES);
    bytes = realloc(bytes, length + n_tensors * 32);
    memset(bytes + length, 0, n_tensors * 32);
    double started = cpu_seconds();
    bool parsed = gguf_parse(&gguf, bytes, length + n_tensors * 32, &fault);
    double seconds = cpu_seconds() - started;
    cr_assert(parsed, "%s", fault.text);
    cr_assert(seconds < 1, "%.3f s",
              seconds); /* n^2 comparisons of tensor names alone: 67 million */
    cr_assert_eq(gguf_find_tensor(&gguf, "nothing"), NULL);
    cr_assert_eq(gguf.by_offset[0], n_tensors - 1);
    free(bytes);
}

/* The files that may lie beside the checkout. */
static const char *const shared_files[] = {
    "models/stories260K.gguf",
    "models/tales-4m-BF16.gguf",
    "models/tales-4m-F16.gguf",
    "models/tales-4m-F32.gguf",
    "models/tales-4m-IQ4_NL.gguf",
    "models/tales-4m-IQ4_XS.gguf",
    "models/tales-4m-Q2_K.gguf",
    "models/tales-4m-Q3_K_M.gguf",
    "models/tales-4m-Q4_0.gguf",
    "models/tales-4m-Q4_1.gguf",
    "models/tales-4m-Q4_K_M.gguf",
    "models/tales-4m-Q5_0.gguf",
    "models/tales-4m-Q5_1.gguf",
    "models/tales-4m-Q5_K_M.gguf",
    "models/tales-4m-Q6_K.gguf",
    "models/tales-4m-Q8_0.gguf",
    "vocab/gpt-2.gguf",
    "vocab/llama-bpe.gguf",
    "vocab/llama-spm.gguf",
    "vocab/qwen2.gguf",
};

Test(gguf, reference_files_parse) {
    if (access("../shared/models", R_OK) != 0) cr_skip_test("../shared/models is not there");
    for (size_t i = 0; i < sizeof shared_files / sizeof shared_files[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "../shared/%s", shared_files[i]);
        int fd = open(path, O_RDONLY);
        struct stat st;
        cr_assert(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
        size_t length = (size_t)st.st_size;
        uint8_t *bytes = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
        cr_assert_neq(bytes, MAP_FAILED);
        close(fd);
        cr_assert(gguf_parse(&gguf, bytes, length, &fault), "%s: %s", path, fault.text);
        bool vocabulary = strncmp(shared_files[i], "vocab/", 6) == 0;
        cr_assert_eq(gguf.n_tensors == 0, vocabulary, "%s", path);
        const struct gguf_kv *tokens;
        cr_assert(gguf_get_array(&gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, &fault));
        cr_assert_not_null(tokens, "%s", path);
        if (!vocabulary) cr_assert_not_null(gguf_find_tensor(&gguf, "token_embd.weight"));
        /* a real header, cut at many places and at its very end */
        for (size_t cut = 0; cut < gguf.header_bytes; cut += 1 + gguf.header_bytes / 50) {
            static struct gguf scratch;
            cr_assert_not(gguf_parse(&scratch, bytes, cut, &fault), "%s cut at %zu", path, cut);
        }
        munmap(bytes, length);
    }
}
