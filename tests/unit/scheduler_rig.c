#include "scheduler_rig.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "token/utf8.h"

/* '_' stands for U+2581, the space of a SentencePiece vocabulary. */
static const char *const words[RIG_VOCAB - RIG_WORD_FIRST] = {
    "a",  "b",  "ab",  "ba", "abc", "_a", "_the", "_once", "\xC3\xA9", "\xE6\x97\xA5", "STOP",
    "ST", "OP", ".",   ",",  "\n",  "_",  "c",    "cab",   "bc",       "aa",           "aaa",
    "!",  "?",  "xyz", "x",  "y",   "z",  "zz",   "end",   "END"};

/* The word with its spaces spelled so. */
static uint32_t word_spell(int32_t id, const char *space, char out[16]) {
    uint32_t n = 0;
    for (const char *word = words[id - RIG_WORD_FIRST]; *word != '\0'; word++) {
        if (*word != '_') {
            out[n++] = *word;
            continue;
        }
        for (const char *byte = space; *byte != '\0'; byte++) out[n++] = *byte;
    }
    return n;
}

size_t rig_piece(int32_t id, char out[16]) {
    if (id < RIG_BYTE_FIRST) return 0;
    if (id >= RIG_WORD_FIRST) return word_spell(id, " ", out);
    out[0] = (char)(id - RIG_BYTE_FIRST);
    return 1;
}

/* Writes a token's text as a file has it; returns its length. */
static uint32_t token_spell(int32_t id, char out[16]) {
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    if (id >= RIG_WORD_FIRST) return word_spell(id, "\xE2\x96\x81", out);
    if (id >= RIG_BYTE_FIRST)
        return (uint32_t)snprintf(out, 16, "<0x%02X>", (unsigned)(id - RIG_BYTE_FIRST));
    return (uint32_t)snprintf(out, 16, "%s", special[id]);
}

void rig_vocab(struct vocab *vocab) {
    static struct vocab_token token[RIG_VOCAB];
    static char text[RIG_VOCAB * 16];
    uint32_t used = 0;
    memset(vocab, 0, sizeof *vocab);
    for (int32_t id = 0; id < RIG_VOCAB; id++) {
        uint8_t type = id == 0 ? VOCAB_UNKNOWN : VOCAB_CONTROL;
        if (id >= RIG_BYTE_FIRST) type = id < RIG_WORD_FIRST ? VOCAB_BYTE : VOCAB_NORMAL;
        if (type == VOCAB_BYTE) vocab->byte_token[id - RIG_BYTE_FIRST] = id;
        uint32_t length = token_spell(id, text + used);
        token[id] = (struct vocab_token){used, (uint16_t)length, type};
        used += length;
    }
    vocab->kind = VOCAB_SPM;
    vocab->kind_name = "llama";
    vocab->n_tokens = RIG_VOCAB;
    vocab->bos = 1;
    vocab->eos = RIG_END;
    vocab->eot = -1;
    vocab->unk = 0;
    vocab->has_bytes = true;
    vocab->token = token;
    vocab->text = text;
    vocab->text_bytes = used;
    for (int i = 0; i < 8; i++) vocab->end[i] = i == 0 ? RIG_END : -1;
}

/* --- backend ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
    return hash ^ (hash >> 31);
}

/* The sequence's hash decides everything: one wrong token or position changes all that follows. */
static void logits_of_hash(uint64_t hash, float logits[RIG_VOCAB]) {
    struct sampler_rng rng;
    sampler_rng_seed(&rng, hash);
    for (int32_t id = 0; id < RIG_VOCAB; id++) {
        logits[id] = (float)(sampler_rng_unit(&rng) * 6 - 3);
        if (id >= RIG_WORD_FIRST) logits[id] += 3; /* words are likelier than loose bytes */
    }
    logits[RIG_END] += 3;
}

void rig_logits(const int32_t *tokens, uint32_t n, float logits[RIG_VOCAB]) {
    uint64_t hash = 1;
    for (uint32_t p = 0; p < n; p++) hash = mix(mix(hash, (uint64_t)tokens[p]), p);
    logits_of_hash(hash, logits);
}

static struct rig_cell *cell_of(struct rig_backend *rig, const struct batch_row *row,
                                uint32_t position) {
    uint32_t page = row->pages[position / KV_PAGE_TOKENS];
    cr_assert(page < rig->backend.info.n_pages, "a page that is not there");
    return &rig->cell[page][position % KV_PAGE_TOKENS];
}

/* The rules of backend.h for a batch. */
static void batch_check(struct rig_backend *rig, const struct batch *batch) {
    static bool written[RIG_PAGES_MAX][KV_PAGE_TOKENS];
    memset(written, 0, sizeof written);
    uint32_t wanted = 0;
    cr_assert(batch->n_rows >= 1 && batch->n_rows <= rig->backend.info.rows_max);
    for (uint32_t i = 0; i < batch->n_rows; i++) {
        const struct batch_row *row = &batch->row[i];
        cr_assert(row->token >= 0 && row->token < RIG_VOCAB);
        wanted += row->wants != ROW_NOTHING;
        uint32_t page = row->pages[row->position / KV_PAGE_TOKENS];
        cr_assert(page < rig->backend.info.n_pages);
        bool *twice = &written[page][row->position % KV_PAGE_TOKENS];
        cr_assert_not(*twice, "two rows write one place of the KV cache");
        *twice = true;
        for (uint32_t k = 0; k < i; k++) {
            if (batch->row[k].pages != row->pages) continue;
            cr_assert(batch->row[i - 1].pages == row->pages, "rows of a sequence are apart");
            cr_assert_eq(batch->row[i - 1].position + 1, row->position, "positions do not rise");
        }
    }
    cr_assert(wanted <= rig->backend.info.logits_max, "more logits than there is room for");
}

static void rig_begin(struct backend *backend, const struct batch *batch) {
    struct rig_backend *rig = (struct rig_backend *)backend;
    batch_check(rig, batch);
    rig->batch = batch;
    rig->done = false;
}

static enum backend_status rig_advance(struct backend *backend, uint64_t deadline_ns,
                                       struct fault *fault) {
    struct rig_backend *rig = (struct rig_backend *)backend;
    (void)deadline_ns, (void)fault;
    cr_assert_not_null(rig->batch);
    for (uint32_t i = 0; i < rig->batch->n_rows; i++) {
        const struct batch_row *row = &rig->batch->row[i];
        *cell_of(rig, row, row->position) = (struct rig_cell){row->token, row->position};
    }
    rig->n_logits = 0;
    for (uint32_t i = 0; i < rig->batch->n_rows; i++) {
        const struct batch_row *row = &rig->batch->row[i];
        uint64_t hash = 1;
        if (row->wants == ROW_NOTHING) continue;
        for (uint32_t p = 0; p <= row->position; p++) {
            struct rig_cell *cell = cell_of(rig, row, p);
            hash = mix(mix(hash, (uint64_t)cell->token), cell->position);
        }
        rig->few[rig->n_logits] = row->wants == ROW_LOGITS ? 0 : row->candidates;
        logits_of_hash(hash, rig->logits[rig->n_logits++]);
    }
    rig->rows_computed += rig->batch->n_rows;
    rig->batch = NULL;
    rig->done = true;
    return BACKEND_DONE;
}

static const float *rig_row_logits(const struct backend *backend, uint32_t index) {
    const struct rig_backend *rig = (const struct rig_backend *)backend;
    cr_assert(rig->done && index < rig->n_logits && rig->few[index] == 0);
    return rig->logits[index];
}

static double rig_logit(float logit) {
    return isnan(logit) ? -INFINITY : fmin((double)logit, (double)FLT_MAX);
}

struct backend_candidates rig_candidates(const float *logits, uint32_t vocab, uint32_t n,
                                         int32_t *id, float *logit) {
    struct backend_candidates among = {.id = id, .logit = logit};
    for (uint32_t i = 0; i < vocab; i++) {
        if (rig_logit(logits[i]) == -INFINITY) continue;
        uint32_t place = among.n;
        for (; place > 0 && rig_logit(logits[i]) > rig_logit(logit[place - 1]); place--) {
            if (place >= n) continue;
            id[place] = id[place - 1];
            logit[place] = logit[place - 1];
        }
        if (place >= n) continue;
        id[place] = (int32_t)i;
        logit[place] = logits[i];
        if (among.n < n) among.n++;
    }
    double sum = 0;
    for (uint32_t i = 0; i < vocab && among.n > 0; i++)
        sum += exp(rig_logit(logits[i]) - rig_logit(logit[0]));
    among.log_sum = log(sum);
    return among;
}

static struct backend_candidates rig_row_candidates(const struct backend *backend, uint32_t index) {
    struct rig_backend *rig = (struct rig_backend *)(uintptr_t)backend;
    cr_assert(rig->done && index < rig->n_logits);
    uint32_t few = rig->few[index];
    cr_assert(few > 0 && few <= backend->info.candidates);
    return rig_candidates(rig->logits[index], RIG_VOCAB, few, rig->id, rig->logit);
}

/* Leaves rubbish where the rows would have been. */
static void rig_abort(struct backend *backend) {
    struct rig_backend *rig = (struct rig_backend *)backend;
    if (rig->batch == NULL) return;
    for (uint32_t i = 0; i < rig->batch->n_rows; i++) {
        const struct batch_row *row = &rig->batch->row[i];
        *cell_of(rig, row, row->position) = (struct rig_cell){-1, 0xDEAD};
    }
    rig->batch = NULL;
    rig->done = false;
}

void rig_backend_open(struct rig_backend *rig, uint32_t n_pages, uint32_t rows_max,
                      uint32_t logits_max) {
    static const struct backend_ops ops = {.begin = rig_begin,
                                           .advance = rig_advance,
                                           .logits = rig_row_logits,
                                           .candidates = rig_row_candidates,
                                           .abort = rig_abort};
    cr_assert(n_pages <= RIG_PAGES_MAX && logits_max <= RIG_LOGITS_MAX);
    memset(rig, 0xA5, sizeof *rig);
    rig->backend = (struct backend){.ops = &ops,
                                    .info = {.n_pages = n_pages,
                                             .rows_max = rows_max,
                                             .logits_max = logits_max,
                                             .vocab = RIG_VOCAB}};
    rig->batch = NULL;
    rig->done = false;
    rig->rows_computed = 0;
}

/* --- what must come out ----------------------------------------------------------------------- */

/* The stop string that ends first (the longest of those) in text[0 .. n), from byte `from` on. */
static int32_t stop_find(const struct job_request *request, const char *text, size_t from, size_t n,
                         size_t *start) {
    for (size_t end = from + 1; end <= n; end++) {
        int32_t found = -1;
        for (uint32_t k = 0; k < request->n_stop; k++) {
            size_t length = request->stop[k].length;
            if (length > end || memcmp(text + end - length, request->stop[k].text, length) != 0)
                continue;
            if (found < 0 || length > request->stop[found].length) found = (int32_t)k;
        }
        if (found < 0) continue;
        *start = end - request->stop[found].length;
        return found;
    }
    return -1;
}

void rig_expect(const struct job_request *request, struct rig_expected *expected) {
    static char raw[RIG_CTX_MAX * 16];
    static struct sampler sampler;
    static struct sampler_candidate candidate[RIG_VOCAB];
    static uint8_t seen[RIG_VOCAB];
    int32_t tokens[RIG_CTX_MAX];
    size_t n_raw = 0;
    uint32_t n = request->n_tokens;
    struct sampler_rng rng;
    sampler = (struct sampler){RIG_VOCAB, candidate, seen};
    sampler_rng_seed(&rng, request->sampling.seed);
    memcpy(tokens, request->tokens, n * sizeof *tokens);
    *expected = (struct rig_expected){.stop_index = -1, .end_token = -1};
    for (;;) {
        float logits[RIG_VOCAB];
        rig_logits(tokens, n, logits);
        int32_t id = sampler_choose(&sampler, &request->sampling, &rng, logits, tokens, n);
        if (id == RIG_END && !request->ignore_eos) {
            expected->reason = STOP_EOS;
            expected->end_token = id;
            break;
        }
        tokens[n++] = id;
        expected->token[expected->n_tokens++] = id;
        size_t from = n_raw;
        n_raw += rig_piece(id, raw + n_raw);
        size_t start = 0;
        expected->stop_index = stop_find(request, raw, from, n_raw, &start);
        if (expected->stop_index >= 0) {
            n_raw = start;
            expected->reason = STOP_SEQUENCE;
            break;
        }
        if (expected->n_tokens == request->max_tokens) {
            expected->reason = STOP_MAX_TOKENS;
            break;
        }
    }
    if (request->bytes)
        memcpy(expected->text, raw, expected->text_bytes = (uint32_t)n_raw);
    else
        expected->text_bytes = (uint32_t)utf8_repair(raw, n_raw, expected->text);
}

struct scheduler *rig_scheduler(const struct scheduler_limits *limits, uint32_t n_pages,
                                uint32_t rows_max, uint32_t logits_max, const struct vocab *vocab) {
    struct arena plan, arena;
    struct fault fault;
    arena_measure(&plan);
    cr_assert_null(scheduler_carve(limits, n_pages, rows_max, logits_max, vocab, &plan));
    cr_assert(arena_map(&arena, plan.used, &fault), "%s", fault.text);
    struct scheduler *s = scheduler_carve(limits, n_pages, rows_max, logits_max, vocab, &arena);
    cr_assert_eq(arena.used, plan.used, "measured and taken differ");
    arena_seal(&arena);
    return s;
}
