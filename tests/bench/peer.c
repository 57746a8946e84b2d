/* peer: measures llama.cpp's shared libraries as wick-lab bench measures wick.
 *
 *     peer LIBDIR LIBGGML LIBLLAMA MODEL THREADS POINT...
 *
 * POINT is prompt=N (tokens of a prompt, from an empty cache), or decode=COUNT,DEPTH,BATCH (COUNT
 * steps of BATCH sequences behind DEPTH tokens each). Prints one JSON object. The libraries come
 * without headers that would fit: what is declared here is the part of their C interface that is
 * used, with parameters passed as blocks of words of which only the first four are known; these are
 * checked against the defaults before anything is believed. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WORDS = 128, BATCH_MAX = 2048, PIECE = 512, VOCAB_FIRST = 3 };

/* Larger than any version's: a callee reads and writes only its own part of it. */
struct parameters {
    uint32_t word[WORDS];
};
enum { N_CTX, N_BATCH, N_UBATCH, N_SEQ_MAX };

struct llama_batch {
    int32_t n_tokens;
    int32_t *token;
    float *embd;
    int32_t *pos;
    int32_t *n_seq_id;
    int32_t **seq_id;
    int8_t *logits;
};

static struct {
    void (*backend_init)(void);
    void (*load_all)(const char *directory);
    void (*log_set)(void (*log)(int, const char *, void *), void *context);
    struct parameters (*model_defaults)(void), (*context_defaults)(void);
    void *(*model_load)(const char *path, struct parameters);
    void *(*context_new)(void *model, struct parameters);
    void (*context_free)(void *context);
    void (*threads_set)(void *context, int32_t decode, int32_t prompt);
    void *(*memory)(void *context);
    void (*memory_clear)(void *memory, bool data);
    struct llama_batch (*batch_new)(int32_t n, int32_t embd, int32_t sequences);
    int32_t (*decode)(void *context, struct llama_batch);
    float *(*logits)(void *context, int32_t index);
    const void *(*vocab)(const void *model);
    int32_t (*vocab_size)(const void *vocab);
} api;

static void *model;
static struct llama_batch batch;
static int32_t n_vocab;
static int n_threads;

static void stop(const char *what) {
    fprintf(stderr, "peer: %s\n", what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void silent(int level, const char *text, void *context) {
    (void)context;
    if (level >= 4) fputs(text, stderr); /* errors */
}

static void *library(const char *directory, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (handle == NULL) stop(dlerror());
    return handle;
}

static void resolve(void *handle, const char *name, void *into) {
    void *at = dlsym(handle, name);
    if (at == NULL) stop(dlerror());
    memcpy(into, &at, sizeof at);
}

static void libraries_open(const char *directory, const char *ggml_name, const char *llama_name) {
    library(directory, "libggml-base.so");
    void *ggml = library(directory, ggml_name), *llama = library(directory, llama_name);
    resolve(ggml, "ggml_backend_load_all_from_path", &api.load_all);
    resolve(llama, "llama_backend_init", &api.backend_init);
    resolve(llama, "llama_log_set", &api.log_set);
    resolve(llama, "llama_model_default_params", &api.model_defaults);
    resolve(llama, "llama_context_default_params", &api.context_defaults);
    resolve(llama, "llama_model_load_from_file", &api.model_load);
    resolve(llama, "llama_init_from_model", &api.context_new);
    resolve(llama, "llama_free", &api.context_free);
    resolve(llama, "llama_set_n_threads", &api.threads_set);
    resolve(llama, "llama_get_memory", &api.memory);
    resolve(llama, "llama_memory_clear", &api.memory_clear);
    resolve(llama, "llama_batch_init", &api.batch_new);
    resolve(llama, "llama_decode", &api.decode);
    resolve(llama, "llama_get_logits_ith", &api.logits);
    resolve(llama, "llama_model_get_vocab", &api.vocab);
    resolve(llama, "llama_vocab_n_tokens", &api.vocab_size);
    api.log_set(silent, NULL);
    api.load_all(directory);
    api.backend_init();
}

static void *context_open(uint32_t ctx, uint32_t sequences) {
    static const uint32_t known[] = {512, 2048, 512, 1};
    struct parameters p = api.context_defaults();
    if (memcmp(p.word, known, sizeof known) != 0)
        stop("llama_context_params begins otherwise than it did: look at llama.h of this version");
    p.word[N_CTX] = ctx * sequences;
    p.word[N_SEQ_MAX] = sequences;
    void *context = api.context_new(model, p);
    if (context == NULL) stop("no context");
    api.threads_set(context, n_threads, n_threads);
    return context;
}

static uint32_t token_next(void) {
    static uint32_t state = 1;
    state = state * 1664525 + 1013904223;
    return VOCAB_FIRST + (state >> 8) % (uint32_t)(n_vocab - VOCAB_FIRST);
}

static void row_add(int32_t position, int32_t sequence, bool wanted) {
    int32_t i = batch.n_tokens++;
    batch.token[i] = (int32_t)token_next();
    batch.pos[i] = position;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = sequence;
    batch.logits[i] = wanted;
}

/* One step; its last row's logits are there when it returns. */
static void step(void *context) {
    if (api.decode(context, batch) != 0) stop("llama_decode failed");
    volatile float first = api.logits(context, batch.n_tokens - 1)[0];
    (void)first;
    batch.n_tokens = 0;
}

static void feed(void *context, int32_t sequence, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        bool full = batch.n_tokens == PIECE - 1 || i + 1 == count;
        row_add(i, sequence, full);
        if (full) step(context);
    }
}

static void prompt_measure(int32_t count) {
    void *context = context_open((uint32_t)count + 1, 1);
    feed(context, 0, count); /* the first time is for memory and caches */
    api.memory_clear(api.memory(context), true);
    double began = now();
    feed(context, 0, count);
    printf("\"prompt_tokens\":%d,\"prompt_tokens_per_s\":%.3f", count, count / (now() - began));
    api.context_free(context);
}

static void decode_measure(int32_t count, int32_t depth, int32_t sequences) {
    void *context = context_open((uint32_t)(depth + count + 2), (uint32_t)sequences);
    for (int32_t s = 0; s < sequences; s++) feed(context, s, depth + 1);
    double began = 0;
    for (int32_t i = 0; i <= count; i++) { /* the first step is not counted */
        if (i == 1) began = now();
        for (int32_t s = 0; s < sequences; s++) row_add(depth + 1 + i, s, true);
        step(context);
    }
    printf("\"decode_tokens\":%d,\"depth\":%d,\"batch\":%d,\"decode_tokens_per_s\":%.3f", count,
           depth, sequences, count * sequences / (now() - began));
    api.context_free(context);
}

/* From the call to the first token's logits. */
static void load_measure(const char *path) {
    double began = now();
    model = api.model_load(path, api.model_defaults());
    if (model == NULL) stop("the model was not loaded");
    n_vocab = api.vocab_size(api.vocab(model));
    batch = api.batch_new(BATCH_MAX, 0, 1);
    batch.n_tokens = 0;
    void *context = context_open(512, 1);
    feed(context, 0, 1);
    printf("\"load_s\":%.3f,", now() - began);
    api.context_free(context);
}

int main(int argc, char **argv) {
    if (argc < 6) stop("usage: peer LIBDIR LIBGGML LIBLLAMA MODEL THREADS POINT...");
    n_threads = atoi(argv[5]);
    libraries_open(argv[1], argv[2], argv[3]);
    printf("{");
    load_measure(argv[4]);
    for (int i = 6; i < argc; i++) {
        int32_t count = 0, depth = 0, sequences = 1;
        if (i > 6) printf(",");
        if (sscanf(argv[i], "prompt=%d", &count) == 1)
            prompt_measure(count);
        else if (sscanf(argv[i], "decode=%d,%d,%d", &count, &depth, &sequences) == 3)
            decode_measure(count, depth, sequences);
        else
            stop("POINT is prompt=N or decode=COUNT,DEPTH,BATCH");
        fflush(stdout);
    }
    printf("}\n");
    return 0;
}
