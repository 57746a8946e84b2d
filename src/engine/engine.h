/* engine: a model file made ready to compute: mapped, parsed, bound, planned, carved, packed.
 *
 * Used by wick (main.c) and by wick-lab. The order is the boot sequence:
 *
 *   engine_map -> engine_carve over a measuring arena (the plan) -> engine_fits -> arena_map
 *              -> engine_carve over it -> engine_load until done -> arena_seal, sandbox
 */
#ifndef WICK_ENGINE_ENGINE_H
#define WICK_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/arena.h"
#include "base/config.h"
#include "base/fault.h"
#include "cuda/gpu.h"
#include "engine/pin.h"
#include "gguf/gguf.h"
#include "model/model.h"
#include "token/vocab.h"

/* Longest text that is ever encoded: 32768 characters of at most 4 bytes. */
enum { ENGINE_PROMPT_CHARS_MAX = 32768, ENGINE_TEXT_MAX = 4 * ENGINE_PROMPT_CHARS_MAX };

struct engine {
    const struct config *config;
    const uint8_t *file; /* the mapping; NULL once everything is loaded, unless mapped */
    uint64_t file_bytes;
    bool disk;      /* the file is one */
    int fd;         /* of the file, while a GPU is loaded from it */
    uint32_t ctx;   /* tokens of one sequence, as chosen */
    uint32_t slots; /* sequences at once */
    uint32_t n_pages;
    struct processors cpus;        /* that of each thread */
    uint32_t rows_max, logits_max; /* of a batch; known while measuring, when backend is NULL */
    uint32_t candidates;           /* backend_info's, likewise */
    bool taps;                     /* set before engine_carve: the backend makes room for taps */
    /* Set before engine_map, stays for the life of the process. NULL: no driver is brought up, and
     * backend=cuda can only be planned. */
    struct gpu_driver *gpu;
    bool mapped;               /* the file stays so: weights=mapped */
    bool cuda;                 /* the backend that was chosen */
    struct arena vram, pinned; /* what it takes of the device and of pinned memory, measured */
    struct gguf gguf;
    struct model model;
    struct vocab vocab;
    struct vocab_scratch scratch;
    struct backend *backend;
    /* loading */
    uint32_t stage;
    struct pin pin;
    uint64_t drop_ns;     /* when pages of the file are dropped next */
    struct batch warm_up; /* one row: the first step of a lazy backend */
    uint32_t warm_up_page;
};

/* Opens and maps the file (or disk) of config->model, parses it, binds the model, chooses the
 * backend and brings the GPU up if that is it. The engine struct is big: make it static. Faults are
 * MODEL_LOAD_FAILED with the file's name, the offset and the reason, and CUDA_ERROR. */
bool engine_map(struct engine *engine, const struct config *config, struct fault *fault);

/* An engine without a model, in place of all the steps below but server_carve: for a server that
 * only tells what went wrong. */
void engine_blank(struct engine *engine, const struct config *config);

/* Measures or takes everything the engine needs: vocabulary, packed weights, KV cache, activations.
 */
bool engine_carve(struct engine *engine, struct arena *arena, struct fault *fault);

/* Measures what else lies in the arena, for an engine of that ctx and slots. */
typedef void engine_rest(struct engine *engine, struct arena *arena);

/* Does a plan of `bytes` fit this machine (config->memory, or what is available now), and what it
 * takes of the GPU fit that (config->vram, or what is free)? The fault, INSUFFICIENT_RESOURCES or
 * INSUFFICIENT_VRAM, states required and available bytes and the largest ctx and slots that would
 * fit, with `rest` (NULL: nothing) beside the engine. */
bool engine_fits(const struct engine *engine, uint64_t bytes, engine_rest *rest,
                 struct fault *fault);

enum engine_status { ENGINE_LOADING, ENGINE_READY, ENGINE_FAILED };

/* Bytes of the arena that weights=mapped saves. */
uint64_t engine_saved(const struct engine *engine);

/* Works on loading (digest, vocabulary, packing weights) until done or until the deadline.
 * *percent: 0 .. 100. When it returns ENGINE_READY the first forward pass has run and the file is
 * unmapped, unless weights are computed from it. */
enum engine_status engine_load(struct engine *engine, uint64_t deadline_ns, uint32_t *percent,
                               struct fault *fault);

/* Ends threads, unmaps. */
void engine_close(struct engine *engine);

#endif
