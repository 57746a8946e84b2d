/* fast_state: what fast.c (memory, loading) and fast_step.c (phases) share. Nobody else includes
 * this. */
#ifndef WICK_CPU_FAST_STATE_H
#define WICK_CPU_FAST_STATE_H

#include "backend/backend.h"
#include "base/arena.h"
#include "cpu/fast.h"
#include "cpu/kernels.h"
#include "cpu/kv_layout.h"
#include "cpu/team.h"
#include "model/model.h"
#include "model/pack.h"

enum {
    FAST_GROUP = 8, /* panels that share what a cache holds of the rows */
    FAST_SHARED = 4 /* sequences of full length whose attention can be shared out by chunks */
};

struct fast_layer {
    struct packed_matrix q, k, v, attn_out, gate, up, down;
    float *attn_norm, *ffn_norm;     /* (dim, padded) */
    float *q_bias, *k_bias, *v_bias; /* (rows, padded to 16), NULL: none */
};

/* Widths padded so that every row starts a lane group and ends with zeros. */
struct fast_widths {
    uint32_t dim, q, kv, ffn;                 /* as the model has them */
    uint32_t dim_pad, q_pad, kv_pad, ffn_pad; /* multiples of 32 */
    uint32_t vocab_pad;                       /* multiple of 16 */
    uint32_t group;                           /* query heads of a KV head */
    uint32_t block_heads;  /* query heads of an attend job: at most kernels->attend_queries */
    uint32_t block_rows;   /* and rows at most: what fits of those */
    uint32_t group_blocks; /* attend jobs of a KV head and its rows */
    uint32_t head_pad;     /* head_dim, multiple of 32 */
    size_t attend_scratch; /* floats of an attend job */
    uint32_t parts;        /* of attention that few long sequences are shared out in */
    uint32_t rows, logits; /* of the batch at most, padded to 16 */
};

/* Room for what a step computes and does not keep; only taps look at it. */
struct fast_tapped {
    float *out;          /* (rows_max, dim_pad): attn_out and ffn_out before the residual */
    float *gate, *up;    /* (rows_max, ffn_pad) */
    float *attn_weights; /* (n_heads, rows_max, ctx up to a multiple of 256) */
    float *compact;      /* a tensor without its padding, largest of all */
};

struct fast_step {
    const struct batch *batch; /* NULL: no step */
    uint32_t phase;            /* enum fast_phase */
    uint32_t layer;
    bool open;                              /* the team works on this phase */
    uint32_t group;                         /* panels of an item of this phase */
    uint64_t since_ns;                      /* when this phase began */
    uint64_t waited_ns;                     /* what the team had waited by then */
    bool rope_fused;                        /* with attention: no row sees another */
    uint32_t chunks;                        /* of positions that are items of their own; or 1 */
    uint32_t n_blocks;                      /* of rows that attend together */
    uint16_t block_row[BATCH_ROWS_MAX + 1]; /* where each begins; the last ends at n_rows */
    uint32_t n_logits;
    uint32_t logits_row[BATCH_ROWS_MAX]; /* batch rows that want logits, in order */
};

struct fast {
    struct backend backend; /* first: a struct backend * is a struct fast * */
    const struct cpu_kernels *kernels;
    const struct model *model; /* tensors are valid until load is done, the geometry for ever */
    struct backend_limits limits;
    struct fast_widths width;
    struct team *team;

    struct fast_layer *layer;    /* (n_layers) */
    struct packed_matrix output; /* the head; also the embedding table when tied */
    const uint8_t *token_embd;   /* raw rows: when not tied, or of a mapped file */
    size_t token_embd_row_bytes;
    float *output_norm;     /* (dim_pad) */
    double *rope_frequency; /* (rope_dim / 2) */
    struct kv_layout kv;
    uint8_t *kv_pages; /* (n_layers, kv.layer_bytes) */

    /* Activations, (rows_max, ...) */
    float *x;                   /* (dim_pad) residual stream */
    struct activations norm;    /* (dim_pad) input of qkv, gate_up */
    float *q, *k, *v;           /* (q_pad), (kv_pad), (kv_pad) */
    struct activations attn;    /* (q_pad) attention output, input of attn_out */
    struct activations ffn;     /* (ffn_pad) input of down */
    struct activations last;    /* (logits_max, dim_pad) input of the head */
    float *rope_cos, *rope_sin; /* (rope_dim) as kernels->rotate has it: signed */
    float *logits;              /* (logits_max, vocab_pad) */
    float *attend_scratch;      /* (threads, width.attend_scratch) */
    float *attended;            /* (threads, kernels->attend_queries, head_pad) */
    struct attend_sum *part;    /* (width.parts): of (rows, heads, step.chunks) */
    float *part_values;         /* (width.parts, head_pad) */
    uint8_t *panels;    /* (threads, FAST_GROUP, panel_bytes) of a mapped file, just packed */
    size_t panel_bytes; /* of the widest matrix */
    uint64_t weight_bytes;
    float *tile; /* (threads, 2, rows, 16 FAST_GROUP) outputs before they are merged */
    struct fast_tapped tapped;

    uint32_t load_index; /* matrices loaded so far */
    bool load_open;
    uint64_t load_bytes_done;
    struct fast_step step;
    uint64_t phase_ns[BACKEND_PHASES_MAX]; /* by enum fast_phase, without waiting; then waiting */
};

/* Phases, driven by fast.c. */
void fast_step_begin(struct fast *fast, const struct batch *batch);
uint32_t fast_step_phases(const struct fast *fast, struct backend_phase *out);
enum backend_status fast_step_advance(struct fast *fast, uint64_t deadline_ns);
void fast_step_abort(struct fast *fast);

/* Shows the stage that just ended to backend.tap. */
void fast_tap_phase(struct fast *fast);

#endif
