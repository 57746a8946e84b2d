#include "token/special.h"

#include <string.h>

#include "base/panic.h"

struct byte_set {
    uint32_t bits[8];
};

static bool set_has(const struct byte_set *set, char byte) {
    return set->bits[(uint8_t)byte >> 5] >> ((uint8_t)byte & 31) & 1;
}

static void set_add(struct byte_set *set, char byte) {
    set->bits[(uint8_t)byte >> 5] |= 1u << ((uint8_t)byte & 31);
}

static bool wanted(const struct vocab *vocab, int32_t id, bool control) {
    uint8_t type = vocab->token[id].type;
    return type == VOCAB_USER_DEFINED ||
           (control && (type == VOCAB_CONTROL || type == VOCAB_UNKNOWN));
}

static bool any_possible(const struct vocab *vocab, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (vocab->special_first[(uint8_t)text[i] >> 5] >> ((uint8_t)text[i] & 31) & 1) return true;
    }
    return false;
}

/* Marks tokens of `size` bytes whose first and last bytes are in the sets. */
static bool mark_size(const struct vocab *vocab, const char *text, size_t length, size_t size,
                      const struct byte_set *first, const struct byte_set *last, bool control,
                      int32_t *owner) {
    bool found = false;
    for (size_t i = 0; i + size <= length; i++) {
        if (!set_has(first, text[i]) || !set_has(last, text[i + size - 1])) continue;
        /* What is marked already is at least as long, so it would cover an end of this one. */
        if (owner[i] != 0 || owner[i + size - 1] != 0) continue;
        int32_t id = vocab_find(vocab, text + i, size);
        if (id < 0 || !wanted(vocab, id, control)) continue;
        owner[i] = id + 1;
        for (size_t k = 1; k < size; k++) owner[i + k] = -1;
        i += size - 1;
        found = true;
    }
    return found;
}

bool special_mark(const struct vocab *vocab, const char *text, size_t length, bool control,
                  int32_t *owner) {
    if (!any_possible(vocab, text, length)) return false;
    memset(owner, 0, length * sizeof *owner);
    bool found = false;
    uint32_t at = 0;
    while (at < vocab->n_special) {
        size_t size = vocab->token[vocab->special[at]].length;
        wick_assert(size > 0);
        struct byte_set first = {{0}}, last = {{0}};
        bool some = false;
        for (; at < vocab->n_special; at++) {
            const struct vocab_token *token = &vocab->token[vocab->special[at]];
            if (token->length != size) break;
            if (!wanted(vocab, vocab->special[at], control)) continue;
            set_add(&first, vocab->text[token->text_offset]);
            set_add(&last, vocab->text[token->text_offset + size - 1]);
            some = true;
        }
        if (!some || size > length) continue;
        found |= mark_size(vocab, text, length, size, &first, &last, control, owner);
    }
    return found;
}
