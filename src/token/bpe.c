#include "token/bpe.h"

#include "base/bytes.h"
#include "base/panic.h"
#include "token/merge.h"
#include "token/presplit.h"
#include "token/unicode.h"
#include "token/utf8.h"

/* GPT-2's table: bytes that print as they are in Latin-1 spell themselves; the other 68 (0x00-0x20,
 * 0x7F-0xA0, 0xAD), in order, are U+0100 and on. */
static bool spells_itself(uint32_t byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

size_t bpe_spell_byte(uint8_t byte, char out[2]) {
    uint32_t code_point = byte;
    if (byte <= 0x20) {
        code_point = 0x100u + byte;
    } else if (byte >= 0x7F && byte <= 0xA0) {
        code_point = 0x100u + 0x21u + (byte - 0x7Fu);
    } else if (byte == 0xAD) {
        code_point = 0x100u + 0x21u + 0x22u;
    }
    char text[4];
    size_t n = utf8_encode(code_point, text);
    wick_assert(n <= 2);
    for (size_t i = 0; i < n; i++) out[i] = text[i];
    return n;
}

int bpe_byte_of(uint32_t code_point) {
    if (code_point < 0x100) return spells_itself(code_point) ? (int)code_point : -1;
    if (code_point <= 0x120) return (int)(code_point - 0x100);
    if (code_point <= 0x142) return (int)(code_point - 0x121 + 0x7F);
    return code_point == 0x143 ? 0xAD : -1;
}

/* 0 is an empty slot, hence the + 1. */
static uint64_t key_of(int32_t left, int32_t right) {
    return (uint64_t)((uint32_t)left + 1) << 32 | ((uint32_t)right + 1);
}

static uint32_t slot_of(const struct vocab *vocab, uint64_t key) {
    return (uint32_t)((key * 0x9E3779B97F4A7C15u) >> 32) & (vocab->merge_slots - 1);
}

bool bpe_merge_find(const struct vocab *vocab, int32_t left, int32_t right, int32_t *id,
                    uint32_t *rank) {
    uint64_t key = key_of(left, right);
    for (uint32_t slot = slot_of(vocab, key); vocab->merge_key[slot] != 0;
         slot = (slot + 1) & (vocab->merge_slots - 1)) {
        if (vocab->merge_key[slot] != key) continue;
        *id = (int32_t)vocab->merge_id[slot];
        *rank = vocab->merge_rank[slot];
        return true;
    }
    return false;
}

void bpe_merge_insert(struct vocab *vocab, int32_t left, int32_t right, int32_t id, uint32_t rank) {
    uint64_t key = key_of(left, right);
    uint32_t slot = slot_of(vocab, key);
    while (vocab->merge_key[slot] != 0) {
        if (vocab->merge_key[slot] == key) return;
        slot = (slot + 1) & (vocab->merge_slots - 1);
    }
    vocab->merge_key[slot] = key;
    vocab->merge_id[slot] = (uint32_t)id;
    vocab->merge_rank[slot] = rank;
}

static bool find_pair(const void *context, const struct merge_symbol *left,
                      const struct merge_symbol *right, int32_t *id, uint32_t *rank) {
    if (left->id < 0 || right->id < 0) return false;
    return bpe_merge_find(context, left->id, right->id, id, rank);
}

/* The token that a whole piece is; -1: none. */
static int32_t find_whole(const struct vocab *vocab, const char *text, size_t length) {
    char spelled[VOCAB_PIECE_MAX + 2];
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        n += bpe_spell_byte((uint8_t)text[i], spelled + n);
        if (n > vocab->longest) return -1;
    }
    int32_t id = vocab_find(vocab, spelled, n);
    return id >= 0 && vocab_is_plain(vocab, id) ? id : -1;
}

static void encode_piece(const struct vocab *vocab, struct merge *merge, const char *text,
                         size_t length, struct ids *ids) {
    if (length == 1 || presplit_rules[vocab->pre].ignore_merges) {
        int32_t whole =
            length == 1 ? vocab->byte_token[(uint8_t)text[0]] : find_whole(vocab, text, length);
        if (whole >= 0) {
            ids_push(ids, whole);
            return;
        }
    }
    merge_clear(merge);
    for (size_t i = 0; i < length; i++)
        merge_append(merge, (uint32_t)i, 1, vocab->byte_token[(uint8_t)text[i]]);
    merge_run(merge, find_pair, vocab);
    for (int32_t i = 0; i >= 0; i = merge->symbol[i].next) {
        /* A byte that the vocabulary lacks leaves nothing behind. */
        if (merge->symbol[i].id >= 0) ids_push(ids, merge->symbol[i].id);
    }
}

size_t bpe_memory_bytes(size_t text_max) {
    return merge_memory_bytes(text_max) + round_up(text_max * sizeof(uint32_t), 16) +
           round_up(text_max, 16);
}

void bpe_encode(const struct vocab *vocab, void *memory, size_t text_max, const char *text,
                size_t length, struct ids *ids) {
    wick_assert(length <= text_max && vocab->kind == VOCAB_BPE);
    struct merge merge;
    merge_open(&merge, memory, text_max);
    uint8_t *rest = (uint8_t *)memory + merge_memory_bytes(text_max);
    uint32_t *code_point = (void *)rest;
    uint8_t *flags = rest + round_up(text_max * sizeof(uint32_t), 16);
    size_t n = 0;
    for (size_t i = 0; i < length; n++) {
        i += utf8_decode(text + i, length - i, &code_point[n]);
        flags[n] = unicode_flags(code_point[n]);
    }
    struct presplit_cursor cursor;
    presplit_begin(&cursor, &presplit_rules[vocab->pre], (struct presplit_text){code_point, flags},
                   n);
    size_t begin, end, at = 0;
    while (presplit_next(&cursor, &begin, &end)) {
        size_t piece = 0;
        for (size_t i = begin; i < end; i++) {
            uint32_t ignored;
            piece += utf8_decode(text + at + piece, length - at - piece, &ignored);
        }
        encode_piece(vocab, &merge, text + at, piece, ids);
        at += piece;
    }
    wick_assert(at == length);
}
