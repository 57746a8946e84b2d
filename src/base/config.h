/* config: key=value settings, from argv (`key=value`, `--key=value` or `--key value`) and from the
 * kernel command line (`wick.key=value`). One table in config.c drives defaults, parsing and
 * --help.
 */
#ifndef WICK_BASE_CONFIG_H
#define WICK_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/processors.h"

enum { CONFIG_LISTEN_MAX = 8, CONFIG_STOP_MAX = 4 };

/* Which programs and commands take a key: bits of config_key.uses. */
enum config_use {
    CONFIG_SERVE = 1 << 0, /* wick */
    CONFIG_INSPECT = 1 << 1,
    CONFIG_PLAN = 1 << 2,
    CONFIG_TOKENIZE = 1 << 3,
    CONFIG_RUN = 1 << 4,
    CONFIG_LOGITS = 1 << 5,
    CONFIG_DUMP = 1 << 6,
    CONFIG_BENCH = 1 << 7,
    CONFIG_MAKE_MODEL = 1 << 8,
    CONFIG_SCORE = 1 << 9,
    CONFIG_DIFF = 1 << 10,
    CONFIG_GPUS = 1 << 11,

    /* Those that compute: they take the engine's keys. */
    CONFIG_ENGINE = CONFIG_SERVE | CONFIG_PLAN | CONFIG_RUN | CONFIG_LOGITS | CONFIG_DUMP |
                    CONFIG_BENCH | CONFIG_SCORE | CONFIG_DIFF,
    /* wick-lab plan takes every key of the server: it can be asked about a server's command line.
     */
    CONFIG_SERVER = CONFIG_SERVE | CONFIG_PLAN,
    /* These measure the weights, not the cache: exact keys and values unless told otherwise. */
    CONFIG_EXACT_KV = CONFIG_LOGITS | CONFIG_DUMP
};

enum config_on_fault { CONFIG_FAULT_PANICS, CONFIG_FAULT_REBOOTS };

enum config_on_gpu_fault { CONFIG_GPU_FAULT_STAYS, CONFIG_GPU_FAULT_RESTARTS };

enum config_weights { CONFIG_WEIGHTS_PACKED, CONFIG_WEIGHTS_MAPPED };

enum config_kv { CONFIG_KV_F16, CONFIG_KV_F32, CONFIG_KV_Q8_0 };

/* Strings point into argv or into the caller's copy of the kernel command line; NULL when not
 * given. */
struct config {
    /* engine */
    const char *model;
    const char *sha256;     /* of the model, as hex; "show": of whatever it is */
    const char *backend;    /* "auto", "cpu", "cuda" */
    const char *isa;        /* "auto", "exact", "sse2", "avx2", "avx512" */
    uint32_t threads;       /* 0: one for each processor of cpus, or of the affinity mask */
    struct processors cpus; /* that compute; none: those of the affinity mask */
    uint32_t ctx;           /* tokens of a sequence; 0: the model's, at most 4096 */
    uint32_t slots;
    uint32_t weights;   /* enum config_weights */
    uint32_t chunk;     /* prompt tokens of a step */
    uint32_t kv_type;   /* enum config_kv */
    uint64_t kv_tokens; /* positions in the KV pool; 0: slots * ctx */
    uint64_t memory;    /* bytes wick may use; 0: what the machine has available */
    /* GPU (cuda/) */
    const char *device;    /* number, or PCI address */
    const char *cuda_path; /* where the driver's libraries are looked for first */
    uint64_t vram;         /* bytes of the device's memory to use; 0: what is free */
    uint32_t hang_ms;      /* a step that takes longer hangs */
    uint32_t on_gpu_fault; /* enum config_on_gpu_fault */
    /* server */
    const char *listen[CONFIG_LISTEN_MAX];
    uint32_t n_listen;
    const char *key, *observer_key; /* hex digits or a file: secret/key.h */
    uint32_t queue;
    uint32_t deadline_ms, stall_ms, drain_ms;
    uint32_t log_level; /* enum log_level */
    /* PID 1 (boot/) */
    const char *ip;      /* see boot/ip.h */
    uint32_t wait_ms;    /* for devices to appear */
    uint32_t watchdog_s; /* 0: none */
    uint32_t on_fault;   /* enum config_on_fault */
    const char *boot_count;
    /* one-shot generation (wick-lab) */
    const char *prompt;
    const char *prompt_file;
    uint32_t max_tokens;
    double temperature, top_p, min_p, repetition_penalty;
    uint32_t top_k;
    bool seed_set; /* not set: draw one */
    uint64_t seed;
    const char *stop[CONFIG_STOP_MAX];
    uint32_t n_stop;
    bool add_bos_set, add_bos; /* not set: as the model asks */
    bool parse_special;
    bool json;
    const char *out; /* dump: directory; make-model: file */
    /* bench */
    uint32_t prompt_tokens, decode_tokens, repeat;
    bool phases;
    const char *sweep, *svg;
    uint32_t batch, depth; /* sequences decoded at once, behind so many tokens */
    uint64_t bandwidth;    /* bytes/s to compare with; 0: measured */
    /* score, diff */
    const char *file;    /* the text */
    uint32_t max_scored; /* tokens of it; 0: all */
    bool overlap_set;
    uint32_t overlap;                        /* tokens */
    const char *model_b, *backend_b, *isa_b; /* NULL: as in A */
    /* make-model */
    const char *vocab_from, *type, *architecture;
    uint32_t dim, ffn, layers, heads, kv_heads, head_dim, ctx_train;
    double rope_base;
    bool tied;
};

/* What a value is, and the type of the field that takes it. */
enum config_type {
    CONFIG_TEXT,         /* const char * */
    CONFIG_SECRET,       /* const char *; no message repeats it */
    CONFIG_U32,          /* uint32_t */
    CONFIG_U64,          /* uint64_t */
    CONFIG_BYTES,        /* uint64_t; a suffix K, M, G or T multiplies by a power of 1024 */
    CONFIG_REAL,         /* double, finite */
    CONFIG_BOOL,         /* bool; `--key` alone means 1 */
    CONFIG_CHOICE_INDEX, /* uint32_t: which of the words of `kind` */
    CONFIG_CHOICE_TEXT,  /* const char *: the word itself */
    CONFIG_LIST,         /* const char *[]: every use of the key adds one */
    CONFIG_PROCESSORS    /* struct processors */
};

/* A key may have several rows with disjoint uses: other commands, other default or range. */
struct config_key {
    const char *name; /* "kv_tokens"; '-' and '_' are one: kv_tokens= and --kv-tokens alike */
    enum config_type type;
    const char *kind;    /* for --help: "N", "TEXT", "BYTES"; the words of a choice: "f16|f32" */
    const char *initial; /* default, as a user would write it; NULL: none (zero, NULL) */
    const char *help;
    uint32_t uses;   /* config_use bits */
    uint32_t offset; /* of the field in struct config */
    uint32_t extra;  /* list: offset of its length; others: of the bool that says it was given */
    double min, max; /* of numbers; of a text, min is its least length; of a list, max is its
 capacity */
};

/* Values of config_key.extra that are no offset: nothing, and a text that may also be given as a
 * bare word; several take bare words in the order of the table. */
enum { CONFIG_NO_EXTRA = UINT16_MAX, CONFIG_BARE = UINT16_MAX - 1 };

/* The keys of wick, and those that only wick-lab has (host/lab/keys.c): weak, so that wick does not
 * carry them. Each is ended by an entry with name NULL. */
extern const struct config_key config_keys[];
extern const struct config_key config_lab_keys[] __attribute__((weak));

/* The row after `row`, the first of all after NULL; NULL at the end. Walks both tables. */
const struct config_key *config_next(const struct config_key *row);

/* Fills *config with the defaults of the table for one use (CONFIG_SERVE ...). */
void config_defaults(struct config *config, uint32_t use);

/* One setting. The fault (INVALID_REQUEST) names the key, what was given and what is allowed; an
 * unknown key names the nearest known one. */
bool config_set(struct config *config, uint32_t use, const char *key, const char *value,
                struct fault *fault);

/* argv after the program's (and command's) name. A bare word without '=' is the model, or what else
 * may be given so in this use and was not. --help (-h) and --version (-V) set *asked to 'h' or 'V'
 * and stop; otherwise it is 0. */
bool config_from_argv(struct config *config, uint32_t use, int argc, char **argv, char *asked,
                      struct fault *fault);

/* The kernel command line: words `wick.key=value` are ours, all others are ignored. Double quotes
 * keep blanks together, as the kernel reads them. Cuts `line` in place and keeps pointers into it.
 * What is wrong with one word does not keep the others from counting; the fault is that of the
 * first. */
bool config_from_cmdline(struct config *config, uint32_t use, char *line, struct fault *fault);

/* Writes the keys of `use` as help text, one a line, to fd. */
void config_help(int fd, uint32_t use);

#endif
