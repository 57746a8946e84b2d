/* sampler: logits -> id, seeded.
 *
 * Order (docs/PROTOCOL.md): repetition penalty, temperature, top-k, top-p, min-p, then one draw.
 * All arithmetic is double precision with wick's own exp/log call sites and a fixed order of ties
 * (lower id first), so that the same logits and seed give the same id on every machine. */
#ifndef WICK_ENGINE_SAMPLER_H
#define WICK_ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/arena.h"

struct sampler_params {
    double temperature;        /* 0 .. 2; below SAMPLER_GREEDY_BELOW means argmax */
    double top_p;              /* 0 .. 1; 1 is off; 0 keeps the best token only */
    uint32_t top_k;            /* 0 .. vocab; 0 is off */
    double min_p;              /* 0 .. 1; 0 is off */
    double repetition_penalty; /* 0 .. 2; 1 is off (0 is off as well: it cannot divide) */
    uint64_t seed;
};
#define SAMPLER_GREEDY_BELOW 1e-6
extern const struct sampler_params sampler_defaults; /* the contract's: 1, 1, 0, 0, 1 */

/* Xoshiro256** seeded through SplitMix64 (Blackman, Vigna: https://prng.di.unimi.it). */
struct sampler_rng {
    uint64_t state[4];
};
void sampler_rng_seed(struct sampler_rng *rng, uint64_t seed);
uint64_t sampler_rng_next(struct sampler_rng *rng);
/* Uniform in [0, 1), 53 bits. */
double sampler_rng_unit(struct sampler_rng *rng);

struct sampler_candidate {
    double weight; /* logit, later probability */
    int32_t id;
};

/* Working memory shared by all jobs: one sampling happens at a time. */
struct sampler {
    uint32_t vocab;                      /* logits of a row that count; ids are below it */
    struct sampler_candidate *candidate; /* (vocab) */
    uint8_t *seen;                       /* (vocab) marks for the repetition penalty */
};
void sampler_carve(struct sampler *sampler, uint32_t vocab, struct arena *arena);

struct sampler_result {
    int32_t id;
    double logprob; /* natural log of the model's own probability: log-softmax of the untouched
                       logits */
};

/* `history` are all tokens of the sequence so far (prompt and output), for the repetition penalty:
 * a logit > 0 is divided by it, a logit <= 0 multiplied, once however often the token occurs. Draws
 * at most once from rng. NaN logits count as minus infinity, plus infinity as the largest float;
 * when no candidate is left the lowest id wins. */
int32_t sampler_choose(struct sampler *sampler, const struct sampler_params *params,
                       struct sampler_rng *rng, const float *logits, const int32_t *history,
                       uint32_t n_history);

/* The same, with the log-probability of the choice (a pass over the vocabulary more). */
struct sampler_result sampler_pick(struct sampler *sampler, const struct sampler_params *params,
                                   struct sampler_rng *rng, const float *logits,
                                   const int32_t *history, uint32_t n_history);

/* How many of the likeliest tokens of a row are all that sampler_choose looks at; UINT32_MAX: it
 * looks at every logit. */
uint32_t sampler_looks_at(const struct sampler_params *params);

/* sampler_choose for so many: the same id, and the same draw from rng. */
int32_t sampler_choose_among(struct sampler *sampler, const struct sampler_params *params,
                             struct sampler_rng *rng, const struct backend_candidates *among);

/* log-softmax(logits)[id]; minus infinity for a NaN logit */
double sampler_logprob(const float *logits, uint32_t vocab, int32_t id);

/* The n best (id, log-probability) of the untouched logits, best first, ties by lower id. n is
 * at most vocab. */
void sampler_top(const float *logits, uint32_t vocab, uint32_t n, struct sampler_candidate *out);

/* sampler_logprob and sampler_top from candidates; id is one of them, n at most their number. */
double sampler_logprob_among(const struct backend_candidates *among, int32_t id);
void sampler_top_among(const struct backend_candidates *among, uint32_t n,
                       struct sampler_candidate *out);

#endif
