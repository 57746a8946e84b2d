/* vocab_rig: vocabularies for tests: GGUF metadata made in memory, or read from a file, and loaded
 * as wick loads it: measured, carved, filled. */
#ifndef TEST_VOCAB_RIG_H
#define TEST_VOCAB_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "gguf/gguf.h"
#include "token/vocab.h"

enum { RIG_TEXT_MAX = 1 << 17, RIG_IDS_MAX = 4 * RIG_TEXT_MAX };

struct vocab_rig {
    uint8_t *bytes; /* the file */
    size_t length, room;
    uint64_t n_kv;
    struct gguf gguf;
    size_t measured; /* bytes, by the first carve */
    struct arena arena;
    struct vocab vocab;
    struct vocab_scratch scratch; /* for RIG_TEXT_MAX bytes */
    struct fault fault;
    int32_t ids[RIG_IDS_MAX];
    char text[RIG_IDS_MAX];
};

/* On the heap; ends the test when memory is short. */
struct vocab_rig *vocab_rig_new(void);
void vocab_rig_free(struct vocab_rig *rig);

/* Key-values of the file being made. */
void rig_string(struct vocab_rig *rig, const char *key, const char *value);
void rig_u32(struct vocab_rig *rig, const char *key, uint32_t value);
void rig_bool(struct vocab_rig *rig, const char *key, bool value);
void rig_strings(struct vocab_rig *rig, const char *key, const char *const *values, size_t n);
/* An array of 4-byte elements: GGUF_I32, GGUF_U32 or GGUF_F32. */
void rig_words(struct vocab_rig *rig, const char *key, enum gguf_type element, const void *values,
               size_t n);

/* Parses what was made and loads the vocabulary. */
bool vocab_rig_load(struct vocab_rig *rig);

/* The same from a file of the reference data (path under $WICK_SHARED, by default ../shared).
 * False when the file is not there; any other failure ends the test. */
bool vocab_rig_load_shared(struct vocab_rig *rig, const char *path);

/* Encodes; the ids are in rig->ids. */
size_t rig_encode(struct vocab_rig *rig, const char *text, size_t length, bool parse_special);

/* The file at that path, read whole and terminated; NULL when it is not there. */
char *rig_read_shared(const char *path, size_t *length);

/* A small 'llama' vocabulary: <unk>, <s>, </s>, 256 byte tokens (without `bytes`: none), then
 * rig_spm_words; their scores fall from word to word. */
void rig_make_spm(struct vocab_rig *rig, bool bytes);
extern const char *const rig_spm_words[];
extern const size_t rig_spm_n_words;

/* A small 'gpt2' vocabulary: the 256 bytes, each the id of its value, then what rig_bpe_merges
 * make, in order, then <|end|> (control) and <tool> (user-defined). */
void rig_make_bpe(struct vocab_rig *rig, const char *pre);
extern const char *const rig_bpe_merges[];
extern const size_t rig_bpe_n_merges;

#endif
