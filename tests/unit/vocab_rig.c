#include "vocab_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "token/bpe.h"

struct vocab_rig *vocab_rig_new(void) {
    struct vocab_rig *rig = calloc(1, sizeof *rig);
    cr_assert_not_null(rig);
    return rig;
}

void vocab_rig_free(struct vocab_rig *rig) {
    free(rig->bytes);
    free(rig);
}

static void put(struct vocab_rig *rig, const void *bytes, size_t n) {
    if (rig->length + n > rig->room) {
        rig->room = 2 * (rig->length + n);
        rig->bytes = realloc(rig->bytes, rig->room);
        cr_assert_not_null(rig->bytes);
    }
    if (n > 0) memcpy(rig->bytes + rig->length, bytes, n);
    rig->length += n;
}

static void put_u32(struct vocab_rig *rig, uint32_t value) {
    put(rig, &value, sizeof value);
}

static void put_u64(struct vocab_rig *rig, uint64_t value) {
    put(rig, &value, sizeof value);
}

static void put_string(struct vocab_rig *rig, const char *text) {
    put_u64(rig, strlen(text));
    put(rig, text, strlen(text));
}

static void put_key(struct vocab_rig *rig, const char *key, enum gguf_type type) {
    if (rig->length == 0) {
        put(rig, "GGUF\3\0\0\0", 8);
        put_u64(rig, 0);
        put_u64(rig, 0); /* the count, set when all are there */
    }
    rig->n_kv++;
    put_string(rig, key);
    put_u32(rig, (uint32_t)type);
}

void rig_string(struct vocab_rig *rig, const char *key, const char *value) {
    put_key(rig, key, GGUF_STRING);
    put_string(rig, value);
}

void rig_u32(struct vocab_rig *rig, const char *key, uint32_t value) {
    put_key(rig, key, GGUF_U32);
    put_u32(rig, value);
}

void rig_bool(struct vocab_rig *rig, const char *key, bool value) {
    put_key(rig, key, GGUF_BOOL);
    put(rig, value ? "\1" : "\0", 1);
}

void rig_strings(struct vocab_rig *rig, const char *key, const char *const *values, size_t n) {
    put_key(rig, key, GGUF_ARRAY);
    put_u32(rig, GGUF_STRING);
    put_u64(rig, n);
    for (size_t i = 0; i < n; i++) put_string(rig, values[i]);
}

void rig_words(struct vocab_rig *rig, const char *key, enum gguf_type element, const void *values,
               size_t n) {
    put_key(rig, key, GGUF_ARRAY);
    put_u32(rig, (uint32_t)element);
    put_u64(rig, n);
    put(rig, values, 4 * n);
}

bool vocab_rig_load(struct vocab_rig *rig) {
    if (rig->n_kv > 0) memcpy(rig->bytes + 16, &rig->n_kv, sizeof rig->n_kv);
    bool parsed = gguf_parse(&rig->gguf, rig->bytes, rig->length, &rig->fault);
    cr_assert(parsed, "%s", rig->fault.text);
    struct arena plan;
    arena_measure(&plan);
    if (!vocab_carve(&rig->vocab, &rig->gguf, &plan, &rig->fault)) return false;
    vocab_scratch_carve(&rig->scratch, &rig->vocab, RIG_TEXT_MAX, &plan);
    rig->measured = plan.used;
    cr_assert(arena_map(&rig->arena, plan.used, &rig->fault), "%s", rig->fault.text);
    bool carved = vocab_carve(&rig->vocab, &rig->gguf, &rig->arena, &rig->fault);
    cr_assert(carved, "%s", rig->fault.text);
    vocab_scratch_carve(&rig->scratch, &rig->vocab, RIG_TEXT_MAX, &rig->arena);
    return vocab_fill(&rig->vocab, &rig->gguf, &rig->fault);
}

char *rig_read_shared(const char *path, size_t *length) {
    const char *root = getenv("WICK_SHARED");
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root ? root : "../shared", path);
    FILE *file = fopen(full, "rb");
    if (!file) return NULL;
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    cr_assert_geq(size, 0);
    rewind(file);
    char *bytes = malloc((size_t)size + 1);
    cr_assert_not_null(bytes);
    *length = fread(bytes, 1, (size_t)size, file);
    cr_assert_eq(*length, (size_t)size);
    bytes[size] = '\0';
    fclose(file);
    return bytes;
}

bool vocab_rig_load_shared(struct vocab_rig *rig, const char *path) {
    rig->bytes = (uint8_t *)rig_read_shared(path, &rig->length);
    if (!rig->bytes) return false;
    cr_assert(vocab_rig_load(rig), "%s: %s", path, rig->fault.text);
    return true;
}

size_t rig_encode(struct vocab_rig *rig, const char *text, size_t length, bool parse_special) {
    struct vocab_encode_options options = {false, parse_special};
    size_t n =
        vocab_encode(&rig->vocab, &rig->scratch, text, length, options, rig->ids, RIG_IDS_MAX);
    cr_assert_leq(n, (size_t)RIG_IDS_MAX);
    return n;
}

const char *const rig_spm_words[] = {
    "\xE2\x96\x81",
    "a",
    "b",
    "c",
    "d",
    "ab",
    "cd",
    "\xE2\x96\x81"
    "a",
    "\xE2\x96\x81"
    "ab",
    "abcd",
    "h",
    "e",
    "l",
    "o",
    "ll",
    "he",
    "hell",
    "hello",
    "\xE2\x96\x81hello",
    "<",
    "s",
    ">",
    "<s",
    "<s>x",
};
const size_t rig_spm_n_words = sizeof rig_spm_words / sizeof rig_spm_words[0];

void rig_make_spm(struct vocab_rig *rig, bool bytes) {
    static char spelled[256][8];
    const char *text[512];
    int32_t type[512];
    float score[512];
    size_t n = 0;
    const char *first[] = {"<unk>", "<s>", "</s>"};
    for (int i = 0; i < 3; i++) {
        text[n] = first[i];
        type[n] = i == 0 ? VOCAB_UNKNOWN : VOCAB_CONTROL;
        score[n++] = 0;
    }
    for (int i = 0; i < 256 && bytes; i++) {
        snprintf(spelled[i], sizeof spelled[i], "<0x%02X>", (unsigned)i);
        text[n] = spelled[i];
        type[n] = VOCAB_BYTE;
        score[n++] = 0;
    }
    for (size_t i = 0; i < rig_spm_n_words; i++) {
        text[n] = rig_spm_words[i];
        type[n] = VOCAB_NORMAL;
        score[n++] = -(float)i;
    }
    rig_string(rig, "tokenizer.ggml.model", "llama");
    rig_strings(rig, "tokenizer.ggml.tokens", text, n);
    rig_words(rig, "tokenizer.ggml.scores", GGUF_F32, score, n);
    rig_words(rig, "tokenizer.ggml.token_type", GGUF_I32, type, n);
}

/* 0x20 is spelled U+0120, in UTF-8 C4 A0. */
const char *const rig_bpe_merges[] = {"h e", "l l",   "he ll", "hell o", "\xC4\xA0 hello",
                                      "a a", "aa aa", "1 2"};
const size_t rig_bpe_n_merges = sizeof rig_bpe_merges / sizeof rig_bpe_merges[0];

void rig_make_bpe(struct vocab_rig *rig, const char *pre) {
    static char bytes[256][3], merged[16][32];
    const char *text[300];
    int32_t type[300];
    size_t n = 0;
    for (int i = 0; i < 256; i++) {
        bytes[i][bpe_spell_byte((uint8_t)i, bytes[i])] = '\0';
        text[n++] = bytes[i];
    }
    for (size_t i = 0; i < rig_bpe_n_merges; i++) {
        const char *space = strchr(rig_bpe_merges[i], ' ');
        snprintf(merged[i], sizeof merged[i], "%.*s%s", (int)(space - rig_bpe_merges[i]),
                 rig_bpe_merges[i], space + 1);
        text[n++] = merged[i];
    }
    text[n++] = "<|end|>";
    text[n++] = "<tool>";
    for (size_t i = 0; i < n; i++) type[i] = VOCAB_NORMAL;
    type[n - 2] = VOCAB_CONTROL;
    type[n - 1] = VOCAB_USER_DEFINED;
    rig_string(rig, "tokenizer.ggml.model", "gpt2");
    if (pre) rig_string(rig, "tokenizer.ggml.pre", pre);
    rig_strings(rig, "tokenizer.ggml.tokens", text, n);
    rig_words(rig, "tokenizer.ggml.token_type", GGUF_I32, type, n);
    rig_strings(rig, "tokenizer.ggml.merges", rig_bpe_merges, rig_bpe_n_merges);
}
