#include "model/model.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "model/geometry.h"

/* Lengths that the geometry implies. */
enum extent { ONE, DIM, FFN, Q_WIDTH, KV_WIDTH, VOCAB, ROPE_HALF };

enum presence {
    NEEDED,
    BIAS,    /* with the other two or not at all, or needed: the architecture's rule */
    OPTIONAL /* the network is complete without it */
};

/* Every tensor of a network, as GGUF names it. The same table binds them and tells what a tensor
 * that is not in it is. A vector (rows ONE) is F32. */
struct tensor_rule {
    const char *name; /* of a layer: what follows "blk.N." */
    size_t field;     /* of struct model or struct model_layer */
    enum extent rows, cols;
    enum presence presence;
};

static const struct tensor_rule model_rules[] = {
    {"token_embd.weight", offsetof(struct model, token_embd), VOCAB, DIM, NEEDED},
    {"output_norm.weight", offsetof(struct model, output_norm), ONE, DIM, NEEDED},
    {"output.weight", offsetof(struct model, output), VOCAB, DIM, OPTIONAL},
    {"rope_freqs.weight", offsetof(struct model, rope_freqs), ONE, ROPE_HALF, OPTIONAL},
};
static const struct tensor_rule layer_rules[] = {
    {"attn_norm.weight", offsetof(struct model_layer, attn_norm), ONE, DIM, NEEDED},
    {"attn_q.weight", offsetof(struct model_layer, q), Q_WIDTH, DIM, NEEDED},
    {"attn_k.weight", offsetof(struct model_layer, k), KV_WIDTH, DIM, NEEDED},
    {"attn_v.weight", offsetof(struct model_layer, v), KV_WIDTH, DIM, NEEDED},
    {"attn_q.bias", offsetof(struct model_layer, q_bias), ONE, Q_WIDTH, BIAS},
    {"attn_k.bias", offsetof(struct model_layer, k_bias), ONE, KV_WIDTH, BIAS},
    {"attn_v.bias", offsetof(struct model_layer, v_bias), ONE, KV_WIDTH, BIAS},
    {"attn_output.weight", offsetof(struct model_layer, attn_out), DIM, Q_WIDTH, NEEDED},
    {"ffn_norm.weight", offsetof(struct model_layer, ffn_norm), ONE, DIM, NEEDED},
    {"ffn_gate.weight", offsetof(struct model_layer, gate), FFN, DIM, NEEDED},
    {"ffn_up.weight", offsetof(struct model_layer, up), FFN, DIM, NEEDED},
    {"ffn_down.weight", offsetof(struct model_layer, down), DIM, FFN, NEEDED},
};
enum {
    MODEL_RULES = sizeof model_rules / sizeof model_rules[0],
    LAYER_RULES = sizeof layer_rules / sizeof layer_rules[0]
};

/* What a tensor outside the tables tells about the model. */
static const struct {
    const char *part; /* of the name */
    const char *meaning;
} foreign_tensors[] = {
    {"_exps", "a mixture of experts"},
    {"ffn_gate_inp", "a mixture of experts"},
    {"_shexp", "a mixture of experts"},
    {"attn_q_norm", "norms on Q and K"},
    {"attn_k_norm", "norms on Q and K"},
    {"attn_qkv", "a fused QKV projection"},
    {"rope_factors", "longrope scaling"},
    {"post_", "norms after a block"},
    {"cls", "a classifier head"},
    {".lora_", "a LoRA adapter"},
    {".bias", "a bias where these architectures have none"},
};

static uint32_t extent_value(const struct model_geometry *geo, enum extent extent) {
    switch (extent) {
    case ONE:
        return 1;
    case DIM:
        return geo->dim;
    case FFN:
        return geo->ffn;
    case Q_WIDTH:
        return geo->n_heads * geo->head_dim;
    case KV_WIDTH:
        return geo->n_kv_heads * geo->head_dim;
    case VOCAB:
        return geo->vocab;
    case ROPE_HALF:
        return geo->rope_dim / 2;
    }
    panic_at(__FILE__, __LINE__, "extent");
}

/* "blk.N.rest" with N as printf writes it. */
static bool layer_name_split(struct gguf_string name, uint32_t *layer, struct gguf_string *rest) {
    static const char prefix[] = "blk.";
    size_t at = sizeof prefix - 1;
    if (name.length <= at || memcmp(name.text, prefix, at) != 0) return false;
    uint32_t value = 0;
    size_t digits = 0;
    for (; at < name.length && name.text[at] >= '0' && name.text[at] <= '9'; at++, digits++) {
        if (digits == 6 || (digits == 1 && value == 0)) return false;
        value = value * 10 + (uint32_t)(name.text[at] - '0');
    }
    if (digits == 0 || at >= name.length || name.text[at] != '.') return false;
    *layer = value;
    *rest = (struct gguf_string){name.text + at + 1, name.length - at - 1};
    return true;
}

static bool rules_have(const struct tensor_rule *rules, size_t n, struct gguf_string name) {
    for (size_t i = 0; i < n; i++)
        if (gguf_string_is(name, rules[i].name)) return true;
    return false;
}

static bool name_has(struct gguf_string name, const char *part) {
    return memmem(name.text, name.length, part, strlen(part)) != NULL;
}

/* A tensor that nothing reads means a network other than the one we would compute. */
static bool foreign_tensors_refuse(const struct model_geometry *geo, const struct gguf *gguf,
                                   struct fault *fault) {
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const struct gguf_tensor *tensor = &gguf->tensor[i];
        struct gguf_string rest = {NULL, 0};
        uint32_t layer = 0;
        unsigned long long at = (unsigned long long)tensor->offset;
        if (layer_name_split(tensor->name, &layer, &rest)) {
            if (layer >= geo->n_layers)
                return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                                 "offset 0x%llx: tensor %s is beyond block_count %u", at,
                                 gguf_show(tensor->name).text, geo->n_layers);
            if (rules_have(layer_rules, LAYER_RULES, rest)) continue;
        } else if (rules_have(model_rules, MODEL_RULES, tensor->name)) {
            continue;
        }
        const char *meaning = NULL;
        for (size_t f = 0; f < sizeof foreign_tensors / sizeof foreign_tensors[0]; f++)
            if (meaning == NULL && name_has(tensor->name, foreign_tensors[f].part))
                meaning = foreign_tensors[f].meaning;
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llx: tensor %s is not one of architecture '%s'%s%s%s", at,
                         gguf_show(tensor->name).text, geo->architecture,
                         meaning != NULL ? ": the model has " : "", meaning != NULL ? meaning : "",
                         meaning != NULL ? ", which is not supported" : "");
    }
    return true;
}

/* Binds one tensor; absent leaves *out without data. */
static bool tensor_bind(struct model_tensor *out, const struct gguf *gguf, const char *name,
                        uint32_t rows, uint32_t cols, struct fault *fault) {
    *out = (struct model_tensor){0};
    const struct gguf_tensor *tensor = gguf_find_tensor(gguf, name);
    if (tensor == NULL) return true;
    unsigned long long at = (unsigned long long)tensor->offset;
    if (tensor->dims[0] != cols || tensor->dims[1] != rows || tensor->dims[2] != 1 ||
        tensor->dims[3] != 1)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llx: tensor %s is %llu x %llu x %llu x %llu, but the geometry "
                         "implies %u x %u",
                         at, name, (unsigned long long)tensor->dims[0],
                         (unsigned long long)tensor->dims[1], (unsigned long long)tensor->dims[2],
                         (unsigned long long)tensor->dims[3], cols, rows);
    const struct quant_info *info = quant_info((uint32_t)tensor->type);
    if (info == NULL || info->block_bytes == 0 || (rows == 1 && tensor->type != QUANT_F32))
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "offset 0x%llx: tensor %s has type %s%s",
                         at, name, info == NULL ? "unknown" : info->name,
                         rows == 1 ? ", but norms, biases and frequencies must be F32"
                                   : ", which is not supported");
    if (tensor->data == NULL)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "offset 0x%llx: tensor %s has no data", at,
                         name);
    *out = (struct model_tensor){.data = tensor->data,
                                 .type = tensor->type,
                                 .rows = rows,
                                 .cols = cols,
                                 .bytes = tensor->bytes,
                                 .data_offset = tensor->data_offset};
    return true;
}

static bool rule_bind(void *owner, const struct tensor_rule *rule, const char *name,
                      const struct model_geometry *geo, const struct gguf *gguf,
                      struct fault *fault) {
    struct model_tensor *tensor = (struct model_tensor *)(void *)((char *)owner + rule->field);
    if (!tensor_bind(tensor, gguf, name, extent_value(geo, rule->rows),
                     extent_value(geo, rule->cols), fault))
        return false;
    if (tensor->data == NULL && rule->presence == NEEDED)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "tensor %s is missing (block_count is %u, the file has %u tensors)", name,
                         geo->n_layers, gguf->n_tensors);
    return true;
}

static bool layers_bind(struct model *model, const struct architecture *architecture,
                        const struct gguf *gguf, struct fault *fault) {
    struct model_geometry *geo = &model->geo;
    for (uint32_t n = 0; n < geo->n_layers; n++) {
        struct model_layer *layer = &model->layer[n];
        for (size_t i = 0; i < LAYER_RULES; i++) {
            char name[GGUF_NAME_MAX];
            int length = snprintf(name, sizeof name, "blk.%u.%s", n, layer_rules[i].name);
            wick_assert(length > 0 && length < GGUF_NAME_MAX);
            if (!rule_bind(layer, &layer_rules[i], name, geo, gguf, fault)) return false;
        }
        int biases = (layer->q_bias.data != NULL) + (layer->k_bias.data != NULL) +
                     (layer->v_bias.data != NULL);
        if (n == 0) geo->qkv_bias = architecture->bias == BIAS_MUST || biases > 0;
        if (biases != (geo->qkv_bias ? 3 : 0))
            return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                             "layer %u has %d of the biases attn_q, attn_k, attn_v; %s", n, biases,
                             architecture->bias == BIAS_MUST
                                 ? "this architecture needs all three"
                                 : "every layer must have all three or none");
    }
    return true;
}

/* The rows of the embedding are the vocabulary. Some files pad it beyond the tokenizer's tokens;
 * fewer rows than tokens would make ids without a row. */
static bool vocab_read(struct model_geometry *geo, const struct gguf *gguf, struct fault *fault) {
    const struct gguf_tensor *embedding = gguf_find_tensor(gguf, "token_embd.weight");
    if (embedding == NULL)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "tensor token_embd.weight is missing");
    unsigned long long at = (unsigned long long)embedding->offset;
    uint64_t rows = embedding->dims[1];
    if (rows == 0 || rows > MODEL_VOCAB_MAX)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llx: tensor token_embd.weight has %llu rows, not 1 to %d", at,
                         (unsigned long long)rows, (int)MODEL_VOCAB_MAX);
    geo->vocab = (uint32_t)rows;
    const struct gguf_kv *tokens = NULL;
    if (!gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, fault)) return false;
    if (tokens != NULL && tokens->count > rows)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llx: tensor token_embd.weight has %llu rows, but the tokenizer "
                         "has %llu tokens",
                         at, (unsigned long long)rows, (unsigned long long)tokens->count);
    return true;
}

/* The type that holds most of the bytes stands for the file. */
static void quantisation_name(struct model_geometry *geo, const struct gguf *gguf) {
    uint64_t bytes[QUANT_TYPES] = {0};
    uint32_t best = QUANT_F32;
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        uint32_t type = (uint32_t)gguf->tensor[i].type;
        wick_assert(type < QUANT_TYPES);
        bytes[type] += gguf->tensor[i].bytes;
        if (bytes[type] > bytes[best]) best = type;
    }
    const struct quant_info *info = quant_info(best);
    wick_assert(info != NULL);
    snprintf(geo->quantisation, sizeof geo->quantisation, "%s", info->name);
}

static bool rope_freqs_check(const struct model_tensor *freqs, struct fault *fault) {
    for (uint32_t i = 0; freqs->data != NULL && i < freqs->cols; i++) {
        float value;
        memcpy(&value, freqs->data + (size_t)i * sizeof value, sizeof value);
        if (!(isfinite(value) && value > 0.0F))
            return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                             "offset 0x%llx: rope_freqs.weight[%u] is %g, not a positive number",
                             (unsigned long long)freqs->data_offset + i * sizeof value, i,
                             (double)value);
    }
    return true;
}

bool model_bind(struct model *model, const struct gguf *gguf, struct fault *fault) {
    struct model_geometry *geo = &model->geo;
    const struct architecture *architecture = architecture_find(gguf, fault);
    if (architecture == NULL) return false;
    if (gguf->n_tensors == 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "the file holds a vocabulary only: it has no tensors");
    if (!geometry_read(geo, architecture, gguf, fault) || !vocab_read(geo, gguf, fault) ||
        !foreign_tensors_refuse(geo, gguf, fault))
        return false;
    for (size_t i = 0; i < MODEL_RULES; i++)
        if (!rule_bind(model, &model_rules[i], model_rules[i].name, geo, gguf, fault)) return false;
    geo->tied = model->output.data == NULL;
    if (geo->tied) model->output = model->token_embd;
    if (!layers_bind(model, architecture, gguf, fault)) return false;
    if (!rope_freqs_check(&model->rope_freqs, fault)) return false;
    quantisation_name(geo, gguf);
    return true;
}

void model_rope_frequencies(const struct model *model, double *inverse_frequency) {
    const struct model_geometry *geo = &model->geo;
    wick_assert(geo->rope_dim % 2 == 0 && geo->rope_dim <= MODEL_HEAD_DIM_MAX);
    for (uint32_t i = 0; i < geo->rope_dim / 2; i++) {
        float divisor = 1.0F;
        if (model->rope_freqs.data != NULL)
            memcpy(&divisor, model->rope_freqs.data + (size_t)i * sizeof divisor, sizeof divisor);
        double exponent = -2.0 * (double)i / (double)geo->rope_dim;
        inverse_frequency[i] =
            (double)geo->rope_scale * pow((double)geo->rope_base, exponent) / (double)divisor;
    }
}
