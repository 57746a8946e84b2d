#include "token/vocab.h"

#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "token/bpe.h"
#include "token/ids.h"
#include "token/special.h"
#include "token/spm.h"
#include "token/utf8.h"
#include "token/vocab_load.h"

uint32_t vocab_text_hash(const char *text, size_t length) {
    uint64_t hash = length;
    for (; length >= 8; text += 8, length -= 8) {
        hash = (hash ^ bytes_u64(text)) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
    }
    uint64_t tail = 0;
    for (size_t i = 0; i < length; i++) tail = tail << 8 | (uint8_t)text[i];
    hash = (hash ^ tail) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(hash >> 32);
}

int32_t vocab_find(const struct vocab *vocab, const char *text, size_t length) {
    if (length == 0 || length > vocab->longest) return -1;
    const uint32_t id_mask = (1u << VOCAB_SLOT_ID_BITS) - 1;
    uint32_t hash = vocab_text_hash(text, length), mask = vocab->text_slots - 1;
    for (uint32_t slot = hash & mask; vocab->text_slot[slot] != 0; slot = (slot + 1) & mask) {
        uint32_t entry = vocab->text_slot[slot];
        if ((entry ^ hash) & ~id_mask) continue;
        uint32_t id = (entry & id_mask) - 1;
        const struct vocab_token *token = &vocab->token[id];
        if (token->length == length && memcmp(vocab->text + token->text_offset, text, length) == 0)
            return (int32_t)id;
    }
    return -1;
}

bool vocab_is_plain(const struct vocab *vocab, int32_t id) {
    wick_assert(id >= 0 && (uint32_t)id < vocab->n_tokens);
    uint8_t type = vocab->token[id].type;
    return type == VOCAB_NORMAL || type == VOCAB_USER_DEFINED || type == VOCAB_UNUSED;
}

bool vocab_is_end(const struct vocab *vocab, int32_t id) {
    if (id < 0) return false;
    for (int i = 0; i < VOCAB_END_MAX && vocab->end[i] >= 0; i++) {
        if (vocab->end[i] == id) return true;
    }
    return false;
}

/* Scratch: one int32 a byte for special_mark, then the encoder's own. */
static size_t owner_bytes(size_t text_max) {
    return round_up(text_max * sizeof(int32_t), 16);
}

void vocab_scratch_carve(struct vocab_scratch *scratch, const struct vocab *vocab, size_t text_max,
                         struct arena *arena) {
    scratch->text_max = text_max;
    scratch->memory_bytes =
        owner_bytes(text_max) +
        (vocab->kind == VOCAB_SPM ? spm_memory_bytes(text_max) : bpe_memory_bytes(text_max));
    scratch->memory = arena_take(arena, scratch->memory_bytes, ARENA_ALIGN);
}

/* Text between special tokens. As llama.cpp has it, the space in front comes at the beginning and
 * again after every special token. */
static void encode_text(const struct vocab *vocab, struct vocab_scratch *scratch, const char *text,
                        size_t length, struct ids *ids) {
    uint8_t *memory = (uint8_t *)scratch->memory + owner_bytes(scratch->text_max);
    if (vocab->kind == VOCAB_SPM) {
        spm_encode(vocab, memory, scratch->text_max, text, length, vocab->add_space_prefix, ids);
    } else {
        bpe_encode(vocab, memory, scratch->text_max, text, length, ids);
    }
}

size_t vocab_encode(const struct vocab *vocab, struct vocab_scratch *scratch, const char *text,
                    size_t length, struct vocab_encode_options options, int32_t *ids, size_t cap) {
    wick_assert(length <= scratch->text_max);
    struct ids out = {ids, cap, 0};
    if (options.add_bos && vocab->bos >= 0) ids_push(&out, vocab->bos);
    if (length == 0) return out.count;
    int32_t *owner = scratch->memory;
    if (!special_mark(vocab, text, length, options.parse_special, owner)) {
        encode_text(vocab, scratch, text, length, &out);
        return out.count;
    }
    for (size_t i = 0; i < length;) {
        if (owner[i] > 0) {
            ids_push(&out, owner[i] - 1);
            i += vocab->token[owner[i] - 1].length;
            continue;
        }
        size_t end = i;
        while (end < length && owner[end] == 0) end++;
        wick_assert(end > i);
        encode_text(vocab, scratch, text + i, end - i, &out);
        i = end;
    }
    return out.count;
}

/* spm: U+2581 is a space. */
static size_t piece_of_spm(const char *text, size_t length, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < length;) {
        if (length - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = text[i++];
        }
    }
    return n;
}

/* bpe: each character is a byte; one that spells none stands for itself. */
static size_t piece_of_bpe(const char *text, size_t length, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < length;) {
        uint32_t code_point;
        size_t size = utf8_decode(text + i, length - i, &code_point);
        int byte = code_point == UTF8_BAD ? -1 : bpe_byte_of(code_point);
        if (byte >= 0) {
            out[n++] = (char)byte;
        } else {
            memcpy(out + n, text + i, size);
            n += size;
        }
        i += size;
    }
    return n;
}

size_t vocab_piece(const struct vocab *vocab, int32_t id, bool special, char out[VOCAB_PIECE_MAX]) {
    if (id < 0 || (uint32_t)id >= vocab->n_tokens) return 0;
    const struct vocab_token *token = &vocab->token[id];
    const char *text = vocab->text + token->text_offset;
    switch (token->type) {
    case VOCAB_CONTROL:
    case VOCAB_UNKNOWN:
        if (!special) return 0;
        break;
    case VOCAB_USER_DEFINED:
        break;
    case VOCAB_BYTE:
        out[0] = (char)vocab_byte_spelled(text, token->length);
        return 1;
    default:
        return vocab->kind == VOCAB_SPM ? piece_of_spm(text, token->length, out)
                                        : piece_of_bpe(text, token->length, out);
    }
    memcpy(out, text, token->length);
    return token->length;
}

size_t vocab_decode(const struct vocab *vocab, const int32_t *ids, size_t n, bool special,
                    char *out, size_t cap) {
    char piece[VOCAB_PIECE_MAX];
    size_t used = 0;
    bool after_special = true;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 && ids[i] == vocab->bos) continue;
        size_t length = vocab_piece(vocab, ids[i], special, piece);
        bool known = ids[i] >= 0 && (uint32_t)ids[i] < vocab->n_tokens;
        bool is_special = known && (vocab->token[ids[i]].type == VOCAB_USER_DEFINED ||
                                    vocab->token[ids[i]].type == VOCAB_CONTROL);
        size_t skip = !is_special && after_special && vocab->kind == VOCAB_SPM &&
                      vocab->add_space_prefix && length > 0 && piece[0] == ' ';
        for (size_t k = skip; k < length; k++, used++) {
            if (used < cap) out[used] = piece[k];
        }
        after_special = is_special;
    }
    return used;
}
