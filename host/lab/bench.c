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
    BUFFERS = 4,            /* that decoding reads between two passes over it */
    STRETCHES_MAX = 256     /* of decoding, a round */
};

/* What one round measures, and what all rounds come to. */
struct figures {
    double read_bytes_per_s;
    double peak_ops_per_s; /* 0: not known */
    double prompt_tokens_per_s;
    double decode_tokens_per_s;
    double of_read; /* what decoding reads, as a fraction; 0: not known */
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

/* The median; sorts them. */
static double middle(double *values, size_t n) {
    quantile_sort(values, n);
    return quantile_of(values, n, 0.5);
}

/* Median over the rounds of the field at `offset`. */
static double median(const struct bench *bench, size_t offset) {
    double values[ROUNDS_MAX];
    for (uint32_t i = 0; i < bench->rounds; i++)
        values[i] = *(const double *)((const char *)&bench->round[i] + offset);
    return middle(values, bench->rounds);
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

/* The bytes per second that figures are compared with, told or measured; 0: not known. */
static double read_rate(const struct bench *bench) {
    if (bench->session.config.bandwidth != 0) return (double)bench->session.config.bandwidth;
    return bench->roofline == NULL ? 0 : roofline_read(bench->roofline);
}

static double peak_rate(struct bench *bench) {
    if (bench->roofline == NULL || bench->peak == NULL) return 0;
    return roofline_multiply(bench->roofline, bench->peak);
}

/* Decodes `count` tokens more of each sequence, behind `done` of them. */
static bool decode_some(struct bench *bench, uint32_t done, uint32_t count, double *tokens_per_s,
                        struct fault *fault) {
    const struct config *config = &bench->session.config;
    if (config->batch > 1 || config->depth > 0)
        return batch_decode(&bench->session, config->batch, config->depth + done, count,
                            tokens_per_s, fault);
    if (done == 0) feed_begin(&bench->session);
    return feed_tokens(&bench->session, count, true, tokens_per_s, fault);
}

/* Bytes that are read for a token, on average. */
static double token_bytes(const struct bench *bench) {
    const struct config *config = &bench->session.config;
    const double depth = config->depth + bench->decode_tokens / 2.0;
    return feed_bytes_per_token(&bench->session, depth, config->batch);
}

/* Tokens of a stretch. */
static uint32_t stretch_tokens(const struct bench *bench) {
    const double step_bytes = token_bytes(bench) * bench->session.config.batch;
    const double fit = (double)BUFFERS * BUFFER_BYTES / step_bytes;
    const uint32_t tokens = bench->decode_tokens, least = (tokens - 1) / STRETCHES_MAX + 1;
    if (bench->roofline == NULL || fit >= tokens) return tokens;
    return fit < least ? least : (uint32_t)fit;
}

/* In stretches, each compared with what is read before and behind it: what others leave of a
 * machine's memory changes within a second. */
static bool decode_measure(struct bench *bench, struct figures *f, struct fault *fault) {
    const uint32_t tokens = bench->decode_tokens, together = stretch_tokens(bench);
    double read[STRETCHES_MAX + 1] = {read_rate(bench)}, of_read[STRETCHES_MAX], took_s = 0;
    uint32_t n = 0;
    for (uint32_t done = 0, count; done < tokens; done += count, n++) {
        double tokens_per_s;
        count = tokens - done < together ? tokens - done : together;
        if (!decode_some(bench, done, count, &tokens_per_s, fault)) return false;
        took_s += count / tokens_per_s;
        read[n + 1] = read_rate(bench);
        const double both = (read[n] + read[n + 1]) / 2;
        of_read[n] = both > 0 ? tokens_per_s * token_bytes(bench) / both : 0;
    }
    f->decode_tokens_per_s = tokens / took_s;
    f->of_read = middle(of_read, n);
    f->read_bytes_per_s = middle(read, n + 1);
    return true;
}

static bool measure(struct bench *bench, struct fault *fault) {
    struct progress progress;
    double fill;
    if (!batch_fill(&bench->session, bench->session.config.depth, &fill, fault)) return false;
    progress_begin(&progress, "measuring", "rounds");
    for (uint32_t i = 0; i < bench->rounds; i++) {
        struct figures *f = &bench->round[i];
        progress_tell(&progress, i, bench->rounds);
        f->peak_ops_per_s = peak_rate(bench);
        struct backend_phase before[BACKEND_PHASES_MAX] = {0};
        phases_now(bench, before);
        if (!decode_measure(bench, f, fault)) return false;
        profile_add(&bench->decode_profile, bench, before);
        phases_now(bench, before);
        feed_begin(&bench->session);
        if (!feed_tokens(&bench->session, bench->prompt_tokens, false, &f->prompt_tokens_per_s,
                         fault))
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
    if (known) printf(" %11.1f%%", 100 * m->of_read);
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
    printf("{\"quantisation\":\"%s\",\"isa\":\"%s\",\"device\":\"%s\",\"weight_bytes\":%llu,"
           "\"load_s\":%.3f,\"batch\":%u,\"depth\":%u,"
           "\"rounds\":%u,\"read_bytes_per_s\":%.0f,\"decode_tokens\":%u,"
           "\"decode_tokens_per_s\":%.3f,\"bytes_per_token\":%.0f,\"of_read_bandwidth\":%.4f,"
           "\"prompt_tokens\":%u,\"prompt_tokens_per_s\":%.3f,\"ops_per_token\":%.0f,"
           "\"peak_ops_per_s\":%.0f}\n",
           engine->model.geo.quantisation, info->isa, info->device,
           (unsigned long long)info->weight_bytes, (double)bench->session.load_ns * 1e-9,
           config->batch, config->depth, bench->rounds, m->read_bytes_per_s, bench->decode_tokens,
           m->decode_tokens_per_s, bytes, m->of_read, bench->prompt_tokens, m->prompt_tokens_per_s,
           feed_ops_per_token(&bench->session), m->peak_ops_per_s);
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
        double read[BUFFERS];
        for (int pass = 0; pass < BUFFERS; pass++) read[pass] = read_rate(&bench);
        bool fine = sweep_run(&bench.session, middle(read, BUFFERS), &fault);
        return fine ? 0 : session_fail(&fault);
    }
    bench.peak = peak_find(&bench.session.engine);
    if (!measure(&bench, &fault)) return session_fail(&fault);
    struct figures medians = {
        .read_bytes_per_s = median(&bench, offsetof(struct figures, read_bytes_per_s)),
        .peak_ops_per_s = median(&bench, offsetof(struct figures, peak_ops_per_s)),
        .prompt_tokens_per_s = median(&bench, offsetof(struct figures, prompt_tokens_per_s)),
        .decode_tokens_per_s = median(&bench, offsetof(struct figures, decode_tokens_per_s)),
        .of_read = median(&bench, offsetof(struct figures, of_read)),
    };
    const double bytes = token_bytes(&bench);
    if (bench.session.config.json)
        print_json(&bench, &medians, bytes);
    else
        print_table(&bench, &medians, bytes);
    if (bench.session.config.phases && !bench.session.config.json) print_phases(&bench);
    if (bench.roofline != NULL) roofline_close(bench.roofline);
    session_close(&bench.session);
    return 0;
}
