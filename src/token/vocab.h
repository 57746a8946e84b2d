/* vocab: text <-> token ids, for GGUF's tokenizers 'llama' (SentencePiece BPE: spm.h) and 'gpt2'
 * (byte-level BPE: bpe.h).
 *
 * Everything a vocabulary needs is copied out of the GGUF into the arena at boot; nothing points
 * into the file afterwards. Encoding uses scratch that the caller carved; nothing here allocates or
 * keeps state between calls, so one vocab serves many callers, each with its own scratch. */
#ifndef WICK_TOKEN_VOCAB_H
#define WICK_TOKEN_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/fault.h"
#include "gguf/gguf.h"

enum {
    VOCAB_TOKENS_MAX = 1 << 20,
    VOCAB_SLOT_ID_BITS = 21, /* VOCAB_TOKENS_MAX fits */
    VOCAB_MERGES_MAX = 1 << 22,
    VOCAB_PIECE_MAX = 1024, /* bytes of one token's text */
    VOCAB_END_MAX = 64      /* the known texts (vocab_load.c) and the ids that a file can name */
};

enum vocab_kind { VOCAB_SPM, VOCAB_BPE };

/* tokenizer.ggml.token_type */
enum vocab_token_type {
    VOCAB_NORMAL = 1,
    VOCAB_UNKNOWN = 2,
    VOCAB_CONTROL = 3,
    VOCAB_USER_DEFINED = 4,
    VOCAB_UNUSED = 5,
    VOCAB_BYTE = 6
};

struct vocab_token {
    uint32_t text_offset; /* into vocab.text */
    uint16_t length;      /* bytes, at most VOCAB_PIECE_MAX */
    uint8_t type;         /* enum vocab_token_type */
};

struct vocab {
    enum vocab_kind kind;
    const char *kind_name; /* "llama" or "gpt2" */
    char pre_name[32];     /* tokenizer.ggml.pre, "" for llama */
    char chat_format[8];   /* chat_format.h */
    uint32_t pre;          /* bpe: index into presplit_rules (presplit.h) */
    uint32_t n_tokens;
    int32_t bos, eos, eot, unk; /* -1: none */
    bool add_bos, add_eos;      /* what the file asks for on a prompt */
    bool add_space_prefix;      /* spm */
    bool has_bytes;             /* spm: the 256 byte tokens are there */

    struct vocab_token *token; /* (n_tokens) */
    char *text;                /* all token texts, back to back, as in the file */
    size_t text_bytes;
    uint32_t longest; /* bytes of the longest token */
    float *score;     /* (n_tokens), spm */
    /* Open-addressed hash: text -> id + 1 in the low VOCAB_SLOT_ID_BITS, above them the top bits of
     * the hash; 0 is empty. text_slots entries, a power of two. */
    uint32_t *text_slot;
    uint32_t text_slots;
    uint64_t *merge_key; /* bpe: open-addressed hash: (left id, right id) -> rank, merged id */
    uint32_t *merge_rank;
    uint32_t *merge_id;
    uint32_t merge_slots;
    uint32_t n_merges;
    int32_t byte_token[256]; /* spm byte fallback, bpe single bytes; -1: none */
    int32_t *special;        /* ids parsed as special tokens, longest text first */
    uint32_t n_special;
    uint32_t special_first[8]; /* bit set of the first bytes of special tokens: a quick no */
    /* every end-of-generation id (eos, eot, <|im_end|> ...), -1 padded */
    int32_t end[VOCAB_END_MAX];
};

/* Working memory of one encode call. Sized for texts of at most text_max bytes. */
struct vocab_scratch {
    size_t text_max;
    void *memory;
    size_t memory_bytes;
};

/* Counts (measuring arena) or takes (open arena) what this GGUF's vocabulary needs, and checks the
 * metadata: kinds and element types, counts, ids in range, byte tokens spelled rightly, texts not
 * too long. Faults are MODEL_LOAD_FAILED naming key and offset; an unknown tokenizer or pre-split
 * is named. */
bool vocab_carve(struct vocab *vocab, const struct gguf *gguf, struct arena *arena,
                 struct fault *fault);

/* Fills the tables. After this the GGUF may be unmapped. */
bool vocab_fill(struct vocab *vocab, const struct gguf *gguf, struct fault *fault);

void vocab_scratch_carve(struct vocab_scratch *scratch, const struct vocab *vocab, size_t text_max,
                         struct arena *arena);

struct vocab_encode_options {
    bool add_bos;       /* put BOS first (callers default it to vocab->add_bos) */
    bool parse_special; /* control and user-defined tokens spelled in the text become their ids */
};

/* Text (any bytes; invalid UTF-8 is encoded byte by byte) -> ids. Returns the number of ids the
 * text has, which may exceed `cap`: then the first `cap` are written. length <= scratch->text_max
 * (asserted). Time is O(n log n). */
size_t vocab_encode(const struct vocab *vocab, struct vocab_scratch *scratch, const char *text,
                    size_t length, struct vocab_encode_options options, int32_t *ids, size_t cap);

/* The bytes token `id` stands for in running text (a space for U+2581 in spm, the raw byte of a
 * byte token, decoded bytes in bpe). Control tokens give nothing unless `special`. Returns the byte
 * count, at most VOCAB_PIECE_MAX. An id outside the vocabulary gives 0. Pieces may be parts of
 * UTF-8 characters: see utf8.h. */
size_t vocab_piece(const struct vocab *vocab, int32_t id, bool special, char out[VOCAB_PIECE_MAX]);

/* Ids -> text as a whole, with the space that add_space_prefix put in front taken off again and BOS
 * left out: vocab_decode(vocab_encode(text)) == text. Returns bytes needed; writes at most cap. */
size_t vocab_decode(const struct vocab *vocab, const int32_t *ids, size_t n, bool special,
                    char *out, size_t cap);

/* The token spelled so in the file, of whatever type; -1: none. */
int32_t vocab_find(const struct vocab *vocab, const char *text, size_t length);

/* May plain text become this token? Not control, unknown and byte tokens: they stand for something
 * else than their spelling, and text spelled like one stays text. */
bool vocab_is_plain(const struct vocab *vocab, int32_t id);

/* Is `id` one that ends generation? */
bool vocab_is_end(const struct vocab *vocab, int32_t id);

#endif
