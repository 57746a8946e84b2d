/* Every filter keeps a head of the same ranking (weight falling, then id rising), so nothing is
 * ever sorted: each one is a selection in linear time (prefix_select).
 *
 * Probabilities are whole multiples of 2^-MASS_BITS of the best candidate's. Sums of whole numbers
 * are exact, hence the same in any order of addition; what is selected and drawn is therefore what
 * the definition "sort, add up, cut" gives, bit for bit. */
#include "engine/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/panic.h"

/* Sum of the masses of a vocabulary: 2^20 candidates (VOCAB_TOKENS_MAX) of 2^43 are 2^63. */
enum { MASS_BITS = 43, CANDIDATES_MAX = 1 << 20 };
static const double mass_of_best = (double)(1ULL << MASS_BITS);

/* The best of 64 samples has about 1/64 of all before it: one pass leaves little to look through.
 */
enum { PIVOT_SAMPLES = 64, PIVOT_HIGH_FROM = PIVOT_SAMPLES * PIVOT_SAMPLES };

/* Largest adjusted logit: survives the division by a temperature of SAMPLER_GREEDY_BELOW. */
static const double logit_limit = 1e300;

const struct sampler_params sampler_defaults = {
    .temperature = 1, .top_p = 1, .top_k = 0, .min_p = 0, .repetition_penalty = 1, .seed = 0};

/* The only calls of libm that round: a static binary carries one version of each, without dispatch
 * by CPU. */
static double weight_exp(double x) {
    return exp(x);
}
static double weight_log(double x) {
    return log(x);
}

static uint64_t rotate_left(uint64_t x, unsigned bits) {
    return (x << bits) | (x >> (64 - bits));
}

void sampler_rng_seed(struct sampler_rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) { /* SplitMix64 */
        seed += 0x9E3779B97F4A7C15ULL;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
        rng->state[i] = z ^ (z >> 31);
    }
}

uint64_t sampler_rng_next(struct sampler_rng *rng) {
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double sampler_rng_unit(struct sampler_rng *rng) {
    return (double)(sampler_rng_next(rng) >> 11) * 0x1p-53;
}

void sampler_carve(struct sampler *sampler, uint32_t vocab, struct arena *arena) {
    wick_assert(vocab <= CANDIDATES_MAX); /* 0: a server without a model */
    sampler->vocab = vocab;
    sampler->candidate = arena_take(arena, vocab * sizeof(struct sampler_candidate), ARENA_ALIGN);
    sampler->seen = arena_take(arena, vocab, ARENA_ALIGN);
}

static double logit_read(float logit) {
    if (isnan(logit)) return -INFINITY;
    return logit > FLT_MAX ? (double)FLT_MAX : (double)logit;
}

static double logit_penalise(double logit, double penalty) {
    double adjusted = logit > 0 ? logit / penalty : logit * penalty;
    if (adjusted > logit_limit) return logit_limit;
    return adjusted;
}

static bool ranks_before(struct sampler_candidate a, struct sampler_candidate b) {
    return (a.weight > b.weight) | ((a.weight == b.weight) & (a.id < b.id));
}

static void candidate_swap(struct sampler_candidate *a, struct sampler_candidate *b) {
    double weight = a->weight; /* by members: copies as a whole would stall on stores in flight */
    int32_t id = a->id;
    a->weight = b->weight;
    a->id = b->id;
    b->weight = weight;
    b->id = id;
}

/* Knuth's MMIX generator: places in [low, high), scattered so that no order of logits that a model
 * file could have been made for is a bad one. */
static uint32_t place_scatter(uint64_t *state, uint32_t low, uint32_t high) {
    *state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
    return low + (uint32_t)(((*state >> 32) * (high - low)) >> 32);
}

/* The middle one of three. */
static uint32_t pivot_middle(const struct sampler_candidate *c, uint32_t low, uint32_t high,
                             uint64_t *state) {
    uint32_t x = place_scatter(state, low, high), y = place_scatter(state, low, high);
    uint32_t z = place_scatter(state, low, high);
    if (ranks_before(c[y], c[x])) {
        uint32_t t = x;
        x = y;
        y = t;
    }
    if (!ranks_before(c[z], c[y])) return y;
    return ranks_before(c[z], c[x]) ? x : z;
}

/* The best one of many: what is sought in a large vocabulary is mostly very near the top. */
static uint32_t pivot_high(const struct sampler_candidate *c, uint32_t low, uint32_t high,
                           uint64_t *state) {
    uint32_t best = low;
    for (uint32_t i = 0; i < PIVOT_SAMPLES; i++) {
        uint32_t place = place_scatter(state, low, high);
        if (ranks_before(c[place], c[best])) best = place;
    }
    return best;
}

/* Brings all of [low, high) that rank before c[pivot] to the front, c[pivot] behind them. Returns
 * the pivot's new place. */
static uint32_t partition(struct sampler_candidate *c, uint32_t low, uint32_t high,
                          uint32_t pivot) {
    candidate_swap(&c[pivot], &c[high - 1]);
    struct sampler_candidate last = c[high - 1];
    uint32_t place = low;
    for (uint32_t i = low; i < high - 1; i++) { /* no branch: which way it goes is a coin toss */
        bool before = ranks_before(c[i], last);
        candidate_swap(&c[i], &c[place]);
        place += before;
    }
    candidate_swap(&c[place], &c[high - 1]);
    return place;
}

static uint64_t mass_of(struct sampler_candidate c) {
    return (uint64_t)(int64_t)c.weight; /* through the signed type: one instruction */
}

static uint64_t mass_sum(const struct sampler_candidate *c, uint32_t low, uint32_t high) {
    uint64_t sum = 0;
    for (uint32_t i = low; i < high; i++) sum += mass_of(c[i]);
    return sum;
}

/* The smallest m such that the m first in rank are `count` many or, with `mass` not 0, have that
 * much mass together. Moves them to c[0 .. m), the last of them in rank to c[m - 1]. All of c must
 * reach one of the two. Expected time O(n). */
static uint32_t prefix_select(struct sampler_candidate *c, uint32_t n, uint32_t count,
                              uint64_t mass) {
    uint32_t low = 0, high = n; /* c[0 .. low) is too little, c[0 .. high) is enough */
    uint64_t mass_low = 0, scatter = n;
    while (high - low > 1) {
        bool first = high == n && low == 0 && n >= PIVOT_HIGH_FROM;
        uint32_t pivot =
            first ? pivot_high(c, low, high, &scatter) : pivot_middle(c, low, high, &scatter);
        uint32_t place = partition(c, low, high, pivot);
        uint64_t before = mass == 0 ? 0 : mass_low + mass_sum(c, low, place);
        uint64_t through = mass == 0 ? 0 : before + mass_of(c[place]);
        if (place >= count || (mass != 0 && before >= mass)) {
            high = place;
        } else if (place + 1 >= count || (mass != 0 && through >= mass)) {
            return place + 1;
        } else {
            low = place + 1;
            mass_low = through;
        }
    }
    wick_assert(high == low + 1);
    return high;
}

/* Marks or unmarks the tokens of the history. */
static void seen_set(struct sampler *sampler, const int32_t *history, uint32_t n, uint8_t mark) {
    for (uint32_t i = 0; i < n; i++) {
        wick_assert(history[i] >= 0);
        if ((uint32_t)history[i] < sampler->vocab) sampler->seen[history[i]] = mark;
    }
}

/* All ids with a logit above minus infinity, penalised and divided by the temperature. */
static uint32_t candidates_gather(struct sampler *sampler, const float *logits, double penalty,
                                  double temperature) {
    struct sampler_candidate *c = sampler->candidate;
    const uint8_t *seen = sampler->seen;
    uint32_t n = 0, vocab = sampler->vocab;
    for (uint32_t id = 0; id < vocab; id++) {
        double logit = logit_read(logits[id]);
        if (logit == -INFINITY) continue;
        if (seen[id]) logit = logit_penalise(logit, penalty);
        c[n++] = (struct sampler_candidate){.weight = logit / temperature, .id = (int32_t)id};
    }
    return n;
}

enum { GREEDY_RUN = 16 };

static bool run_exceeds(const float *logits, float limit) {
    int above = 0;
    for (uint32_t i = 0; i < GREEDY_RUN; i++) above |= logits[i] > limit;
    return above != 0;
}

/* The best, the first of equals. Runs in which nothing is better are passed at a glance, where no
 * penalty changes what is seen. */
static int32_t greedy_choose(const struct sampler *sampler, const float *logits, double penalty,
                             bool penalised) {
    double best = -INFINITY;
    uint32_t best_id = 0;
    for (uint32_t id = 0; id < sampler->vocab; id++) {
        if (!penalised && id % GREEDY_RUN == 0)
            while (id + GREEDY_RUN < sampler->vocab && !run_exceeds(logits + id, (float)best))
                id += GREEDY_RUN;
        double logit = logit_read(logits[id]);
        if (sampler->seen[id]) logit = logit_penalise(logit, penalty);
        if (logit > best) {
            best = logit;
            best_id = id;
        }
    }
    return (int32_t)best_id;
}

/* Logits -> masses: mass = round(2^MASS_BITS * exp(logit - best logit)). Candidates without mass
 * are dropped: none of them could be drawn. Returns how many are left. */
static uint32_t masses_compute(struct sampler_candidate *c, uint32_t n) {
    double best = c[0].weight;
    uint32_t kept = 0;
    for (uint32_t i = 1; i < n; i++)
        if (c[i].weight > best) best = c[i].weight;
    for (uint32_t i = 0; i < n; i++) {
        double below_best = c[i].weight - best;
        if (below_best < -31) continue; /* 2^43 * exp(-31) = 0.303: most of a large vocabulary */
        double mass = (double)(int64_t)(weight_exp(below_best) * mass_of_best + 0.5);
        if (mass > 0) c[kept++] = (struct sampler_candidate){.weight = mass, .id = c[i].id};
    }
    return kept;
}

static uint32_t top_p_keep(struct sampler_candidate *c, uint32_t n, double top_p) {
    uint64_t total = mass_sum(c, 0, n);
    uint64_t mass = (uint64_t)ceil((double)total * top_p);
    if (mass < 1) mass = 1;
    if (mass > total) mass = total;
    return prefix_select(c, n, UINT32_MAX, mass);
}

static uint32_t min_p_keep(struct sampler_candidate *c, uint32_t n, double min_p) {
    double least = mass_of_best * (min_p < 1 ? min_p : 1);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (c[i].weight >= least) c[kept++] = c[i];
    return kept;
}

/* Inverse of the cumulative distribution in order of rank. */
static int32_t draw(struct sampler_candidate *c, uint32_t n, double unit) {
    uint64_t total = mass_sum(c, 0, n);
    uint64_t point = (uint64_t)(unit * (double)total);
    if (point >= total) point = total - 1; /* total may round up on its way to double */
    return c[prefix_select(c, n, UINT32_MAX, point + 1) - 1].id;
}

static bool is_greedy(const struct sampler_params *params) {
    return !(params->temperature >= SAMPLER_GREEDY_BELOW);
}

static bool penalises(const struct sampler_params *params) {
    return params->repetition_penalty > 0 && params->repetition_penalty != 1;
}

/* The filters and the draw; weights are logits over the temperature. */
static int32_t candidates_draw(struct sampler_candidate *c, uint32_t n,
                               const struct sampler_params *params, struct sampler_rng *rng) {
    double unit = sampler_rng_unit(rng);
    if (n == 0) return 0;
    if (params->top_k > 0 && params->top_k < n) n = prefix_select(c, n, params->top_k, 0);
    n = masses_compute(c, n);
    if (params->top_p < 1) n = top_p_keep(c, n, params->top_p);
    if (params->min_p > 0) n = min_p_keep(c, n, params->min_p);
    wick_assert(n >= 1);
    return draw(c, n, unit);
}

int32_t sampler_choose(struct sampler *sampler, const struct sampler_params *params,
                       struct sampler_rng *rng, const float *logits, const int32_t *history,
                       uint32_t n_history) {
    double penalty = params->repetition_penalty;
    bool greedy = is_greedy(params);
    uint32_t n_seen = penalises(params) ? n_history : 0;
    seen_set(sampler, history, n_seen, 1);
    int32_t best = 0;
    uint32_t n = 0;
    if (greedy)
        best = greedy_choose(sampler, logits, penalty, n_seen > 0);
    else
        n = candidates_gather(sampler, logits, penalty, params->temperature);
    seen_set(sampler, history, n_seen, 0);
    return greedy ? best : candidates_draw(sampler->candidate, n, params, rng);
}

uint32_t sampler_looks_at(const struct sampler_params *params) {
    if (penalises(params)) return UINT32_MAX;
    if (is_greedy(params)) return 1;
    return params->top_k > 0 ? params->top_k : UINT32_MAX;
}

/* Dividing by the temperature keeps the order: floats that differ differ by more than a quotient in
 * double precision is rounded by. */
int32_t sampler_choose_among(struct sampler *sampler, const struct sampler_params *params,
                             struct sampler_rng *rng, const struct backend_candidates *among) {
    if (is_greedy(params)) return among->n > 0 ? among->id[0] : 0;
    uint32_t n = among->n < params->top_k ? among->n : params->top_k;
    wick_assert(n <= sampler->vocab);
    for (uint32_t i = 0; i < n; i++) {
        sampler->candidate[i] = (struct sampler_candidate){
            .weight = logit_read(among->logit[i]) / params->temperature, .id = among->id[i]};
    }
    return candidates_draw(sampler->candidate, n, params, rng);
}

struct sampler_result sampler_pick(struct sampler *sampler, const struct sampler_params *params,
                                   struct sampler_rng *rng, const float *logits,
                                   const int32_t *history, uint32_t n_history) {
    int32_t id = sampler_choose(sampler, params, rng, logits, history, n_history);
    return (struct sampler_result){.id = id,
                                   .logprob = sampler_logprob(logits, sampler->vocab, id)};
}

/* log-softmax(l)[i] = (l[i] - max) - log(sum over j of exp(l[j] - max)), summed by rising id. */
struct softmax {
    double max, log_sum;
};

static struct softmax softmax_measure(const float *logits, uint32_t vocab) {
    double max = -INFINITY, sum = 0;
    for (uint32_t id = 0; id < vocab; id++) {
        double logit = logit_read(logits[id]);
        if (logit > max) max = logit;
    }
    if (max == -INFINITY) return (struct softmax){.max = 0, .log_sum = 0};
    for (uint32_t id = 0; id < vocab; id++) sum += weight_exp(logit_read(logits[id]) - max);
    return (struct softmax){.max = max, .log_sum = weight_log(sum)};
}

double sampler_logprob(const float *logits, uint32_t vocab, int32_t id) {
    wick_assert(id >= 0 && (uint32_t)id < vocab);
    struct softmax softmax = softmax_measure(logits, vocab);
    return logit_read(logits[id]) - softmax.max - softmax.log_sum;
}

void sampler_top(const float *logits, uint32_t vocab, uint32_t n, struct sampler_candidate *out) {
    wick_assert(n <= vocab);
    uint32_t kept = 0;
    for (uint32_t id = 0; id < vocab && n > 0; id++) {
        struct sampler_candidate c = {.weight = logit_read(logits[id]), .id = (int32_t)id};
        if (kept == n && !ranks_before(c, out[n - 1])) continue;
        uint32_t place = kept < n ? kept++ : n - 1;
        for (; place > 0 && ranks_before(c, out[place - 1]); place--) out[place] = out[place - 1];
        out[place] = c;
    }
    struct softmax softmax = softmax_measure(logits, vocab);
    for (uint32_t i = 0; i < kept; i++)
        out[i].weight = out[i].weight - softmax.max - softmax.log_sum;
}

static double among_logprob(const struct backend_candidates *among, uint32_t i) {
    return logit_read(among->logit[i]) - logit_read(among->logit[0]) - among->log_sum;
}

double sampler_logprob_among(const struct backend_candidates *among, int32_t id) {
    uint32_t i = 0;
    while (i < among->n && among->id[i] != id) i++;
    return i < among->n ? among_logprob(among, i) : -INFINITY;
}

void sampler_top_among(const struct backend_candidates *among, uint32_t n,
                       struct sampler_candidate *out) {
    wick_assert(n <= among->n);
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (struct sampler_candidate){.weight = among_logprob(among, i), .id = among->id[i]};
    }
}
