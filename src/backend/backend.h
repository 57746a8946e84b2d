/* backend: whatever computes a step. cpu/ and cuda/ implement it.
 *
 * A step is begun and then advanced: advance() works (or waits) until the step is done or the
 * deadline has passed, whichever is first, so that the one main loop keeps answering its wires
 * while a long step runs. Data goes one way: nothing here calls back into the scheduler. */
#ifndef WICK_BACKEND_BACKEND_H
#define WICK_BACKEND_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/processors.h"

enum {
    KV_PAGE_TOKENS = 16,  /* positions of one KV page; also the lanes of a packed panel */
    BATCH_ROWS_MAX = 1024 /* decode rows + one chunk of prompt */
};

/* What a row is computed for, besides its keys and values. */
enum row_wants {
    ROW_NOTHING,
    ROW_CANDIDATES, /* its likeliest tokens; not where backend_info.candidates is 0 */
    ROW_LOGITS      /* all its logits */
};

/* One position of one sequence. */
struct batch_row {
    int32_t token;     /* 0 .. vocab - 1 */
    uint32_t position; /* 0-based; RoPE angle and place in the KV cache */
    const uint32_t
        *pages; /* page of position p is pages[p / KV_PAGE_TOKENS]; valid through this position */
    enum row_wants wants;
    uint32_t candidates; /* ROW_CANDIDATES: how many */
};

/* Rows of one sequence are consecutive and in rising position; every earlier position of the
 * sequence is in its pages already or in this batch. The batch and its page tables stay untouched
 * until the step is done. */
struct batch {
    uint32_t n_rows;
    struct batch_row row[BATCH_ROWS_MAX];
};

enum backend_status {
    BACKEND_PENDING, /* the deadline passed first: call advance again */
    BACKEND_DONE,    /* logits are there until the next begin */
    BACKEND_FAILED   /* *fault says why; the backend is unusable from here on */
};

/* Facts for HEALTH, INFO and the scheduler; constant after boot. */
struct backend_info {
    char name[16];       /* "cpu" */
    char isa[16];        /* "avx512", "exact" */
    char device[160];    /* "Intel(R) Xeon(R) Processor, 2 threads on processors 0-1" */
    uint32_t n_pages;    /* KV pages there are */
    uint32_t rows_max;   /* rows of a batch, at most BATCH_ROWS_MAX */
    uint32_t logits_max; /* rows of a batch that may want logits or candidates */
    uint32_t candidates; /* that a row can be asked for; 0: this backend gives logits only */
    uint32_t vocab;
    uint64_t weight_bytes; /* in memory: as packed, or as mapped */
    uint64_t kv_bytes;
    bool lazy;           /* the first step does what loading left undone */
    uint64_t vram_bytes; /* taken on the device, all of it; 0: there is none */
};

/* The likeliest tokens of a row, best first, the lower id first of equals. NaN counts as minus
 * infinity, which is no candidate; plus infinity as the largest float. What a log-probability
 * needs besides: log-softmax(logits)[id[i]] = (logit[i] - logit[0]) - log_sum. */
struct backend_candidates {
    uint32_t n; /* at most backend_info.candidates */
    const int32_t *id;
    const float *logit;
    double log_sum; /* log(sum over the vocabulary of exp(its logit - logit[0])) */
};

/* A stage of the network made visible, for wick-lab dump and the checkpoint tests
 * (docs/ARCHITECTURE.md lists the names). Called with F32 values of the whole batch, dims innermost
 * first, e.g. "q_rope", layer 0, {head_dim, n_heads, n_rows, 1}. layer is TAP_NO_LAYER for
 * "final_norm" and "logits". A stage may come in several calls of a step that join along dims[2]
 * (isa=exact shows "attn_weights" head by head). */
enum { TAP_NO_LAYER = 0xFFFFFFFF };
struct backend_tap {
    void (*emit)(void *context, const char *name, uint32_t layer, const float *values,
                 const uint32_t dims[4]);
    void *context;
};

/* What a backend is carved for. */
struct backend_limits {
    uint32_t n_pages;              /* KV pages */
    uint32_t ctx;                  /* longest sequence, tokens */
    uint32_t rows_max;             /* rows of a batch */
    uint32_t logits_max;           /* rows of a batch that may want logits or candidates */
    uint32_t threads;              /* team size, the calling thread included */
    const struct processors *cpus; /* where each of them stays; NULL: anywhere */
    uint32_t kv_type;              /* enum config_kv (base/config.h) */
    uint32_t sequences;            /* of a batch */
    uint32_t vocab;                /* ids that may be candidates are below it */
    bool mapped;                   /* weights are read from the mapped file; after load as well */
    bool taps;                     /* room for what only taps need to see is carved as well */
};

/* Where the time of steps went, for wick-lab bench. */
enum { BACKEND_PHASES_MAX = 16 };
struct backend_phase {
    const char *name; /* "gate_up"; the last is "wait", for the slowest thread */
    uint64_t ns;      /* of all steps so far */
};

struct backend {
    const struct backend_ops *ops;
    struct backend_info info;
    const struct backend_tap
        *tap; /* NULL: none. Set between steps only; a tapped step may be slow. */
};

struct backend_ops {
    /* Works on taking the weights out of the mapped file into the arena until DONE or the deadline.
     * Starts the threads on its first call. *percent: 0 .. 100. After DONE the file may be
     * unmapped, unless limits.mapped. */
    enum backend_status (*load)(struct backend *backend, uint64_t deadline_ns, uint32_t *percent,
                                struct fault *fault);
    /* Takes the batch; returns at once. No step may be in flight. */
    void (*begin)(struct backend *backend, const struct batch *batch);
    enum backend_status (*advance)(struct backend *backend, uint64_t deadline_ns,
                                   struct fault *fault);
    /* Logits of the index-th row that wanted something, in row order: (vocab) F32. After DONE, for
     * rows that wanted logits. */
    const float *(*logits)(const struct backend *backend, uint32_t index);
    /* The same for rows that wanted candidates. NULL where info.candidates is 0. */
    struct backend_candidates (*candidates)(const struct backend *backend, uint32_t index);
    /* Gives the step in flight up as soon as possible; what it would have written to the KV cache
     * of its rows is undefined and must be computed again. Safe when no step is in flight. */
    void (*abort)(struct backend *backend);
    /* Fills `out` and returns how many phases there are. NULL: does not know. */
    uint32_t (*phases)(const struct backend *backend, struct backend_phase *out);
    /* Between steps, cheap: false, and *fault says why, when the backend has become unusable. NULL:
     * that cannot happen. */
    bool (*look)(struct backend *backend, struct fault *fault);
    /* Ends threads. Memory belongs to the arena. */
    void (*close)(struct backend *backend);
};

#endif
