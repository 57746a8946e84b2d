#include "token/spm.h"

#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "token/merge.h"
#include "token/utf8.h"

/* U+2581, which stands for a space. */
static const char space_mark[3] = "\xE2\x96\x81";

struct job {
    const struct vocab *vocab;
    const char *text; /* normalised */
};

/* One character more than the text has: the space in front. */
static size_t normalised_bytes(size_t text_max) {
    return round_up((text_max + 1) * sizeof space_mark, 16);
}

size_t spm_memory_bytes(size_t text_max) {
    return normalised_bytes(text_max) + merge_memory_bytes(text_max + 1);
}

/* The token that text may become by merging. */
static int32_t find_text(const struct vocab *vocab, const char *text, size_t length) {
    int32_t id = vocab_find(vocab, text, length);
    return id >= 0 && vocab_is_plain(vocab, id) ? id : -1;
}

/* Scores, high to low, as ranks: the sign bit of a float flipped, or all bits of a negative one,
 * orders floats as integers; the complement turns that round. Adding 0 makes -0 +0. */
static uint32_t rank_of(float score) {
    uint32_t bits;
    score += 0.0f;
    memcpy(&bits, &score, sizeof bits);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return ~bits;
}

static bool find_pair(const void *context, const struct merge_symbol *left,
                      const struct merge_symbol *right, int32_t *id, uint32_t *rank) {
    const struct job *job = context;
    *id = find_text(job->vocab, job->text + left->start, left->length + right->length);
    if (*id < 0) return false;
    *rank = rank_of(job->vocab->score[*id]);
    return true;
}

static size_t normalise(const char *text, size_t length, bool prefix, char *out) {
    size_t n = 0;
    if (prefix) {
        memcpy(out, space_mark, sizeof space_mark);
        n = sizeof space_mark;
    }
    for (size_t i = 0; i < length; i++) {
        if (text[i] == ' ') {
            memcpy(out + n, space_mark, sizeof space_mark);
            n += sizeof space_mark;
        } else {
            out[n++] = text[i];
        }
    }
    return n;
}

/* A character that is no token: its bytes, if the vocabulary has them all, else the unknown token.
 * Neighbours that are both unknown share one, as SentencePiece has it. */
static void push_bytes(const struct vocab *vocab, const char *text, size_t length, bool *unknown,
                       struct ids *ids) {
    bool all = true;
    for (size_t i = 0; i < length; i++) all = all && vocab->byte_token[(uint8_t)text[i]] >= 0;
    if (all) {
        for (size_t i = 0; i < length; i++) ids_push(ids, vocab->byte_token[(uint8_t)text[i]]);
    } else if (vocab->unk >= 0 && !*unknown) {
        ids_push(ids, vocab->unk);
    }
    *unknown = !all;
}

void spm_encode(const struct vocab *vocab, void *memory, size_t text_max, const char *text,
                size_t length, bool prefix, struct ids *ids) {
    wick_assert(length <= text_max && vocab->kind == VOCAB_SPM);
    char *normal = memory;
    struct merge merge;
    merge_open(&merge, normal + normalised_bytes(text_max), text_max + 1);
    length = normalise(text, length, prefix, normal);
    for (size_t i = 0; i < length;) {
        uint32_t code_point;
        size_t n = utf8_decode(normal + i, length - i, &code_point);
        merge_append(&merge, (uint32_t)i, (uint32_t)n, find_text(vocab, normal + i, n));
        i += n;
    }
    if (merge.n_symbols == 0) return;
    struct job job = {vocab, normal};
    merge_run(&merge, find_pair, &job);
    bool unknown = false;
    for (int32_t i = 0; i >= 0; i = merge.symbol[i].next) {
        const struct merge_symbol *symbol = &merge.symbol[i];
        if (symbol->id >= 0) {
            ids_push(ids, symbol->id);
            unknown = false;
        } else {
            push_bytes(vocab, normal + symbol->start, symbol->length, &unknown, ids);
        }
    }
}
