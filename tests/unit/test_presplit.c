#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "token/presplit.h"
#include "token/unicode.h"
#include "token/utf8.h"

/* The pieces of text, with '|' between them. */
static void cut(const char *rule, const char *text, char *out, size_t size) {
    uint32_t code_point[256];
    uint8_t flags[256];
    size_t offset[257], n = 0, length = strlen(text), used = 0, begin, end;
    for (size_t i = 0; i < length; n++) {
        cr_assert_lt(n, 256u);
        offset[n] = i;
        i += utf8_decode(text + i, length - i, &code_point[n]);
        flags[n] = unicode_flags(code_point[n]);
    }
    offset[n] = length;
    int found = presplit_find(rule, strlen(rule));
    cr_assert_geq(found, 0, "%s", rule);
    struct presplit_cursor cursor;
    presplit_begin(&cursor, &presplit_rules[found], (struct presplit_text){code_point, flags}, n);
    while (presplit_next(&cursor, &begin, &end)) {
        int bytes = (int)(offset[end] - offset[begin]);
        used += (size_t)snprintf(out + used, size - used, "%s%.*s", begin > 0 ? "|" : "", bytes,
                                 text + offset[begin]);
        cr_assert_lt(used, size);
    }
}

static const struct {
    const char *rule, *text, *pieces;
} rows[] = {
    {"gpt-2", "Hello world's 123 + 4", "Hello| world|'s| 123| +| 4"},
    {"gpt-2", "it's IT'S we'll", "it|'s| IT|'|S| we|'ll"},
    {"gpt-2", "a   b", "a|  | b"},
    {"gpt-2", "a   ", "a|   "},
    {"gpt-2", "a\n\nb", "a|\n|\n|b"},
    {"gpt-2", "12345", "12345"},
    {"gpt-2", "caf\xC3\xA9!!", "caf\xC3\xA9|!!"},
    {"gpt-2", "\xC2\xA0x", "\xC2\xA0|x"},
    {"llama-bpe", "Hello world's 1234 +\n\n4", "Hello| world|'s| |123|4| +\n\n|4"},
    {"llama-bpe", "IT'S we'LL", "IT|'S| we|'LL"},
    {"llama-bpe", "a  \n \n b", "a|  \n \n| b"},
    {"llama-bpe", "a   b", "a|  | b"},
    {"llama-bpe", "(foo) .bar", "(foo|)| .|bar"},
    {"llama-bpe", "\tx", "\tx"},
    {"llama-bpe", "\nx", "\n|x"},
    {"llama-bpe", "x ", "x| "},
    {"smaug-bpe", "IT'S 1234", "IT|'S| |123|4"},
    {"qwen2", "IT'S 1234", "IT|'S| |1|2|3|4"},
    {"qwen2", "e\xCC\x81x", "e|\xCC\x81x"},
    {"tekken", "XMLHttp camelCase ABC", "XMLHttp| camel|Case| ABC"},
    {"tekken", "it's 12", "it|'s| |1|2"},
    {"tekken",
     "\xC3\x89"
     "AB",
     "\xC3\x89|AB"},
    {"tekken", "a//\n/b", "a|//\n/|b"},
    {"smollm", "abc123 45", "abc|1|2|3| |4|5"},
    {"smollm", "a's b", "a|'s| b"},
    {"default", "a+b 12345.6", "a|+|b| |123|45|.|6"},
    {"default", "don't", "don|'|t"},
    {"deepseek-llm", "Hello world\n\n12345", "Hello| world|\n|\n|12345"},
    {"deepseek-llm", "abc  ", "abc|  "},
    {"deepseek-llm", "\xE6\xBC\xA2\xE5\xAD\x97 a", "\xE6\xBC\xA2\xE5\xAD\x97| a"},
    {"deepseek-llm", "x, y!", "x|,| y|!"},
    {"deepseek-coder", "foo(bar) 12", "foo|(|bar|)| |1|2"},
};

Test(presplit, each_rule_cuts_as_its_expressions_say) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[512] = "";
        cut(rows[i].rule, rows[i].text, out, sizeof out);
        cr_expect_str_eq(out, rows[i].pieces, "row %zu, %s", i, rows[i].rule);
    }
}

Test(presplit, every_rule_covers_random_text_without_a_gap) {
    enum { N = 4000 };
    static uint32_t code_point[N];
    static uint8_t flags[N];
    static const uint32_t some[] = {' ', ' ', '\n', '\r', '\t',   'a',    'B',   '1',     '\'',
                                    's', '/', '.',  0xE9, 0x3000, 0x6F22, 0x301, 0x1F999, UTF8_BAD};
    srandom(1);
    for (int k = 0; presplit_rules[k].name; k++) {
        for (size_t i = 0; i < N; i++) {
            code_point[i] = some[(size_t)random() % (sizeof some / sizeof some[0])];
            flags[i] = unicode_flags(code_point[i]);
        }
        struct presplit_cursor cursor;
        presplit_begin(&cursor, &presplit_rules[k], (struct presplit_text){code_point, flags}, N);
        size_t begin, end, at = 0;
        while (presplit_next(&cursor, &begin, &end)) {
            cr_assert_eq(begin, at, "%s", presplit_rules[k].name);
            cr_assert_gt(end, begin);
            at = end;
        }
        cr_assert_eq(at, (size_t)N);
    }
}

Test(presplit, an_unknown_name_is_not_found_and_the_known_are_listed) {
    char names[320], cut_short[12];
    cr_assert_eq(presplit_find("llama", 5), -1);
    cr_assert_eq(presplit_find("", 0), -1);
    presplit_names(names, sizeof names);
    for (int i = 0; presplit_rules[i].name; i++)
        cr_assert_not_null(strstr(names, presplit_rules[i].name), "%s", presplit_rules[i].name);
    presplit_names(cut_short, sizeof cut_short);
    cr_assert_lt(strlen(cut_short), sizeof cut_short);
}

Test(unicode, categories_of_known_characters) {
    static const struct {
        uint32_t code_point;
        uint8_t flags;
    } known[] = {
        {0, 0},
        {'\t', UNICODE_SPACE},
        {'\r', UNICODE_SPACE},
        {0x1C, 0},
        {' ', UNICODE_SPACE},
        {'!', UNICODE_PUNCTUATION},
        {'$', UNICODE_SYMBOL},
        {'0', UNICODE_NUMBER},
        {'A', UNICODE_LETTER},
        {'_', UNICODE_PUNCTUATION},
        {'`', UNICODE_SYMBOL},
        {0x7F, 0},
        {0x85, UNICODE_SPACE},
        {0xA0, UNICODE_SPACE},
        {0xAA, UNICODE_LETTER}, /* feminine ordinal: Lo */
        {0xBD, UNICODE_NUMBER}, /* one half: No */
        {0x301, UNICODE_MARK},  /* combining acute */
        {0x378, 0},             /* unassigned */
        {0x2028, UNICODE_SPACE},
        {0x200B, 0},              /* zero width space: Cf, not White_Space */
        {0x2163, UNICODE_NUMBER}, /* Roman numeral four: Nl */
        {0x3400, UNICODE_LETTER}, /* first of a First..Last range */
        {0x4DBF, UNICODE_LETTER}, /* its last */
        {0x9FFF, UNICODE_LETTER},
        {0xD7A3, UNICODE_LETTER},
        {0xE000, 0}, /* private use */
        {0xFFFD, UNICODE_SYMBOL},
        {0x1F999, UNICODE_SYMBOL}, /* llama */
        {0x2EBF0, UNICODE_LETTER}, /* CJK extension I, Unicode 15.1 */
        {0x10FFFF, 0},
        {UTF8_BAD, UNICODE_SYMBOL},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        cr_expect_eq(unicode_flags(known[i].code_point), known[i].flags, "U+%04X",
                     known[i].code_point);
}

Test(unicode, table_ascends_and_every_neighbour_differs) {
    cr_assert_eq(unicode_ranges[0] >> 8, 0);
    for (uint32_t i = 1; i < unicode_n_ranges; i++) {
        cr_assert_gt(unicode_ranges[i] >> 8, unicode_ranges[i - 1] >> 8);
        cr_assert_neq(unicode_ranges[i] & 0xFF, unicode_ranges[i - 1] & 0xFF);
    }
}
