/* model: the geometry of a network and which tensor is which, with every shape checked.
 *
 * Knows the architectures 'llama' and 'qwen2'; does not know how anything is computed. Pointers
 * lead into the mapped file and die with the mapping: a backend takes what it needs into the arena
 * at boot. */
#ifndef WICK_MODEL_MODEL_H
#define WICK_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "gguf/gguf.h"

enum {
    MODEL_LAYERS_MAX = 512,
    MODEL_DIM_MAX = 1 << 17,
    MODEL_CTX_MAX = 1 << 20,
    MODEL_VOCAB_MAX = 1 << 20,
    MODEL_HEAD_DIM_MAX = 512,
    MODEL_NAME_BYTES = 64
};

/* Which elements of a head are rotated together. */
enum rope_pairs {
    ROPE_NORM, /* (2i, 2i + 1): llama */
    ROPE_NEOX  /* (i, i + rope_dim / 2): qwen2 */
};

struct model_geometry {
    char name[MODEL_NAME_BYTES]; /* general.name, or the architecture */
    char architecture[16];       /* "llama" */
    char quantisation[16];       /* type of most weight bytes: "Q8_0" */
    uint32_t n_layers;
    uint32_t dim; /* embedding_length */
    uint32_t ffn; /* feed_forward_length */
    uint32_t n_heads;
    uint32_t n_kv_heads; /* divides n_heads */
    uint32_t head_dim;   /* key_length == value_length; dim / n_heads when absent */
    uint32_t vocab;      /* rows of token_embd */
    uint32_t ctx_train;  /* context_length, or the sliding window where that is smaller */
    uint32_t rope_dim;   /* rotated elements of a head, even, at most head_dim */
    enum rope_pairs rope_pairs;
    float rope_base;  /* theta, 1e4 when absent */
    float rope_scale; /* position is multiplied by this: 1, or 1 / factor for linear scaling */
    float norm_eps;
    bool qkv_bias;
    bool tied; /* no output.weight: token_embd serves */
};

/* A matrix of `rows` outputs and `cols` inputs, row-major as in GGUF (dims[0] = cols), or a vector
 * (rows 1). */
struct model_tensor {
    const uint8_t *data; /* (rows, cols) blocks of `type`; NULL: the model has none */
    enum quant_type type;
    uint32_t rows, cols;
    uint64_t bytes;
    uint64_t data_offset; /* in the file, for messages */
};

struct model_layer {
    struct model_tensor attn_norm; /* (dim) F32 */
    struct model_tensor q, k, v; /* (n_heads * head_dim, dim), (n_kv_heads * head_dim, dim) twice */
    struct model_tensor q_bias, k_bias, v_bias; /* (rows of q, k, v) F32, or none */
    struct model_tensor attn_out;               /* (dim, n_heads * head_dim) */
    struct model_tensor ffn_norm;               /* (dim) F32 */
    struct model_tensor gate, up;               /* (ffn, dim) */
    struct model_tensor down;                   /* (dim, ffn) */
};

struct model {
    struct model_geometry geo;
    struct model_tensor token_embd;  /* (vocab, dim) */
    struct model_tensor output_norm; /* (dim) F32 */
    struct model_tensor output;      /* (vocab, dim); token_embd again when tied */
    struct model_tensor rope_freqs;  /* (rope_dim / 2) F32 divisors (Llama 3.1), or none */
    struct model_layer layer[MODEL_LAYERS_MAX];
};

/* Reads the geometry, binds the tensors, checks every shape, rejects tensors that the architecture
 * has no use for (a model computed wrongly is worse than one refused). Faults are
 * MODEL_LOAD_FAILED. */
bool model_bind(struct model *model, const struct gguf *gguf, struct fault *fault);

/* The angle divisor of pair i: theta_i = position * rope_scale * rope_base^(-2i / rope_dim) /
 * freq[i]. Fills rope_dim / 2 inverse frequencies, everything but the position, in double
 * precision. */
void model_rope_frequencies(const struct model *model, double *inverse_frequency);

#endif
