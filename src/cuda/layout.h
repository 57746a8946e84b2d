/* layout: what lies where in the device's memory and in pinned memory.
 *
 * Carved like everything else (base/arena.h), from two arenas more: `vram`, whose addresses are the
 * device's, and `pinned`, host memory that both sides see. Measured they are the plan; laid over
 * what the driver gave they are the addresses that kernels get.
 *
 *   vram     GPU weights      panels of every matrix, then vectors and tables
 *            GPU KV cache     (n_layers, n_pages, page_bytes)
 *            GPU activations  rows_max rows of everything between two kernels, the batch, logits
 *   pinned   flag, batch, choices, then logits; while loading, two upload buffers in their place */
#ifndef WICK_CUDA_LAYOUT_H
#define WICK_CUDA_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/arena.h"
#include "base/fault.h"
#include "kernels/abi.h"
#include "model/model.h"

enum {
    LAYOUT_ALIGN = 256,
    LAYOUT_UPLOAD_BYTES = 8 << 20, /* of one of the two buffers, unless a panel is larger */
    LAYOUT_UPLOADS = 2
};

/* A matrix on the device, and where it comes from. */
struct layout_matrix {
    const struct model_tensor *tensor;
    struct gpu_matrix gpu;
    uint32_t kind; /* enum gpu_kind */
    uint32_t cols;
    uint32_t turn; /* rows of a head of a NEOX model, which are permuted; 0: as they are */
};

struct layout_layer {
    struct layout_matrix q, k, v, attn_out, gate, up, down;
    uint64_t attn_norm, ffn_norm;    /* (dim) F32 */
    uint64_t q_bias, k_bias, v_bias; /* (rows) F32; 0: none */
    uint64_t kv;                     /* (n_pages, page_bytes) */
};

/* Rows of activations, on the device. */
struct layout_rows {
    uint64_t at;
    uint32_t stride; /* elements */
};

/* The batch as one run of bytes, the same on both sides; offsets in it. */
struct layout_batch {
    uint32_t rows, tiles, logits, sequences; /* at most */
    uint32_t pages_per_sequence;
    uint32_t step_at, row_at, tile_at, logits_at, page_at;
    uint32_t after_at; /* of a second gpu_step, whose ticket comes after the logits are copied */
    uint32_t bytes;
};

struct layout {
    const struct model *model;
    struct backend_limits limits;
    struct layout_layer *layer; /* (n_layers), host memory */
    struct layout_matrix output, token_embd;
    uint64_t output_norm;
    uint64_t angle_low, angle_high; /* doubles, see struct gpu_embed */
    uint64_t weight_bytes, kv_bytes, kv_at;
    struct gpu_kv kv;      /* but its layer */
    float attend_scale;    /* 1 / sqrt(head_dim) */
    uint32_t chunks;       /* of the context */
    uint32_t partial_rows; /* that have a place in `partial` */

    struct layout_rows x, q, k, v, heads, ffn, logits;
    uint64_t angle, prepared, partial, top_key, top_part;
    uint64_t batch; /* struct layout_batch of the largest class */

    /* pinned: addresses of ours, and what has to be added for the device's */
    uint32_t *flag;
    uint8_t *batch_host;
    struct gpu_choice *choice; /* (logits_max) */
    float *logits_host;        /* (logits_max, logits.stride) */
    uint8_t *upload[LAYOUT_UPLOADS];
    uint64_t upload_bytes;
};

/* Can the kernels compute this model? INVALID_REQUEST says what they lack. */
bool layout_check(const struct model *model, uint32_t kv_type, struct fault *fault);

/* The room of a batch of at most `rows` rows. */
struct layout_batch layout_batch_of(const struct backend_limits *limits, uint32_t rows);

/* Batches of at most so many rows have all their attention split over the context; of larger ones
 * the sequences with a single row. */
enum { LAYOUT_SPLIT_ROWS = 8 };

/* Carves all three; `layer` of *layout is taken from `arena`. While one of them measures, its
 * addresses count from 0. */
void layout_carve(struct layout *layout, const struct model *model,
                  const struct backend_limits *limits, struct arena *arena, struct arena *vram,
                  struct arena *pinned);

/* The same again for device and pinned memory, over `layer` that is there. */
void layout_place(struct layout *layout, struct arena *vram, struct arena *pinned);

/* All matrices, in the order in which they lie in device memory. NULL after the last. */
struct layout_matrix *layout_matrix_at(struct layout *layout, uint32_t index);

#endif
