#include "token/presplit.h"

#include <string.h>

#include "base/panic.h"
#include "token/unicode.h"

enum { WORDLIKE = UNICODE_LETTER | UNICODE_NUMBER, NOT_OTHER = WORDLIKE | UNICODE_SPACE };

static bool is_newline(uint32_t c) {
    return c == '\r' || c == '\n';
}

/* The end of the run, from `at` on, of characters that have one of `flags`. */
static size_t run_with(const struct presplit_text *text, size_t at, size_t end, int flags) {
    while (at < end && (text->flags[at] & flags)) at++;
    return at;
}

/* The same of characters that have none of them. */
static size_t run_without(const struct presplit_text *text, size_t at, size_t end, int flags) {
    while (at < end && !(text->flags[at] & flags)) at++;
    return at;
}

/* 's 't 'm 'd 're 've 'll: the length of one that begins at `at`, else 0. */
static size_t contraction(const struct presplit_text *text, size_t at, size_t end, bool any_case) {
    if (text->code_point[at] != '\'' || end - at < 2) return 0;
    uint32_t fold = any_case ? 0x20 : 0;
    uint32_t a = text->code_point[at + 1];
    if (a >= 'A' && a <= 'Z') a |= fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - at < 3) return 0;
    uint32_t b = text->code_point[at + 2];
    if (b >= 'A' && b <= 'Z') b |= fold;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return 0;
}

/* \s+(?!\S)|\s+ : a run of spaces leaves its last one to the word that follows it. 0: no space. */
static size_t spaces(const struct presplit_text *text, size_t at, size_t end) {
    size_t stop = run_with(text, at, end, UNICODE_SPACE);
    if (stop == at) return 0;
    return stop < end && stop - at > 1 ? stop - 1 : stop;
}

/* GPT-2:
 * 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t stage_gpt2(const struct presplit_text *text, size_t at, size_t end) {
    size_t n = contraction(text, at, end, false);
    if (n > 0) return at + n;
    size_t word = at + (text->code_point[at] == ' ');
    if (word < end) {
        int flags = text->flags[word];
        if (flags & UNICODE_LETTER) return run_with(text, word, end, UNICODE_LETTER);
        if (flags & UNICODE_NUMBER) return run_with(text, word, end, UNICODE_NUMBER);
        if (!(flags & NOT_OTHER)) return run_without(text, word, end, NOT_OTHER);
    }
    size_t stop = spaces(text, at, end);
    wick_assert(stop > at);
    return stop;
}

/* What the cuts since 2023 share, after their words:
 * \p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * `slash` puts '/' beside \r\n after symbols. */
static size_t not_a_word(const struct presplit_text *text, size_t at, size_t end, size_t digits,
                         bool slash) {
    if (text->flags[at] & UNICODE_NUMBER) {
        size_t limit = end - at < digits ? end : at + digits;
        return run_with(text, at, limit, UNICODE_NUMBER);
    }
    size_t other = at + (text->code_point[at] == ' ');
    if (other < end && !(text->flags[other] & NOT_OTHER)) {
        size_t stop = run_without(text, other, end, NOT_OTHER);
        while (stop < end &&
               (is_newline(text->code_point[stop]) || (slash && text->code_point[stop] == '/')))
            stop++;
        return stop;
    }
    size_t stop = run_with(text, at, end, UNICODE_SPACE);
    for (size_t i = stop; i > at; i--) {
        if (is_newline(text->code_point[i - 1])) return i;
    }
    stop = spaces(text, at, end);
    wick_assert(stop > at);
    return stop;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|..., and what follows in not_a_word */
static size_t words_and_digits(const struct presplit_text *text, size_t at, size_t end,
                               size_t digits) {
    size_t n = contraction(text, at, end, true);
    if (n > 0) return at + n;
    bool may_lead = !is_newline(text->code_point[at]) && !(text->flags[at] & WORDLIKE);
    size_t word = at + may_lead;
    if (word < end && (text->flags[word] & UNICODE_LETTER))
        return run_with(text, word, end, UNICODE_LETTER);
    return not_a_word(text, at, end, digits, false);
}

static size_t stage_llama3(const struct presplit_text *text, size_t at, size_t end) {
    return words_and_digits(text, at, end, 3);
}

static size_t stage_qwen2(const struct presplit_text *text, size_t at, size_t end) {
    return words_and_digits(text, at, end, 1);
}

/* Letters that may stand in the upper-case part of a word, and in the lower-case part: of the
 * letters outside ASCII, either. */
static bool is_upper(const struct presplit_text *text, size_t at) {
    uint32_t c = text->code_point[at];
    return (text->flags[at] & UNICODE_LETTER) && !(c >= 'a' && c <= 'z');
}

static bool is_lower(const struct presplit_text *text, size_t at) {
    uint32_t c = text->code_point[at];
    return (text->flags[at] & UNICODE_LETTER) && !(c >= 'A' && c <= 'Z');
}

/* Tekken (Mistral NeMo), U and W being the letters above:
 * [^\r\n\p{L}\p{N}]?U*W+|[^\r\n\p{L}\p{N}]?U+W*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|... */
static size_t stage_tekken(const struct presplit_text *text, size_t at, size_t end) {
    bool may_lead = !is_newline(text->code_point[at]) && !(text->flags[at] & WORDLIKE);
    size_t word = at + may_lead;
    if (word == end || !(text->flags[word] & UNICODE_LETTER))
        return not_a_word(text, at, end, 1, true);
    size_t upper = word;
    while (upper < end && is_upper(text, upper)) upper++;
    size_t stop = upper;
    while (stop < end && is_lower(text, stop)) stop++;
    if (stop > upper) return stop;
    /* No W follows: the last of the U that is a W too has to serve as W+; without one, U+ it is. */
    for (size_t i = upper; i > word; i--) {
        if (is_lower(text, i - 1)) return i;
    }
    return upper;
}

typedef bool member(const struct presplit_text *text, size_t at);

/* X+, where X is a class of characters. */
static size_t runs_of(const struct presplit_text *text, size_t at, size_t end, member *is) {
    bool inside = is(text, at);
    while (at < end && is(text, at) == inside) at++;
    return at;
}

/* \s?X+ : a match takes the space right before it along. X may contain spaces. */
static size_t spaced_runs_of(const struct presplit_text *text, size_t at, size_t end, member *is) {
    size_t begin = at;
    while (at < end && !is(text, at)) at++;
    if (at == end) return end;
    size_t match = at > begin && (text->flags[at - 1] & UNICODE_SPACE) ? at - 1 : at;
    if (match > begin) return match;
    while (at < end && is(text, at)) at++;
    return at;
}

static bool member_number(const struct presplit_text *text, size_t at) {
    return text->flags[at] & UNICODE_NUMBER;
}

static bool member_letter(const struct presplit_text *text, size_t at) {
    return text->flags[at] & UNICODE_LETTER;
}

static bool member_punctuation(const struct presplit_text *text, size_t at) {
    return text->flags[at] & UNICODE_PUNCTUATION;
}

static bool in_ranges(uint32_t c, const uint32_t (*range)[2], size_t n) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c > range[middle][1]) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n && c >= range[low][0];
}

/* [\p{P}$+<=>^~|] */
static bool member_default_symbol(const struct presplit_text *text, size_t at) {
    uint32_t c = text->code_point[at];
    return (text->flags[at] & UNICODE_PUNCTUATION) ||
           (c > 0 && c < 0x80 && strchr("$+<=>^~|", (int)c));
}

/* The cased letters that DeepSeek LLM lists. */
static bool member_deepseek_letter(const struct presplit_text *text, size_t at) {
    static const uint32_t range[][2] = {
        {0x41, 0x5A},       {0x61, 0x7A},       {0xB5, 0xB5},       {0xC0, 0xD6},
        {0xD8, 0xF6},       {0xF8, 0x1BA},      {0x1BC, 0x1BF},     {0x1C4, 0x293},
        {0x295, 0x2AF},     {0x370, 0x373},     {0x376, 0x377},     {0x37B, 0x37D},
        {0x37F, 0x37F},     {0x386, 0x386},     {0x388, 0x38A},     {0x38C, 0x38C},
        {0x38E, 0x3A1},     {0x3A3, 0x3F5},     {0x3F7, 0x481},     {0x48A, 0x52F},
        {0x531, 0x556},     {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
        {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},
        {0x1D79, 0x1D9A},   {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},
        {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},   {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},
        {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},   {0x1FB6, 0x1FBC},
        {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
        {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},
        {0x2102, 0x2102},   {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},
        {0x2119, 0x211D},   {0x2124, 0x2124},   {0x2126, 0x2126},   {0x2128, 0x2128},
        {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},   {0x213C, 0x213F},
        {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2184},   {0x2C00, 0x2C7B},
        {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF3},   {0xA640, 0xA66D},
        {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
        {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},
        {0xFF41, 0xFF5A},   {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB},
        {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
    };
    return in_ranges(text->code_point[at], range, sizeof range / sizeof range[0]);
}

/* [!-/:-~！-／：-～‘-‟　-。]; U+3000 counts as a space before anything else. */
static bool member_deepseek_symbol(const struct presplit_text *text, size_t at) {
    static const uint32_t range[][2] = {{'!', '/'},       {':', '~'},       {0x2018, 0x201F},
                                        {0x3001, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}};
    return in_ranges(text->code_point[at], range, sizeof range / sizeof range[0]);
}

/* [一-龥ࠀ-一가-퟿]; the spaces among them count as spaces only. */
static bool member_deepseek_east_asian(const struct presplit_text *text, size_t at) {
    static const uint32_t range[][2] = {{0x800, 0x9FA5}, {0xAC00, 0xD7FF}};
    return !(text->flags[at] & UNICODE_SPACE) &&
           in_ranges(text->code_point[at], range, sizeof range / sizeof range[0]);
}

/* \p{N}+ */
static size_t stage_numbers(const struct presplit_text *text, size_t at, size_t end) {
    return runs_of(text, at, end, member_number);
}

/* \p{N} */
static size_t stage_digit(const struct presplit_text *text, size_t at, size_t end) {
    return member_number(text, at) ? at + 1 : runs_of(text, at, end, member_number);
}

/* [0-9][0-9][0-9] */
static size_t stage_three_digits(const struct presplit_text *text, size_t at, size_t end) {
    size_t begin = at, run = 0;
    for (; at < end && run < 3; at++) {
        uint32_t c = text->code_point[at];
        run = c >= '0' && c <= '9' ? run + 1 : 0;
    }
    if (run < 3) return end;
    return at - 3 > begin ? at - 3 : at;
}

/* [\r\n] */
static size_t stage_newline(const struct presplit_text *text, size_t at, size_t end) {
    if (is_newline(text->code_point[at])) return at + 1;
    while (at < end && !is_newline(text->code_point[at])) at++;
    return at;
}

/* \s+$ */
static size_t stage_last_spaces(const struct presplit_text *text, size_t at, size_t end) {
    size_t last = end;
    while (last > at && (text->flags[last - 1] & UNICODE_SPACE)) last--;
    return last > at ? last : end;
}

static size_t stage_default_symbols(const struct presplit_text *text, size_t at, size_t end) {
    return runs_of(text, at, end, member_default_symbol);
}

static size_t stage_deepseek_letters(const struct presplit_text *text, size_t at, size_t end) {
    return spaced_runs_of(text, at, end, member_deepseek_letter);
}

static size_t stage_deepseek_symbols(const struct presplit_text *text, size_t at, size_t end) {
    return spaced_runs_of(text, at, end, member_deepseek_symbol);
}

static size_t stage_deepseek_east_asian(const struct presplit_text *text, size_t at, size_t end) {
    return runs_of(text, at, end, member_deepseek_east_asian);
}

static size_t stage_spaced_letters(const struct presplit_text *text, size_t at, size_t end) {
    return spaced_runs_of(text, at, end, member_letter);
}

static size_t stage_spaced_punctuation(const struct presplit_text *text, size_t at, size_t end) {
    return spaced_runs_of(text, at, end, member_punctuation);
}

/* clang-format off */
/* Names that stand for one and the same cut follow each other. */
const struct presplit_rule presplit_rules[] = {
    /* name            ignore_merges add_bos stages */
    {"default",          false, false, {stage_default_symbols, stage_gpt2, stage_numbers,
                                        stage_three_digits}},
    {"llama-bpe",        true,  true,  {stage_llama3}},
    {"llama3",           true,  true,  {stage_llama3}},
    {"llama-v3",         true,  true,  {stage_llama3}},
    {"falcon3",          true,  true,  {stage_llama3}},
    {"pixtral",          true,  true,  {stage_llama3}},
    {"midm-2.0",         true,  true,  {stage_llama3}},
    {"smaug-bpe",        false, false, {stage_llama3}},
    {"tekken",           true,  true,  {stage_tekken}},
    {"qwen2",            false, false, {stage_qwen2}},
    {"deepseek-r1-qwen", false, false, {stage_qwen2}},
    {"megrez",           false, false, {stage_qwen2}},
    {"kormo",            false, false, {stage_qwen2}},
    {"gpt-2",            false, false, {stage_gpt2}},
    {"trillion",         false, false, {stage_gpt2}},
    {"smollm",           false, false, {stage_digit, stage_gpt2}},
    {"starcoder",        false, false, {stage_digit, stage_gpt2}},
    {"refact",           false, false, {stage_digit, stage_gpt2}},
    {"minerva-7b",       false, false, {stage_digit, stage_gpt2}},
    {"deepseek-llm",     false, false, {stage_newline, stage_deepseek_letters,
                                        stage_deepseek_symbols, stage_last_spaces,
                                        stage_deepseek_east_asian, stage_numbers}},
    {"deepseek-coder",   false, false, {stage_newline, stage_spaced_letters,
                                        stage_spaced_punctuation, stage_deepseek_east_asian,
                                        stage_digit}},
    {NULL, false, false, {NULL}},
};
/* clang-format on */

int presplit_find(const char *name, size_t length) {
    for (int i = 0; presplit_rules[i].name; i++) {
        if (strlen(presplit_rules[i].name) == length &&
            memcmp(presplit_rules[i].name, name, length) == 0)
            return i;
    }
    return -1;
}

void presplit_names(char *out, size_t size) {
    wick_assert(size > 0);
    size_t used = 0;
    for (int i = 0; presplit_rules[i].name; i++) {
        const char *name = presplit_rules[i].name;
        size_t separator = i > 0 ? 2 : 0, length = strlen(name);
        if (used + separator + length + 1 > size) break;
        memcpy(out + used, ", ", separator);
        memcpy(out + used + separator, name, length);
        used += separator + length;
    }
    out[used] = '\0';
}

void presplit_begin(struct presplit_cursor *cursor, const struct presplit_rule *rule,
                    struct presplit_text text, size_t length) {
    memset(cursor, 0, sizeof *cursor);
    cursor->rule = rule;
    cursor->text = text;
    cursor->length = length;
}

bool presplit_next(struct presplit_cursor *cursor, size_t *begin, size_t *end) {
    if (cursor->at == cursor->length) return false;
    size_t limit = cursor->length;
    for (int k = 0; k < PRESPLIT_STAGES_MAX && cursor->rule->stage[k]; k++) {
        if (cursor->end[k] == cursor->at) {
            cursor->end[k] = cursor->rule->stage[k](&cursor->text, cursor->at, limit);
            wick_assert(cursor->end[k] > cursor->at && cursor->end[k] <= limit);
        }
        limit = cursor->end[k];
    }
    *begin = cursor->at;
    *end = limit;
    cursor->at = limit;
    return true;
}
