/* tiny_model: a GGUF of a small network with random weights, made in memory, of which a test may
 * change any key or tensor before it is built. */
#ifndef WICK_TESTS_TINY_MODEL_H
#define WICK_TESTS_TINY_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "gguf/gguf.h"
#include "model/model.h"

enum { TINY_KV_MAX = 64, TINY_TENSORS_MAX = 64, TINY_BYTES = 4 << 20, TINY_TOKENS_MAX = 256 };

struct tiny_kv {
    char key[96];
    enum gguf_type type; /* U32, F32, BOOL, STRING; ARRAY: that many strings */
    uint32_t number;
    float real;
    char text[64];
};

struct tiny_tensor {
    char name[64];
    enum quant_type type;
    uint64_t dims[4];
    uint32_t n_dims;
};

struct tiny_shape {
    const char *architecture;
    uint32_t layers, dim, ffn, heads, kv_heads, head_dim, vocab;
    bool bias, tied;
};

struct tiny_model {
    struct tiny_kv kv[TINY_KV_MAX];
    uint32_t n_kv;
    struct tiny_tensor tensor[TINY_TENSORS_MAX];
    uint32_t n_tensors;
    uint64_t seed; /* of the weights */

    uint8_t bytes[TINY_BYTES]; /* the file, after tiny_bind */
    uint64_t length;
    struct gguf gguf;
    struct model model;
};

/* llama, 2 layers, dim 32, ffn 48, heads 4/2 of 8, vocabulary 64, output of its own. */
extern const struct tiny_shape tiny_llama;

/* Fills in all keys and tensors of the shape. */
void tiny_init(struct tiny_model *tiny, const struct tiny_shape *shape);

void tiny_set_u32(struct tiny_model *tiny, const char *key, uint32_t value);
void tiny_set_f32(struct tiny_model *tiny, const char *key, float value);
void tiny_set_bool(struct tiny_model *tiny, const char *key, bool value);
void tiny_set_text(struct tiny_model *tiny, const char *key, const char *value);
void tiny_remove(struct tiny_model *tiny, const char *key);

/* Adds the tensor, or replaces the one of that name. d1 0: a vector. */
void tiny_tensor(struct tiny_model *tiny, const char *name, enum quant_type type, uint64_t d0,
                 uint64_t d1);
void tiny_remove_tensor(struct tiny_model *tiny, const char *name);

/* Writes the file, parses it and binds tiny->model. F32 tensors get random values: norms and
 * frequencies around 1, all others small. Other types are zero bytes. */
bool tiny_bind(struct tiny_model *tiny, struct fault *fault);

#endif
