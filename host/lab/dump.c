#include "dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "session.h"

/* The stages in the order of index.tsv. The first LAYER_STAGES come once for each layer. */
static const char *const stages[] = {
    "attn_norm",    "q",          "q_rope",   "v",         "k",          "k_rope",
    "attn_weights", "attn_heads", "attn_out", "ffn_inp",   "ffn_norm",   "ffn_gate",
    "ffn_up",       "ffn_swiglu", "ffn_out",  "block_out", "final_norm", "logits",
};
enum {
    STAGES = sizeof stages / sizeof stages[0],
    LAYER_STAGES = STAGES - 2,
    DIRECTORY_BYTES = 4096,
    NAME_BYTES = 64, /* of a file in it, or of one directory more */
    DUMP_CHUNK = 512 /* the largest chunk=: a prompt is dumped in one step */
};

/* What one step has shown. */
struct dump {
    char directory[DIRECTORY_BYTES];
    uint32_t dims[MODEL_LAYERS_MAX + 1][STAGES][4]; /* of what was written; [n_layers]: no layer */
    uint32_t n_layers;
    int error; /* errno of the first write that failed */
};

static void stage_name(char out[NAME_BYTES], const struct dump *dump, size_t stage,
                       uint32_t layer) {
    if (layer == dump->n_layers)
        snprintf(out, NAME_BYTES, "%s", stages[stage]);
    else
        snprintf(out, NAME_BYTES, "%s-%" PRIu32, stages[stage], layer);
}

/* A stage may come in several calls that differ in the outermost of their dims in use: they are
 * appended. */
static void dims_join(uint32_t sum[4], const uint32_t dims[4]) {
    if (sum[0] == 0) {
        memcpy(sum, dims, 4 * sizeof *dims);
        return;
    }
    sum[2] += dims[2];
}

static void stage_write(void *context, const char *name, uint32_t layer, const float *values,
                        const uint32_t dims[4]) {
    struct dump *dump = context;
    size_t stage = 0;
    while (stage < STAGES && strcmp(stages[stage], name) != 0) stage++;
    uint32_t slot = layer == TAP_NO_LAYER ? dump->n_layers : layer;
    if (stage == STAGES || slot > dump->n_layers) return; /* not one of the reference's stages */

    char file[NAME_BYTES], path[DIRECTORY_BYTES + NAME_BYTES + 8];
    stage_name(file, dump, stage, slot);
    snprintf(path, sizeof path, "%s/%s.f32", dump->directory, file);
    FILE *out = fopen(path, dump->dims[slot][stage][0] == 0 ? "wb" : "ab");
    size_t n = (size_t)dims[0] * dims[1] * dims[2] * dims[3];
    bool good = out != NULL && fwrite(values, sizeof *values, n, out) == n;
    if (out != NULL && fclose(out) != 0) good = false;
    if (!good && dump->error == 0) dump->error = errno != 0 ? errno : EIO;
    dims_join(dump->dims[slot][stage], dims);
}

static bool index_write(const struct dump *dump, struct fault *fault) {
    char path[DIRECTORY_BYTES + NAME_BYTES];
    snprintf(path, sizeof path, "%s/index.tsv", dump->directory);
    FILE *out = dump->error == 0 ? fopen(path, "w") : NULL;
    if (out == NULL)
        return fault_set(fault, FAULT_INVALID_REQUEST, "out: cannot write to %.200s: %s",
                         dump->directory, strerror(dump->error != 0 ? dump->error : errno));
    fprintf(out, "# name\tshape, innermost first (F32, little endian)\n");
    for (uint32_t slot = 0; slot <= dump->n_layers; slot++)
        for (size_t stage = 0; stage < STAGES; stage++) {
            const uint32_t *d = dump->dims[slot][stage];
            char name[NAME_BYTES];
            if (d[0] == 0) continue;
            stage_name(name, dump, stage, slot);
            fprintf(out, "%s\t%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 "\n", name, d[0], d[1],
                    d[2], d[3]);
        }
    if (fclose(out) != 0)
        return fault_set(fault, FAULT_INVALID_REQUEST, "out: cannot write %.200s: %m", path);
    return true;
}

/* The best token after the row last seen. */
struct next {
    uint32_t vocab;
    int32_t best;
};

static void best_keep(void *context, uint32_t index, const float *logits) {
    struct next *last = context;
    (void)index;
    last->best = session_argmax(logits, last->vocab);
}

/* Feeds what is pending, into `directory`; the best next token joins the sequence. */
static bool step_dump(struct session *session, const char *directory, bool last,
                      struct fault *fault) {
    static struct dump dump; /* big */
    struct next next = {session->engine.model.geo.vocab, 0};
    memset(&dump, 0, sizeof dump);
    dump.n_layers = session->engine.model.geo.n_layers;
    snprintf(dump.directory, sizeof dump.directory, "%s", directory);
    if (mkdir(directory, 0777) != 0 && errno != EEXIST)
        return fault_set(fault, FAULT_INVALID_REQUEST, "out: cannot create %.200s: %m", directory);
    const struct backend_tap tap = {.emit = stage_write, .context = &dump};
    session->engine.backend->tap = &tap;
    bool good = session_feed(session, false, best_keep, &next, fault);
    session->engine.backend->tap = NULL;
    if (!good || !index_write(&dump, fault)) return false;
    if (!last) session_append(session, next.best);
    return true;
}

static bool prompt_dump(struct session *session, const struct config *given, struct fault *fault) {
    struct config config = *given;
    config.chunk = DUMP_CHUNK;
    if (config.out == NULL)
        return fault_set(fault, FAULT_INVALID_REQUEST, "out= is missing: the directory to write");
    if (strlen(config.out) > DIRECTORY_BYTES - NAME_BYTES)
        return fault_set(fault, FAULT_INVALID_REQUEST, "out= is too long");
    if (!session_open(session, &config, true, fault)) return false;
    if (session->engine.cuda)
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "backend=cuda shows no stages of the network: dump with backend=cpu");
    if (!session_prompt(session, config.max_tokens, fault)) return false;
    const struct backend_info *info = &session->engine.backend->info;
    uint32_t most = DUMP_CHUNK < info->logits_max ? DUMP_CHUNK : info->logits_max;
    if (session->n_tokens > most)
        return fault_set(fault, FAULT_PROMPT_TOO_LONG,
                         "the prompt has %u tokens; a dump is of one step, at most %u",
                         session->n_tokens, most);
    if (!step_dump(session, config.out, config.max_tokens == 0, fault)) return false;
    for (uint32_t i = 0; i < config.max_tokens; i++) {
        char directory[DIRECTORY_BYTES];
        snprintf(directory, sizeof directory, "%s/step-%" PRIu32, config.out, i);
        if (!step_dump(session, directory, i + 1 == config.max_tokens, fault)) return false;
    }
    return true;
}

int dump_run(const struct config *config) {
    static struct session session;
    struct fault fault = {0};
    if (!prompt_dump(&session, config, &fault)) return session_fail(&fault);
    session_close(&session);
    return 0;
}
