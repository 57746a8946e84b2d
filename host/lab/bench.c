#include "lab/bench.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "lab/bandwidth.h"
#include "lab/feed.h"
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
    struct bandwidth *bandwidth;
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

/* As feed_tokens, from an empty sequence; what it took goes to the profile. */
static bool feed_anew(struct bench *bench, uint32_t count, bool one_by_one, double *tokens_per_s,
                      struct profile *profile, struct fault *fault) {
    struct backend_phase before[BACKEND_PHASES_MAX], after[BACKEND_PHASES_MAX];
    feed_begin(&bench->session);
    phases_now(bench, before);
    if (!feed_tokens(&bench->session, count, one_by_one, tokens_per_s, fault)) return false;
    profile->n_phases = phases_now(bench, after);
    for (uint32_t i = 0; i < profile->n_phases; i++) {
        profile->phase[i].name = after[i].name;
        profile->phase[i].ns += after[i].ns - before[i].ns;
    }
    return true;
}

static bool measure(struct bench *bench, struct fault *fault) {
    struct progress progress;
    progress_begin(&progress, "measuring", "rounds");
    for (uint32_t i = 0; i < bench->rounds; i++) {
        struct figures *f = &bench->round[i];
        progress_tell(&progress, i, bench->rounds);
        for (int pass = 0; pass < PASSES; pass++) {
            double rate = bandwidth_measure(bench->bandwidth);
            if (rate > f->read_bytes_per_s) f->read_bytes_per_s = rate;
        }
        if (!feed_anew(bench, bench->decode_tokens, true, &f->decode_tokens_per_s,
                       &bench->decode_profile, fault) ||
            !feed_anew(bench, bench->prompt_tokens, false, &f->prompt_tokens_per_s,
                       &bench->prompt_profile, fault))
            return false;
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
    printf("rounds   %u, medians; KV cache from empty; chunk=%u\n\n", bench->rounds,
           bench->session.config.chunk);
    printf("%-10s %8s %12s %14s %10s %12s\n", "", "tokens", "tokens/s", "MB/token", "GB/s",
           "of read");
    printf("%-10s %8s %12s %14s %10.2f %12s\n", "read", "", "", "", m->read_bytes_per_s / 1e9, "");
    printf("%-10s %8u %12.1f %14.2f %10.2f %11.1f%%\n", "decode", bench->decode_tokens,
           m->decode_tokens_per_s, bytes / 1e6, rate / 1e9, 100 * rate / m->read_bytes_per_s);
    printf("%-10s %8u %12.1f\n", "prompt", bench->prompt_tokens, m->prompt_tokens_per_s);
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
    printf("{\"quantisation\":\"%s\",\"isa\":\"%s\",\"device\":\"%s\",\"weight_bytes\":%llu,"
           "\"rounds\":%u,\"read_bytes_per_s\":%.0f,\"decode_tokens\":%u,"
           "\"decode_tokens_per_s\":%.3f,\"bytes_per_token\":%.0f,\"of_read_bandwidth\":%.4f,"
           "\"prompt_tokens\":%u,\"prompt_tokens_per_s\":%.3f}\n",
           engine->model.geo.quantisation, info->isa, info->device,
           (unsigned long long)info->weight_bytes, bench->rounds, m->read_bytes_per_s,
           bench->decode_tokens, m->decode_tokens_per_s, bytes,
           m->decode_tokens_per_s * bytes / m->read_bytes_per_s, bench->prompt_tokens,
           m->prompt_tokens_per_s);
}

/* What was asked for, cut to the context. */
static void choose(struct bench *bench) {
    const struct config *config = &bench->session.config;
    uint32_t ctx = bench->session.engine.ctx;
    bench->rounds = config->repeat;
    bench->prompt_tokens = config->prompt_tokens < ctx ? config->prompt_tokens : ctx;
    bench->decode_tokens = config->decode_tokens < ctx ? config->decode_tokens : ctx;
}

int bench_run(const struct config *config) {
    static struct bench bench; /* the session is big */
    struct fault fault;
    bench.bandwidth = bandwidth_open(session_threads(config), BUFFER_BYTES, &fault);
    if (bench.bandwidth == NULL || !session_open(&bench.session, config, false, &fault))
        return session_fail(&fault);
    choose(&bench);
    if (strcmp(config->sweep, "none") != 0) {
        double read_bytes_per_s = bandwidth_measure(bench.bandwidth);
        bool fine = sweep_run(&bench.session, read_bytes_per_s, &fault);
        return fine ? 0 : session_fail(&fault);
    }
    if (!measure(&bench, &fault)) return session_fail(&fault);
    struct figures medians = {
        .read_bytes_per_s = median(&bench, offsetof(struct figures, read_bytes_per_s)),
        .prompt_tokens_per_s = median(&bench, offsetof(struct figures, prompt_tokens_per_s)),
        .decode_tokens_per_s = median(&bench, offsetof(struct figures, decode_tokens_per_s)),
    };
    double bytes = feed_bytes_per_token(&bench.session, bench.decode_tokens / 2.0);
    if (bench.session.config.json)
        print_json(&bench, &medians, bytes);
    else
        print_table(&bench, &medians, bytes);
    if (bench.session.config.phases && !bench.session.config.json) print_phases(&bench);
    bandwidth_close(bench.bandwidth);
    session_close(&bench.session);
    return 0;
}
