#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "token/utf8.h"
#include "vocab_rig.h"

static const char *const shared_vocabs[] = {"gpt-2", "llama-bpe", "llama-spm", "qwen2"};
static const char separator[] = "\n__ggml_vocab_test__\n";

/* The first id of rig_make_spm's words, and of what rig_make_bpe's merges make. */
enum { SPM_WORDS = 3 + 256, BPE_MERGED = 256 };

static int32_t find(const struct vocab_rig *rig, const char *text) {
    return vocab_find(&rig->vocab, text, strlen(text));
}

/* The ids of text as "1 2 3". */
static const char *encoded(struct vocab_rig *rig, const char *text, bool parse_special) {
    static char out[4096];
    size_t n = rig_encode(rig, text, strlen(text), parse_special), used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++)
        used += (size_t)snprintf(out + used, sizeof out - used, i > 0 ? " %d" : "%d", rig->ids[i]);
    cr_assert_lt(used, sizeof out);
    return out;
}

/* The spellings of the tokens of text, with '|' between them. */
static const char *spelled(struct vocab_rig *rig, const char *text, bool parse_special) {
    static char out[4096];
    size_t n = rig_encode(rig, text, strlen(text), parse_special), used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        const struct vocab_token *token = &rig->vocab.token[rig->ids[i]];
        used += (size_t)snprintf(out + used, sizeof out - used, "%s%.*s", i > 0 ? "|" : "",
                                 token->length, rig->vocab.text + token->text_offset);
    }
    cr_assert_lt(used, sizeof out);
    return out;
}

static struct vocab_rig *loaded(struct vocab_rig *rig) {
    cr_assert(vocab_rig_load(rig), "%s", rig->fault.text);
    return rig;
}

static struct vocab_rig *small_spm(void) {
    struct vocab_rig *rig = vocab_rig_new();
    rig_make_spm(rig, true);
    return loaded(rig);
}

static struct vocab_rig *small_bpe(const char *pre) {
    struct vocab_rig *rig = vocab_rig_new();
    rig_make_bpe(rig, pre);
    return loaded(rig);
}

/* Runs the vectors of one vocabulary; false if they are not there. */
static bool run_vectors(const char *name) {
    char path[64];
    size_t length;
    snprintf(path, sizeof path, "vocab/%s.inp", name);
    char *texts = rig_read_shared(path, &length);
    snprintf(path, sizeof path, "vocab/%s.out", name);
    char *lines = rig_read_shared(path, &length);
    struct vocab_rig *rig = vocab_rig_new();
    snprintf(path, sizeof path, "vocab/%s.gguf", name);
    bool there = texts && lines && vocab_rig_load_shared(rig, path);
    int n = 0;
    char *text = texts, *line = lines;
    while (there && text && *line) {
        char *next = strstr(text, separator), *end = strchr(line, '\n');
        if (next) *next = '\0';
        cr_assert_not_null(end);
        *end = '\0';
        while (end > line && end[-1] == ' ') *--end = '\0';
        while (*line == ' ') line++;
        cr_expect_str_eq(encoded(rig, text, false), line, "%s, text %d", name, n);
        size_t ids = rig_encode(rig, text, strlen(text), false);
        size_t back = vocab_decode(&rig->vocab, rig->ids, ids, false, rig->text, RIG_IDS_MAX);
        cr_expect(back == strlen(text) && memcmp(rig->text, text, back) == 0, "%s, text %d back",
                  name, n);
        line += strlen(line);
        while (*line == '\0' && line < lines + length) line++;
        text = next ? next + sizeof separator - 1 : NULL;
        n++;
    }
    cr_assert(!there || n > 40, "%s: only %d vectors", name, n);
    free(texts);
    free(lines);
    vocab_rig_free(rig);
    return there;
}

Test(vocab, every_reference_vector_passes) {
    for (size_t i = 0; i < sizeof shared_vocabs / sizeof shared_vocabs[0]; i++) {
        if (!run_vectors(shared_vocabs[i]))
            cr_skip_test("shared/vocab/%s.* is not there (WICK_SHARED)", shared_vocabs[i]);
    }
}

/* --- round trips ----------------------------------------------------------------------------- */

/* Characters of all lengths, many spaces and digits among them. U+2581 is left out: SentencePiece
 * cannot tell it from a space. */
static size_t random_utf8(char *out, size_t characters) {
    static const char common[] = "  \n\tabcdehlo.,'0123<>|";
    size_t used = 0;
    for (size_t i = 0; i < characters; i++) {
        static const uint32_t limit[] = {0x80, 0x800, 0x10000, 0x110000};
        uint32_t c = (uint32_t)random() % limit[random() % 4];
        if (random() % 2) c = (uint32_t)common[(size_t)random() % (sizeof common - 1)];
        if ((c >= 0xD800 && c <= 0xDFFF) || c == 0x2581) c = 'x';
        used += utf8_encode(c, out + used);
    }
    return used;
}

static void check_round_trip(struct vocab_rig *rig, const char *text, size_t length) {
    for (int special = 0; special < 2; special++) {
        size_t n = rig_encode(rig, text, length, special);
        size_t back = vocab_decode(&rig->vocab, rig->ids, n, true, rig->text, RIG_IDS_MAX);
        cr_assert_eq(back, length);
        cr_assert_eq(memcmp(rig->text, text, length), 0);
    }
}

static void check_round_trips(struct vocab_rig *rig, int rounds) {
    char text[4096];
    check_round_trip(rig, "", 0);
    for (int i = 0; i < rounds; i++) {
        size_t length = random_utf8(text, (size_t)random() % 200);
        check_round_trip(rig, text, length);
        length = (size_t)random() % 400;
        for (size_t k = 0; k < length; k++) text[k] = (char)random();
        check_round_trip(rig, text, length);
    }
}

Test(vocab, random_text_and_random_bytes_round_trip) {
    srandom(2);
    struct vocab_rig *rig = small_spm();
    check_round_trips(rig, 500);
    vocab_rig_free(rig);
    static const char *const pres[] = {"default", "llama-bpe", "qwen2",       "gpt-2",
                                       "smollm",  "tekken",    "deepseek-llm"};
    for (size_t i = 0; i < sizeof pres / sizeof pres[0]; i++) {
        rig = small_bpe(pres[i]);
        check_round_trips(rig, 100);
        vocab_rig_free(rig);
    }
}

Test(vocab, random_text_and_random_bytes_round_trip_in_real_vocabularies) {
    srandom(3);
    for (size_t i = 0; i < sizeof shared_vocabs / sizeof shared_vocabs[0]; i++) {
        char path[64];
        snprintf(path, sizeof path, "vocab/%s.gguf", shared_vocabs[i]);
        struct vocab_rig *rig = vocab_rig_new();
        if (!vocab_rig_load_shared(rig, path)) cr_skip_test("shared/%s is not there", path);
        check_round_trips(rig, 200);
        vocab_rig_free(rig);
    }
}

/* --- the memory plan ------------------------------------------------------------------------- */

Test(vocab, carves_in_both_passes_what_was_measured) {
    struct vocab_rig *rig = small_spm();
    cr_assert_gt(rig->measured, 0);
    cr_assert_eq(rig->arena.used, rig->measured);
    vocab_rig_free(rig);
    rig = small_bpe("qwen2");
    cr_assert_eq(rig->arena.used, rig->measured);
    vocab_rig_free(rig);
}

Test(vocab, keeps_nothing_that_points_into_the_file) {
    struct vocab_rig *rig = small_bpe("llama-bpe");
    memset(rig->bytes, 0xEE, rig->length);
    memset(&rig->gguf, 0xEE, sizeof rig->gguf);
    cr_assert_str_eq(spelled(rig, "hello hello", false), "hello|\xC4\xA0hello");
    vocab_rig_free(rig);
}

Test(vocab, ids_beyond_cap_are_counted_and_not_written) {
    struct vocab_rig *rig = small_spm();
    struct vocab_encode_options options = {true, false};
    int32_t ids[4] = {-7, -7, -7, -7};
    size_t n = vocab_encode(&rig->vocab, &rig->scratch, "hello abcd cd", 13, options, ids, 2);
    size_t all = vocab_encode(&rig->vocab, &rig->scratch, "hello abcd cd", 13, options, rig->ids,
                              RIG_IDS_MAX);
    cr_assert_eq(n, all);
    cr_assert_gt(n, 2);
    cr_assert_eq(ids[0], 1);
    cr_assert_eq(ids[1], rig->ids[1]);
    cr_assert_eq(ids[2], -7);
    vocab_rig_free(rig);
}

/* --- spm ------------------------------------------------------------------------------------- */

Test(vocab, spm_merges_the_best_score_first_and_the_leftmost_of_equals) {
    struct vocab_rig *rig = small_spm();
    cr_expect_str_eq(spelled(rig, "hello", false), "\xE2\x96\x81hello");
    cr_expect_str_eq(spelled(rig, "abcd", false), "\xE2\x96\x81"
                                                  "ab|cd");
    cr_expect_str_eq(spelled(rig, "babcd", false), "\xE2\x96\x81|b|abcd");
    /* "ab" is better than U+2581 "a", and the two together are a token */
    cr_expect_str_eq(spelled(rig, "ab", false), "\xE2\x96\x81"
                                                "ab");
    cr_expect_str_eq(spelled(rig, "ac", false), "\xE2\x96\x81"
                                                "a|c");
    cr_expect_str_eq(spelled(rig, "lll", false), "\xE2\x96\x81|ll|l");
    cr_expect_str_eq(spelled(rig, "", false), "");
    vocab_rig_free(rig);
}

Test(vocab, spm_falls_back_to_byte_tokens) {
    struct vocab_rig *rig = small_spm();
    cr_assert(rig->vocab.has_bytes);
    cr_expect_str_eq(spelled(rig, "\xC3\xA9", false), "\xE2\x96\x81|<0xC3>|<0xA9>");
    cr_expect_str_eq(spelled(rig, "\n", false), "\xE2\x96\x81|<0x0A>");
    cr_expect_str_eq(spelled(rig, "a\xFF\xC3", false), "\xE2\x96\x81"
                                                       "a|<0xFF>|<0xC3>");
    vocab_rig_free(rig);
}

Test(vocab, spm_without_byte_tokens_says_unknown_once_a_run) {
    struct vocab_rig *rig = vocab_rig_new();
    rig_make_spm(rig, false);
    loaded(rig);
    cr_assert_not(rig->vocab.has_bytes);
    cr_expect_str_eq(spelled(rig, "ab\xC3\xA9", false), "\xE2\x96\x81"
                                                        "ab|<unk>");
    cr_expect_str_eq(spelled(rig, "\xC3\xA9\xFF?a?", false), "\xE2\x96\x81|<unk>|a|<unk>");
    vocab_rig_free(rig);
}

Test(vocab, spm_without_byte_and_unknown_tokens_leaves_characters_out) {
    struct vocab_rig *rig = vocab_rig_new();
    const char *text[] = {"a", "\xE2\x96\x81", "b"};
    rig_string(rig, "tokenizer.ggml.model", "llama");
    rig_strings(rig, "tokenizer.ggml.tokens", text, 1); /* unk defaults to 0: "a" */
    loaded(rig);
    cr_expect_eq(rig->vocab.unk, 0);
    cr_expect_eq(rig->vocab.bos, -1, "no token 1 to be BOS by default");
    cr_expect_not(rig->vocab.add_bos);
    vocab_rig_free(rig);
}

Test(vocab, spm_space_in_front_follows_add_space_prefix) {
    struct vocab_rig *rig = vocab_rig_new();
    rig_make_spm(rig, true);
    rig_bool(rig, "tokenizer.ggml.add_space_prefix", false);
    loaded(rig);
    cr_expect_str_eq(spelled(rig, "hello", false), "hello");
    cr_expect_str_eq(spelled(rig, " hello", false), "\xE2\x96\x81hello");
    check_round_trip(rig, " hello", 6);
    vocab_rig_free(rig);
}

Test(vocab, spm_space_comes_back_after_each_special_token_only) {
    struct vocab_rig *rig = small_spm();
    cr_expect_str_eq(spelled(rig, "hello<s>hello</s> ab<s>", true),
                     "\xE2\x96\x81hello|<s>|\xE2\x96\x81hello|</s>|\xE2\x96\x81|\xE2\x96\x81"
                     "ab|<s>");
    check_round_trip(rig, "hello<s>hello</s> ab<s>", 23);
    vocab_rig_free(rig);
}

/* --- special tokens -------------------------------------------------------------------------- */

Test(vocab, control_tokens_are_parsed_only_when_asked) {
    struct vocab_rig *rig = small_spm();
    /* '<', 's', '>' and "<s" are tokens, so merging alone would arrive at <s>: it must not. */
    cr_expect_str_eq(spelled(rig, "<s>", false), "\xE2\x96\x81|<s|>");
    cr_expect_str_eq(spelled(rig, "<s>", true), "<s>");
    cr_expect_str_eq(spelled(rig, "<0x41>", false), "\xE2\x96\x81|<|<0x30>|<0x78>|<0x34>|<0x31>|>");
    vocab_rig_free(rig);
    rig = small_bpe("gpt-2");
    cr_expect_str_eq(spelled(rig, "<|end|>", false), "<|||e|n|d|||>");
    cr_expect_str_eq(spelled(rig, "<|end|>", true), "<|end|>");
    cr_expect_str_eq(spelled(rig, "hello<|end|>hello", true), "hello|<|end|>|hello");
    vocab_rig_free(rig);
}

Test(vocab, user_defined_tokens_are_parsed_always) {
    struct vocab_rig *rig = small_bpe("gpt-2");
    cr_expect_str_eq(spelled(rig, "hello<tool>hello", false), "hello|<tool>|hello");
    cr_expect_str_eq(spelled(rig, "<tool><tool", true), "<tool>|<|t|o|o|l");
    vocab_rig_free(rig);
}

Test(vocab, the_longest_special_token_goes_first_wherever_it_stands) {
    struct vocab_rig *rig = vocab_rig_new();
    const char *text[] = {"<unk>", "x", "ab", "bcd", "a", "b", "c", "d", "aa", "aaa"};
    const int32_t type[] = {2, 1, 4, 4, 1, 1, 1, 1, 4, 4};
    rig_string(rig, "tokenizer.ggml.model", "llama");
    rig_strings(rig, "tokenizer.ggml.tokens", text, 10);
    rig_words(rig, "tokenizer.ggml.token_type", GGUF_I32, type, 10);
    rig_bool(rig, "tokenizer.ggml.add_space_prefix", false);
    loaded(rig);
    cr_expect_str_eq(spelled(rig, "abcd", false), "a|bcd");
    cr_expect_str_eq(spelled(rig, "abab", false), "ab|ab");
    cr_expect_str_eq(spelled(rig, "aaaaaa", false), "aaa|aaa");
    cr_expect_str_eq(spelled(rig, "aaaaa", false), "aaa|aa");
    cr_expect_str_eq(spelled(rig, "aaaab", false), "aaa|ab");
    vocab_rig_free(rig);
}

Test(vocab, bos_is_put_in_front_only_if_asked_and_decodes_to_nothing) {
    struct vocab_rig *rig = small_spm();
    struct vocab_encode_options with_bos = {true, false};
    size_t n = vocab_encode(&rig->vocab, &rig->scratch, "hello", 5, with_bos, rig->ids, 8);
    cr_assert_eq(n, 2);
    cr_expect_eq(rig->ids[0], 1);
    cr_expect_eq(vocab_decode(&rig->vocab, rig->ids, n, true, rig->text, 8), 5);
    cr_expect_eq(memcmp(rig->text, "hello", 5), 0);
    cr_expect_eq(vocab_encode(&rig->vocab, &rig->scratch, "", 0, with_bos, rig->ids, 8), 1);
    vocab_rig_free(rig);
}

Test(vocab, pieces_stream_bytes_and_hide_control_tokens) {
    struct vocab_rig *rig = small_spm();
    char out[VOCAB_PIECE_MAX];
    cr_expect_eq(vocab_piece(&rig->vocab, 1, false, out), 0);
    cr_expect_eq(vocab_piece(&rig->vocab, 1, true, out), 3);
    cr_expect_eq(vocab_piece(&rig->vocab, 0, false, out), 0);
    cr_expect_eq(vocab_piece(&rig->vocab, 3 + 0xC3, false, out), 1);
    cr_expect_eq((uint8_t)out[0], 0xC3);
    cr_expect_eq(vocab_piece(&rig->vocab, SPM_WORDS, false, out), 1);
    cr_expect_eq(out[0], ' ');
    cr_expect_eq(vocab_piece(&rig->vocab, -1, true, out), 0);
    cr_expect_eq(vocab_piece(&rig->vocab, (int32_t)rig->vocab.n_tokens, true, out), 0);
    cr_expect_eq(vocab_piece(&rig->vocab, INT32_MIN, true, out), 0);
    vocab_rig_free(rig);
}

Test(vocab, decoding_ids_that_cut_a_character_gives_its_bytes) {
    struct vocab_rig *rig = small_bpe("gpt-2");
    size_t n = rig_encode(rig, "\xF0\x9F\xA6\x99", 4, false);
    cr_assert_eq(n, 4);
    for (size_t k = 1; k <= 4; k++) {
        cr_expect_eq(vocab_decode(&rig->vocab, rig->ids, k, false, rig->text, 8), k);
        cr_expect_eq(utf8_unfinished(rig->text, k), k % 4);
    }
    cr_expect_eq(vocab_decode(&rig->vocab, rig->ids, 4, false, rig->text, 2), 4, "counts past cap");
    vocab_rig_free(rig);
}

/* --- bpe ------------------------------------------------------------------------------------- */

Test(vocab, bpe_merges_by_rank_within_pieces) {
    struct vocab_rig *rig = small_bpe("gpt-2");
    cr_expect_str_eq(spelled(rig, "hello hello", false), "hello|\xC4\xA0hello");
    cr_expect_str_eq(spelled(rig, "aaaaa", false), "aaaa|a");
    cr_expect_str_eq(spelled(rig, "aaa", false), "aa|a");
    cr_expect_str_eq(spelled(rig, "121", false), "12|1");
    vocab_rig_free(rig);
    rig = small_bpe("smollm"); /* single digits */
    cr_expect_str_eq(spelled(rig, "121", false), "1|2|1");
    vocab_rig_free(rig);
}

Test(vocab, llama_bpe_takes_a_piece_that_is_a_token_as_it_is) {
    const char *text[] = {"a", "b", "c", "ab", "abc"};
    const char *merges[] = {"a b"}; /* nothing leads to "abc" */
    for (int i = 0; i < 2; i++) {
        struct vocab_rig *rig = vocab_rig_new();
        rig_string(rig, "tokenizer.ggml.model", "gpt2");
        rig_string(rig, "tokenizer.ggml.pre", i == 0 ? "llama-bpe" : "smaug-bpe");
        rig_strings(rig, "tokenizer.ggml.tokens", text, 5);
        rig_strings(rig, "tokenizer.ggml.merges", merges, 1);
        loaded(rig);
        cr_expect_str_eq(spelled(rig, "abc", false), i == 0 ? "abc" : "ab|c");
        cr_expect_str_eq(spelled(rig, "ab?c", false), "ab|c",
                         "a byte without token leaves nothing");
        vocab_rig_free(rig);
    }
}

Test(vocab, bpe_ranks_a_pair_that_is_listed_twice_by_its_first_place) {
    struct vocab_rig *rig = vocab_rig_new();
    const char *text[] = {"a", "b", "c", "ab", "bc"};
    const char *merges[] = {"a b", "b c", "a b"};
    rig_string(rig, "tokenizer.ggml.model", "gpt2");
    rig_strings(rig, "tokenizer.ggml.tokens", text, 5);
    rig_strings(rig, "tokenizer.ggml.merges", merges, 3);
    loaded(rig);
    cr_expect_str_eq(spelled(rig, "abc", false), "ab|c");
    vocab_rig_free(rig);
}

/* --- what the file says ---------------------------------------------------------------------- */

Test(vocab, defaults_of_a_file_that_says_nothing) {
    struct vocab_rig *rig = small_spm();
    cr_expect_str_eq(rig->vocab.kind_name, "llama");
    cr_expect_eq(rig->vocab.bos, 1);
    cr_expect_eq(rig->vocab.eos, 2);
    cr_expect_eq(rig->vocab.unk, 0);
    cr_expect(rig->vocab.add_bos && !rig->vocab.add_eos && rig->vocab.add_space_prefix);
    cr_expect(vocab_is_end(&rig->vocab, 2) && !vocab_is_end(&rig->vocab, 1));
    vocab_rig_free(rig);
    rig = small_bpe(NULL);
    cr_expect_str_eq(rig->vocab.kind_name, "gpt2");
    cr_expect_str_eq(rig->vocab.pre_name, "default");
    cr_expect(rig->vocab.bos == -1 && rig->vocab.eos == -1 && rig->vocab.unk == -1);
    cr_expect(!rig->vocab.add_bos && !rig->vocab.add_eos);
    cr_expect_eq(rig->vocab.eot, find(rig, "<|end|>"));
    cr_expect(vocab_is_end(&rig->vocab, find(rig, "<|end|>")));
    cr_expect(!vocab_is_end(&rig->vocab, find(rig, "<tool>")));
    cr_expect(!vocab_is_end(&rig->vocab, -1));
    vocab_rig_free(rig);
}

Test(vocab, add_bos_of_bpe_follows_the_file_then_its_pre_split) {
    static const struct {
        const char *pre;
        int said; /* -1: nothing */
        bool add_bos;
    } cases[] = {{"llama-bpe", -1, true}, {"llama-bpe", 0, false}, {"tekken", -1, true},
                 {"qwen2", -1, false},    {"qwen2", 1, true},      {"gpt-2", -1, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vocab_rig *rig = vocab_rig_new();
        rig_make_bpe(rig, cases[i].pre);
        rig_u32(rig, "tokenizer.ggml.bos_token_id", 5);
        if (cases[i].said >= 0) rig_bool(rig, "tokenizer.ggml.add_bos_token", cases[i].said);
        loaded(rig);
        cr_expect_eq(rig->vocab.add_bos, cases[i].add_bos, "case %zu", i);
        vocab_rig_free(rig);
    }
}

Test(vocab, ids_that_the_file_names_end_generation) {
    struct vocab_rig *rig = vocab_rig_new();
    rig_make_bpe(rig, "qwen2");
    rig_u32(rig, "tokenizer.ggml.eos_token_id", 10);
    rig_u32(rig, "tokenizer.ggml.eot_token_id", 11);
    rig_u32(rig, "tokenizer.ggml.eom_token_id", 12);
    rig_u32(rig, "tokenizer.ggml.bos_token_id", 13);
    rig_u32(rig, "tokenizer.ggml.padding_token_id", 0xFFFFFFFF); /* some converters' "none" */
    loaded(rig);
    cr_expect_eq(rig->vocab.eot, 11);
    for (int32_t id = 10; id < 13; id++) cr_expect(vocab_is_end(&rig->vocab, id));
    cr_expect(!vocab_is_end(&rig->vocab, 13));
    vocab_rig_free(rig);
}

/* --- hostile metadata ------------------------------------------------------------------------ */

/* A vocabulary of four tokens in which a row of the table spoils one thing; what it leaves 0 is
 * good: 'llama', "c" of type 1, four scores in F32, four types in I32. */
struct hostile {
    const char *name, *model, *pre;
    bool no_model;
    const char *token; /* the text of token 3 */
    int token_type;    /* its type */
    int more_scores, more_types;
    enum gguf_type score_type, type_type;
    float score; /* of token 3 */
    const char *merge;
    const char *id_key;
    uint32_t id;
    const char *bool_key;
    const char *reason; /* what the fault says; NULL: it loads */
};

static char long_text[VOCAB_PIECE_MAX + 2];

static const struct hostile hostile_rows[] = {
    {.name = "nothing wrong"},
    {.name = "nothing wrong in bpe", .model = "gpt2", .merge = "a b"},
    {.name = "unknown model",
     .model = "bert\n",
     .reason = "'bert?' is unknown (known: llama, gpt2)"},
    {.name = "unknown pre",
     .model = "gpt2",
     .pre = "kimi-k2",
     .merge = "a b",
     .reason = "'kimi-k2' is unknown (known: default, llama-bpe"},
    {.name = "unknown pre, the last known name",
     .model = "gpt2",
     .pre = "kimi-k2",
     .merge = "a b",
     .reason = "deepseek-coder)"},
    {.name = "token too long", .token = long_text, .reason = "token 3 is 1025 bytes long"},
    {.name = "byte token <0x-1>",
     .token = "<0x-1>",
     .token_type = 6,
     .reason = "byte token 3 is spelled '<0x-1>'"},
    {.name = "byte token <0xZZ>", .token = "<0xZZ>", .token_type = 6, .reason = "'<0xZZ>'"},
    {.name = "byte token <0x1>", .token = "<0x1>", .token_type = 6, .reason = "'<0x1>'"},
    {.name = "byte token <0x100>", .token = "<0x100>", .token_type = 6, .reason = "'<0x100>'"},
    {.name = "byte token empty", .token = "", .token_type = 6, .reason = "spelled ''"},
    {.name = "byte token in lower case", .token = "<0xaf>", .token_type = 6},
    {.name = "type 7", .token_type = 7, .reason = "token 3 has type 7"},
    {.name = "type -1", .token_type = -1, .reason = "token 3 has type -1"},
    {.name = "type 258", .token_type = 258, .reason = "token 3 has type 258"},
    {.name = "too few scores", .more_scores = -1, .reason = "scores has 3 elements for 4 tokens"},
    {.name = "too many scores", .more_scores = 1, .reason = "scores has 5 elements for 4 tokens"},
    {.name = "too few types", .more_types = -1, .reason = "token_type has 3 elements for 4"},
    {.name = "scores as u32", .score_type = GGUF_U32, .reason = "tokenizer.ggml.scores"},
    {.name = "scores as i32", .score_type = GGUF_I32},
    {.name = "types as f32", .type_type = GGUF_F32, .reason = "tokenizer.ggml.token_type"},
    {.name = "score not a number", .score = -__builtin_nanf(""), .reason = "not a number"},
    {.name = "same text twice", .token = "a", .reason = "tokens 1 and 3 have the same text"},
    {.name = "empty token", .token = ""},
    {.name = "merges missing", .model = "gpt2", .reason = "tokenizer.ggml.merges is missing"},
    {.name = "merge without space", .model = "gpt2", .merge = "ab", .reason = "merge 0"},
    {.name = "merge of a space only", .model = "gpt2", .merge = " ", .reason = "merge 0"},
    {.name = "merge empty", .model = "gpt2", .merge = "", .reason = "merge 0"},
    {.name = "merge of unknown texts", .model = "gpt2", .merge = "x y"},
    {.name = "merge longer than a token", .model = "gpt2", .merge = long_text},
    {.name = "bos out of range",
     .id_key = "tokenizer.ggml.bos_token_id",
     .id = 4,
     .reason = "bos_token_id is 4, but the vocabulary has 4 tokens"},
    {.name = "eos out of range",
     .id_key = "tokenizer.ggml.eos_token_id",
     .id = 0x80000000,
     .reason = "eos_token_id is 2147483648"},
    {.name = "eot out of range",
     .id_key = "tokenizer.ggml.eot_token_id",
     .id = 4,
     .reason = "eot_token_id"},
    {.name = "eom out of range",
     .id_key = "tokenizer.ggml.eom_token_id",
     .id = 4,
     .reason = "eom_token_id"},
    {.name = "unknown out of range",
     .id_key = "tokenizer.ggml.unknown_token_id",
     .id = 4,
     .reason = "unknown_token_id"},
    {.name = "padding out of range",
     .id_key = "tokenizer.ggml.padding_token_id",
     .id = 4,
     .reason = "padding_token_id"},
    {.name = "fim out of range",
     .id_key = "tokenizer.ggml.fim_pad_token_id",
     .id = 4,
     .reason = "fim_pad_token_id"},
    {.name = "bos is none", .id_key = "tokenizer.ggml.bos_token_id", .id = 0xFFFFFFFF},
    {.name = "add_bos without bos",
     .model = "gpt2",
     .merge = "a b",
     .bool_key = "tokenizer.ggml.add_bos_token",
     .reason = "add_bos_token is true, but"},
    {.name = "add_eos without eos",
     .model = "gpt2",
     .merge = "a b",
     .bool_key = "tokenizer.ggml.add_eos_token",
     .reason = "add_eos_token is true, but"},
    {.name = "add_bos as a number",
     .id_key = "tokenizer.ggml.add_bos_token",
     .id = 1,
     .reason = "add_bos_token"},
    {.name = "model as a number",
     .no_model = true,
     .id_key = "tokenizer.ggml.model",
     .id = 1,
     .reason = "tokenizer.ggml.model"},
    {.name = "model missing", .no_model = true, .reason = "tokenizer.ggml.model is missing"},
};

static void make_hostile(struct vocab_rig *rig, const struct hostile *row) {
    const char *text[] = {"<unk>", "a", "b", row->token ? row->token : "c"};
    int32_t type[] = {2, 1, 1, row->token_type ? row->token_type : 1};
    float score[] = {0, 0, 0, row->score, 0};
    if (!row->no_model) rig_string(rig, "tokenizer.ggml.model", row->model ? row->model : "llama");
    if (row->pre) rig_string(rig, "tokenizer.ggml.pre", row->pre);
    rig_strings(rig, "tokenizer.ggml.tokens", text, 4);
    rig_words(rig, "tokenizer.ggml.scores", row->score_type ? row->score_type : GGUF_F32, score,
              (size_t)(4 + row->more_scores));
    rig_words(rig, "tokenizer.ggml.token_type", row->type_type ? row->type_type : GGUF_I32, type,
              (size_t)(4 + row->more_types));
    if (row->merge) rig_strings(rig, "tokenizer.ggml.merges", &row->merge, 1);
    if (row->id_key) rig_u32(rig, row->id_key, row->id);
    if (row->bool_key) rig_bool(rig, row->bool_key, true);
}

Test(vocab, hostile_metadata_is_refused_by_name) {
    memset(long_text, 'x', VOCAB_PIECE_MAX + 1);
    for (size_t i = 0; i < sizeof hostile_rows / sizeof hostile_rows[0]; i++) {
        const struct hostile *row = &hostile_rows[i];
        if (row->merge == long_text) long_text[500] = ' ';
        struct vocab_rig *rig = vocab_rig_new();
        make_hostile(rig, row);
        bool ok = vocab_rig_load(rig);
        cr_expect_eq(ok, !row->reason, "%s: %s", row->name, ok ? "loads" : rig->fault.text);
        if (!ok && row->reason) {
            cr_expect_eq(rig->fault.code, FAULT_MODEL_LOAD_FAILED, "%s", row->name);
            cr_expect_not_null(strstr(rig->fault.text, row->reason), "%s: %s", row->name,
                               rig->fault.text);
        }
        vocab_rig_free(rig);
        long_text[500] = 'x';
    }
}

Test(vocab, an_empty_or_missing_token_list_is_refused) {
    for (int i = 0; i < 3; i++) {
        struct vocab_rig *rig = vocab_rig_new();
        int32_t numbers[] = {1, 2};
        rig_string(rig, "tokenizer.ggml.model", "llama");
        if (i == 1) rig_strings(rig, "tokenizer.ggml.tokens", NULL, 0);
        if (i == 2) rig_words(rig, "tokenizer.ggml.tokens", GGUF_I32, numbers, 2);
        cr_expect_not(vocab_rig_load(rig), "%d", i);
        cr_expect_not_null(strstr(rig->fault.text, "tokenizer.ggml.tokens"), "%s", rig->fault.text);
        vocab_rig_free(rig);
    }
}

/* --- time ------------------------------------------------------------------------------------ */

static double encode_ms(struct vocab_rig *rig, const char *text, size_t length) {
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        struct timespec a, b;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        rig_encode(rig, text, length, true);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) * 1e-6;
        if (ms < best) best = ms;
    }
    return best;
}

/* Four times the text may take twelve times the time, and not sixteen, as n * n would. A floor
 * keeps the clock's grain out of the ratio. */
static void check_growth(struct vocab_rig *rig, const char *what, const char *unit) {
    enum { SMALL = 8000, LARGE = 4 * SMALL };
    char *text = malloc(LARGE);
    cr_assert_not_null(text);
    size_t n = strlen(unit);
    for (size_t i = 0; i < LARGE; i++) text[i] = unit[i % n];
    if (strcmp(unit, "random") == 0) {
        for (size_t i = 0; i < LARGE; i++) text[i] = (char)random();
    }
    double small = encode_ms(rig, text, SMALL), large = encode_ms(rig, text, LARGE);
    double floor_ms = 0.2;
    cr_expect_lt(large, 12 * (small < floor_ms ? floor_ms : small), "%s, '%s': %.2f ms, %.2f ms",
                 what, unit, small, large);
    free(text);
}

Test(vocab, time_grows_almost_linearly_whatever_the_text) {
    static const char *const units[] = {"a",     " ",      "\n",      "1",
                                        "hello", "hello ", "<",       "<s>",
                                        "ab",    "'s",     "\xFF",    "\xF0\x9F\xA6\x99",
                                        "x'",    ".",      "random",  "<tool>",
                                        "\r\n",  " \n",    "\xC3\xA9"};
    static const char *const pres[] = {"llama-bpe", "default", "deepseek-llm", "tekken"};
    srandom(4);
    struct vocab_rig *rig = small_spm();
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) check_growth(rig, "spm", units[i]);
    vocab_rig_free(rig);
    for (size_t k = 0; k < sizeof pres / sizeof pres[0]; k++) {
        rig = small_bpe(pres[k]);
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
            check_growth(rig, pres[k], units[i]);
        vocab_rig_free(rig);
    }
}

/* Each name beside a piece of the template that models with that format publish. */
Test(vocab, the_chat_format_is_known_by_the_template) {
    static const struct {
        const char *name;
        const char *piece;
    } known[] = {
        {"llama2", "'<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' ... bos_token + '[INST] '"},
        {"mistral", "{{ '[INST] ' + message['content'] + ' [/INST]' }}"},
        {"llama3", "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'"},
        {"chatml", "{{'<|im_start|>' + message['role'] + '\\n' + message['content']"},
        {"zephyr", "{{ '<|user|>\\n' + message['content'] + eos_token }}"},
        {"phi3", "{{'<|user|>' + '\\n' + message['content'] + '<|end|>' + '\\n'"},
        {"none", "{{ '<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'"},
        {"none", "{{ '<start_of_turn>' + role + '\\n' }}"},
        {"none", ""},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        struct vocab_rig *rig = vocab_rig_new();
        rig_make_spm(rig, true);
        rig_string(rig, "tokenizer.chat_template", known[i].piece);
        cr_assert(vocab_rig_load(rig));
        cr_expect_str_eq(rig->vocab.chat_format, known[i].name);
        vocab_rig_free(rig);
    }
}

Test(vocab, a_chat_template_that_is_absent_or_no_text_is_none) {
    for (int absent = 0; absent < 2; absent++) {
        struct vocab_rig *rig = vocab_rig_new();
        rig_make_spm(rig, true);
        if (!absent) rig_u32(rig, "tokenizer.chat_template", 7);
        cr_assert(vocab_rig_load(rig));
        cr_expect_str_eq(rig->vocab.chat_format, "none");
        vocab_rig_free(rig);
    }
}

Test(vocab, the_chat_format_of_qwen2_is_chatml) {
    struct vocab_rig *rig = vocab_rig_new();
    if (vocab_rig_load_shared(rig, "vocab/qwen2.gguf"))
        cr_expect_str_eq(rig->vocab.chat_format, "chatml");
    vocab_rig_free(rig);
}
