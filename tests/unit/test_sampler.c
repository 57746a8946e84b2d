#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sampler.h"
#include "scheduler_rig.h"

enum { VOCAB_MAX = 9000, HISTORY_MAX = 64 };

static void open_sampler(struct sampler *sampler, uint32_t vocab) {
    struct arena arena;
    struct fault fault;
    cr_assert(arena_map(&arena, 1 << 20, &fault), "%s", fault.text);
    sampler_carve(sampler, vocab, &arena);
}

/* --- the definition, as slow and plain as it gets ----------------------------------------------
 */

static int by_rank(const void *a, const void *b) {
    const struct sampler_candidate *x = a, *y = b;
    if (x->weight != y->weight) return x->weight > y->weight ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* Sorts everything, then cuts the list from behind. `unit` is the draw. */
static int32_t plain_choose(const struct sampler_params *params, double unit, const float *logits,
                            uint32_t vocab, const int32_t *history, uint32_t n_history) {
    static struct sampler_candidate c[VOCAB_MAX];
    uint32_t n = 0;
    for (uint32_t id = 0; id < vocab; id++) {
        double logit = isnan(logits[id]) ? -INFINITY : fmin((double)logits[id], (double)FLT_MAX);
        bool seen = false;
        for (uint32_t i = 0; i < n_history; i++) seen |= history[i] == (int32_t)id;
        double penalty = params->repetition_penalty;
        if (seen && penalty > 0) logit = logit > 0 ? logit / penalty : logit * penalty;
        if (logit > -INFINITY) c[n++] = (struct sampler_candidate){fmin(logit, 1e300), (int32_t)id};
    }
    if (n == 0) return 0;
    qsort(c, n, sizeof *c, by_rank);
    if (params->temperature < SAMPLER_GREEDY_BELOW) return c[0].id;
    for (uint32_t i = 0; i < n; i++) c[i].weight /= params->temperature;
    qsort(c, n, sizeof *c, by_rank); /* the division may have made ties */
    if (params->top_k > 0 && params->top_k < n) n = params->top_k;

    double best = c[0].weight;
    uint64_t total = 0, mass = 0;
    for (uint32_t i = 0; i < n; i++) {
        c[i].weight = floor(exp(c[i].weight - best) * 0x1p43 + 0.5);
        total += (uint64_t)c[i].weight;
    }
    qsort(c, n, sizeof *c, by_rank);
    if (params->top_p < 1) {
        uint32_t kept = 0;
        double wanted = ceil((double)total * params->top_p);
        do mass += (uint64_t)c[kept++].weight;
        while (kept < n && (double)mass < wanted);
        n = kept;
    }
    while (n > 1 && c[n - 1].weight < params->min_p * 0x1p43) n--;
    total = mass = 0;
    for (uint32_t i = 0; i < n; i++) total += (uint64_t)c[i].weight;
    uint64_t point = (uint64_t)(unit * (double)total);
    for (uint32_t i = 0; i < n; i++) {
        mass += (uint64_t)c[i].weight;
        if (mass > point) return c[i].id;
    }
    return c[n - 1].id;
}

/* --- random cases -----------------------------------------------------------------------------
 */

static uint32_t below(struct sampler_rng *rng, uint32_t n) {
    return (uint32_t)(sampler_rng_next(rng) % n);
}

static float random_logit(struct sampler_rng *rng, uint32_t shape) {
    double unit = sampler_rng_unit(rng);
    switch (shape) {
    case 0:
        return (float)(unit * 20 - 10);
    case 1:
        return (float)below(rng, 4); /* mostly ties */
    case 2:
        return (float)(-log(unit + 1e-9) * 3);
    case 3:
        return unit < 0.01 ? NAN : unit < 0.02 ? -INFINITY : (float)(unit * 8);
    case 4:
        return unit < 0.002 ? INFINITY : (float)(unit * 8 - 4);
    default:
        return unit < 0.5 ? -INFINITY : (float)(unit * 1e38);
    }
}

static struct sampler_params random_params(struct sampler_rng *rng, uint32_t vocab) {
    static const double temperature[] = {0, 1e-7, 1e-6, 0.3, 0.8, 1, 1, 2};
    static const double top_p[] = {0, 0.1, 0.5, 0.9, 0.95, 0.999999, 1, 1};
    static const double min_p[] = {0, 0, 0, 0, 0.01, 0.1, 0.5, 1};
    static const double penalty[] = {0, 1, 1, 0.5, 1.1, 1.5, 2, 1e-300};
    uint32_t top_k[] = {0, 0, 1, 2, 40, vocab / 2 + 1, vocab, vocab + 7};
    return (struct sampler_params){.temperature = temperature[below(rng, 8)],
                                   .top_p = top_p[below(rng, 8)],
                                   .top_k = top_k[below(rng, 8)],
                                   .min_p = min_p[below(rng, 8)],
                                   .repetition_penalty = penalty[below(rng, 8)],
                                   .seed = sampler_rng_next(rng)};
}

Test(sampler, equals_the_plain_definition_on_random_cases) {
    static float logits[VOCAB_MAX];
    struct sampler sampler;
    struct sampler_rng random, draw, plain_draw;
    open_sampler(&sampler, VOCAB_MAX);
    sampler_rng_seed(&random, 2024);
    for (int round = 0; round < 6000; round++) {
        uint32_t vocab = 1 + below(&random, round % 50 == 0 ? VOCAB_MAX : 60);
        uint32_t shape = below(&random, 6);
        int32_t history[HISTORY_MAX];
        uint32_t n_history = below(&random, HISTORY_MAX + 1);
        for (uint32_t i = 0; i < vocab; i++) logits[i] = random_logit(&random, shape);
        for (uint32_t i = 0; i < n_history; i++) history[i] = (int32_t)below(&random, vocab);
        struct sampler_params params = random_params(&random, vocab);
        sampler.vocab = vocab;
        sampler_rng_seed(&draw, params.seed);
        plain_draw = draw;
        struct sampler_result got =
            sampler_pick(&sampler, &params, &draw, logits, history, n_history);
        int32_t expected =
            plain_choose(&params, sampler_rng_unit(&plain_draw), logits, vocab, history, n_history);
        cr_assert_eq(got.id, expected,
                     "round %d: %d, not %d (vocab %u shape %u T %g k %u p %g min_p %g penalty %g)",
                     round, got.id, expected, vocab, shape, params.temperature, params.top_k,
                     params.top_p, params.min_p, params.repetition_penalty);
        cr_assert(!isnan(got.logprob) && got.logprob <= 1e-9);
        if (params.temperature >= SAMPLER_GREEDY_BELOW)
            cr_assert_eq(memcmp(&draw, &plain_draw, sizeof draw), 0, "exactly one draw");
    }
}

Test(sampler, chooses_the_same_among_the_likeliest) {
    static float logits[VOCAB_MAX], logit[VOCAB_MAX];
    static int32_t id[VOCAB_MAX];
    static struct sampler_candidate top[VOCAB_MAX], top_among[VOCAB_MAX];
    struct sampler sampler;
    struct sampler_rng random, draw, draw_among;
    uint32_t taken = 0;
    open_sampler(&sampler, VOCAB_MAX);
    sampler_rng_seed(&random, 77);
    for (int round = 0; round < 6000; round++) {
        uint32_t vocab = 1 + below(&random, round % 50 == 0 ? VOCAB_MAX : 60);
        uint32_t shape = below(&random, 6), k = 1 + below(&random, 64);
        for (uint32_t i = 0; i < vocab; i++) logits[i] = random_logit(&random, shape);
        struct sampler_params params = random_params(&random, vocab);
        if (sampler_looks_at(&params) > k) continue;
        taken++;
        sampler.vocab = vocab;
        sampler_rng_seed(&draw, params.seed);
        draw_among = draw;
        struct backend_candidates among = rig_candidates(logits, vocab, k, id, logit);
        int32_t got = sampler_choose_among(&sampler, &params, &draw_among, &among);
        int32_t want = sampler_choose(&sampler, &params, &draw, logits, NULL, 0);
        cr_assert_eq(got, want, "round %d: %d, not %d", round, got, want);
        cr_assert_eq(memcmp(&draw, &draw_among, sizeof draw), 0);
        if (among.n == 0) continue;
        cr_assert_float_eq(sampler_logprob_among(&among, got), sampler_logprob(logits, vocab, got),
                           1e-9);
        sampler_top(logits, vocab, among.n, top);
        sampler_top_among(&among, among.n, top_among);
        for (uint32_t i = 0; i < among.n; i++) {
            cr_assert_eq(top[i].id, top_among[i].id);
            cr_assert_float_eq(top[i].weight, top_among[i].weight, 1e-9);
        }
    }
    cr_assert_gt(taken, 1000);
}

Test(sampler, candidates_are_not_enough_for_a_penalty_nor_for_a_wide_choice) {
    struct sampler_params params = sampler_defaults;
    cr_assert_eq(sampler_looks_at(&params), UINT32_MAX);
    params.top_k = 64;
    cr_assert_eq(sampler_looks_at(&params), 64);
    params.repetition_penalty = 1.1;
    cr_assert_eq(sampler_looks_at(&params), UINT32_MAX);
    params = sampler_defaults;
    params.temperature = 0;
    cr_assert_eq(sampler_looks_at(&params), 1);
}

Test(sampler, marks_of_the_history_are_gone_after_each_choice) {
    struct sampler sampler;
    struct sampler_rng rng = {{1, 2, 3, 4}};
    open_sampler(&sampler, 8);
    float logits[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    int32_t history[] = {7, 7, 3};
    struct sampler_params params = sampler_defaults;
    params.repetition_penalty = 2;
    sampler_choose(&sampler, &params, &rng, logits, history, 3);
    for (int i = 0; i < 8; i++) cr_assert_eq(sampler.seen[i], 0);
}

/* --- each parameter does what it says ----------------------------------------------------------
 */

enum { DRAWS = 20000 };

/* How often each of 8 ids comes. */
static void draw_many(const struct sampler_params *params, const float logits[8],
                      const int32_t *history, uint32_t n_history, double share[8]) {
    struct sampler sampler;
    struct sampler_rng rng;
    open_sampler(&sampler, 8);
    sampler_rng_seed(&rng, params->seed);
    for (int i = 0; i < 8; i++) share[i] = 0;
    for (int i = 0; i < DRAWS; i++)
        share[sampler_choose(&sampler, params, &rng, logits, history, n_history)] += 1.0 / DRAWS;
}

static const float spread[8] = {0, 1, 2, 3, 2, 1, 0, -1};

Test(sampler, draws_follow_the_softmax_at_every_temperature) {
    double temperatures[] = {0.5, 1, 2};
    for (int t = 0; t < 3; t++) {
        struct sampler_params params = sampler_defaults;
        params.temperature = temperatures[t];
        double share[8], sum = 0;
        draw_many(&params, spread, NULL, 0, share);
        for (int i = 0; i < 8; i++) sum += exp((double)spread[i] / temperatures[t]);
        for (int i = 0; i < 8; i++) {
            double p = exp((double)spread[i] / temperatures[t]) / sum;
            cr_assert(fabs(share[i] - p) < 5 * sqrt(p * (1 - p) / DRAWS) + 1e-9, "id %d", i);
        }
    }
}

Test(sampler, greedy_takes_the_best_and_the_lowest_of_equals) {
    struct sampler sampler;
    struct sampler_rng rng, before;
    open_sampler(&sampler, 8);
    sampler_rng_seed(&rng, 1);
    before = rng;
    struct sampler_params params = sampler_defaults;
    params.temperature = 0.9e-6;
    float logits[8] = {1, 5, 2, 5, NAN, 5, -INFINITY, 4};
    cr_assert_eq(sampler_choose(&sampler, &params, &rng, logits, NULL, 0), 1);
    cr_assert_eq(memcmp(&rng, &before, sizeof rng), 0, "argmax draws nothing");
}

/* Any length, equals everywhere, and what is no number in between. */
Test(sampler, greedy_passes_by_nothing_that_is_better) {
    struct sampler sampler;
    struct sampler_rng rng;
    enum { LONGEST = 130 };
    sampler_rng_seed(&rng, 5);
    struct sampler_params params = sampler_defaults;
    params.temperature = 0;
    for (uint32_t vocab = 1; vocab <= LONGEST; vocab++) {
        open_sampler(&sampler, vocab);
        for (int round = 0; round < 100; round++) {
            float logits[LONGEST];
            uint32_t best = 0;
            double most = -INFINITY;
            for (uint32_t id = 0; id < vocab; id++) {
                uint64_t draw = sampler_rng_next(&rng) % 64;
                bool odd = draw < 2 && round % 2 == 0;
                const uint64_t step = draw / 8;
                logits[id] = !odd ? (float)step - 20 : draw == 0 ? NAN : INFINITY;
                double read = isnan(logits[id]) ? -INFINITY : logits[id];
                if (read > most) most = read, best = id;
            }
            cr_assert_eq(sampler_choose(&sampler, &params, &rng, logits, NULL, 0), (int32_t)best);
        }
    }
}

Test(sampler, top_k_keeps_the_k_best_and_breaks_ties_by_id) {
    struct sampler_params params = sampler_defaults;
    double share[8];
    params.top_k = 2; /* 3, then of the equals 2 and 4 the lower id */
    draw_many(&params, spread, NULL, 0, share);
    cr_assert(share[3] > 0 && share[2] > 0);
    cr_assert(share[3] + share[2] > 1 - 1e-9);
    params.top_k = 0;
    draw_many(&params, spread, NULL, 0, share);
    for (int i = 0; i < 8; i++) cr_assert(share[i] > 0, "0 is off");
}

Test(sampler, top_p_keeps_the_smallest_set_that_reaches_it) {
    float logits[8]; /* p = 0.5, 0.25, 0.125, ... */
    for (int i = 0; i < 8; i++) logits[i] = (float)(-i * log(2));
    double share[8];
    struct sampler_params params = sampler_defaults;
    params.top_p = 0.7; /* 0.502 + 0.251 reach it */
    draw_many(&params, logits, NULL, 0, share);
    cr_assert(share[0] > 0 && share[1] > 0 && share[0] + share[1] > 1 - 1e-9);
    params.top_p = 0;
    draw_many(&params, logits, NULL, 0, share);
    cr_assert(share[0] > 1 - 1e-9, "0 keeps the best only");
    float equal[8] = {0, 0, 0, 0, -INFINITY, -INFINITY, -INFINITY, NAN};
    params.top_p = 0.5; /* two of four equals reach it exactly */
    draw_many(&params, equal, NULL, 0, share);
    cr_assert(share[0] > 0 && share[1] > 0 && share[0] + share[1] > 1 - 1e-9);
}

Test(sampler, top_p_looks_at_what_top_k_has_left) {
    float logits[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    double share[8];
    struct sampler_params params = sampler_defaults;
    params.top_k = 4;
    params.top_p = 0.5; /* of four, not of eight */
    draw_many(&params, logits, NULL, 0, share);
    cr_assert(share[0] > 0 && share[1] > 0 && share[0] + share[1] > 1 - 1e-9);
}

Test(sampler, min_p_is_relative_to_the_best) {
    float logits[8];
    for (int i = 0; i < 8; i++) logits[i] = (float)(-i * log(2));
    double share[8];
    struct sampler_params params = sampler_defaults;
    params.min_p = 0.24; /* 1, 1/2 and 1/4 of the best stay */
    draw_many(&params, logits, NULL, 0, share);
    cr_assert(share[2] > 0 && share[0] + share[1] + share[2] > 1 - 1e-9);
    params.min_p = 1;
    draw_many(&params, logits, NULL, 0, share);
    cr_assert(share[0] > 1 - 1e-9);
}

Test(sampler, penalty_divides_positive_and_multiplies_negative_logits_once) {
    struct sampler sampler;
    struct sampler_rng rng;
    open_sampler(&sampler, 3);
    sampler_rng_seed(&rng, 1);
    struct sampler_params params = sampler_defaults;
    params.temperature = 0;
    params.repetition_penalty = 1.5;
    float positive[3] = {3, 2.1f, 0}; /* 3 / 1.5 = 2 */
    int32_t first[] = {0};
    cr_assert_eq(sampler_choose(&sampler, &params, &rng, positive, first, 1), 1);
    float barely[3] = {3, 1.9f, 0}; /* 3 / 1.5^2 would be 1.33 */
    int32_t often[] = {0, 0};
    cr_assert_eq(sampler_choose(&sampler, &params, &rng, barely, often, 2), 0);
    float negative[3] = {-1, -1.4f, -9}; /* -1 * 1.5 = -1.5 */
    cr_assert_eq(sampler_choose(&sampler, &params, &rng, negative, first, 1), 1);
    params.repetition_penalty = 0;
    cr_assert_eq(sampler_choose(&sampler, &params, &rng, positive, first, 1), 0, "0 is off");
}

Test(sampler, penalty_comes_before_temperature_and_filters) {
    float logits[8] = {4, 3, 1, 0, 0, 0, 0, 0};
    int32_t history[] = {0};
    double share[8];
    struct sampler_params params = sampler_defaults;
    params.repetition_penalty = 2;
    params.top_k = 1;
    draw_many(&params, logits, history, 1, share);
    cr_assert(share[1] > 1 - 1e-9);
}

Test(sampler, seed_decides_the_choice) {
    struct sampler sampler;
    struct sampler_rng rng;
    open_sampler(&sampler, 8);
    int32_t first[64], again[64], other[64];
    int32_t *runs[] = {first, again, other};
    uint64_t seeds[] = {7, 7, 8};
    for (int run = 0; run < 3; run++) {
        sampler_rng_seed(&rng, seeds[run]);
        for (int i = 0; i < 64; i++)
            runs[run][i] = sampler_choose(&sampler, &sampler_defaults, &rng, spread, NULL, 0);
    }
    cr_assert_eq(memcmp(first, again, sizeof first), 0);
    cr_assert_neq(memcmp(first, other, sizeof first), 0);
}

Test(sampler, no_candidate_left_gives_the_lowest_id) {
    struct sampler sampler;
    struct sampler_rng rng;
    open_sampler(&sampler, 4);
    sampler_rng_seed(&rng, 1);
    float nothing[4] = {NAN, -INFINITY, NAN, -INFINITY};
    struct sampler_params params = sampler_defaults;
    for (int greedy = 0; greedy < 2; greedy++) {
        params.temperature = greedy ? 0 : 1;
        struct sampler_result got = sampler_pick(&sampler, &params, &rng, nothing, NULL, 0);
        cr_assert_eq(got.id, 0);
        cr_assert_eq(got.logprob, -INFINITY);
    }
}

/* A generator whose next draw is `bits` * 2^-64, cut to 53 bits: the output of xoshiro256** is
 * rotl(s[1] * 5, 7) * 9, and 5 and 9 have inverses modulo 2^64. */
static struct sampler_rng rng_that_draws(uint64_t bits) {
    uint64_t product = bits * 0x8E38E38E38E38E39ULL;
    product = product >> 7 | product << 57;
    return (struct sampler_rng){{1, product * 0xCCCCCCCCCCCCCCCDULL, 2, 3}};
}

Test(sampler, draw_at_a_border_belongs_to_the_next_candidate) {
    struct sampler sampler;
    open_sampler(&sampler, 4);
    float equal[4] = {1, 1, 1, 1};
    uint64_t quarter = 1ULL << 62;
    uint64_t draws[] = {0, quarter - 2048, quarter, 3 * quarter, UINT64_MAX};
    int32_t expected[] = {0, 0, 1, 3, 3};
    for (int i = 0; i < 5; i++) {
        struct sampler_rng rng = rng_that_draws(draws[i]);
        cr_assert_eq(sampler_choose(&sampler, &sampler_defaults, &rng, equal, NULL, 0), expected[i],
                     "draw %d", i);
    }
}

/* --- generator and log-probabilities -----------------------------------------------------------
 */

Test(sampler, generator_gives_the_published_sequences) {
    struct sampler_rng rng = {{1, 2, 3, 4}}; /* first outputs of xoshiro256** from that state */
    uint64_t expected[] = {11520, 0, 1509978240, 1215971899390074240ULL};
    for (int i = 0; i < 4; i++) cr_assert_eq(sampler_rng_next(&rng), expected[i]);
    sampler_rng_seed(&rng, 1234567); /* SplitMix64 */
    uint64_t seeded[] = {6457827717110365317ULL, 3203168211198807973ULL, 9817491932198370423ULL,
                         4593380528125082431ULL};
    for (int i = 0; i < 4; i++) cr_assert_eq(rng.state[i], seeded[i]);
}

Test(sampler, unit_draws_lie_in_the_half_open_interval) {
    struct sampler_rng rng;
    sampler_rng_seed(&rng, 3);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double unit = sampler_rng_unit(&rng);
        cr_assert(unit >= 0 && unit < 1);
        sum += unit / 100000;
    }
    cr_assert(fabs(sum - 0.5) < 0.005);
}

Test(sampler, logprob_is_of_the_untouched_logits) {
    struct sampler sampler;
    struct sampler_rng rng;
    open_sampler(&sampler, 8);
    sampler_rng_seed(&rng, 1);
    double sum = 0;
    for (int i = 0; i < 8; i++) sum += exp((double)spread[i]);
    struct sampler_params params = {.temperature = 0.1, .top_p = 0.1, .repetition_penalty = 1.3};
    int32_t history[] = {3, 2};
    struct sampler_result got = sampler_pick(&sampler, &params, &rng, spread, history, 2);
    cr_assert(fabs(got.logprob - ((double)spread[got.id] - log(sum))) < 1e-12);
    float huge[2] = {1e30f, -1e30f};
    cr_assert_eq(sampler_logprob(huge, 2, 0), 0);
}

Test(sampler, top_lists_the_best_with_ties_by_id) {
    struct sampler_candidate top[8];
    int32_t expected[] = {3, 2, 4, 1, 5, 0, 6, 7};
    for (uint32_t n = 0; n <= 8; n++) {
        sampler_top(spread, 8, n, top);
        for (uint32_t i = 0; i < n; i++) {
            cr_assert_eq(top[i].id, expected[i]);
            cr_assert(fabs(top[i].weight - sampler_logprob(spread, 8, top[i].id)) < 1e-12);
        }
    }
}
