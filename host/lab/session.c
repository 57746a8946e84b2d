#include "session.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/panic.h"
#include "cpu/cpu.h"

enum {
    LOAD_SLICE_MS = 500, /* between two progress lines */
    NS_PER_MS = 1000 * 1000
};

static bool load(struct session *s, struct fault *fault) {
    uint32_t percent = 0;
    for (;;) {
        uint64_t deadline_ns = clock_ns() + (uint64_t)LOAD_SLICE_MS * NS_PER_MS;
        enum engine_status status = engine_load(&s->engine, deadline_ns, &percent, fault);
        if (status == ENGINE_READY) return true;
        if (status == ENGINE_FAILED) return false;
        fprintf(stderr, "loading %s: %u %%\n", s->config.model, percent);
    }
}

bool session_open(struct session *s, const struct config *config, bool every_row,
                  struct fault *fault) {
    s->config = *config;
    if (s->config.model == NULL)
        return fault_set(fault, FAULT_INVALID_REQUEST, "model= is missing: the GGUF file to load");
    s->open_ns = clock_ns();
    static struct gpu_driver gpu; /* one in the life of a process */
    s->engine.gpu = &gpu;
    if (strcmp(s->config.backend, "cuda") == 0 && s->config.kv_type == CONFIG_KV_F32) {
        fprintf(stderr, "kv=f16: the CUDA backend keeps no F32 cache\n");
        s->config.kv_type = CONFIG_KV_F16;
    }
    if (!engine_map(&s->engine, &s->config, fault)) return false;
    s->engine.taps = every_row;
    arena_measure(&s->arena);
    if (!engine_carve(&s->engine, &s->arena, fault)) return false;
    size_t bytes = s->arena.used;
    if (!engine_fits(&s->engine, bytes, NULL, fault)) return false;
    if (!arena_map(&s->arena, bytes, fault)) return false;
    if (!engine_carve(&s->engine, &s->arena, fault)) return false;
    if (!load(s, fault)) return false;
    arena_seal(&s->arena);

    uint32_t ctx = s->engine.ctx;
    size_t n_pages = s->engine.slots * (size_t)(round_up(ctx, KV_PAGE_TOKENS) / KV_PAGE_TOKENS);
    s->pages = malloc(n_pages * sizeof *s->pages);
    s->tokens = malloc(ctx * sizeof *s->tokens);
    if (s->pages == NULL || s->tokens == NULL)
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
    for (uint32_t i = 0; i < n_pages; i++) s->pages[i] = i;
    return true;
}

/* The whole file, byte for byte. */
static char *file_read(const char *path, size_t *length, struct fault *fault) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = malloc(ENGINE_TEXT_MAX + 1);
    ssize_t got = 0;
    *length = 0;
    while (fd >= 0 && text != NULL && *length <= ENGINE_TEXT_MAX &&
           (got = read(fd, text + *length, ENGINE_TEXT_MAX + 1 - *length)) > 0)
        *length += (size_t)got;
    bool bad = fd < 0 || got < 0;
    if (bad) fault_set(fault, FAULT_INVALID_REQUEST, "prompt_file: cannot read %s: %m", path);
    if (fd >= 0) close(fd);
    if (!bad && text != NULL) return text;
    if (!bad) fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
    free(text);
    return NULL;
}

bool session_prompt(struct session *s, uint32_t room, struct fault *fault) {
    const struct config *config = &s->config;
    const struct vocab *vocab = &s->engine.vocab;
    if ((config->prompt == NULL) == (config->prompt_file == NULL))
        return fault_set(fault, FAULT_INVALID_REQUEST, "give one of prompt= and prompt_file=");
    char *read = NULL;
    const char *text = config->prompt;
    size_t length = text != NULL ? strlen(text) : 0;
    if (text == NULL) {
        text = read = file_read(config->prompt_file, &length, fault);
        if (read == NULL) return false;
    }
    if (length > ENGINE_TEXT_MAX) {
        free(read);
        return fault_set(fault, FAULT_PROMPT_TOO_LONG, "the prompt has more than %d bytes",
                         (int)ENGINE_TEXT_MAX);
    }
    const struct vocab_encode_options options = {.add_bos = config->add_bos_set ? config->add_bos
                                                                                : vocab->add_bos,
                                                 .parse_special = config->parse_special};
    size_t n =
        vocab_encode(vocab, &s->engine.scratch, text, length, options, s->tokens, s->engine.ctx);
    free(read);
    if (n == 0)
        return fault_set(fault, FAULT_INVALID_REQUEST, "the prompt is empty: it has no tokens");
    if (n + room > s->engine.ctx)
        return fault_set(fault, FAULT_PROMPT_TOO_LONG,
                         "%zu prompt tokens and %u more do not fit ctx=%u", n, room, s->engine.ctx);
    s->n_tokens = (uint32_t)n;
    s->n_fed = 0;
    return true;
}

void session_append(struct session *s, int32_t token) {
    wick_assert(s->n_tokens < s->engine.ctx);
    s->tokens[s->n_tokens++] = token;
}

bool session_step(struct session *s, struct fault *fault) {
    struct backend *backend = s->engine.backend;
    backend->ops->begin(backend, &s->batch);
    enum backend_status status;
    do status = backend->ops->advance(backend, UINT64_MAX, fault);
    while (status == BACKEND_PENDING);
    return status == BACKEND_DONE;
}

bool session_first_step(struct session *s, struct fault *fault) {
    s->batch.n_rows = 1;
    s->batch.row[0] = (struct batch_row){.token = 0, .pages = s->pages, .wants = ROW_LOGITS};
    bool fine = session_step(s, fault);
    s->load_ns = clock_ns() - s->open_ns;
    return fine;
}

static bool step(struct session *s, uint32_t n, bool last_only, struct fault *fault) {
    s->batch.n_rows = n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = s->n_fed + i;
        s->batch.row[i] = (struct batch_row){
            .token = s->tokens[at],
            .position = at,
            .pages = s->pages,
            .wants = last_only && at + 1 < s->n_tokens ? ROW_NOTHING : ROW_LOGITS};
    }
    return session_step(s, fault);
}

bool session_feed(struct session *s, bool last_only, session_row *row, void *context,
                  struct fault *fault) {
    struct backend *backend = s->engine.backend;
    uint32_t most = s->config.chunk;
    if (most > backend->info.rows_max) most = backend->info.rows_max;
    if (!last_only && most > backend->info.logits_max) most = backend->info.logits_max;
    wick_assert(most > 0);
    s->fed_ns = 0;
    while (s->n_fed < s->n_tokens) {
        uint32_t left = s->n_tokens - s->n_fed;
        uint32_t n = left < most ? left : most;
        uint64_t start_ns = clock_ns();
        if (!step(s, n, last_only, fault)) return false;
        s->fed_ns += clock_ns() - start_ns;
        uint32_t logits = 0;
        for (uint32_t i = 0; i < n; i++)
            if (s->batch.row[i].wants != ROW_NOTHING)
                row(context, s->n_fed + i, backend->ops->logits(backend, logits++));
        s->n_fed += n;
    }
    return true;
}

void session_close(struct session *s) {
    engine_close(&s->engine);
    free(s->pages);
    free(s->tokens);
    s->pages = NULL;
    s->tokens = NULL;
}

int32_t session_argmax(const float *logits, uint32_t vocab) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}

int session_fail(const struct fault *fault) {
    fprintf(stderr, "wick-lab: %s: %s\n", fault_kind(fault->code)->word, fault->text);
    return fault->code == FAULT_INVALID_REQUEST ? 2 : 1;
}
