#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "engine/sampler.h"
#include "engine/text_stream.h"
#include "token/utf8.h"

static struct job_stop stop_of(const char *text, size_t length) {
    struct job_stop stop = {.length = (uint8_t)length};
    memcpy(stop.text, text, length);
    return stop;
}

static struct job_stop stop_word(const char *text) {
    return stop_of(text, strlen(text));
}

/* Feeds the pieces (up to NULL) one by one, flushes, and says what came out as "a|b|c$flush". */
static const char *shown(struct text_stream *stream, const char *const *pieces) {
    static char all[8192];
    char out[TEXT_STREAM_OUT_MAX];
    size_t n = 0;
    for (; *pieces != NULL && stream->stop_index < 0; pieces++) {
        uint32_t given = text_stream_feed(stream, *pieces, (uint32_t)strlen(*pieces), out);
        n += (size_t)snprintf(all + n, sizeof all - n, "%.*s|", (int)given, out);
    }
    uint32_t given = text_stream_flush(stream, out);
    snprintf(all + n, sizeof all - n, "$%.*s", (int)given, out);
    return all;
}

#define PIECES(...)                                                                                \
    (const char *const[]) {                                                                        \
        __VA_ARGS__, NULL                                                                          \
    }

Test(text_stream, plain_text_passes_at_once) {
    struct text_stream stream;
    text_stream_open(&stream, NULL, 0, false);
    cr_assert_str_eq(shown(&stream, PIECES("Once", " upon", "", " a")), "Once| upon|| a|$");
}

Test(text_stream, character_waits_until_it_is_whole) {
    struct text_stream stream;
    text_stream_open(&stream, NULL, 0, false);
    cr_assert_str_eq(shown(&stream, PIECES("a\xE6", "\x97",
                                           "\xA5"
                                           "b")),
                     "a||\xE6\x97\xA5"
                     "b|$");
}

Test(text_stream, bytes_pass_as_they_come_when_asked_for) {
    struct text_stream stream;
    text_stream_open(&stream, NULL, 0, true);
    cr_assert_str_eq(shown(&stream, PIECES("a\xE6", "\x97", "\xA5")), "a\xE6|\x97|\xA5|$");
}

Test(text_stream, invalid_bytes_become_replacement_characters) {
    struct text_stream stream;
    text_stream_open(&stream, NULL, 0, false);
    cr_assert_str_eq(shown(&stream, PIECES("\xFFz", "\xE6", "x\xE6\x97")),
                     "\xEF\xBF\xBDz||\xEF\xBF\xBDx|$\xEF\xBF\xBD");
}

Test(text_stream, stop_string_inside_a_piece_cuts_it) {
    struct job_stop stop = stop_word("END");
    struct text_stream stream;
    text_stream_open(&stream, &stop, 1, false);
    cr_assert_str_eq(shown(&stream, PIECES("one ENDtwo")), "one |$");
    cr_assert_eq(stream.stop_index, 0);
}

Test(text_stream, stop_string_across_pieces_is_never_shown) {
    struct job_stop stop = stop_word("\n\nUser:");
    struct text_stream stream;
    text_stream_open(&stream, &stop, 1, false);
    cr_assert_str_eq(shown(&stream, PIECES("hi\n", "\n", "Us", "er", ": no")), "hi|||||$");
    cr_assert_eq(stream.stop_index, 0);
}

Test(text_stream, what_only_looked_like_a_stop_string_is_shown_later) {
    struct job_stop stop = stop_word("abcd");
    struct text_stream stream;
    text_stream_open(&stream, &stop, 1, false);
    cr_assert_str_eq(shown(&stream, PIECES("xab", "c", "ab", "c")), "x||abc||$abc");
    cr_assert_eq(stream.stop_index, -1);
}

Test(text_stream, stop_string_that_overlaps_itself_is_found) {
    struct job_stop stop = stop_word("aab");
    struct text_stream stream;
    text_stream_open(&stream, &stop, 1, false);
    cr_assert_str_eq(shown(&stream, PIECES("a", "a", "a", "b")), "||a||$");
    cr_assert_eq(stream.stop_index, 0);
}

Test(text_stream, stop_string_that_ends_first_wins_and_then_the_longest) {
    struct job_stop stops[] = {stop_word("bcd"), stop_word("c"), stop_word("bc")};
    struct text_stream stream;
    text_stream_open(&stream, stops, 3, false);
    cr_assert_str_eq(shown(&stream, PIECES("abcd")), "a|$");
    cr_assert_eq(stream.stop_index, 2);
}

Test(text_stream, stop_string_may_begin_inside_a_character) {
    struct job_stop stop = stop_of("\xA9!", 2);
    struct text_stream stream;
    text_stream_open(&stream, &stop, 1, false);
    cr_assert_str_eq(shown(&stream, PIECES("\xC3", "\xA9", "?")), "||\xC3\xA9?|$");
    text_stream_open(&stream, &stop, 1, false);
    cr_assert_str_eq(shown(&stream, PIECES("\xC3", "\xA9", "!")), "||\xEF\xBF\xBD|$");
}

Test(text_stream, longest_stop_string_of_invalid_bytes_fits_the_buffers) {
    struct job_stop stop = {.length = JOB_STOP_BYTES_MAX};
    memset(stop.text, 0xFF, sizeof stop.text);
    struct text_stream stream;
    char piece[VOCAB_PIECE_MAX], out[TEXT_STREAM_OUT_MAX];
    text_stream_open(&stream, &stop, 1, false);
    cr_assert_eq(text_stream_feed(&stream, "\xE6\x97", 2, out), 0);
    memset(piece, 0xFF, sizeof piece);
    cr_assert_eq(text_stream_feed(&stream, piece, JOB_STOP_BYTES_MAX - 1, out), 0);
    memset(piece, 0xFE, sizeof piece);
    cr_assert_eq(text_stream_feed(&stream, piece, VOCAB_PIECE_MAX, out),
                 3 + 3 * (JOB_STOP_BYTES_MAX - 1 + VOCAB_PIECE_MAX));
}

/* --- against the whole text at once ------------------------------------------------------------
 */

static uint32_t below(struct sampler_rng *rng, uint32_t n) {
    return (uint32_t)(sampler_rng_next(rng) % n);
}

/* Where the text ends by the definition; *index says which stop string ended it. */
static size_t plain_end(const char *text, size_t n, const struct job_stop *stop, uint32_t n_stop,
                        int32_t *index) {
    for (size_t end = 1; end <= n; end++) {
        *index = -1;
        for (uint32_t k = 0; k < n_stop; k++) {
            size_t length = stop[k].length;
            if (length > end || memcmp(text + end - length, stop[k].text, length) != 0) continue;
            if (*index < 0 || length > stop[*index].length) *index = (int32_t)k;
        }
        if (*index >= 0) return end - stop[*index].length;
    }
    *index = -1;
    return n;
}

/* Few different bytes, so that stop strings, their beginnings and broken characters are common. */
static char random_byte(struct sampler_rng *rng) {
    static const char bytes[] = "aab\xC3\xA9\xE6\x97\xA5\xF0\x9F\x98\x80\xFF\xED";
    return bytes[below(rng, sizeof bytes - 1)];
}

Test(text_stream, any_cutting_gives_the_text_up_to_the_first_stop_string) {
    struct sampler_rng rng;
    sampler_rng_seed(&rng, 77);
    int stopped = 0;
    for (int round = 0; round < 30000; round++) {
        char text[200], expected[600], got[TEXT_STREAM_OUT_MAX * 2];
        struct job_stop stop[JOB_STOP_MAX];
        size_t n = below(&rng, sizeof text), given = 0;
        uint32_t n_stop = below(&rng, JOB_STOP_MAX + 1);
        bool bytes = below(&rng, 4) == 0;
        for (size_t i = 0; i < n; i++) text[i] = random_byte(&rng);
        for (uint32_t k = 0; k < n_stop; k++) {
            stop[k].length = (uint8_t)(1 + below(&rng, 7));
            for (uint32_t i = 0; i < stop[k].length; i++) stop[k].text[i] = random_byte(&rng);
        }
        int32_t index;
        size_t end = plain_end(text, n, stop, n_stop, &index);
        size_t wanted = end;
        if (bytes)
            memcpy(expected, text, end);
        else
            wanted = utf8_repair(text, end, expected);

        struct text_stream stream;
        text_stream_open(&stream, stop, n_stop, bytes);
        for (size_t at = 0; at < n && stream.stop_index < 0;) {
            size_t length = below(&rng, 6);
            if (length > n - at) length = n - at;
            given += text_stream_feed(&stream, text + at, (uint32_t)length, got + given);
            at += length;
            if (!bytes) cr_assert_eq(utf8_unfinished(got, given), 0, "a character was broken");
        }
        given += text_stream_flush(&stream, got + given);
        cr_assert_eq(stream.stop_index, index, "round %d", round);
        cr_assert(given == wanted && memcmp(got, expected, wanted) == 0, "round %d", round);
        stopped += index >= 0;
    }
    cr_assert(stopped > 3000 && stopped < 27000);
}
