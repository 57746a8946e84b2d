/* brain: a vocabulary, a backend whose logits depend on every token that the page table leads to,
 * and what a request must give when it runs alone. */
#ifndef WICK_SIMULATE_BRAIN_H
#define WICK_SIMULATE_BRAIN_H

#include "engine/engine.h"
#include "engine/scheduler.h"

enum {
    BRAIN_VOCAB_MAX = 320,
    BRAIN_PAGES_MAX = 256,
    BRAIN_CTX_MAX = 256,
    BRAIN_LOGITS_MAX = 32,
    BRAIN_TEXT_MAX = BRAIN_CTX_MAX * 3 * 16
};

/* Loads the vocabulary as wick does: parsed, measured, carved, filled. */
void brain_vocab(struct vocab *vocab, struct vocab_scratch *scratch);

/* The one backend. `fails_at`: the step that breaks it; 0: none. */
struct backend *brain_backend(uint32_t n_pages, uint32_t rows_max, uint32_t logits_max,
                              uint32_t candidates, uint32_t fails_at);
bool brain_has_failed(void);
bool brain_is_busy(void); /* a step is in flight */

/* Text -> ids with a scratch of our own; their number. */
uint32_t brain_encode(const char *text, uint32_t n, bool bos, bool parse_special, int32_t *ids,
                      uint32_t cap);
const struct vocab *brain_words(void);

/* A request run alone, straight from the definitions. */
struct lone {
    uint32_t n_tokens; /* generated, end token not counted; of a SCORE all of the text */
    int32_t token[BRAIN_CTX_MAX];
    double logprob[BRAIN_CTX_MAX];
    uint32_t text_bytes;
    char text[BRAIN_TEXT_MAX];
    enum stop_reason reason;
    int32_t stop_index;
};
void brain_run_alone(const struct job_request *request, struct lone *lone);

#endif
