#include "brain.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "token/utf8.h"

enum { BYTE_FIRST = 3, WORD_FIRST = 259, END_ID = 2, FILE_BYTES = 1 << 15 };

/* U+2581 is the space of a SentencePiece vocabulary. */
#define SPACE "\xE2\x96\x81"
static const char *const words[] = {SPACE,      "a",  "b",          "ab",       "ba",
                                    "abc",      "c",  "cab",        SPACE "a",  SPACE "the",
                                    SPACE "on", "ce", SPACE "once", "\xC3\xA9", "\xE6\x97\xA5",
                                    "STOP",     "ST", "OP",         ".",        "\n",
                                    "bc",       "aa", "xyz",        "zz",       "end"};
enum { WORDS = sizeof words / sizeof *words, VOCAB = WORD_FIRST + WORDS };
_Static_assert((int)VOCAB <= (int)BRAIN_VOCAB_MAX, "the vocabulary fits");

static struct vocab own_vocab;
static struct vocab_scratch own_scratch;

/* --- the vocabulary, as a file has it --------------------------------------------------------- */

static uint8_t file[FILE_BYTES];
static size_t file_bytes;

static void put(const void *bytes, size_t n) {
    sim_require(file_bytes + n <= sizeof file, "the vocabulary's file is too small");
    memcpy(file + file_bytes, bytes, n);
    file_bytes += n;
}

static void put_u32(uint32_t value) {
    put(&value, sizeof value);
}

static void put_u64(uint64_t value) {
    put(&value, sizeof value);
}

static void put_string(const char *text) {
    put_u64(strlen(text));
    put(text, strlen(text));
}

static void put_key(const char *key, enum gguf_type type) {
    put_string(key);
    put_u32((uint32_t)type);
}

static void put_array(const char *key, enum gguf_type element) {
    put_key(key, GGUF_ARRAY);
    put_u32((uint32_t)element);
    put_u64(VOCAB);
}

static const char *word_spell(int32_t id, char out[16]) {
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    if (id < BYTE_FIRST) return special[id];
    if (id >= WORD_FIRST) return words[id - WORD_FIRST];
    snprintf(out, 16, "<0x%02X>", (unsigned)(id - BYTE_FIRST));
    return out;
}

static void file_make(void) {
    char spelled[16];
    file_bytes = 0;
    put("GGUF\3\0\0\0", 8);
    put_u64(0);
    put_u64(4);
    put_key("tokenizer.ggml.model", GGUF_STRING);
    put_string("llama");
    put_array("tokenizer.ggml.tokens", GGUF_STRING);
    for (int32_t id = 0; id < VOCAB; id++) put_string(word_spell(id, spelled));
    put_array("tokenizer.ggml.scores", GGUF_F32);
    for (int32_t id = 0; id < VOCAB; id++) {
        float score = id < WORD_FIRST ? 0 : -(float)(id - WORD_FIRST);
        put(&score, sizeof score);
    }
    put_array("tokenizer.ggml.token_type", GGUF_I32);
    for (int32_t id = 0; id < VOCAB; id++) {
        uint32_t type = id == 0 ? VOCAB_UNKNOWN : VOCAB_CONTROL;
        if (id >= BYTE_FIRST) type = id < WORD_FIRST ? VOCAB_BYTE : VOCAB_NORMAL;
        put_u32(type);
    }
}

static void vocab_load_own(struct vocab *vocab, struct vocab_scratch *scratch) {
    static struct gguf gguf;
    struct arena arena;
    struct fault fault;
    file_make();
    sim_require(gguf_parse(&gguf, file, file_bytes, &fault), "%s", fault.text);
    arena_measure(&arena);
    sim_require(vocab_carve(vocab, &gguf, &arena, &fault), "%s", fault.text);
    vocab_scratch_carve(scratch, vocab, ENGINE_TEXT_MAX, &arena);
    sim_require(arena_map(&arena, arena.used, &fault), "%s", fault.text);
    sim_require(vocab_carve(vocab, &gguf, &arena, &fault), "%s", fault.text);
    vocab_scratch_carve(scratch, vocab, ENGINE_TEXT_MAX, &arena);
    sim_require(vocab_fill(vocab, &gguf, &fault), "%s", fault.text);
    sim_require(vocab->n_tokens == VOCAB && vocab_is_end(vocab, END_ID), "not the vocabulary");
}

void brain_vocab(struct vocab *vocab, struct vocab_scratch *scratch) {
    vocab_load_own(vocab, scratch);
    vocab_load_own(&own_vocab, &own_scratch);
}

const struct vocab *brain_words(void) {
    return &own_vocab;
}

uint32_t brain_encode(const char *text, uint32_t n, bool bos, bool parse_special, int32_t *ids,
                      uint32_t cap) {
    struct vocab_encode_options options = {.add_bos = bos, .parse_special = parse_special};
    return (uint32_t)vocab_encode(&own_vocab, &own_scratch, text, n, options, ids, cap);
}

/* --- logits ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
    return hash ^ (hash >> 31);
}

/* The sequence's hash decides everything: one wrong token or position changes all that follows. */
static void logits_of_hash(uint64_t hash, float logits[VOCAB]) {
    for (int32_t id = 0; id < VOCAB; id++) {
        hash = mix(hash, (uint64_t)id);
        logits[id] = (float)(hash >> 40) / (float)(1 << 24) * 6 - 3;
        if (id >= WORD_FIRST) logits[id] += 3; /* words are likelier than loose bytes */
    }
    logits[END_ID] += 3;
}

struct cell {
    int32_t token;
    uint32_t position;
};

static struct {
    struct backend backend;
    struct cell cell[BRAIN_PAGES_MAX][KV_PAGE_TOKENS];
    float logits[BRAIN_LOGITS_MAX][VOCAB];
    uint32_t few[BRAIN_LOGITS_MAX]; /* candidates that the row wanted; 0: all its logits */
    uint32_t n_logits;
    int32_t id[VOCAB];
    float logit[VOCAB];
    const struct batch *batch;
    uint32_t patience; /* advances that answer PENDING */
    uint32_t steps, fails_at;
    bool failed, done;
} brain;

static struct cell *cell_of(const struct batch_row *row, uint32_t position) {
    uint32_t page = row->pages[position / KV_PAGE_TOKENS];
    sim_require(page < brain.backend.info.n_pages, "a page that is not there");
    return &brain.cell[page][position % KV_PAGE_TOKENS];
}

/* The rules of backend.h for a batch. */
static void batch_check(const struct batch *batch) {
    static bool written[BRAIN_PAGES_MAX][KV_PAGE_TOKENS];
    memset(written, 0, sizeof written);
    uint32_t wanted = 0;
    sim_require(batch->n_rows >= 1 && batch->n_rows <= brain.backend.info.rows_max, "rows");
    for (uint32_t i = 0; i < batch->n_rows; i++) {
        const struct batch_row *row = &batch->row[i];
        sim_require(row->token >= 0 && row->token < VOCAB, "token %d in a batch", row->token);
        wanted += row->wants != ROW_NOTHING;
        uint32_t page = row->pages[row->position / KV_PAGE_TOKENS];
        sim_require(page < brain.backend.info.n_pages, "a page that is not there");
        bool *twice = &written[page][row->position % KV_PAGE_TOKENS];
        sim_require(!*twice, "two rows write one place of the KV cache");
        *twice = true;
    }
    sim_require(wanted <= brain.backend.info.logits_max, "more logits than there is room for");
}

static void brain_begin(struct backend *backend, const struct batch *batch) {
    (void)backend;
    sim_require(brain.batch == NULL, "a step begins while one is in flight");
    sim_require(!brain.failed, "a step of a backend that has failed");
    batch_check(batch);
    brain.batch = batch;
    brain.done = false;
    brain.patience = dice_one_in(4) ? dice_below(12) : dice_below(2);
    brain.steps++;
}

static void rows_compute(const struct batch *batch) {
    brain.n_logits = 0;
    for (uint32_t i = 0; i < batch->n_rows; i++) {
        const struct batch_row *row = &batch->row[i];
        *cell_of(row, row->position) = (struct cell){row->token, row->position};
    }
    for (uint32_t i = 0; i < batch->n_rows; i++) {
        const struct batch_row *row = &batch->row[i];
        uint64_t hash = 1;
        if (row->wants == ROW_NOTHING) continue;
        for (uint32_t p = 0; p <= row->position; p++) {
            const struct cell *cell = cell_of(row, p);
            hash = mix(mix(hash, (uint64_t)cell->token), cell->position);
        }
        brain.few[brain.n_logits] = row->wants == ROW_LOGITS ? 0 : row->candidates;
        logits_of_hash(hash, brain.logits[brain.n_logits++]);
    }
}

static enum backend_status brain_advance(struct backend *backend, uint64_t deadline_ns,
                                         struct fault *fault) {
    (void)backend;
    sim_require(brain.batch != NULL, "no step to advance");
    if (brain.steps == brain.fails_at) {
        sim_count(COUNT_BACKEND_FAULTS);
        brain.failed = true;
        brain.batch = NULL;
        fault_set(fault, FAULT_WORKER_UNHEALTHY, "the simulation pulled the plug");
        return BACKEND_FAILED;
    }
    if (brain.patience > 0) {
        brain.patience--;
        if (deadline_ns > sim.now_ns) sim.now_ns = deadline_ns;
        return BACKEND_PENDING;
    }
    sim.now_ns += dice_between(10, 900) * 1000ULL;
    rows_compute(brain.batch);
    brain.batch = NULL;
    brain.done = true;
    return BACKEND_DONE;
}

static const float *brain_logits(const struct backend *backend, uint32_t index) {
    (void)backend;
    sim_require(brain.done && index < brain.n_logits && brain.few[index] == 0, "no such logits");
    return brain.logits[index];
}

/* The best of a row, in order, as a backend gives them. */
static struct backend_candidates brain_candidates(const struct backend *backend, uint32_t index) {
    (void)backend;
    sim_require(brain.done && index < brain.n_logits && brain.few[index] > 0, "no candidates");
    const float *logits = brain.logits[index];
    struct backend_candidates among = {.id = brain.id, .logit = brain.logit};
    for (int32_t i = 0; i < VOCAB; i++) {
        uint32_t place = among.n;
        for (; place > 0 && logits[i] > brain.logit[place - 1]; place--) {
            if (place >= brain.few[index]) continue;
            brain.id[place] = brain.id[place - 1];
            brain.logit[place] = brain.logit[place - 1];
        }
        if (place >= brain.few[index]) continue;
        brain.id[place] = i;
        brain.logit[place] = logits[i];
        if (among.n < brain.few[index]) among.n++;
    }
    double sum = 0;
    for (int32_t i = 0; i < VOCAB; i++) sum += exp((double)logits[i] - (double)brain.logit[0]);
    among.log_sum = log(sum);
    return among;
}

/* Leaves rubbish where the rows would have been. */
static void brain_abort(struct backend *backend) {
    (void)backend;
    if (brain.batch == NULL) return;
    sim_count(COUNT_ABORTS);
    for (uint32_t i = 0; i < brain.batch->n_rows; i++) {
        const struct batch_row *row = &brain.batch->row[i];
        *cell_of(row, row->position) = (struct cell){-1, 0xDEAD};
    }
    brain.batch = NULL;
}

struct backend *brain_backend(uint32_t n_pages, uint32_t rows_max, uint32_t logits_max,
                              uint32_t candidates, uint32_t fails_at) {
    static const struct backend_ops ops = {.begin = brain_begin,
                                           .advance = brain_advance,
                                           .logits = brain_logits,
                                           .candidates = brain_candidates,
                                           .abort = brain_abort};
    sim_require(n_pages <= BRAIN_PAGES_MAX && logits_max <= BRAIN_LOGITS_MAX, "a brain too small");
    memset(brain.cell, 0xA5, sizeof brain.cell);
    brain.fails_at = fails_at;
    brain.backend = (struct backend){.ops = &ops,
                                     .info = {.name = "simulated",
                                              .isa = "none",
                                              .n_pages = n_pages,
                                              .rows_max = rows_max,
                                              .logits_max = logits_max,
                                              .candidates = candidates,
                                              .vocab = VOCAB}};
    return &brain.backend;
}

bool brain_has_failed(void) {
    return brain.failed;
}

bool brain_is_busy(void) {
    return brain.batch != NULL;
}

/* --- what must come out ---------------------------------------------------------------------- */

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

static void score_alone(const struct job_request *request, struct lone *lone) {
    float logits[VOCAB];
    uint64_t hash = 1;
    for (uint32_t p = 0; p + 1 < request->n_tokens; p++) {
        hash = mix(mix(hash, (uint64_t)request->tokens[p]), p);
        logits_of_hash(hash, logits);
        lone->token[p + 1] = request->tokens[p + 1];
        lone->logprob[p + 1] = sampler_logprob(logits, VOCAB, request->tokens[p + 1]);
    }
    lone->n_tokens = request->n_tokens - 1;
}

void brain_run_alone(const struct job_request *request, struct lone *lone) {
    static char raw[BRAIN_TEXT_MAX];
    static struct sampler_candidate candidate[VOCAB];
    static uint8_t seen[VOCAB];
    static float logits[VOCAB];
    struct sampler sampler = {VOCAB, candidate, seen};
    int32_t tokens[BRAIN_CTX_MAX];
    size_t n_raw = 0;
    uint64_t hash = 1;
    uint32_t n = request->n_tokens;
    struct sampler_rng rng;
    lone->n_tokens = lone->text_bytes = 0;
    lone->stop_index = -1;
    lone->reason = STOP_MAX_TOKENS;
    if (request->kind == JOB_SCORE) {
        score_alone(request, lone);
        return;
    }
    sampler_rng_seed(&rng, request->sampling.seed);
    memcpy(tokens, request->tokens, n * sizeof *tokens);
    for (uint32_t p = 0; p < n; p++) hash = mix(mix(hash, (uint64_t)tokens[p]), p);
    while (lone->n_tokens < request->max_tokens) {
        logits_of_hash(hash, logits);
        int32_t id = sampler_choose(&sampler, &request->sampling, &rng, logits, tokens, n);
        lone->token[lone->n_tokens] = id;
        lone->logprob[lone->n_tokens] = sampler_logprob(logits, VOCAB, id);
        if (id == END_ID && !request->ignore_eos) {
            lone->reason = STOP_EOS;
            break;
        }
        hash = mix(mix(hash, (uint64_t)id), n);
        tokens[n++] = id;
        lone->n_tokens++;
        size_t from = n_raw, start = 0;
        char piece[VOCAB_PIECE_MAX];
        size_t length = vocab_piece(&own_vocab, id, false, piece);
        memcpy(raw + n_raw, piece, length);
        n_raw += length;
        lone->stop_index = stop_find(request, raw, from, n_raw, &start);
        if (lone->stop_index >= 0) {
            n_raw = start;
            lone->reason = STOP_SEQUENCE;
            break;
        }
    }
    lone->text_bytes = (uint32_t)n_raw;
    if (request->bytes)
        memcpy(lone->text, raw, n_raw);
    else
        lone->text_bytes = (uint32_t)utf8_repair(raw, n_raw, lone->text);
}
