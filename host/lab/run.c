#include "lab/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "engine/sampler.h"
#include "engine/text_stream.h"
#include "lab/session.h"

enum {
    TEXT_BYTES_MAX = 4 << 20
}; /* 2048 tokens of VOCAB_PIECE_MAX, repaired: with room to spare */

static const double ns_per_s = 1e9;

struct generation {
    struct session *session;
    struct sampler sampler;
    struct sampler_params params;
    struct sampler_rng rng;
    struct sampler_result picked;
    struct job_stop stop[JOB_STOP_MAX];
    struct text_stream stream;
    bool json;
    char *text; /* with json: everything at the end */
    size_t text_bytes;
    uint32_t n_prompt, n_out, limit;
    uint64_t prompt_ns, decode_ns;
    const char *reason;
    bool stdout_lost;
};

static void text_give(struct generation *g, const char *text, size_t n) {
    if (g->json) {
        if (n > TEXT_BYTES_MAX - g->text_bytes) n = TEXT_BYTES_MAX - g->text_bytes;
        memcpy(g->text + g->text_bytes, text, n);
        g->text_bytes += n;
        return;
    }
    while (n > 0 && !g->stdout_lost) {
        ssize_t wrote = write(STDOUT_FILENO, text, n);
        if (wrote <= 0) {
            g->stdout_lost = true;
            return;
        }
        text += wrote;
        n -= (size_t)wrote;
    }
}

static void token_pick(void *context, uint32_t index, const float *logits) {
    struct generation *g = context;
    g->picked =
        sampler_pick(&g->sampler, &g->params, &g->rng, logits, g->session->tokens, index + 1);
}

static bool stops_read(struct generation *g, const struct config *config, struct fault *fault) {
    for (uint32_t i = 0; i < config->n_stop; i++) {
        size_t length = strlen(config->stop[i]);
        if (length == 0 || length > JOB_STOP_BYTES_MAX)
            return fault_set(fault, FAULT_INVALID_REQUEST, "stop: 1 to %d bytes, not %zu",
                             (int)JOB_STOP_BYTES_MAX, length);
        g->stop[i].length = (uint8_t)length;
        memcpy(g->stop[i].text, config->stop[i], length);
    }
    text_stream_open(&g->stream, g->stop, config->n_stop, false);
    return true;
}

/* The sampler's memory, in an arena of its own: the session's is sealed. */
static bool sampler_open(struct generation *g, const struct config *config, struct fault *fault) {
    uint32_t vocab = g->session->engine.model.geo.vocab;
    static struct arena arena;
    arena_measure(&arena);
    sampler_carve(&g->sampler, vocab, &arena);
    if (!arena_map(&arena, arena.used, fault)) return false;
    sampler_carve(&g->sampler, vocab, &arena);
    g->params = (struct sampler_params){.temperature = config->temperature,
                                        .top_p = config->top_p,
                                        .top_k = config->top_k,
                                        .min_p = config->min_p,
                                        .repetition_penalty = config->repetition_penalty,
                                        .seed = config->seed};
    if (!config->seed_set &&
        getrandom(&g->params.seed, sizeof g->params.seed, 0) != (ssize_t)sizeof g->params.seed)
        return fault_set(fault, FAULT_INTERNAL, "cannot draw a seed");
    sampler_rng_seed(&g->rng, g->params.seed);
    return true;
}

/* One token after another until something ends it; g->reason says what. */
static bool decode(struct generation *g, struct fault *fault) {
    const struct vocab *vocab = &g->session->engine.vocab;
    char piece[VOCAB_PIECE_MAX], out[TEXT_STREAM_OUT_MAX];
    g->reason = "MAX_TOKENS";
    while (!g->stdout_lost) {
        if (vocab_is_end(vocab, g->picked.id)) {
            g->reason = "EOS";
            break;
        }
        size_t n = vocab_piece(vocab, g->picked.id, false, piece);
        text_give(g, out, text_stream_feed(&g->stream, piece, (uint32_t)n, out));
        g->n_out++;
        if (g->stream.stop_index >= 0) {
            g->reason = "STOP_SEQUENCE";
            break;
        }
        if (g->n_out == g->limit) break;
        session_append(g->session, g->picked.id);
        if (!session_feed(g->session, true, token_pick, g, fault)) return false;
        g->decode_ns += g->session->fed_ns;
    }
    text_give(g, out, text_stream_flush(&g->stream, out));
    return true;
}

static double rate(uint32_t tokens, uint64_t ns) {
    return ns > 0 ? (double)tokens * ns_per_s / (double)ns : 0.0;
}

static void json_text(const char *text, size_t n) {
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* The prompt's tokens are one step or more; of the tokens that came out, the first came with it. */
static void summary_print(const struct generation *g) {
    uint32_t decoded = g->session->n_fed - g->n_prompt;
    double prompt_ms = (double)g->prompt_ns / 1e6, decode_ms = (double)g->decode_ns / 1e6;
    if (!g->json) {
        fprintf(stderr,
                "\nprompt %" PRIu32 " tokens in %.1f ms (%.1f tokens/s), decode %" PRIu32
                " tokens in %.1f ms (%.1f tokens/s), isa=%s seed=%" PRIu64 " stop=%s\n",
                g->n_prompt, prompt_ms, rate(g->n_prompt, g->prompt_ns), decoded, decode_ms,
                rate(decoded, g->decode_ns), g->session->engine.backend->info.isa, g->params.seed,
                g->reason);
        return;
    }
    printf("{\"text\":");
    json_text(g->text, g->text_bytes);
    printf(",\"tokens\":%" PRIu32 ",\"stop\":\"%s\",\"stop_index\":%" PRId32 ",\"seed\":%" PRIu64
           ",\"prompt_tokens\":%" PRIu32 ",\"prompt_ms\":%.3f,\"decode_tokens\":%" PRIu32
           ",\"decode_ms\":%.3f,\"isa\":\"%s\"}\n",
           g->n_out, g->reason, g->stream.stop_index, g->params.seed, g->n_prompt, prompt_ms,
           decoded, decode_ms, g->session->engine.backend->info.isa);
}

static bool generate(struct generation *g, const struct config *config, struct fault *fault) {
    struct session *session = g->session;
    if (!stops_read(g, config, fault)) return false;
    if (!session_open(session, config, false, fault)) return false;
    if (!session_prompt(session, 1, fault)) return false;
    if (!sampler_open(g, config, fault)) return false;
    g->json = config->json;
    g->text = g->json ? malloc(TEXT_BYTES_MAX) : NULL;
    if (g->json && g->text == NULL)
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
    g->n_prompt = session->n_tokens;
    uint32_t room = session->engine.ctx - session->n_tokens;
    g->limit = config->max_tokens < room ? config->max_tokens : room;
    if (!session_feed(session, true, token_pick, g, fault)) return false;
    g->prompt_ns = session->fed_ns;
    if (!decode(g, fault)) return false;
    summary_print(g);
    return true;
}

int run_run(const struct config *config) {
    static struct session session;
    static struct generation generation = {.session = &session};
    struct fault fault = {0};
    if (!generate(&generation, config, &fault)) return session_fail(&fault);
    session_close(&session);
    free(generation.text);
    return fflush(stdout) == 0 && !generation.stdout_lost ? 0 : 1;
}
