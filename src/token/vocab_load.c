/* The loading half of vocab.h: GGUF metadata -> tables. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "token/bpe.h"
#include "token/chat_format.h"
#include "token/presplit.h"
#include "token/vocab.h"
#include "token/vocab_load.h"

#define KEY(name) "tokenizer.ggml." name

/* Tokens that many files mark only by their text. All of them are control tokens, whatever type
 * the file gives them. The lists are llama.cpp's (src/llama-vocab.cpp). */
enum role { ROLE_NONE, ROLE_END, ROLE_FIM, ROLE_FIM_END };

struct known_text {
    const char *text;
    enum role role;
    const char *key; /* where the file names the id itself, the text decides nothing */
};

static const struct known_text known_texts[] = {
    {"<|eot_id|>", ROLE_END, NULL},
    {"<|im_end|>", ROLE_END, NULL},
    {"<|end|>", ROLE_END, NULL},
    {"<end_of_turn>", ROLE_END, NULL},
    {"<|endoftext|>", ROLE_END, NULL},
    {"<|end_of_text|>", ROLE_END, NULL},
    {"<EOT>", ROLE_END, NULL},
    {"_<EOT>", ROLE_END, NULL},
    {"[EOT]", ROLE_END, NULL},
    {"<\xEF\xBD\x9C"
     "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
     ROLE_END, NULL},
    {"<end_of_utterance>", ROLE_END, NULL},
    /* beyond here not candidates for end of turn, see eot_texts */
    {"<|eom_id|>", ROLE_END, NULL},
    {"<|return|>", ROLE_END, NULL},
    {"<|call|>", ROLE_END, NULL},
    {"<|flush|>", ROLE_END, NULL},
    {"<|calls|>", ROLE_END, NULL},
    {"</s>", ROLE_END, NULL},
    {"[EOS]", ROLE_END, NULL},
    {"<eos>", ROLE_END, NULL},
    {"<turn|>", ROLE_END, NULL},
    {"<|tool_response>", ROLE_END, NULL},
    {"[e~[", ROLE_END, NULL},
    {"<|fim_prefix|>", ROLE_FIM, KEY("fim_pre_token_id")},
    {"<fim-prefix>", ROLE_FIM, KEY("fim_pre_token_id")},
    {"<fim_prefix>", ROLE_FIM, KEY("fim_pre_token_id")},
    {"<\xEF\xBD\x9C"
     "fim\xE2\x96\x81"
     "begin\xEF\xBD\x9C>",
     ROLE_FIM, KEY("fim_pre_token_id")},
    {"<PRE>", ROLE_FIM, KEY("fim_pre_token_id")},
    {"\xE2\x96\x81<PRE>", ROLE_FIM, KEY("fim_pre_token_id")},
    {"<|fim_suffix|>", ROLE_FIM, KEY("fim_suf_token_id")},
    {"<fim-suffix>", ROLE_FIM, KEY("fim_suf_token_id")},
    {"<fim_suffix>", ROLE_FIM, KEY("fim_suf_token_id")},
    {"<\xEF\xBD\x9C"
     "fim\xE2\x96\x81hole\xEF\xBD\x9C>",
     ROLE_FIM, KEY("fim_suf_token_id")},
    {"<SUF>", ROLE_FIM, KEY("fim_suf_token_id")},
    {"\xE2\x96\x81<SUF>", ROLE_FIM, KEY("fim_suf_token_id")},
    {"<|fim_middle|>", ROLE_FIM, KEY("fim_mid_token_id")},
    {"<fim-middle>", ROLE_FIM, KEY("fim_mid_token_id")},
    {"<fim_middle>", ROLE_FIM, KEY("fim_mid_token_id")},
    {"<\xEF\xBD\x9C"
     "fim\xE2\x96\x81"
     "end\xEF\xBD\x9C>",
     ROLE_FIM, KEY("fim_mid_token_id")},
    {"<MID>", ROLE_FIM, KEY("fim_mid_token_id")},
    {"\xE2\x96\x81<MID>", ROLE_FIM, KEY("fim_mid_token_id")},
    {"<|fim_pad|>", ROLE_FIM_END, KEY("fim_pad_token_id")},
    {"<fim-pad>", ROLE_FIM_END, KEY("fim_pad_token_id")},
    {"<fim_pad>", ROLE_FIM_END, KEY("fim_pad_token_id")},
    {"<PAD>", ROLE_FIM_END, KEY("fim_pad_token_id")},
    {"[PAD]", ROLE_FIM_END, KEY("fim_pad_token_id")},
    {"<|fim_repo|>", ROLE_FIM_END, KEY("fim_rep_token_id")},
    {"<|repo_name|>", ROLE_FIM_END, KEY("fim_rep_token_id")},
    {"<fim-repo>", ROLE_FIM_END, KEY("fim_rep_token_id")},
    {"<REPO>", ROLE_FIM_END, KEY("fim_rep_token_id")},
    {"<reponame>", ROLE_FIM_END, KEY("fim_rep_token_id")},
    {"<|file_sep|>", ROLE_FIM_END, KEY("fim_sep_token_id")},
};
enum {
    KNOWN_TEXTS = sizeof known_texts / sizeof known_texts[0],
    EOT_TEXTS = 11 /* the first of them: a model's end of turn, if the file names none */
};
_Static_assert(KNOWN_TEXTS + 6 <= VOCAB_END_MAX, "eos, eot, eom, fim pad, rep and sep besides");

/* The arrays of one GGUF vocabulary. */
struct source {
    const struct gguf *gguf;
    const struct gguf_kv *tokens, *scores, *types, *merges; /* NULL: absent */
    bool named[KNOWN_TEXTS]; /* the file names that role's id: the text decides nothing */
    bool begins_known[256];  /* first and last bytes of known texts: a quick no */
    bool ends_known[256];
};
_Static_assert(VOCAB_TOKENS_MAX < 1 << VOCAB_SLOT_ID_BITS, "an id + 1 fits its slot");

static unsigned long long offset_of(const struct gguf_kv *kv) {
    return (unsigned long long)kv->offset;
}

/* Text of the file's, safe in a line of a log: cut, and with '?' for what does not print. */
struct shown {
    char text[33];
};

static struct shown show(struct gguf_string string) {
    struct shown shown = {""};
    for (size_t i = 0; i < string.length && i < sizeof shown.text - 1; i++) {
        char c = string.text[i];
        shown.text[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    return shown;
}

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

int vocab_byte_spelled(const char *text, size_t length) {
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    int value = 0;
    for (int i = 3; i < 5; i++) {
        char c = text[i];
        if (!is_hex(c)) return -1;
        value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

static int known_index(const struct source *source, struct gguf_string text) {
    if (text.length == 0 || !source->begins_known[(uint8_t)text.text[0]] ||
        !source->ends_known[(uint8_t)text.text[text.length - 1]])
        return -1;
    for (int i = 0; i < KNOWN_TEXTS; i++) {
        if (gguf_string_is(text, known_texts[i].text)) return source->named[i] ? -1 : i;
    }
    return -1;
}

/* The type token `index` is used as, which known texts override. */
static uint8_t type_of(const struct source *source, uint64_t index, struct gguf_string text,
                       enum vocab_kind kind) {
    if (known_index(source, text) >= 0) return VOCAB_CONTROL;
    if (!source->types) {
        bool byte = kind == VOCAB_SPM && vocab_byte_spelled(text.text, text.length) >= 0;
        return byte ? VOCAB_BYTE : VOCAB_NORMAL;
    }
    uint32_t type = bytes_u32(source->types->data + 4 * index);
    return type == 0 ? VOCAB_NORMAL : (uint8_t)type;
}

static bool is_special(uint8_t type) {
    return type == VOCAB_CONTROL || type == VOCAB_USER_DEFINED || type == VOCAB_UNKNOWN;
}

static bool read_kind(struct vocab *vocab, const struct gguf *gguf, struct fault *fault) {
    struct gguf_string model = {NULL, 0};
    if (!gguf_get_string(gguf, KEY("model"), &model, fault)) return false;
    if (!model.text)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         KEY("model") " is missing: the file has no vocabulary");
    if (gguf_string_is(model, "llama")) {
        vocab->kind = VOCAB_SPM;
        vocab->kind_name = "llama";
        return true;
    }
    if (gguf_string_is(model, "gpt2")) {
        vocab->kind = VOCAB_BPE;
        vocab->kind_name = "gpt2";
        return true;
    }
    return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                     "offset 0x%llX: " KEY("model") ": tokenizer '%s' is unknown (known: llama, "
                                                    "gpt2)",
                     offset_of(gguf_find(gguf, KEY("model"))), show(model).text);
}

static bool read_pre(struct vocab *vocab, const struct gguf *gguf, struct fault *fault) {
    if (vocab->kind == VOCAB_SPM) return true;
    struct gguf_string pre = {NULL, 0};
    if (!gguf_get_string(gguf, KEY("pre"), &pre, fault)) return false;
    if (!pre.text || pre.length == 0) pre = (struct gguf_string){"default", 7};
    int found = presplit_find(pre.text, pre.length);
    if (found < 0) {
        char names[FAULT_TEXT_BYTES];
        presplit_names(names, sizeof names);
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llX: " KEY("pre") " '%s' is unknown (known: %s)",
                         offset_of(gguf_find(gguf, KEY("pre"))), show(pre).text, names);
    }
    vocab->pre = (uint32_t)found;
    size_t length = strlen(presplit_rules[found].name);
    wick_assert(length < sizeof vocab->pre_name);
    memcpy(vocab->pre_name, presplit_rules[found].name, length + 1);
    return true;
}

/* An array beside the tokens: absent, or as many elements as there are tokens. */
static bool same_count(const struct gguf_kv *array, const char *key, uint32_t n_tokens,
                       struct fault *fault) {
    if (!array || array->count == n_tokens) return true;
    return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                     "offset 0x%llX: %s has %llu elements for %u tokens", offset_of(array), key,
                     (unsigned long long)array->count, n_tokens);
}

/* Finds the arrays and checks what can be seen without looking at elements. */
static bool find_arrays(struct source *source, struct vocab *vocab, const struct gguf *gguf,
                        struct fault *fault) {
    memset(source, 0, sizeof *source);
    source->gguf = gguf;
    if (!gguf_get_array(gguf, KEY("tokens"), GGUF_STRING, &source->tokens, fault)) return false;
    if (!source->tokens)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, KEY("tokens") " is missing");
    if (source->tokens->count == 0 || source->tokens->count > VOCAB_TOKENS_MAX)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llX: " KEY("tokens") " has %llu elements (allowed: 1 to %d)",
                         offset_of(source->tokens), (unsigned long long)source->tokens->count,
                         VOCAB_TOKENS_MAX);
    vocab->n_tokens = (uint32_t)source->tokens->count;
    const struct gguf_kv *scores = gguf_find(gguf, KEY("scores"));
    enum gguf_type score_type =
        scores && scores->type == GGUF_ARRAY && scores->element == GGUF_I32 ? GGUF_I32 : GGUF_F32;
    if (!gguf_get_array(gguf, KEY("scores"), score_type, &source->scores, fault) ||
        !gguf_get_array(gguf, KEY("token_type"), GGUF_I32, &source->types, fault) ||
        !same_count(source->scores, KEY("scores"), vocab->n_tokens, fault) ||
        !same_count(source->types, KEY("token_type"), vocab->n_tokens, fault))
        return false;
    for (int i = 0; i < KNOWN_TEXTS; i++) {
        source->named[i] = known_texts[i].key && gguf_find(gguf, known_texts[i].key);
        const char *text = known_texts[i].text;
        source->begins_known[(uint8_t)text[0]] = true;
        source->ends_known[(uint8_t)text[strlen(text) - 1]] = true;
    }
    if (vocab->kind == VOCAB_SPM) return true;
    if (!gguf_get_array(gguf, KEY("merges"), GGUF_STRING, &source->merges, fault)) return false;
    if (!source->merges)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         KEY("merges") " is missing, which tokenizer 'gpt2' needs");
    if (source->merges->count > VOCAB_MERGES_MAX)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llX: " KEY("merges") " has %llu elements (allowed: up to %d)",
                         offset_of(source->merges), (unsigned long long)source->merges->count,
                         VOCAB_MERGES_MAX);
    vocab->n_merges = (uint32_t)source->merges->count;
    return true;
}

static float score_of(const struct source *source, uint64_t index) {
    if (!source->scores) return 0.0f;
    uint32_t bits = bytes_u32(source->scores->data + 4 * index);
    if (source->scores->element == GGUF_I32) return (float)(int32_t)bits;
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* One token's metadata by itself. */
static bool check_token(const struct source *source, enum vocab_kind kind, uint64_t index,
                        struct gguf_string text, struct fault *fault) {
    unsigned long long i = index;
    if (text.length > VOCAB_PIECE_MAX)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llX: " KEY("tokens") ": token %llu is %llu bytes long "
                                                         "(allowed: up to %d)",
                         offset_of(source->tokens), i, (unsigned long long)text.length,
                         VOCAB_PIECE_MAX);
    if (source->types) {
        uint32_t type = bytes_u32(source->types->data + 4 * index);
        if (type > VOCAB_BYTE)
            return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                             "offset 0x%llX: " KEY("token_type") ": token %llu has type %ld "
                                                                 "(known: 0 to 6)",
                             offset_of(source->types), i, (long)(int32_t)type);
        if (type == VOCAB_BYTE && vocab_byte_spelled(text.text, text.length) < 0)
            return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                             "offset 0x%llX: " KEY("tokens") ": byte token %llu is spelled '%s', "
                                                             "not <0x00> to <0xFF>",
                             offset_of(source->tokens), i, show(text).text);
    }
    if (kind == VOCAB_SPM && isnan(score_of(source, index)))
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llX: " KEY("scores") ": the score of token %llu is not a "
                                                         "number",
                         offset_of(source->scores), i);
    return true;
}

/* Counts what the tokens need, and checks each. */
static bool measure_tokens(struct vocab *vocab, const struct source *source, struct fault *fault) {
    uint64_t cursor = 0, bytes = 0, index = 0;
    struct gguf_string text;
    for (; gguf_next_string(source->tokens, &cursor, &text); index++) {
        if (!check_token(source, vocab->kind, index, text, fault)) return false;
        bytes += text.length;
        if (text.length > vocab->longest) vocab->longest = (uint32_t)text.length;
        if (text.length > 0 && is_special(type_of(source, index, text, vocab->kind)))
            vocab->n_special++;
    }
    wick_assert(index == vocab->n_tokens);
    vocab->text_bytes = (size_t)bytes; /* at most VOCAB_TOKENS_MAX * VOCAB_PIECE_MAX = 1 GiB */
    return true;
}

/* The token of that key. Absent, or all bits set as some converters write "none": `initial`, if
 * the vocabulary is that large. */
static bool read_id(const struct gguf *gguf, const char *key, uint32_t n_tokens, int32_t initial,
                    int32_t *out, struct fault *fault) {
    *out = initial < (int32_t)n_tokens ? initial : -1;
    const struct gguf_kv *kv = gguf_find(gguf, key);
    if (!kv) return true;
    if (kv->type == GGUF_I32 && bytes_u32(kv->data) == UINT32_MAX) return true;
    uint32_t id = UINT32_MAX;
    if (!gguf_get_u32(gguf, key, &id, fault)) return false;
    if (id == UINT32_MAX) return true;
    if (id >= n_tokens)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llX: %s is %lu, but the vocabulary has %u tokens",
                         offset_of(kv), key, (unsigned long)id, n_tokens);
    *out = (int32_t)id;
    return true;
}

static void add_end(struct vocab *vocab, int32_t id) {
    if (id < 0 || vocab_is_end(vocab, id)) return;
    int n = 0;
    while (n < VOCAB_END_MAX && vocab->end[n] >= 0) n++;
    wick_assert(n < VOCAB_END_MAX);
    vocab->end[n] = id;
}

/* Ids and flags that the file names, with the defaults of its kind: SentencePiece's own for spm,
 * none for bpe. */
static bool read_special(struct vocab *vocab, const struct gguf *gguf, struct fault *fault) {
    bool spm = vocab->kind == VOCAB_SPM;
    uint32_t n = vocab->n_tokens;
    int32_t padding, eom, fim;
    if (!read_id(gguf, KEY("bos_token_id"), n, spm ? 1 : -1, &vocab->bos, fault) ||
        !read_id(gguf, KEY("eos_token_id"), n, spm ? 2 : -1, &vocab->eos, fault) ||
        !read_id(gguf, KEY("unknown_token_id"), n, spm ? 0 : -1, &vocab->unk, fault) ||
        !read_id(gguf, KEY("eot_token_id"), n, -1, &vocab->eot, fault) ||
        !read_id(gguf, KEY("eom_token_id"), n, -1, &eom, fault) ||
        !read_id(gguf, KEY("padding_token_id"), n, -1, &padding, fault))
        return false;
    for (int i = 0; i < VOCAB_END_MAX; i++) vocab->end[i] = -1;
    add_end(vocab, vocab->eos);
    add_end(vocab, vocab->eot);
    add_end(vocab, eom);
    for (int i = 0; i < KNOWN_TEXTS; i++) {
        if (known_texts[i].role != ROLE_FIM_END) continue;
        if (!read_id(gguf, known_texts[i].key, n, -1, &fim, fault)) return false;
        add_end(vocab, fim);
    }
    vocab->add_bos = spm || presplit_rules[vocab->pre].add_bos;
    vocab->add_eos = false;
    vocab->add_space_prefix = spm;
    if (!gguf_get_bool(gguf, KEY("add_bos_token"), &vocab->add_bos, fault) ||
        !gguf_get_bool(gguf, KEY("add_eos_token"), &vocab->add_eos, fault) ||
        !gguf_get_bool(gguf, KEY("add_space_prefix"), &vocab->add_space_prefix, fault))
        return false;
    const char *key = vocab->add_bos && vocab->bos < 0   ? KEY("add_bos_token")
                      : vocab->add_eos && vocab->eos < 0 ? KEY("add_eos_token")
                                                         : NULL;
    const struct gguf_kv *kv = key ? gguf_find(gguf, key) : NULL;
    if (kv)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llX: %s is true, but the file names no such token",
                         offset_of(kv), key);
    vocab->add_bos = vocab->add_bos && vocab->bos >= 0;
    return true;
}

/* Entries of an open-addressed table: at least a quarter stays empty. */
static uint32_t slots_for(uint32_t n) {
    uint32_t slots = 16;
    while (slots / 4 * 3 < n) slots *= 2;
    return slots;
}

bool vocab_carve(struct vocab *vocab, const struct gguf *gguf, struct arena *arena,
                 struct fault *fault) {
    struct source source;
    memset(vocab, 0, sizeof *vocab);
    if (!read_kind(vocab, gguf, fault) || !read_pre(vocab, gguf, fault) ||
        !find_arrays(&source, vocab, gguf, fault) || !measure_tokens(vocab, &source, fault) ||
        !read_special(vocab, gguf, fault))
        return false;
    strcpy(vocab->chat_format, chat_format_find(gguf));
    uint32_t n = vocab->n_tokens;
    vocab->text_slots = slots_for(n);
    vocab->token = arena_take(arena, n * sizeof *vocab->token, ARENA_ALIGN);
    vocab->text = arena_take(arena, vocab->text_bytes, ARENA_ALIGN);
    vocab->text_slot = arena_take(arena, vocab->text_slots * sizeof *vocab->text_slot, ARENA_ALIGN);
    vocab->special = arena_take(arena, vocab->n_special * sizeof *vocab->special, ARENA_ALIGN);
    if (vocab->kind == VOCAB_SPM) {
        vocab->score = arena_take(arena, n * sizeof *vocab->score, ARENA_ALIGN);
        return true;
    }
    vocab->merge_slots = slots_for(vocab->n_merges);
    size_t slots = vocab->merge_slots;
    vocab->merge_key = arena_take(arena, slots * sizeof *vocab->merge_key, ARENA_ALIGN);
    vocab->merge_rank = arena_take(arena, slots * sizeof *vocab->merge_rank, ARENA_ALIGN);
    vocab->merge_id = arena_take(arena, slots * sizeof *vocab->merge_id, ARENA_ALIGN);
    return true;
}

/* Enters a token into text -> id. Empty texts, which stand for nothing, are left out. */
static bool enter_text(struct vocab *vocab, const struct source *source, uint32_t id,
                       struct fault *fault) {
    const struct vocab_token *token = &vocab->token[id];
    const char *text = vocab->text + token->text_offset;
    if (token->length == 0) return true;
    int32_t other = vocab_find(vocab, text, token->length);
    if (other >= 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llX: " KEY("tokens") ": tokens %d and %u have the same text",
                         offset_of(source->tokens), other, id);
    uint32_t hash = vocab_text_hash(text, token->length), mask = vocab->text_slots - 1;
    uint32_t slot = hash & mask;
    while (vocab->text_slot[slot] != 0) slot = (slot + 1) & mask;
    vocab->text_slot[slot] = hash >> VOCAB_SLOT_ID_BITS << VOCAB_SLOT_ID_BITS | (id + 1);
    return true;
}

static bool fill_tokens(struct vocab *vocab, const struct source *source, struct fault *fault) {
    uint64_t cursor = 0;
    size_t used = 0;
    struct gguf_string text;
    for (uint32_t id = 0; gguf_next_string(source->tokens, &cursor, &text); id++) {
        wick_assert(id < vocab->n_tokens && used + text.length <= vocab->text_bytes);
        if (text.length > 0) memcpy(vocab->text + used, text.text, text.length);
        uint8_t type = type_of(source, id, text, vocab->kind);
        vocab->token[id] = (struct vocab_token){(uint32_t)used, (uint16_t)text.length, type};
        used += text.length;
        if (vocab->kind == VOCAB_SPM) vocab->score[id] = score_of(source, id);
        if (!enter_text(vocab, source, id, fault)) return false;
        int known = known_index(source, text);
        if (known < 0) continue;
        if (known_texts[known].role != ROLE_FIM) add_end(vocab, (int32_t)id);
    }
    for (int i = 0; i < EOT_TEXTS && vocab->eot < 0; i++)
        vocab->eot = vocab_find(vocab, known_texts[i].text, strlen(known_texts[i].text));
    return true;
}

/* Longest text first, then by id: counting sort. */
static void fill_special(struct vocab *vocab) {
    uint32_t start[VOCAB_PIECE_MAX + 2] = {0};
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        const struct vocab_token *token = &vocab->token[id];
        if (token->length == 0 || !is_special(token->type)) continue;
        start[VOCAB_PIECE_MAX - token->length + 1]++;
        uint8_t first = (uint8_t)vocab->text[token->text_offset];
        vocab->special_first[first >> 5] |= 1u << (first & 31);
    }
    for (uint32_t i = 1; i < VOCAB_PIECE_MAX + 2; i++) start[i] += start[i - 1];
    wick_assert(start[VOCAB_PIECE_MAX + 1] == vocab->n_special);
    for (uint32_t id = 0; id < vocab->n_tokens; id++) {
        const struct vocab_token *token = &vocab->token[id];
        if (token->length == 0 || !is_special(token->type)) continue;
        vocab->special[start[VOCAB_PIECE_MAX - token->length]++] = (int32_t)id;
    }
}

/* spm: by the spelling <0xHH>, as upper-case hexadecimal, or else the byte itself; bpe: the
 * character that spells it. */
static void fill_bytes(struct vocab *vocab) {
    vocab->has_bytes = true;
    for (int byte = 0; byte < 256; byte++) {
        char spelled[8];
        if (vocab->kind == VOCAB_SPM) {
            snprintf(spelled, sizeof spelled, "<0x%02X>", (unsigned)byte);
            vocab->byte_token[byte] = vocab_find(vocab, spelled, 6);
            char raw = (char)byte;
            if (vocab->byte_token[byte] < 0) vocab->byte_token[byte] = vocab_find(vocab, &raw, 1);
        } else {
            size_t n = bpe_spell_byte((uint8_t)byte, spelled);
            vocab->byte_token[byte] = vocab_find(vocab, spelled, n);
        }
        vocab->has_bytes = vocab->has_bytes && vocab->byte_token[byte] >= 0;
    }
}

/* A merge whose parts or result are no tokens can make no token and is left out. */
static bool fill_merges(struct vocab *vocab, const struct source *source, struct fault *fault) {
    uint64_t cursor = 0;
    struct gguf_string text;
    for (uint32_t rank = 0; gguf_next_string(source->merges, &cursor, &text); rank++) {
        wick_assert(rank < vocab->n_merges);
        /* The first space that has something before it: a part may itself begin with one. */
        const char *space = text.length > 1 ? memchr(text.text + 1, ' ', text.length - 1) : NULL;
        if (!space)
            return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                             "offset 0x%llX: " KEY("merges") ": merge %u is not two texts with a "
                                                             "space between",
                             offset_of(source->merges), rank);
        size_t left_length = (size_t)(space - text.text);
        size_t right_length = text.length - left_length - 1;
        if (left_length + right_length > VOCAB_PIECE_MAX) continue;
        char both[VOCAB_PIECE_MAX];
        memcpy(both, text.text, left_length);
        memcpy(both + left_length, space + 1, right_length);
        int32_t left = vocab_find(vocab, both, left_length);
        int32_t right = vocab_find(vocab, both + left_length, right_length);
        int32_t id = vocab_find(vocab, both, left_length + right_length);
        if (left >= 0 && right >= 0 && id >= 0) bpe_merge_insert(vocab, left, right, id, rank);
    }
    return true;
}

bool vocab_fill(struct vocab *vocab, const struct gguf *gguf, struct fault *fault) {
    wick_assert(vocab->token && vocab->text_slot);
    struct source source;
    if (!find_arrays(&source, vocab, gguf, fault)) return false;
    if (!fill_tokens(vocab, &source, fault)) return false;
    fill_special(vocab);
    fill_bytes(vocab);
    return vocab->kind == VOCAB_SPM || fill_merges(vocab, &source, fault);
}
