#include "lab/bench.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "cpu/isa.h"
#include "lab/batch.h"
#include "lab/feed.h"
#include "lab/roofline.h"
#include "lab/session.h"
#include "lab/sweep.h"
#include "show/progress.h"
#include "show/quantile.h"

enum {
    ROUNDS_MAX = 1000,
    BUFFER_BYTES = 1 << 30, /* of the bandwidth test: ten times a large cache */
    PASSES = 2              /* over it, a round */
};

/* What one round measures, and what all rounds come to. */
struct figures {
    double read_bytes_per_s;
    double peak_ops_per_s; /* 0: not known */
    double prompt_tokens_per_s;
    double decode_tokens_per_s;
};

/* Time by phase of all steps of one sort, over all rounds. */
struct profile {
    uint32_t n_phases; /* 0: the backend does not know */
    struct backend_phase phase[BACKEND_PHASES_MAX];
};

struct bench {
    struct session session;
    struct profile decode_profile, prompt_profile;
    struct roofline *roofline; /* NULL: config.bandwidth is told, or nothing known */
    const struct peak *peak;   /* NULL: not known */
    uint32_t prompt_tokens, decode_tokens, rounds;
    struct figures round[ROUNDS_MAX];
};

/* Median over the rounds of the field at `offset`. */
static double median(const struct bench *bench, size_t offset) {
    double values[ROUNDS_MAX];
    for (uint32_t i = 0; i < bench->rounds; i++)
        values[i] = *(const double *)((const char *)&bench->round[i] + offset);
    quantile_sort(values, bench->rounds);
    return quantile_of(values, bench->rounds, 0.5);
}

static uint32_t phases_now(const struct bench *bench, struct backend_phase *now) {
    const struct backend *backend = bench->session.engine.backend;
    return backend->ops->phases == NULL ? 0 : backend->ops->phases(backend, now);
}

/* Adds the time since `before` to the profile. */
static void profile_add(struct profile *profile, const struct bench *bench,
                        const struct backend_phase *before) {
    struct backend_phase after[BACKEND_PHASES_MAX];
    profile->n_phases = phases_now(bench, after);
    for (uint32_t i = 0; i < profile->n_phases; i++) {
        profile->phase[i].name = after[i].name;
        profile->phase[i].ns += after[i].ns - before[i].ns;
    }
}

/* As feed_tokens, from an empty sequence. */
static bool feed_anew(struct bench *bench, uint32_t count, bool one_by_one, double *tokens_per_s,
                      struct fault *fault) {
    feed_begin(&bench->session);
    return feed_tokens(&bench->session, count, one_by_one, tokens_per_s, fault);
}

/* The bytes per second that figures are compared with, measured or told; 0: not known. */
static double read_rate(struct bench *bench) {
    double best = (double)bench->session.config.bandwidth;
    for (int pass = 0; pass < PASSES && bench->roofline != NULL; pass++) {
        double rate = roofline_read(bench->roofline);
        if (rate > best) best = rate;
    }
    return best;
}

static double peak_rate(struct bench *bench) {
    if (bench->roofline == NULL || bench->peak == NULL) return 0;
    return roofline_multiply(bench->roofline, bench->peak);
}

static bool decode_measure(struct bench *bench, double *tokens_per_s, struct fault *fault) {
    const struct config *config = &bench->session.config;
    if (config->batch == 1 && config->depth == 0)
        return feed_anew(bench, bench->decode_tokens, true, tokens_per_s, fault);
    return batch_decode(&bench->session, config->batch, config->depth, bench->decode_tokens,
                        tokens_per_s, fault);
}

static bool measure(struct bench *bench, struct fault *fault) {
    struct progress progress;
    double fill;
    if (!batch_fill(&bench->session, bench->session.config.depth, &fill, fault)) return false;
    progress_begin(&progress, "measuring", "rounds");
    for (uint32_t i = 0; i < bench->rounds; i++) {
        struct figures *f = &bench->round[i];
        progress_tell(&progress, i, bench->rounds);
        f->read_bytes_per_s = read_rate(bench);
        f->peak_ops_per_s = peak_rate(bench);
        struct backend_phase before[BACKEND_PHASES_MAX] = {0};
        phases_now(bench, before);
        if (!decode_measure(bench, &f->decode_tokens_per_s, fault)) return false;
        profile_add(&bench->decode_profile, bench, before);
        phases_now(bench, before);
        if (!feed_anew(bench, bench->prompt_tokens, false, &f->prompt_tokens_per_s, fault))
            return false;
        profile_add(&bench->prompt_profile, bench, before);
    }
    progress_end(&progress);
    return true;
}

static void print_table(const struct bench *bench, const struct figures *m, double bytes) {
    const struct engine *engine = &bench->session.engine;
    const struct backend_info *info = &engine->backend->info;
    double rate = m->decode_tokens_per_s * bytes;
    printf("model    %s, %s, %.1f MB as packed\n", engine->model.geo.name,
           engine->model.geo.quantisation, (double)info->weight_bytes / 1e6);
    printf("machine  %s, isa=%s\n", info->device, info->isa);
    const struct config *config = &bench->session.config;
    printf("load     %.2f s, from the file to the first token's logits\n",
           (double)bench->session.load_ns * 1e-9);
    printf("rounds   %u, medians; ", bench->rounds);
    if (config->batch > 1 || config->depth > 0)
        printf("decoding %u sequences behind %u tokens; ", config->batch, config->depth);
    else
        printf("KV cache from empty; ");
    printf("chunk=%u\n\n", config->chunk);
    printf("%-10s %8s %12s %14s %10s %12s\n", "", "tokens", "tokens/s", "MB/token", "GB/s",
           "of read");
    bool known = m->read_bytes_per_s > 0;
    if (known)
        printf("%-10s %8s %12s %14s %10.2f %12s\n", "read", "", "", "", m->read_bytes_per_s / 1e9,
               "");
    printf("%-10s %8u %12.1f %14.2f %10.2f", "decode", bench->decode_tokens, m->decode_tokens_per_s,
           bytes / 1e6, rate / 1e9);
    if (known) printf(" %11.1f%%", 100 * rate / m->read_bytes_per_s);
    printf("\n");
    printf("%-10s %8u %12.1f\n\n", "prompt", bench->prompt_tokens, m->prompt_tokens_per_s);
    double ops = feed_ops_per_token(&bench->session);
    printf("%-10s %21s %14s %10s %12s\n", "", "", "Gop/token", "Top/s", "of peak");
    if (m->peak_ops_per_s > 0)
        printf("%-10s %21s %14s %10.3f %12s\n", "peak", bench->peak->name, "",
               m->peak_ops_per_s / 1e12, "");
    printf("%-10s %21s %14.3f %10.3f", "prompt", "", ops / 1e9,
           m->prompt_tokens_per_s * ops / 1e12);
    if (m->peak_ops_per_s > 0)
        printf(" %11.1f%%", 100 * m->prompt_tokens_per_s * ops / m->peak_ops_per_s);
    printf("\n");
}

static uint64_t profile_total(const struct profile *profile) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < profile->n_phases; i++) total += profile->phase[i].ns;
    return total > 0 ? total : 1;
}

/* Microseconds a token and share of the whole, by phase. */
static void print_phases(const struct bench *bench) {
    const struct profile *decode = &bench->decode_profile, *prompt = &bench->prompt_profile;
    double decoded = (double)bench->decode_tokens * bench->rounds;
    double prompted = (double)bench->prompt_tokens * bench->rounds;
    if (decode->n_phases == 0) {
        printf("\nthis backend does not tell phases apart\n");
        return;
    }
    printf("\n%-12s %17s %8s %17s %8s\n", "phase", "decode us/token", "share", "prompt us/token",
           "share");
    for (uint32_t i = 0; i < decode->n_phases; i++) {
        double d = (double)decode->phase[i].ns, p = (double)prompt->phase[i].ns;
        printf("%-12s %17.1f %7.1f%% %17.1f %7.1f%%\n", decode->phase[i].name, d / 1e3 / decoded,
               100 * d / (double)profile_total(decode), p / 1e3 / prompted,
               100 * p / (double)profile_total(prompt));
    }
}

static void print_json(const struct bench *bench, const struct figures *m, double bytes) {
    const struct engine *engine = &bench->session.engine;
    const struct backend_info *info = &engine->backend->info;
    const struct config *config = &bench->session.config;
    double read = m->read_bytes_per_s;
    printf("{\"quantisation\":\"%s\",\"isa\":\"%s\",\"device\":\"%s\",\"weight_bytes\":%llu,"
           "\"load_s\":%.3f,\"batch\":%u,\"depth\":%u,"
           "\"rounds\":%u,\"read_bytes_per_s\":%.0f,\"decode_tokens\":%u,"
           "\"decode_tokens_per_s\":%.3f,\"bytes_per_token\":%.0f,\"of_read_bandwidth\":%.4f,"
           "\"prompt_tokens\":%u,\"prompt_tokens_per_s\":%.3f,\"ops_per_token\":%.0f,"
           "\"peak_ops_per_s\":%.0f}\n",
           engine->model.geo.quantisation, info->isa, info->device,
           (unsigned long long)info->weight_bytes, (double)bench->session.load_ns * 1e-9,
           config->batch, config->depth, bench->rounds, read, bench->decode_tokens,
           m->decode_tokens_per_s, bytes, read > 0 ? m->decode_tokens_per_s * bytes / read : 0,
           bench->prompt_tokens, m->prompt_tokens_per_s, feed_ops_per_token(&bench->session),
           m->peak_ops_per_s);
}

/* What was asked for, cut to the context. */
static bool choose(struct bench *bench, struct fault *fault) {
    const struct config *config = &bench->session.config;
    uint32_t ctx = bench->session.engine.ctx;
    bench->rounds = config->repeat;
    bench->prompt_tokens = config->prompt_tokens < ctx ? config->prompt_tokens : ctx;
    bench->decode_tokens = config->decode_tokens < ctx ? config->decode_tokens : ctx;
    const struct engine *engine = &bench->session.engine;
    bool many = config->batch > 1 || config->depth > 0 || strcmp(config->sweep, "batch") == 0;
    uint64_t pages = engine->slots * ((uint64_t)round_up(ctx, KV_PAGE_TOKENS) / KV_PAGE_TOKENS);
    if (many && pages > engine->n_pages)
        return fault_set(fault, FAULT_INVALID_REQUEST, "kv_tokens= holds fewer than slots * ctx");
    if (many && config->depth + (uint64_t)config->decode_tokens > ctx)
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "depth=%u and decode_tokens=%u do not fit ctx=%u", config->depth,
                         config->decode_tokens, ctx);
    return true;
}

/* What the processors read says nothing about a GPU. */
static bool roofline_choose(struct bench *bench, const struct config *config, struct fault *fault) {
    if (config->bandwidth != 0 || strcmp(config->backend, "cuda") == 0) return true;
    bench->roofline = roofline_open(config, BUFFER_BYTES, fault);
    return bench->roofline != NULL;
}

/* By the matrices that most of the work is in. */
static const struct peak *peak_find(const struct engine *engine) {
    const char *isa = engine->backend->info.isa;
    enum pack_kind kind = pack_kind_of(engine->model.layer[0].gate.type);
    const struct packed_matrix like = {.kind = kind};
    struct fault fault; /* of what has no kernels: isa=exact, a GPU */
    const struct cpu_kernels *kernels = isa_choose(isa, &fault);
    return kernels == NULL ? NULL : peak_of(isa, kernels_input(kernels, &like));
}

int bench_run(const struct config *config) {
    static struct bench bench; /* the session is big */
    static struct config own;
    struct fault fault;
    own = *config;
    if (own.slots < own.batch) own.slots = own.batch;
    if (!roofline_choose(&bench, &own, &fault) ||
        !session_open(&bench.session, &own, false, &fault) ||
        !session_first_step(&bench.session, &fault) || !choose(&bench, &fault))
        return session_fail(&fault);
    if (bench.session.engine.cuda && bench.roofline != NULL) {
        roofline_close(bench.roofline);
        bench.roofline = NULL;
    }
    if (strcmp(config->sweep, "none") != 0) {
        bool fine = sweep_run(&bench.session, read_rate(&bench), &fault);
        return fine ? 0 : session_fail(&fault);
    }
    bench.peak = peak_find(&bench.session.engine);
    if (!measure(&bench, &fault)) return session_fail(&fault);
    struct figures medians = {
        .read_bytes_per_s = median(&bench, offsetof(struct figures, read_bytes_per_s)),
        .peak_ops_per_s = median(&bench, offsetof(struct figures, peak_ops_per_s)),
        .prompt_tokens_per_s = median(&bench, offsetof(struct figures, prompt_tokens_per_s)),
        .decode_tokens_per_s = median(&bench, offsetof(struct figures, decode_tokens_per_s)),
    };
    double bytes = feed_bytes_per_token(&bench.session, config->depth + bench.decode_tokens / 2.0,
                                        config->batch);
    if (bench.session.config.json)
        print_json(&bench, &medians, bytes);
    else
        print_table(&bench, &medians, bytes);
    if (bench.session.config.phases && !bench.session.config.json) print_phases(&bench);
    if (bench.roofline != NULL) roofline_close(bench.roofline);
    session_close(&bench.session);
    return 0;
}
