#include "lab/make_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/panic.h"
#include "lab/gguf_file.h"
#include "lab/gguf_writer.h"
#include "lab/random_blocks.h"

enum {
    MAKE_TENSORS_OF_LAYER = 12,      /* 9, and three biases for qwen2 */
    MAKE_TENSORS_OUTSIDE = 3,        /* token_embd, output_norm, output */
    MAKE_BUFFER_BYTES = 512 << 10,   /* rounded down to whole blocks, eight at a time */
    MAKE_PROGRESS_BYTES = 256 << 20, /* smaller files are there before anyone wonders */
    MAKE_LAYERS_MAX = 512,
    MAKE_TYPES_WANTED = 3, /* of a mix: most, better, output */
    MAKE_COLS = 3,         /* widths of matrices: dim, heads * head_dim, ffn */
    MAKE_SWAPS_MAX = MAKE_TYPES_WANTED * MAKE_COLS
};

/* What `type` may name: a quant type for all matrices, or one of these mixes. */
struct make_mix {
    const char *name;
    enum quant_type most, better, output;
    uint32_t file_type; /* general.file_type, as llama.cpp numbers it */
};

static const struct make_mix mixes[] = {
    {"F32", QUANT_F32, QUANT_F32, QUANT_F32, 0},
    {"F16", QUANT_F16, QUANT_F16, QUANT_F16, 1},
    {"Q4_0", QUANT_Q4_0, QUANT_Q4_0, QUANT_Q4_0, 2},
    {"Q4_1", QUANT_Q4_1, QUANT_Q4_1, QUANT_Q4_1, 3},
    {"Q8_0", QUANT_Q8_0, QUANT_Q8_0, QUANT_Q8_0, 7},
    {"Q5_0", QUANT_Q5_0, QUANT_Q5_0, QUANT_Q5_0, 8},
    {"Q5_1", QUANT_Q5_1, QUANT_Q5_1, QUANT_Q5_1, 9},
    {"Q2_K", QUANT_Q2_K, QUANT_Q2_K, QUANT_Q2_K, 10},
    {"Q3_K", QUANT_Q3_K, QUANT_Q3_K, QUANT_Q3_K, 11},
    {"Q4_K", QUANT_Q4_K, QUANT_Q4_K, QUANT_Q4_K, 14},
    {"Q4_K_M", QUANT_Q4_K, QUANT_Q6_K, QUANT_Q6_K, 15},
    {"Q5_K", QUANT_Q5_K, QUANT_Q5_K, QUANT_Q5_K, 16},
    {"Q5_K_M", QUANT_Q5_K, QUANT_Q6_K, QUANT_Q6_K, 17},
    {"Q6_K", QUANT_Q6_K, QUANT_Q6_K, QUANT_Q6_K, 18},
    {"IQ4_NL", QUANT_IQ4_NL, QUANT_IQ4_NL, QUANT_IQ4_NL, 25},
    {"IQ4_XS", QUANT_IQ4_XS, QUANT_IQ4_XS, QUANT_IQ4_XS, 30},
    {"BF16", QUANT_BF16, QUANT_BF16, QUANT_BF16, 32},
};

/* One tensor to be written. */
struct make_tensor {
    char name[GGUF_NAME_MAX];
    enum quant_type type;
    uint64_t cols, rows; /* rows 0: a vector */
    double mean;         /* vectors only */
    double deviation;
    uint64_t bytes;
};

/* A type that gave way to another one for rows of that width. */
struct make_swap {
    enum quant_type wanted;
    uint64_t cols;
};

struct make {
    const struct config *config;
    const struct make_mix *mix;
    uint32_t head_dim, vocab;
    bool bias;
    struct make_tensor *tensor;
    uint32_t n_tensors;
    struct make_swap swap[MAKE_SWAPS_MAX]; /* those that were told */
    uint32_t n_swaps;
    struct gguf_writer writer;
    uint64_t started_ns;
    uint64_t told_at; /* bytes written when progress was told last */
};

static bool config_refuse(struct fault *fault, const char *text) {
    return fault_set(fault, FAULT_INVALID_REQUEST, "%s", text);
}

static bool config_check(struct make *make, struct fault *fault) {
    const struct config *c = make->config;
    if (c->out == NULL) return config_refuse(fault, "out= is missing: the file to write");
    if (c->vocab_from == NULL)
        return config_refuse(fault, "vocab_from= is missing: a GGUF whose vocabulary is taken");
    const char *type = c->type != NULL ? c->type : "Q8_0";
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++)
        if (strcasecmp(mixes[i].name, type) == 0) make->mix = &mixes[i];
    if (make->mix == NULL) {
        char names[160] = "";
        size_t length = 0;
        for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++)
            length += (size_t)snprintf(names + length, sizeof names - length, " %s", mixes[i].name);
        return fault_set(fault, FAULT_INVALID_REQUEST, "type=%s: the types are%s", type, names);
    }
    const char *architecture = c->architecture != NULL ? c->architecture : "llama";
    make->bias = strcmp(architecture, "qwen2") == 0;
    if (!make->bias && strcmp(architecture, "llama") != 0)
        return config_refuse(fault, "architecture= must be llama or qwen2");
    if (c->dim == 0 || c->ffn == 0 || c->heads == 0 || c->kv_heads == 0 || c->ctx_train == 0)
        return config_refuse(fault, "dim, ffn, heads, kv_heads and ctx_train must be above 0");
    if (c->layers == 0 || c->layers > MAKE_LAYERS_MAX)
        return config_refuse(fault, "layers must be 1 to 512");
    if (c->heads % c->kv_heads != 0) return config_refuse(fault, "kv_heads must divide heads");
    if (c->head_dim == 0 && c->dim % c->heads != 0)
        return config_refuse(fault, "heads must divide dim when head_dim is not given");
    make->head_dim = c->head_dim != 0 ? c->head_dim : c->dim / c->heads;
    if (make->head_dim % 2 != 0)
        return config_refuse(fault, "head_dim must be even: RoPE turns pairs");
    if (make->bias && (uint64_t)make->head_dim * c->heads != c->dim)
        fprintf(stderr, "make-model: llama.cpp refuses qwen2 unless heads * head_dim is dim\n");
    return true;
}

/* What stands in for a type whose block does not divide the columns, as llama.cpp chooses. */
static enum quant_type type_fitting(enum quant_type type, uint64_t cols) {
    enum quant_type fitting = type;
    if (cols % quant_info((uint32_t)type)->block_values != 0) {
        switch (type) {
        case QUANT_Q2_K:
        case QUANT_Q3_K:
        case QUANT_IQ4_XS:
            fitting = QUANT_IQ4_NL;
            break;
        case QUANT_Q4_K:
            fitting = QUANT_Q5_0;
            break;
        case QUANT_Q5_K:
            fitting = QUANT_Q5_1;
            break;
        case QUANT_Q6_K:
            fitting = QUANT_Q8_0;
            break;
        default:
            fitting = QUANT_F16;
            break;
        }
    }
    return cols % quant_info((uint32_t)fitting)->block_values == 0 ? fitting : QUANT_F16;
}

/* Says, once, that blocks of the wanted type do not divide rows of that width. */
static void swap_tell(struct make *make, enum quant_type wanted, enum quant_type used,
                      uint64_t cols) {
    for (uint32_t i = 0; i < make->n_swaps; i++)
        if (make->swap[i].wanted == wanted && make->swap[i].cols == cols) return;
    wick_assert(make->n_swaps < MAKE_SWAPS_MAX);
    make->swap[make->n_swaps++] = (struct make_swap){wanted, cols};
    fprintf(stderr, "make-model: rows of %llu: %s instead of %s, whose blocks have %u values\n",
            (unsigned long long)cols, quant_info((uint32_t)used)->name,
            quant_info((uint32_t)wanted)->name, quant_info((uint32_t)wanted)->block_values);
}

static struct make_tensor *tensor_add(struct make *make, const char *name) {
    wick_assert(strlen(name) < GGUF_NAME_MAX);
    struct make_tensor *tensor = &make->tensor[make->n_tensors++];
    *tensor = (struct make_tensor){0};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    return tensor;
}

static void vector_add(struct make *make, const char *name, uint64_t length, double mean) {
    struct make_tensor *tensor = tensor_add(make, name);
    tensor->type = QUANT_F32;
    tensor->cols = length;
    tensor->mean = mean;
    tensor->deviation = 0.1;
}

static void matrix_add(struct make *make, const char *name, enum quant_type type, uint64_t rows,
                       uint64_t cols, double deviation) {
    struct make_tensor *tensor = tensor_add(make, name);
    tensor->type = type_fitting(type, cols);
    tensor->cols = cols;
    tensor->rows = rows;
    tensor->deviation = deviation;
    if (tensor->type != type) swap_tell(make, type, tensor->type, cols);
}

/* llama.cpp's rule for the mixes: the first and last eighth of the layers, and every third of the
 * others, have the better type for attn_v and ffn_down. */
static bool layer_is_better(uint32_t i, uint32_t n) {
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static void layer_add(struct make *make, uint32_t i) {
    const struct config *c = make->config;
    enum quant_type most = make->mix->most;
    enum quant_type better = layer_is_better(i, c->layers) ? make->mix->better : most;
    uint64_t q_rows = (uint64_t)c->heads * make->head_dim;
    uint64_t kv_rows = (uint64_t)c->kv_heads * make->head_dim;
    const struct {
        const char *name;
        enum quant_type type;
        uint64_t rows, cols; /* rows 0: a vector */
        double mean;
    } of_layer[MAKE_TENSORS_OF_LAYER] = {
        {"attn_norm.weight", QUANT_F32, 0, c->dim, 1},
        {"attn_q.weight", most, q_rows, c->dim, 0},
        {"attn_k.weight", most, kv_rows, c->dim, 0},
        {"attn_v.weight", better, kv_rows, c->dim, 0},
        {"attn_output.weight", most, c->dim, q_rows, 0},
        {"ffn_norm.weight", QUANT_F32, 0, c->dim, 1},
        {"ffn_gate.weight", most, c->ffn, c->dim, 0},
        {"ffn_up.weight", most, c->ffn, c->dim, 0},
        {"ffn_down.weight", better, c->dim, c->ffn, 0},
        {"attn_q.bias", QUANT_F32, 0, q_rows, 0},
        {"attn_k.bias", QUANT_F32, 0, kv_rows, 0},
        {"attn_v.bias", QUANT_F32, 0, kv_rows, 0},
    };
    int n = make->bias ? MAKE_TENSORS_OF_LAYER : MAKE_TENSORS_OF_LAYER - 3;
    for (int t = 0; t < n; t++) {
        char name[GGUF_NAME_MAX];
        snprintf(name, sizeof name, "blk.%u.%s", i, of_layer[t].name);
        if (of_layer[t].rows == 0)
            vector_add(make, name, of_layer[t].cols, of_layer[t].mean);
        else
            matrix_add(make, name, of_layer[t].type, of_layer[t].rows, of_layer[t].cols,
                       1 / sqrt((double)of_layer[t].cols));
    }
}

/* Weights of deviation 1 / sqrt(cols) keep activations near 1, whatever the size. An embedding that
 * is the output as well must do the same for the logits; a separate one may be of deviation 1. */
static void tensors_plan(struct make *make) {
    const struct config *c = make->config;
    size_t most = (size_t)c->layers * MAKE_TENSORS_OF_LAYER + MAKE_TENSORS_OUTSIDE;
    make->tensor = calloc(most, sizeof *make->tensor);
    wick_assert(make->tensor != NULL);
    double small = 1 / sqrt((double)c->dim);
    if (c->tied) {
        matrix_add(make, "token_embd.weight", make->mix->output, make->vocab, c->dim, small);
    } else {
        matrix_add(make, "token_embd.weight", make->mix->most, make->vocab, c->dim, 1);
        matrix_add(make, "output.weight", make->mix->output, make->vocab, c->dim, small);
    }
    for (uint32_t i = 0; i < c->layers; i++) layer_add(make, i);
    vector_add(make, "output_norm.weight", c->dim, 1);
    wick_assert(make->n_tensors <= most);
}

static void metadata_add(struct make *make, const struct gguf *vocab_from) {
    const struct config *c = make->config;
    struct gguf_writer *w = &make->writer;
    const char *architecture = make->bias ? "qwen2" : "llama";
    char text[96];
    gguf_writer_string(w, "general.architecture", architecture);
    snprintf(text, sizeof text, "random-%s-%ux%u-%s", architecture, c->dim, c->layers,
             make->mix->name);
    gguf_writer_string(w, "general.name", text);
    gguf_writer_u32(w, "general.file_type", make->mix->file_type);
    gguf_writer_u32(w, "general.quantization_version", 2);
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {
        {"block_count", c->layers},
        {"context_length", c->ctx_train},
        {"embedding_length", c->dim},
        {"feed_forward_length", c->ffn},
        {"attention.head_count", c->heads},
        {"attention.head_count_kv", c->kv_heads},
        {"rope.dimension_count", make->head_dim},
        {"vocab_size", make->vocab},
        {"attention.key_length", make->head_dim},
        {"attention.value_length", make->head_dim},
    };
    size_t n = sizeof numbers / sizeof numbers[0];
    if (make->head_dim * c->heads == c->dim) n -= 2; /* the lengths are what they are by default */
    for (size_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%s.%s", architecture, numbers[i].key);
        gguf_writer_u32(w, text, numbers[i].value);
    }
    snprintf(text, sizeof text, "%s.attention.layer_norm_rms_epsilon", architecture);
    gguf_writer_f32(w, text, 1e-5f);
    snprintf(text, sizeof text, "%s.rope.freq_base", architecture);
    gguf_writer_f32(w, text, c->rope_base > 0 ? (float)c->rope_base : 10000.0f);
    for (uint32_t i = 0; i < vocab_from->n_kv; i++) {
        struct gguf_string key = vocab_from->kv[i].key;
        const char prefix[] = "tokenizer.";
        size_t length = sizeof prefix - 1;
        if (key.length > length && memcmp(key.text, prefix, length) == 0)
            gguf_writer_copy(w, &vocab_from->kv[i]);
    }
}

/* One line that rewrites itself on a terminal; a line every 10 % elsewhere. */
static void progress_tell(struct make *make, bool last) {
    const struct gguf_writer *w = &make->writer;
    bool terminal = isatty(STDERR_FILENO) == 1;
    if (w->data_bytes < MAKE_PROGRESS_BYTES) return;
    if (!last && w->data_written - make->told_at < w->data_bytes / (terminal ? 100 : 10)) return;
    make->told_at = w->data_written;
    double seconds = (double)(clock_ns() - make->started_ns) / 1e9;
    fprintf(stderr, "%smake-model: %3.0f %%, %.0f MB/s%s", terminal ? "\r" : "",
            100.0 * (double)w->data_written / (double)w->data_bytes,
            (double)w->data_written / 1e6 / (seconds > 0 ? seconds : 1),
            terminal && !last ? "" : "\n");
}

static bool tensor_write(struct make *make, const struct make_tensor *tensor,
                         struct random_blocks *random, uint8_t *buffer, struct fault *fault) {
    uint64_t seed =
        0xCBF29CE484222325; /* FNV-1a of the name: no tensor depends on its neighbours */
    for (const char *c = tensor->name; *c != '\0'; c++) seed = (seed ^ (uint8_t)*c) * 0x100000001B3;
    random_blocks_begin(random, tensor->type, tensor->deviation, seed ^ make->config->seed);
    size_t eight = (size_t)quant_info((uint32_t)tensor->type)->block_bytes * 8;
    size_t most = MAKE_BUFFER_BYTES / eight * eight;
    uint64_t left = tensor->bytes;
    while (left > 0) {
        size_t length = left < most ? (size_t)left : most;
        random_blocks_fill(random, buffer, length);
        if (tensor->rows == 0) {
            float *value = (float *)(void *)buffer;
            for (size_t i = 0; i < length / sizeof *value; i++) value[i] += (float)tensor->mean;
        }
        if (!gguf_writer_data(&make->writer, buffer, length, fault)) return false;
        left -= length;
        progress_tell(make, false);
    }
    return gguf_writer_pad(&make->writer, fault);
}

static bool model_write(struct make *make, struct fault *fault) {
    for (uint32_t i = 0; i < make->n_tensors; i++) {
        struct make_tensor *tensor = &make->tensor[i];
        tensor->bytes = gguf_writer_tensor(&make->writer, tensor->name, tensor->type, tensor->cols,
                                           tensor->rows);
    }
    if (!gguf_writer_open(&make->writer, make->config->out, fault)) return false;
    struct random_blocks *random = malloc(sizeof *random);
    uint8_t *buffer = malloc(MAKE_BUFFER_BYTES);
    wick_assert(random != NULL && buffer != NULL);
    make->started_ns = clock_ns();
    bool ok = true;
    for (uint32_t i = 0; i < make->n_tensors && ok; i++)
        ok = tensor_write(make, &make->tensor[i], random, buffer, fault);
    if (ok) progress_tell(make, true);
    free(buffer);
    free(random);
    return ok && gguf_writer_close(&make->writer, fault);
}

static void summary_print(const struct make *make) {
    double values = 0, bytes = 0;
    for (uint32_t i = 0; i < make->n_tensors; i++) {
        const struct make_tensor *tensor = &make->tensor[i];
        values += (double)tensor->cols * (double)(tensor->rows == 0 ? 1 : tensor->rows);
        bytes += (double)tensor->bytes;
    }
    printf("%s: %.1f MB, %u tensors, %.4g weights, %.2f bits per weight, vocabulary %u\n",
           make->config->out, bytes / 1e6, make->n_tensors, values, 8 * bytes / values,
           make->vocab);
}

static bool vocab_count(struct make *make, const struct gguf *vocab_from, struct fault *fault) {
    const struct gguf_kv *tokens;
    if (!gguf_get_array(vocab_from, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, fault))
        return false;
    if (tokens == NULL || tokens->count == 0)
        return fault_set(fault, FAULT_INVALID_REQUEST, "%s has no vocabulary",
                         make->config->vocab_from);
    make->vocab = (uint32_t)tokens->count; /* at most GGUF_ARRAY_MAX */
    return true;
}

int make_model_run(const struct config *config) {
    struct make make = {.config = config};
    struct gguf_file vocab_from = {0};
    struct fault fault;
    gguf_writer_begin(&make.writer);
    bool ok = config_check(&make, &fault) &&
              gguf_file_open(&vocab_from, config->vocab_from, &fault) &&
              vocab_count(&make, vocab_from.gguf, &fault);
    if (ok) {
        tensors_plan(&make);
        metadata_add(&make, vocab_from.gguf);
        ok = model_write(&make, &fault);
    }
    if (ok) {
        summary_print(&make);
    } else {
        gguf_writer_abandon(&make.writer);
        fprintf(stderr, "wick-lab make-model: %s\n", fault.text);
    }
    free(make.tensor);
    gguf_file_close(&vocab_from);
    return ok ? 0 : 1;
}
