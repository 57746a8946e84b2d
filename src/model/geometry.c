#include "model/geometry.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"

/* 'llama' covers Llama 1 to 3.1, TinyLlama, Mistral, SmolLM, Yi and DeepSeek-LLM. The converter
 * that writes such files permutes the rows of Q and K so that neighbours are rotated together;
 * qwen2 files keep the original halves. */
static const struct architecture architectures[] = {
    {"llama", ROPE_NORM, BIAS_MAY},
    {"qwen2", ROPE_NEOX, BIAS_MUST},
};
enum { ARCHITECTURES = sizeof architectures / sizeof architectures[0] };

enum { KEY_BYTES = 96 };

/* Keys that change what the network computes, in ways we do not compute. Harmless when absent or at
 * their neutral value. */
struct foreign_key {
    const char *suffix;
    double neutral;
    const char *meaning;
};
static const struct foreign_key foreign_keys[] = {
    {"expert_count", 0.0, "a mixture of experts"},
    {"attention.causal", 1.0, "attention to later positions"},
    {"attention.scale", 0.0, "its own attention scale"},
    {"attention.clamp_kqv", 0.0, "clamped projections"},
    {"attention.max_alibi_bias", 0.0, "ALiBi positions"},
    {"attn_logit_softcapping", 0.0, "soft-capped attention scores"},
    {"final_logit_softcapping", 0.0, "soft-capped logits"},
    {"use_parallel_residual", 0.0, "parallel residuals"},
    {"embedding_scale", 1.0, "scaled embeddings"},
    {"residual_scale", 1.0, "scaled residuals"},
    {"logit_scale", 1.0, "scaled logits"},
};
enum { FOREIGN_KEYS = sizeof foreign_keys / sizeof foreign_keys[0] };

static void string_copy(char *out, size_t cap, struct gguf_string from) {
    wick_assert(cap > 0);
    size_t n = from.length < cap - 1 ? from.length : cap - 1;
    /* A cut in the middle of a UTF-8 character would leave broken text in every health reply. */
    while (n > 0 && n < from.length && ((unsigned char)from.text[n] & 0xC0) == 0x80) n--;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)from.text[i];
        out[i] = c < 0x20 || c == 0x7F ? ' ' : from.text[i];
    }
    out[n] = '\0';
}

const struct architecture *architecture_find(const struct gguf *gguf, struct fault *fault) {
    struct gguf_string name = {NULL, 0};
    if (!gguf_get_string(gguf, "general.architecture", &name, fault)) return NULL;
    if (name.text == NULL) {
        fault_set(fault, FAULT_MODEL_LOAD_FAILED, "general.architecture is missing");
        return NULL;
    }
    for (size_t i = 0; i < ARCHITECTURES; i++)
        if (gguf_string_is(name, architectures[i].name)) return &architectures[i];

    char known[64] = "";
    size_t used = 0;
    for (size_t i = 0; i < ARCHITECTURES; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                                 architectures[i].name);
    wick_assert(used < sizeof known);
    fault_set(fault, FAULT_MODEL_LOAD_FAILED,
              "architecture '%s' is not supported; supported are: %s", gguf_show(name).text, known);
    return NULL;
}

static void key_make(char key[KEY_BYTES], const struct architecture *architecture,
                     const char *suffix) {
    int n = snprintf(key, KEY_BYTES, "%s.%s", architecture->name, suffix);
    wick_assert(n > 0 && n < KEY_BYTES);
}

/* Where the key stands in the file, for messages. */
static unsigned long long key_offset(const struct gguf *gguf, const char *key) {
    const struct gguf_kv *kv = gguf_find(gguf, key);
    return kv == NULL ? 0 : (unsigned long long)kv->offset;
}

/* What one number may be; `initial` is for an absent key, unless it is required. */
struct number_rule {
    const char *suffix;
    bool required;
    uint32_t initial, min, max;
};

static bool number_read(const struct gguf *gguf, const struct architecture *architecture,
                        const struct number_rule *rule, uint32_t *out, struct fault *fault) {
    char key[KEY_BYTES];
    key_make(key, architecture, rule->suffix);
    bool present = gguf_find(gguf, key) != NULL;
    if (!present && rule->required)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s is missing", key);
    *out = rule->initial;
    if (!gguf_get_u32(gguf, key, out, fault)) return false;
    if (present && (*out < rule->min || *out > rule->max))
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "offset 0x%llx: %s is %u, not %u to %u",
                         key_offset(gguf, key), key, *out, rule->min, rule->max);
    return true;
}

/* A positive finite number below `below`. */
static bool real_read(const struct gguf *gguf, const struct architecture *architecture,
                      const char *suffix, double below, float *out, bool *present,
                      struct fault *fault) {
    char key[KEY_BYTES];
    key_make(key, architecture, suffix);
    *present = gguf_find(gguf, key) != NULL;
    if (!gguf_get_f32(gguf, key, out, fault)) return false;
    if (*present && !(isfinite(*out) && *out > 0.0F && (double)*out < below))
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llx: %s is %g, not above 0 and below %g", key_offset(gguf, key),
                         key, (double)*out, below);
    return true;
}

/* Any number or truth value as a double; false for a key of another type. */
static bool kv_number(const struct gguf *gguf, const struct gguf_kv *kv, const char *key,
                      double *out, struct fault *fault) {
    if (kv->type == GGUF_F32) {
        float value = 0.0F;
        if (!gguf_get_f32(gguf, key, &value, fault)) return false;
        *out = (double)value;
        return true;
    }
    if (kv->type == GGUF_BOOL) {
        bool value = false;
        if (!gguf_get_bool(gguf, key, &value, fault)) return false;
        *out = value ? 1.0 : 0.0;
        return true;
    }
    uint32_t value = 0;
    if (!gguf_get_u32(gguf, key, &value, fault)) return false;
    *out = (double)value;
    return true;
}

static bool foreign_keys_check(const struct gguf *gguf, const struct architecture *architecture,
                               struct fault *fault) {
    for (size_t i = 0; i < FOREIGN_KEYS; i++) {
        char key[KEY_BYTES];
        key_make(key, architecture, foreign_keys[i].suffix);
        const struct gguf_kv *kv = gguf_find(gguf, key);
        if (kv == NULL) continue;
        double value = 0.0;
        if (!kv_number(gguf, kv, key, &value, fault)) return false;
        if (value != foreign_keys[i].neutral)
            return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                             "offset 0x%llx: %s is %g: the model has %s, which is not supported",
                             (unsigned long long)kv->offset, key, value, foreign_keys[i].meaning);
    }
    return true;
}

/* Linear scaling multiplies every position by 1 / factor. Llama 3.1 scales by frequency, through
 * the tensor rope_freqs.weight, and names no type here. */
static bool rope_scaling_read(struct model_geometry *geo, const struct gguf *gguf,
                              const struct architecture *architecture, struct fault *fault) {
    enum { FACTOR_BELOW = 1 << 16 };
    char key[KEY_BYTES];
    key_make(key, architecture, "rope.scaling.type");
    struct gguf_string type = {NULL, 0};
    if (!gguf_get_string(gguf, key, &type, fault)) return false;

    float factor = 1.0F;
    bool present = false;
    geo->rope_scale = 1.0F;
    if (type.text == NULL) { /* files of 2023 */
        if (!real_read(gguf, architecture, "rope.scale_linear", FACTOR_BELOW, &factor, &present,
                       fault))
            return false;
        geo->rope_scale = 1.0F / factor;
        return true;
    }
    if (gguf_string_is(type, "none")) return true;
    if (!gguf_string_is(type, "linear")) {
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "offset 0x%llx: %s '%s' is not supported; supported are: none, linear, "
                         "and the rope_freqs.weight tensor of Llama 3.1",
                         key_offset(gguf, key), key, gguf_show(type).text);
    }
    if (!real_read(gguf, architecture, "rope.scaling.factor", FACTOR_BELOW, &factor, &present,
                   fault))
        return false;
    if (!present)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "%s is 'linear', but %s.rope.scaling.factor is missing", key,
                         architecture->name);
    geo->rope_scale = 1.0F / factor;
    return true;
}

static bool heads_read(struct model_geometry *geo, const struct gguf *gguf,
                       const struct architecture *architecture, struct fault *fault) {
    const char *a = architecture->name;
    const struct number_rule heads = {"attention.head_count", true, 0, 1, MODEL_DIM_MAX};
    if (!number_read(gguf, architecture, &heads, &geo->n_heads, fault)) return false;
    const struct number_rule kv_heads = {"attention.head_count_kv", false, geo->n_heads, 1,
                                         geo->n_heads};
    if (!number_read(gguf, architecture, &kv_heads, &geo->n_kv_heads, fault)) return false;
    if (geo->n_heads % geo->n_kv_heads != 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "%s.attention.head_count_kv is %u, which does not divide head_count %u", a,
                         geo->n_kv_heads, geo->n_heads);

    bool even_split = geo->dim % geo->n_heads == 0;
    uint32_t split = even_split ? geo->dim / geo->n_heads : 0;
    const struct number_rule key = {"attention.key_length", false, split, 1, MODEL_HEAD_DIM_MAX};
    if (!number_read(gguf, architecture, &key, &geo->head_dim, fault)) return false;
    if (geo->head_dim == 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "%s.attention.head_count %u does not divide embedding_length %u, and "
                         "attention.key_length is missing",
                         a, geo->n_heads, geo->dim);
    if (geo->head_dim > MODEL_HEAD_DIM_MAX)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "%s: embedding_length %u / head_count %u gives heads of %u; the most "
                         "supported is %d",
                         a, geo->dim, geo->n_heads, geo->head_dim, (int)MODEL_HEAD_DIM_MAX);
    uint32_t value_dim = 0;
    const struct number_rule value = {"attention.value_length", false, geo->head_dim, 1,
                                      MODEL_HEAD_DIM_MAX};
    if (!number_read(gguf, architecture, &value, &value_dim, fault)) return false;
    if (value_dim != geo->head_dim)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "%s.attention.value_length is %u and key_length %u; they must be equal", a,
                         value_dim, geo->head_dim);
    if (geo->n_heads > MODEL_DIM_MAX / geo->head_dim)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: %u heads of %u are more than %d wide",
                         a, geo->n_heads, geo->head_dim, (int)MODEL_DIM_MAX);

    const struct number_rule rope = {"rope.dimension_count", false, geo->head_dim, 2,
                                     geo->head_dim};
    if (!number_read(gguf, architecture, &rope, &geo->rope_dim, fault)) return false;
    if (geo->rope_dim % 2 != 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "%s.rope.dimension_count is %u (a head is %u): not even, so it does not "
                         "make pairs",
                         a, geo->rope_dim, geo->head_dim);
    return true;
}

/* Mistral 0.1 attends to the last `window` positions only. Within the window that is the same as
 * full attention, so the window becomes the context. */
static bool context_read(struct model_geometry *geo, const struct gguf *gguf,
                         const struct architecture *architecture, struct fault *fault) {
    const struct number_rule context = {"context_length", true, 0, 1, MODEL_CTX_MAX};
    const struct number_rule window = {"attention.sliding_window", false, 0, 0, UINT32_MAX};
    uint32_t positions = 0;
    if (!number_read(gguf, architecture, &context, &geo->ctx_train, fault) ||
        !number_read(gguf, architecture, &window, &positions, fault))
        return false;
    if (positions > 0 && positions < geo->ctx_train) geo->ctx_train = positions;
    return true;
}

bool geometry_read(struct model_geometry *geo, const struct architecture *architecture,
                   const struct gguf *gguf, struct fault *fault) {
    struct gguf_string name = {NULL, 0};
    *geo = (struct model_geometry){.rope_pairs = architecture->rope_pairs, .rope_base = 10000.0F};
    string_copy(geo->architecture, sizeof geo->architecture,
                (struct gguf_string){architecture->name, strlen(architecture->name)});
    if (!gguf_get_string(gguf, "general.name", &name, fault)) return false;
    if (name.text == NULL || name.length == 0)
        name = (struct gguf_string){architecture->name, strlen(architecture->name)};
    string_copy(geo->name, sizeof geo->name, name);

    if (!foreign_keys_check(gguf, architecture, fault)) return false;
    const struct {
        struct number_rule rule;
        uint32_t *out;
    } numbers[] = {
        {{"block_count", true, 0, 1, MODEL_LAYERS_MAX}, &geo->n_layers},
        {{"embedding_length", true, 0, 1, MODEL_DIM_MAX}, &geo->dim},
        {{"feed_forward_length", true, 0, 1, MODEL_DIM_MAX}, &geo->ffn},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!number_read(gguf, architecture, &numbers[i].rule, numbers[i].out, fault)) return false;
    if (!context_read(geo, gguf, architecture, fault)) return false;
    if (!heads_read(geo, gguf, architecture, fault)) return false;

    bool present = false;
    if (!real_read(gguf, architecture, "rope.freq_base", 1e12, &geo->rope_base, &present, fault))
        return false;
    if (!real_read(gguf, architecture, "attention.layer_norm_rms_epsilon", 1.0, &geo->norm_eps,
                   &present, fault))
        return false;
    if (!present)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED,
                         "%s.attention.layer_norm_rms_epsilon is missing", architecture->name);
    return rope_scaling_read(geo, gguf, architecture, fault);
}
