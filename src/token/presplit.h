/* presplit: cuts text into the pieces that byte-level BPE merges within.
 *
 * Every tokenizer of this family has its own cut, published as regular expressions. Here each is a
 * chain of stages: a stage cuts the pieces of the one before it, and is written out by hand, so
 * that its time is linear whatever the text. A stage that has no match at a place makes one piece
 * of everything up to its next match, as a regular-expression split does.
 * To add a pre-split: an entry in presplit_rules[] of presplit.c, naming its stages. */
#ifndef WICK_TOKEN_PRESPLIT_H
#define WICK_TOKEN_PRESPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Text as the stages see it: one entry a character. */
struct presplit_text {
    const uint32_t *code_point; /* UTF8_BAD for a byte that is no part of a character */
    const uint8_t *flags;       /* unicode_flags of each */
};

/* The end of the piece that begins at `at`; at < result <= end. */
typedef size_t presplit_stage(const struct presplit_text *text, size_t at, size_t end);

enum { PRESPLIT_STAGES_MAX = 6 };

struct presplit_rule {
    const char *name;   /* of tokenizer.ggml.pre */
    bool ignore_merges; /* a piece that is a token as a whole is taken so, without merging */
    bool add_bos;       /* what such models want where the file does not say */
    presplit_stage *stage[PRESPLIT_STAGES_MAX]; /* NULL-padded */
};

/* The table, ended by an entry with name NULL. */
extern const struct presplit_rule presplit_rules[];

/* Index into presplit_rules of the rule of that name; -1 if there is none. */
int presplit_find(const char *name, size_t length);

/* "default, llama-bpe, ...": all names, for error messages; cut at `size`. */
void presplit_names(char *out, size_t size);

struct presplit_cursor {
    const struct presplit_rule *rule;
    struct presplit_text text;
    size_t length; /* characters */
    size_t at;
    size_t end[PRESPLIT_STAGES_MAX]; /* of each stage's current piece */
};

void presplit_begin(struct presplit_cursor *cursor, const struct presplit_rule *rule,
                    struct presplit_text text, size_t length);

/* The next piece: characters [*begin, *end). False when there is none left. */
bool presplit_next(struct presplit_cursor *cursor, size_t *begin, size_t *end);

#endif
