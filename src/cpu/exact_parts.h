/* exact_parts: the layout of the exact backend, shared by its two files: exact.c carves, loads and
 * walks through the stages of a step; exact_stages.c computes them. Private to both. */
#ifndef WICK_CPU_EXACT_PARTS_H
#define WICK_CPU_EXACT_PARTS_H

#include <stdatomic.h>

#include "cpu/exact.h"
#include "cpu/team.h"

/* The stages of a step in order; those from ATTN_NORM to DOWN repeat for every layer. A stage
 * begins when the one before is finished by everyone. */
enum exact_stage {
    EXACT_EMBED,
    EXACT_ATTN_NORM,
    EXACT_QKV,
    EXACT_ROPE_STORE,
    EXACT_ATTEND,
    EXACT_ATTN_OUT,
    EXACT_FFN_NORM,
    EXACT_GATE_UP,
    EXACT_SWIGLU,
    EXACT_DOWN,
    EXACT_FINAL_NORM,
    EXACT_HEAD,
    EXACT_FINISHED
};

struct exact {
    struct backend base;       /* first: a struct backend * is a struct exact * */
    const struct model *model; /* whose tensors load() copies; not looked at afterwards */
    struct model_geometry geo;
    struct backend_limits limits;
    struct team *team;
    uint32_t q_width, kv_width; /* heads times head_dim */
    uint32_t widest;            /* columns of the widest matrix */

    /* Weights: raw blocks as in the file, tensor after tensor. */
    uint8_t *weights;
    uint64_t weight_bytes;
    struct model_tensor token_embd, output_norm, output;
    struct model_layer *layer; /* (n_layers), data in `weights` */
    double *inverse_frequency; /* (rope_dim / 2) */

    /* (n_layers, n_pages, KV_PAGE_TOKENS, n_kv_heads, kv_head_bytes) */
    uint8_t *k_cache, *v_cache;
    size_t kv_head_bytes;

    /* Activations of a batch of `rows_max` rows. */
    double *x;            /* (rows, dim) residual stream */
    double *normed;       /* (rows, dim) */
    double *q, *k, *v;    /* (rows, q_width), (rows, kv_width) twice */
    double *heads;        /* (rows, q_width) */
    double *out;          /* (rows, dim) what a sub-layer adds to x */
    double *gate, *up;    /* (rows, ffn) */
    float *logits;        /* (logits_max, vocab) */
    uint32_t *logits_row; /* (logits_max) the row of the batch behind each */
    float *staging; /* what a tap is shown: (rows, max(widest, padded ctx)) with limits.taps */
    size_t staging_values;

    /* Scratch of each thread. */
    double *scores;     /* (threads, ctx) */
    float *expanded;    /* (threads, widest) one row of a matrix */
    double *weight_row; /* (threads, widest) the same as double */
    double *sums;       /* (threads, rows) one output of every row of the batch */

    /* Loading. */
    bool started;
    uint32_t load_tensor; /* number of the tensor being copied */
    uint64_t load_offset; /* of its bytes, copied */
    uint64_t loaded;      /* bytes of all */

    /* The step. */
    const struct batch *batch;
    uint32_t n_logits;
    enum exact_stage stage;
    uint32_t at_layer;
    bool stage_open; /* the team works on `stage` */
    _Atomic bool aborted;
};

/* How many items a stage has, and how many are claimed at once. */
uint32_t exact_stage_items(const struct exact *x);
uint32_t exact_stage_grain(const struct exact *x);

/* team_work of every stage; the context is the struct exact. */
void exact_stage_work(void *context, uint32_t member, uint32_t first, uint32_t count);

/* Shows the tap what the stage that just finished has made. */
void exact_stage_tap(struct exact *x);

#endif
