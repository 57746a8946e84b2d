#include <criterion/criterion.h>
#include <string.h>

#include "token/utf8.h"

/* Definition D92 of the Unicode Standard as arithmetic: a sequence is well-formed if it is the
 * shortest spelling of a scalar value. */
static size_t spell(uint32_t c, uint8_t out[4]) {
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xC0 + c / 64);
        out[1] = (uint8_t)(0x80 + c % 64);
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 + c / 4096);
        out[1] = (uint8_t)(0x80 + c / 64 % 64);
        out[2] = (uint8_t)(0x80 + c % 64);
        return 3;
    }
    out[0] = (uint8_t)(0xF0 + c / 262144);
    out[1] = (uint8_t)(0x80 + c / 4096 % 64);
    out[2] = (uint8_t)(0x80 + c / 64 % 64);
    out[3] = (uint8_t)(0x80 + c % 64);
    return 4;
}

static bool is_scalar(uint32_t c) {
    return c < 0x110000 && (c < 0xD800 || c > 0xDFFF);
}

Test(utf8, every_scalar_value_decodes_from_its_spelling_and_encodes_to_it) {
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (!is_scalar(c)) continue;
        uint8_t bytes[4];
        char out[4];
        size_t n = spell(c, bytes);
        uint32_t decoded;
        if (utf8_decode((char *)bytes, n, &decoded) != n || decoded != c)
            cr_assert_fail("U+%04X does not decode", c);
        if (utf8_encode(c, out) != n || memcmp(out, bytes, n) != 0)
            cr_assert_fail("U+%04X does not encode", c);
    }
}

/* What spell() spells, to be looked up by bytes: 0 for no character. */
static uint32_t decode_slowly(const uint8_t *bytes, size_t n) {
    uint32_t c = n == 2   ? (bytes[0] & 0x1Fu) << 6 | (bytes[1] & 0x3Fu)
                 : n == 3 ? (bytes[0] & 0xFu) << 12 | (bytes[1] & 0x3Fu) << 6 | (bytes[2] & 0x3Fu)
                          : (bytes[0] & 0x7u) << 18 | (bytes[1] & 0x3Fu) << 12 |
                                (bytes[2] & 0x3Fu) << 6 | (bytes[3] & 0x3Fu);
    uint8_t back[4];
    return is_scalar(c) && spell(c, back) == n && memcmp(back, bytes, n) == 0 ? c : 0;
}

Test(utf8, every_sequence_of_two_and_three_bytes_is_judged_rightly) {
    for (uint32_t v = 0; v < 1 << 24; v++) {
        uint8_t bytes[3] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
        if (bytes[0] < 0x80) continue;
        uint32_t two = decode_slowly(bytes, 2), three = decode_slowly(bytes, 3), code_point;
        size_t n = utf8_decode((char *)bytes, 3, &code_point);
        uint32_t want = two ? two : three ? three : UTF8_BAD;
        size_t size = two ? 2 : three ? 3 : 1;
        if (code_point != want || n != size) cr_assert_fail("bytes %06X", v);
    }
}

Test(utf8, four_byte_sequences_with_extreme_bytes_are_judged_rightly) {
    static const uint8_t edge[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF};
    for (int a = 0xF0; a < 0x100; a++) {
        for (size_t i = 0; i < 1000; i++) {
            uint8_t bytes[4] = {(uint8_t)a, edge[i / 100], edge[i / 10 % 10], edge[i % 10]};
            uint32_t want = decode_slowly(bytes, 4), code_point;
            size_t n = utf8_decode((char *)bytes, 4, &code_point);
            cr_assert_eq(code_point, want ? want : UTF8_BAD);
            cr_assert_eq(n, want ? 4u : 1u);
        }
    }
}

Test(utf8, a_character_cut_short_is_bad) {
    const char *text = "\xF0\x9F\xA6\x99";
    for (size_t n = 1; n < 4; n++) {
        uint32_t code_point;
        cr_assert_eq(utf8_decode(text, n, &code_point), 1);
        cr_assert_eq(code_point, UTF8_BAD);
    }
}

/* A tail is unfinished if some continuation makes it a character, and no shorter tail is asked. */
Test(utf8, unfinished_is_what_more_bytes_could_finish) {
    static const struct {
        const char *text;
        size_t unfinished;
    } rows[] = {
        {"", 0},
        {"a", 0},
        {"a\xC3", 1},
        {"\xC3\xA9", 0},
        {"a\xE2", 1},
        {"a\xE2\x96", 2},
        {"\xE2\x96\x81", 0},
        {"\xF0", 1},
        {"\xF0\x9F", 2},
        {"\xF0\x9F\xA6", 3},
        {"\xF0\x9F\xA6\x99", 0},
        {"\x80", 0},
        {"\x80\x80\x80", 0},
        {"\xC0", 0}, /* begins only overlong forms */
        {"\xC1", 0}, /* the same */
        {"\xF5", 0}, /* begins only what is beyond U+10FFFF */
        {"\xFF", 0},
        {"\xE0\x80", 0}, /* overlong already */
        {"\xE0\xA0", 2},
        {"\xED\x9F", 2},
        {"\xED\xA0", 0}, /* a surrogate already */
        {"\xF0\x8F", 0},
        {"\xF4\x8F\xBF", 3},
        {"\xF4\x90", 0},
        {"\xC3\xC3", 1},
        {"\xE2\x96\xE2", 1},
        {"\xF0\x9F\xA6\xC3", 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect_eq(utf8_unfinished(rows[i].text, strlen(rows[i].text)), rows[i].unfinished,
                     "row %zu", i);
    }
}

Test(utf8, unfinished_agrees_with_trying_all_continuations_of_two_bytes) {
    for (uint32_t v = 0; v < 1 << 16; v++) {
        uint8_t bytes[4] = {(uint8_t)(v >> 8), (uint8_t)v, 0, 0};
        size_t want = 0;
        for (size_t start = 0; start < 2 && want == 0; start++) {
            uint8_t tail[4];
            size_t have = 2 - start;
            memcpy(tail, bytes + start, have);
            /* A continuation that works, if any does, works with all of 80 or BF. */
            for (size_t size = have + 1; size <= 4 && want == 0; size++) {
                memset(tail + have, 0x80, size - have);
                bool low = tail[0] >= 0xC2 && decode_slowly(tail, size) != 0;
                bool lead = size == 2   ? tail[0] >> 5 == 6
                            : size == 3 ? tail[0] >> 4 == 14
                                        : tail[0] >> 3 == 30;
                memset(tail + have, 0xBF, size - have);
                bool high = tail[0] >= 0xC2 && decode_slowly(tail, size) != 0;
                if (lead && !low && !high && have == 1) { /* E0 wants A0..BF, F4 wants 80..8F */
                    memset(tail + have, 0x8F, 1);
                    memset(tail + have + 1, 0x80, size - have - 1);
                    high = decode_slowly(tail, size) != 0;
                }
                if (lead && (low || high)) want = have;
            }
        }
        if (utf8_unfinished((char *)bytes, 2) != want) cr_assert_fail("bytes %04X", v);
    }
}

Test(utf8, repair_replaces_each_maximal_subpart_once) {
    static const struct {
        const char *text, *repaired;
    } rows[] = {
        {"plain \xC3\xA9 \xF0\x9F\xA6\x99", "plain \xC3\xA9 \xF0\x9F\xA6\x99"},
        {"\x80", "\xEF\xBF\xBD"},
        {"a\xC3", "a\xEF\xBF\xBD"},
        {"\xC3(", "\xEF\xBF\xBD("},
        /* The Unicode Standard, section 3.9, tables 3-8, 3-9, 3-10 and 3-11 */
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
         "\xEF\xBF\xBD\x41"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
         "\xEF\xBF\xBD\x41"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\x41\xEF\xBF\xBD\xEF\xBF\xBD"
         "\x42"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41",
         "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\x41"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char out[128];
        size_t n = utf8_repair(rows[i].text, strlen(rows[i].text), out);
        cr_expect_eq(n, strlen(rows[i].repaired), "row %zu", i);
        cr_expect_eq(memcmp(out, rows[i].repaired, n), 0, "row %zu", i);
    }
}

Test(utf8, count_counts_characters_and_bad_bytes) {
    cr_expect_eq(utf8_count("", 0), 0);
    cr_expect_eq(utf8_count("a\xC3\xA9\xF0\x9F\xA6\x99", 7), 3);
    cr_expect_eq(utf8_count("\x80\x80", 2), 2);
    cr_expect_eq(utf8_count("\xF0\x9F\xA6", 3), 3);
}
