#include "tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"

const struct tiny_shape tiny_llama = {"llama", 2, 32, 48, 4, 2, 8, 64, false, false};

static struct tiny_kv *kv_at(struct tiny_model *tiny, const char *key, enum gguf_type type) {
    uint32_t i = 0;
    while (i < tiny->n_kv && strcmp(tiny->kv[i].key, key) != 0) i++;
    if (i == tiny->n_kv) tiny->n_kv++;
    wick_assert(tiny->n_kv <= TINY_KV_MAX);
    tiny->kv[i] = (struct tiny_kv){.type = type};
    snprintf(tiny->kv[i].key, sizeof tiny->kv[i].key, "%s", key);
    return &tiny->kv[i];
}

void tiny_set_u32(struct tiny_model *tiny, const char *key, uint32_t value) {
    kv_at(tiny, key, GGUF_U32)->number = value;
}

void tiny_set_f32(struct tiny_model *tiny, const char *key, float value) {
    kv_at(tiny, key, GGUF_F32)->real = value;
}

void tiny_set_bool(struct tiny_model *tiny, const char *key, bool value) {
    kv_at(tiny, key, GGUF_BOOL)->number = value;
}

void tiny_set_text(struct tiny_model *tiny, const char *key, const char *value) {
    struct tiny_kv *kv = kv_at(tiny, key, GGUF_STRING);
    snprintf(kv->text, sizeof kv->text, "%s", value);
}

void tiny_remove(struct tiny_model *tiny, const char *key) {
    for (uint32_t i = 0; i < tiny->n_kv; i++)
        if (strcmp(tiny->kv[i].key, key) == 0) {
            tiny->kv[i] = tiny->kv[--tiny->n_kv];
            return;
        }
    panic_at(__FILE__, __LINE__, key);
}

void tiny_tensor(struct tiny_model *tiny, const char *name, enum quant_type type, uint64_t d0,
                 uint64_t d1) {
    uint32_t i = 0;
    while (i < tiny->n_tensors && strcmp(tiny->tensor[i].name, name) != 0) i++;
    if (i == tiny->n_tensors) tiny->n_tensors++;
    wick_assert(tiny->n_tensors <= TINY_TENSORS_MAX);
    struct tiny_tensor *t = &tiny->tensor[i];
    *t = (struct tiny_tensor){.type = type, .dims = {d0, d1}, .n_dims = d1 > 0 ? 2 : 1};
    snprintf(t->name, sizeof t->name, "%s", name);
}

void tiny_remove_tensor(struct tiny_model *tiny, const char *name) {
    for (uint32_t i = 0; i < tiny->n_tensors; i++)
        if (strcmp(tiny->tensor[i].name, name) == 0) {
            tiny->tensor[i] = tiny->tensor[--tiny->n_tensors];
            return;
        }
    panic_at(__FILE__, __LINE__, name);
}

static void layer_init(struct tiny_model *tiny, const struct tiny_shape *s, uint32_t layer) {
    uint32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const struct {
        const char *name;
        uint32_t d0, d1;
    } tensors[] = {
        {"attn_norm.weight", s->dim, 0},
        {"attn_q.weight", s->dim, q},
        {"attn_k.weight", s->dim, kv},
        {"attn_v.weight", s->dim, kv},
        {"attn_output.weight", q, s->dim},
        {"ffn_norm.weight", s->dim, 0},
        {"ffn_gate.weight", s->dim, s->ffn},
        {"ffn_up.weight", s->dim, s->ffn},
        {"ffn_down.weight", s->ffn, s->dim},
        {"attn_q.bias", q, 0},
        {"attn_k.bias", kv, 0},
        {"attn_v.bias", kv, 0},
    };
    size_t n = sizeof tensors / sizeof tensors[0] - (s->bias ? 0 : 3);
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s", layer, tensors[i].name);
        tiny_tensor(tiny, name, QUANT_F32, tensors[i].d0, tensors[i].d1);
    }
}

void tiny_init(struct tiny_model *tiny, const struct tiny_shape *s) {
    tiny->n_kv = tiny->n_tensors = 0;
    tiny->seed = 1;
    const struct {
        const char *suffix;
        uint32_t value;
    } numbers[] = {
        {"block_count", s->layers},
        {"context_length", 128},
        {"embedding_length", s->dim},
        {"feed_forward_length", s->ffn},
        {"attention.head_count", s->heads},
        {"attention.head_count_kv", s->kv_heads},
        {"attention.key_length", s->head_dim},
        {"attention.value_length", s->head_dim},
    };
    tiny_set_text(tiny, "general.architecture", s->architecture);
    tiny_set_text(tiny, "general.name", "tiny");
    char key[96];
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", s->architecture, numbers[i].suffix);
        tiny_set_u32(tiny, key, numbers[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", s->architecture);
    tiny_set_f32(tiny, key, 1e-5F);
    kv_at(tiny, "tokenizer.ggml.tokens", GGUF_ARRAY)->number = s->vocab;

    tiny_tensor(tiny, "token_embd.weight", QUANT_F32, s->dim, s->vocab);
    tiny_tensor(tiny, "output_norm.weight", QUANT_F32, s->dim, 0);
    if (!s->tied) tiny_tensor(tiny, "output.weight", QUANT_F32, s->dim, s->vocab);
    for (uint32_t layer = 0; layer < s->layers; layer++) layer_init(tiny, s, layer);
}

static void put(struct tiny_model *tiny, const void *bytes, size_t n) {
    wick_assert(n <= TINY_BYTES - tiny->length);
    memcpy(tiny->bytes + tiny->length, bytes, n);
    tiny->length += n;
}

static void put_u32(struct tiny_model *tiny, uint32_t value) {
    put(tiny, &value, sizeof value);
}

static void put_u64(struct tiny_model *tiny, uint64_t value) {
    put(tiny, &value, sizeof value);
}

static void put_text(struct tiny_model *tiny, const char *text) {
    put_u64(tiny, strlen(text));
    put(tiny, text, strlen(text));
}

static void kv_write(struct tiny_model *tiny, const struct tiny_kv *kv) {
    put_text(tiny, kv->key);
    put_u32(tiny, (uint32_t)kv->type);
    switch (kv->type) {
    case GGUF_U32:
        put_u32(tiny, kv->number);
        break;
    case GGUF_F32:
        put(tiny, &kv->real, sizeof kv->real);
        break;
    case GGUF_BOOL:
        put(tiny, kv->number != 0 ? "\1" : "\0", 1);
        break;
    case GGUF_STRING:
        put_text(tiny, kv->text);
        break;
    default:
        put_u32(tiny, GGUF_STRING);
        put_u64(tiny, kv->number);
        for (uint32_t i = 0; i < kv->number; i++) put_text(tiny, "t");
    }
}

/* SplitMix64, to [-1, 1). */
static float random_unit(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return (float)((double)(int64_t)(z ^ (z >> 31)) * 0x1p-63);
}

static uint64_t tensor_bytes(const struct tiny_tensor *t) {
    const struct quant_info *info = quant_info((uint32_t)t->type);
    wick_assert(info != NULL);
    uint64_t values = t->dims[0] * (t->n_dims > 1 ? t->dims[1] : 1);
    return values / info->block_values * info->block_bytes;
}

static void tensor_write(struct tiny_model *tiny, const struct tiny_tensor *t, uint64_t *random) {
    uint64_t bytes = tensor_bytes(t);
    bool near_one = strstr(t->name, "norm") != NULL || strstr(t->name, "freqs") != NULL;
    float scale = near_one ? 0.3F : t->n_dims > 1 ? 1.5F / sqrtf((float)t->dims[0]) : 0.5F;
    if (strcmp(t->name, "token_embd.weight") == 0) scale = 1.0F;
    for (uint64_t i = 0; i < bytes; i += sizeof(float)) {
        float value = random_unit(random) * scale + (near_one ? 1.0F : 0.0F);
        if (t->type != QUANT_F32) value = 0.0F;
        put(tiny, &value, bytes - i < sizeof value ? (size_t)(bytes - i) : sizeof value);
    }
    while (tiny->length % 32 != 0) put(tiny, "", 1);
}

bool tiny_bind(struct tiny_model *tiny, struct fault *fault) {
    uint64_t offset = 0, random = tiny->seed;
    tiny->length = 0;
    put(tiny, "GGUF", 4);
    put_u32(tiny, 3);
    put_u64(tiny, tiny->n_tensors);
    put_u64(tiny, tiny->n_kv);
    for (uint32_t i = 0; i < tiny->n_kv; i++) kv_write(tiny, &tiny->kv[i]);
    for (uint32_t i = 0; i < tiny->n_tensors; i++) {
        const struct tiny_tensor *t = &tiny->tensor[i];
        put_text(tiny, t->name);
        put_u32(tiny, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims; d++) put_u64(tiny, t->dims[d]);
        put_u32(tiny, (uint32_t)t->type);
        put_u64(tiny, offset);
        offset += round_up(tensor_bytes(t), 32);
    }
    while (tiny->length % 32 != 0) put(tiny, "", 1);
    for (uint32_t i = 0; i < tiny->n_tensors; i++) tensor_write(tiny, &tiny->tensor[i], &random);
    return gguf_parse(&tiny->gguf, tiny->bytes, tiny->length, fault) &&
           model_bind(&tiny->model, &tiny->gguf, fault);
}
