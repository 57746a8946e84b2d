#include "server_rig.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "vocab_rig.h"
#include "wire/sessions.h"

enum { READ_MAX = 1 << 22, WORD_FIRST = 259 };

static struct server_rig *rig_of(struct backend *backend) {
    return (struct server_rig *)((char *)backend - offsetof(struct server_rig, backend));
}

static void rig_begin(struct backend *backend, const struct batch *batch) {
    struct server_rig *rig = rig_of(backend);
    cr_assert_null(rig->batch, "a step begins while one is in flight");
    rig->batch = batch;
    rig->left = rig->pending;
}

/* After a token comes the next word of the vocabulary, so that what is generated is known. */
static enum backend_status rig_advance(struct backend *backend, uint64_t deadline_ns,
                                       struct fault *fault) {
    struct server_rig *rig = rig_of(backend);
    (void)deadline_ns;
    cr_assert_not_null(rig->batch);
    if (rig->fails) {
        fault_set(fault, FAULT_WORKER_UNHEALTHY, "a test pulled the plug");
        return BACKEND_FAILED;
    }
    if (rig->asleep) return BACKEND_PENDING;
    if (rig->left > 0) {
        rig->left--;
        return BACKEND_PENDING;
    }
    int32_t words = (int32_t)(rig->engine.vocab.n_tokens - WORD_FIRST);
    rig->n_logits = 0;
    for (uint32_t i = 0; i < rig->batch->n_rows; i++) {
        const struct batch_row *row = &rig->batch->row[i];
        if (row->wants == ROW_NOTHING) continue;
        cr_assert(rig->n_logits < SERVER_RIG_LOGITS_MAX);
        float *logits = rig->logits[rig->n_logits++];
        memset(logits, 0, sizeof rig->logits[0]);
        int32_t word = row->token < WORD_FIRST ? 0 : (row->token - WORD_FIRST + 1) % words;
        logits[WORD_FIRST + word] = 20;
    }
    rig->batch = NULL;
    return BACKEND_DONE;
}

static const float *rig_row(const struct backend *backend, uint32_t index) {
    const struct server_rig *rig =
        (const struct server_rig *)((const char *)backend - offsetof(struct server_rig, backend));
    cr_assert(index < rig->n_logits);
    return rig->logits[index];
}

static void rig_abort(struct backend *backend) {
    struct server_rig *rig = rig_of(backend);
    rig->aborted += rig->batch != NULL;
    rig->batch = NULL;
}

static enum engine_status rig_load(struct engine *engine, uint64_t deadline_ns, uint32_t *percent,
                                   struct fault *fault) {
    struct server_rig *rig =
        (struct server_rig *)((char *)engine - offsetof(struct server_rig, engine));
    static uint32_t calls;
    (void)deadline_ns;
    calls++;
    if (calls < rig->load_calls) {
        *percent = 100 * calls / rig->load_calls;
        return ENGINE_LOADING;
    }
    if (!rig->load_fails) return ENGINE_READY;
    fault_set(fault, FAULT_MODEL_LOAD_FAILED, "tiny.gguf: offset 0x10: a test broke it");
    return ENGINE_FAILED;
}

static void engine_prepare(struct engine *engine) {
    struct vocab_rig *vocab = vocab_rig_new();
    rig_make_spm(vocab, true);
    cr_assert(vocab_rig_load(vocab), "%s", vocab->fault.text);
    cr_assert(vocab->vocab.n_tokens <= SERVER_RIG_VOCAB_MAX);
    engine->vocab = vocab->vocab;
    engine->scratch = vocab->scratch;
    engine->slots = 2;
    engine->ctx = 128;
    engine->n_pages = 2 * 128 / KV_PAGE_TOKENS;
    engine->rows_max = 18;
    engine->logits_max = SERVER_RIG_LOGITS_MAX;
    strcpy(engine->model.geo.name, "tiny");
    strcpy(engine->model.geo.architecture, "llama");
    strcpy(engine->model.geo.quantisation, "F32");
}

struct server_rig *server_rig_new(void) {
    static struct server_rig rig;
    static const struct backend_ops ops = {
        .begin = rig_begin, .advance = rig_advance, .logits = rig_row, .abort = rig_abort};
    log_open(STDERR_FILENO, LOG_ERROR);
    signal(SIGPIPE, SIG_IGN); /* as server_open does */
    memset(&rig, 0, sizeof rig);
    rig.config = (struct config){.slots = 2, .queue = 2, .chunk = 16, .drain_ms = 10000};
    engine_prepare(&rig.engine);
    rig.backend = (struct backend){.ops = &ops,
                                   .info = {.name = "test",
                                            .isa = "none",
                                            .n_pages = rig.engine.n_pages,
                                            .rows_max = rig.engine.rows_max,
                                            .logits_max = rig.engine.logits_max,
                                            .vocab = rig.engine.vocab.n_tokens}};
    rig.load_calls = 1;
    return &rig;
}

void server_rig_open(struct server_rig *rig) {
    struct arena plan;
    struct fault fault;
    arena_measure(&plan);
    server_carve(&rig->server, &rig->config, &rig->engine, &plan);
    cr_assert(arena_map(&rig->arena, plan.used, &fault), "%s", fault.text);
    server_carve(&rig->server, &rig->config, &rig->engine, &rig->arena);
    cr_assert_eq(rig->arena.used, plan.used, "measured and taken differ");
    arena_seal(&rig->arena);
    rig->engine.backend = &rig->backend;
    rig->server.load = rig_load;
    rig->server.opened_ns = clock_ns();
    sampler_rng_seed(&rig->server.seeds, 1);
}

struct server_rig *server_rig_serving(void) {
    struct server_rig *rig = server_rig_new();
    struct fault fault;
    server_rig_open(rig);
    cr_assert_eq(server_load(&rig->server, &fault), SERVER_READY);
    server_ready(&rig->server);
    return rig;
}

void server_rig_turns(struct server_rig *rig) {
    for (int i = 0; i < 100000; i++) {
        if (rig->server.phase == SERVER_OVER) return;
        server_turn(&rig->server, 0);
        /* A turn that moved nothing may still be followed by one that does: a client's bytes. */
        if (!rig->server.more && i > 2) return;
        if (rig->asleep && i > 2) return;
    }
    cr_assert_fail("it never ends");
}

int server_rig_connect(struct server_rig *rig) {
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    if (sessions_add(&rig->server, WIRE_UNIX, pair[1], pair[1]) == NULL) {
        close(pair[0]);
        close(pair[1]);
        return -1;
    }
    server_turn(&rig->server, 0);
    if (rig->server.phase == SERVER_SERVING) {
        cr_assert_str_eq(server_rig_read(pair[0]), "220 - wick proto=1\n");
    }
    return pair[0];
}

void server_rig_send(int fd, const char *text) {
    size_t n = strlen(text);
    cr_assert_eq(write(fd, text, n), (ssize_t)n);
}

const char *server_rig_read(int fd) {
    static char text[READ_MAX];
    size_t length = 0;
    for (;;) {
        ssize_t n = read(fd, text + length, sizeof text - 1 - length);
        if (n <= 0) break;
        length += (size_t)n;
    }
    text[length] = '\0';
    return text;
}

const char *server_rig_ask(struct server_rig *rig, int fd, const char *text) {
    server_rig_send(fd, text);
    server_rig_turns(rig);
    return server_rig_read(fd);
}

bool server_rig_is_closed(int fd) {
    char byte;
    ssize_t n = read(fd, &byte, 1);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

uint32_t server_rig_count(const char *text, const char *beginning) {
    uint32_t n = 0;
    for (const char *line = text; line != NULL && *line != '\0';) {
        n += strncmp(line, beginning, strlen(beginning)) == 0;
        line = strchr(line, '\n');
        if (line != NULL) line++;
    }
    return n;
}

uint64_t server_rig_number(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}
