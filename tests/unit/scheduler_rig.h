/* scheduler_rig: a tiny vocabulary, a backend whose logits depend on every token that the page
 * table leads to, and what a request must give when it runs alone. */
#ifndef WICK_TESTS_SCHEDULER_RIG_H
#define WICK_TESTS_SCHEDULER_RIG_H

#include "backend/backend.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "token/vocab.h"

enum {
    RIG_VOCAB = 290,
    RIG_END = 2, /* the end token; the model likes it well enough to come now and then */
    RIG_BYTE_FIRST = 3,
    RIG_WORD_FIRST = 259,
    RIG_PAGES_MAX = 512,
    RIG_LOGITS_MAX = 64,
    RIG_CTX_MAX = 512,
    RIG_TEXT_MAX = RIG_CTX_MAX * 3 * 16
};

/* Fills *vocab by hand: <unk> <s> </s>, 256 bytes, words. */
void rig_vocab(struct vocab *vocab);
/* The bytes of a token, from the rig's own list. */
size_t rig_piece(int32_t id, char out[16]);

/* --- backend ---------------------------------------------------------------------------------- */

struct rig_cell {
    int32_t token;
    uint32_t position;
};

struct rig_backend {
    struct backend backend; /* first: ops get a pointer to it */
    struct rig_cell cell[RIG_PAGES_MAX][KV_PAGE_TOKENS];
    float logits[RIG_LOGITS_MAX][RIG_VOCAB];
    uint32_t n_logits;
    uint32_t few[RIG_LOGITS_MAX]; /* candidates that the row wanted; 0: all its logits */
    int32_t id[RIG_VOCAB];        /* candidates of the row asked for last */
    float logit[RIG_VOCAB];
    const struct batch *batch;
    bool done;
    uint64_t rows_computed;
};

void rig_backend_open(struct rig_backend *rig, uint32_t n_pages, uint32_t rows_max,
                      uint32_t logits_max);

/* The n best of a row, in order, as a backend gives them. */
struct backend_candidates rig_candidates(const float *logits, uint32_t vocab, uint32_t n,
                                         int32_t *id, float *logit);

/* Logits of a sequence whose tokens are these. */
void rig_logits(const int32_t *tokens, uint32_t n, float logits[RIG_VOCAB]);

/* --- what must come out ----------------------------------------------------------------------- */

struct rig_expected {
    uint32_t n_tokens; /* generated, end token not counted */
    int32_t token[RIG_CTX_MAX];
    int32_t end_token; /* if an event of its own carries held text; -1: none */
    uint32_t text_bytes;
    char text[RIG_TEXT_MAX];
    enum stop_reason reason;
    int32_t stop_index;
};

/* The request run alone, straight from the definitions. */
void rig_expect(const struct job_request *request, struct rig_expected *expected);

/* A scheduler in memory of its own, carved twice: measured, then taken. */
struct scheduler *rig_scheduler(const struct scheduler_limits *limits, uint32_t n_pages,
                                uint32_t rows_max, uint32_t logits_max, const struct vocab *vocab);

#endif
