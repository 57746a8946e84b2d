#include "base/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/panic.h"

enum { ENGINE = CONFIG_ENGINE, SERVER = CONFIG_SERVER, DAY_MS = 24 * 3600 * 1000 };

#define AT(field) offsetof(struct config, field), CONFIG_NO_EXTRA
#define AT_BARE(field) offsetof(struct config, field), CONFIG_BARE
#define AT_WITH(field, extra) offsetof(struct config, field), offsetof(struct config, extra)

/* Limits that other headers own are repeated here as numbers, because base/ knows no other module;
 * tests/unit/test_config.c holds both sides together. */
const struct config_key config_keys[] = {
    /* clang-format off */
    {"model", CONFIG_TEXT, "FILE", NULL, "GGUF file to load",
     ENGINE | CONFIG_INSPECT | CONFIG_TOKENIZE, AT_BARE(model), 1, 0},
    {"sha256", CONFIG_TEXT, "HEX|show", NULL,
     "digest that the model must have; INFO tells it; loading takes one more pass over the file",
     SERVER, AT(sha256), 1, 0},
    {"backend", CONFIG_CHOICE_TEXT, "auto|cpu|cuda", "auto",
     "what computes; auto: an NVIDIA GPU if one can be used", ENGINE, AT(backend), 0, 0},
    {"isa", CONFIG_CHOICE_TEXT, "auto|exact|sse2|avx2|avx512|amx|amx-bf16", "auto",
     "instruction set; exact: the float64 reference; amx-bf16: amx, 4-bit types for long prompts",
     ENGINE, AT(isa), 0, 0},
    {"threads", CONFIG_U32, "N", "0", "threads; 0: one for each processor allowed",
     ENGINE, AT(threads), 0, 64},
    {"cpus", CONFIG_PROCESSORS, "LIST", NULL,
     "processors that compute, 0-3,8: a thread for each, kept there; else those of the affinity mask",
     ENGINE, AT(cpus), 0, 0},
    {"ctx", CONFIG_U32, "TOKENS", "0", "longest sequence, prompt and output; 0: the model's, at most 4096",
     ENGINE, AT(ctx), 0, 1 << 20},
    {"slots", CONFIG_U32, "N", "4", "jobs that run at the same time",
     SERVER, AT(slots), 1, 64},
    {"chunk", CONFIG_U32, "TOKENS", "256", "prompt tokens of one step; beside decoding jobs, a quarter",
     ENGINE, AT(chunk), 1, 512},
    {"weights", CONFIG_CHOICE_INDEX, "packed|mapped", "packed",
     "mapped: the CPU computes from the file, in less memory and slower; isa=exact ignores it",
     ENGINE, AT(weights), 0, 0},
    {"kv", CONFIG_CHOICE_INDEX, "f16|f32|q8_0", "f16",
     "type of the KV cache; f16: with isa=amx, bfloat16",
     ENGINE & ~CONFIG_EXACT_KV, AT(kv_type), 0, 0},
    {"kv_tokens", CONFIG_U64, "TOKENS", "0", "positions in the KV pool; 0: slots * ctx",
     ENGINE, AT(kv_tokens), 0, 1u << 30},
    {"memory", CONFIG_BYTES, "BYTES", "0", "most memory to use; 0: what the machine has available",
     ENGINE, AT(memory), 0, 1ull << 50},
    {"device", CONFIG_TEXT, "N", "0", "which GPU: its number or PCI address (wick-lab gpus lists them)",
     ENGINE, AT(device), 1, 0},
    {"cuda_path", CONFIG_TEXT, "DIR[:DIR]", NULL, "where libcuda.so.1 and glibc's loader are looked for first",
     ENGINE | CONFIG_GPUS, AT(cuda_path), 1, 0},
    {"vram", CONFIG_BYTES, "BYTES", "0", "most GPU memory to use; 0: what is free",
     ENGINE, AT(vram), 0, 1ull << 50},
    {"hang_ms", CONFIG_U32, "MS", "30000", "a step that takes longer on the GPU counts as hung",
     ENGINE, AT(hang_ms), 1, DAY_MS},
    {"on_gpu_fault", CONFIG_CHOICE_INDEX, "stay|restart", "stay",
     "after a GPU has failed: stay and say so, or start anew (PID 1: reboot)",
     CONFIG_SERVE, AT(on_gpu_fault), 0, 0},

    {"listen", CONFIG_LIST, "WIRE", NULL,
     "tcp:ADDR:PORT, unix:PATH, tty:/dev/NAME,BAUD or stdio; repeatable",
     SERVER, AT_WITH(listen, n_listen), 0, CONFIG_LISTEN_MAX},
    {"key", CONFIG_SECRET, "FILE|HEX", NULL,
     "who logs in with it may do everything; TCP beyond loopback needs one",
     SERVER, AT(key), 1, 0},
    {"observer_key", CONFIG_SECRET, "FILE|HEX", NULL,
     "who logs in with it may HEALTH, INFO and METRICS",
     SERVER, AT(observer_key), 1, 0},
    {"queue", CONFIG_U32, "N", "16", "jobs that may wait for a slot",
     SERVER, AT(queue), 0, 256},
    {"deadline_ms", CONFIG_U32, "MS", "0", "longest a job may take, waiting included; 0: no limit",
     SERVER, AT(deadline_ms), 0, DAY_MS},
    {"stall_ms", CONFIG_U32, "MS", "10000", "how long a client may leave its output unread; 0: for ever",
     SERVER, AT(stall_ms), 0, DAY_MS},
    {"drain_ms", CONFIG_U32, "MS", "30000", "how long running jobs may take after DRAIN or SHUTDOWN",
     SERVER, AT(drain_ms), 0, DAY_MS},
    {"log", CONFIG_CHOICE_INDEX, "error|warn|info|debug", "info", "least level that is logged",
     SERVER, AT(log_level), 0, 0},

    {"ip", CONFIG_TEXT, "WAY", "link",
     "PID 1 only: ADDR/PREFIX[,gw=ADDR], dhcp, link or none; each with [,dev=NAME]",
     CONFIG_SERVE, AT(ip), 1, 0},
    {"wait_ms", CONFIG_U32, "MS", "5000", "PID 1 only: how long boot waits for disks and consoles",
     CONFIG_SERVE, AT(wait_ms), 0, 600 * 1000},
    {"watchdog", CONFIG_U32, "SECONDS", "0",
     "PID 1 only: reboot when the main loop stands still for so long; 0: off",
     CONFIG_SERVE, AT(watchdog_s), 0, 3600},
    {"on_fault", CONFIG_CHOICE_INDEX, "panic|reboot", "panic",
     "PID 1 only: a bug or a disk error ends in a kernel panic or in a reboot",
     CONFIG_SERVE, AT(on_fault), 0, 0},
    {"boot_count", CONFIG_CHOICE_TEXT, "auto|cmos|off", "auto",
     "PID 1 only: where failed boots are counted; auto: CMOS, in virtual machines only",
     CONFIG_SERVE, AT(boot_count), 0, 0},
    /* clang-format on */
    {0},
};

const struct config_key *config_next(const struct config_key *row) {
    row = row == NULL ? config_keys : row + 1;
    bool ours = row == &config_keys[sizeof config_keys / sizeof config_keys[0] - 1];
    if (ours && config_lab_keys != NULL) row = config_lab_keys;
    return row->name != NULL ? row : NULL;
}

static char key_char(char c) {
    return c == '-' ? '_' : c;
}

static bool key_equal(const char *name, const char *key, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (name[i] == '\0' || name[i] != key_char(key[i])) return false;
    }
    return name[length] == '\0';
}

static const struct config_key *key_find(uint32_t use, const char *key, size_t length) {
    for (const struct config_key *row = NULL; (row = config_next(row)) != NULL;) {
        if ((row->uses & use) != 0 && key_equal(row->name, key, length)) return row;
    }
    return NULL;
}

enum { KEY_BYTES_MAX = 32 };

/* Levenshtein distance between a key of the table and what was given, one row at a time. */
static uint32_t key_distance(const char *name, const char *key, size_t length) {
    wick_assert(length <= KEY_BYTES_MAX);
    uint32_t row[KEY_BYTES_MAX + 1];
    for (uint32_t j = 0; j <= length; j++) row[j] = j;
    for (uint32_t i = 0; name[i] != '\0'; i++) {
        uint32_t diagonal = row[0];
        row[0] = i + 1;
        for (uint32_t j = 0; j < length; j++) {
            uint32_t substitute = diagonal + (name[i] != key_char(key[j]) ? 1 : 0);
            uint32_t shorter = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            diagonal = row[j + 1];
            row[j + 1] = substitute < shorter ? substitute : shorter;
        }
    }
    return row[length];
}

static bool fault_unknown_key(uint32_t use, const char *key, size_t length, struct fault *fault) {
    const char *nearest = NULL;
    uint32_t best = 4; /* more edits than 3 is another word */
    for (const struct config_key *row = NULL; (row = config_next(row)) != NULL;) {
        if (key_equal(row->name, key, length)) {
            return fault_set(fault, FAULT_INVALID_REQUEST, "key '%s' has no use here; see --help",
                             row->name);
        }
        if ((row->uses & use) == 0 || length > KEY_BYTES_MAX) continue;
        uint32_t distance = key_distance(row->name, key, length);
        if (distance < best && distance < length) {
            best = distance;
            nearest = row->name;
        }
    }
    int shown = length > KEY_BYTES_MAX ? KEY_BYTES_MAX : (int)length;
    if (nearest == NULL) {
        return fault_set(fault, FAULT_INVALID_REQUEST, "unknown key '%.*s'; see --help", shown,
                         key);
    }
    return fault_set(fault, FAULT_INVALID_REQUEST, "unknown key '%.*s'; did you mean '%s'?", shown,
                     key, nearest);
}

/* Longest value that an error message repeats. */
enum { VALUE_SHOWN_MAX = 60 };

static bool fault_bad_processors(const char *name, const char *value, struct fault *fault) {
    struct processors list;
    const char *wrong = processors_parse(value, &list);
    return fault_set(fault, FAULT_INVALID_REQUEST,
                     "%s='%.*s': wrong at character %zu: want processors as in 0-3,8: numbers "
                     "0..%d and ranges, each processor once, at most %d",
                     name, VALUE_SHOWN_MAX, value, (size_t)(wrong - value) + 1,
                     PROCESSORS_NUMBER_LAST, PROCESSORS_MAX);
}

static bool fault_bad_value(const struct config_key *row, const char *value, struct fault *fault) {
    const char *name = row->name;
    switch (row->type) {
    case CONFIG_U32:
    case CONFIG_U64:
    case CONFIG_BYTES:
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "%s='%.*s': want a whole number, %.0f..%.0f%s", name, VALUE_SHOWN_MAX,
                         value, row->min, row->max,
                         row->type == CONFIG_BYTES ? ", with or without K, M, G or T" : "");
    case CONFIG_REAL:
        return fault_set(fault, FAULT_INVALID_REQUEST, "%s='%.*s': want a number, %g..%g", name,
                         VALUE_SHOWN_MAX, value, row->min, row->max);
    case CONFIG_LIST:
        return fault_set(fault, FAULT_INVALID_REQUEST, "%s='%.*s': at most %.0f, none empty", name,
                         VALUE_SHOWN_MAX, value, row->max);
    case CONFIG_PROCESSORS:
        return fault_bad_processors(name, value, fault);
    case CONFIG_TEXT:
    case CONFIG_SECRET:
        return fault_set(fault, FAULT_INVALID_REQUEST, "%s='': want a value", name);
    case CONFIG_BOOL:
    case CONFIG_CHOICE_INDEX:
    case CONFIG_CHOICE_TEXT:
        break;
    }
    return fault_set(fault, FAULT_INVALID_REQUEST, "%s='%.*s': want %s", name, VALUE_SHOWN_MAX,
                     value, row->kind);
}

/* Digits only: strtoull would take a sign, blanks and other bases. */
static bool whole_number_parse(const struct config_key *row, const char *value, uint64_t *out) {
    uint64_t number = 0;
    const char *p = value;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(number, 10, &number)) return false;
        if (__builtin_add_overflow(number, (uint64_t)(*p - '0'), &number)) return false;
    }
    if (p == value) return false;
    if (row->type == CONFIG_BYTES && *p != '\0') {
        static const char suffixes[] = "KMGT";
        const char *suffix = strchr(suffixes, *p >= 'a' ? *p - ('a' - 'A') : *p);
        if (suffix == NULL) return false;
        uint64_t unit = 1ull << (10 * (suffix - suffixes + 1));
        if (__builtin_mul_overflow(number, unit, &number)) return false;
        p++;
    }
    if (*p != '\0') return false;
    if ((double)number < row->min || (double)number > row->max) return false;
    *out = number;
    return true;
}

static bool real_parse(const struct config_key *row, const char *value, double *out) {
    if (strchr("+-.0123456789", value[0]) == NULL || value[0] == '\0') return false;
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end != '\0') return false;
    /* Written so that a NaN fails. */
    if (!(number >= row->min && number <= row->max)) return false;
    *out = number;
    return true;
}

/* Index of the word in "a|b|c", or -1. */
static int choice_find(const char *words, const char *value) {
    size_t length = strlen(value);
    int index = 0;
    for (const char *word = words;; index++) {
        const char *end = strchrnul(word, '|');
        if ((size_t)(end - word) == length && memcmp(word, value, length) == 0) return index;
        if (*end == '\0') return -1;
        word = end + 1;
    }
}

static bool list_add(struct config *config, const struct config_key *row, const char *value) {
    uint32_t *length = (uint32_t *)((char *)config + row->extra);
    const char **list = (const char **)((char *)config + row->offset);
    if (*length >= (uint32_t)row->max || value[0] == '\0') return false;
    list[(*length)++] = value;
    return true;
}

/* Parses by the row's type into the row's field; false when the value is not one. */
static bool value_store(struct config *config, const struct config_key *row, const char *value) {
    void *field = (char *)config + row->offset;
    uint64_t number = 0;
    int choice = 0;
    switch (row->type) {
    case CONFIG_TEXT:
    case CONFIG_SECRET:
        if (strlen(value) < (size_t)row->min) return false;
        *(const char **)field = value;
        return true;
    case CONFIG_U32:
        if (!whole_number_parse(row, value, &number)) return false;
        *(uint32_t *)field = (uint32_t)number;
        return true;
    case CONFIG_U64:
    case CONFIG_BYTES:
        return whole_number_parse(row, value, field);
    case CONFIG_REAL:
        return real_parse(row, value, field);
    case CONFIG_BOOL:
    case CONFIG_CHOICE_INDEX:
    case CONFIG_CHOICE_TEXT:
        choice = choice_find(row->kind, value);
        if (choice < 0) return false;
        if (row->type == CONFIG_BOOL) *(bool *)field = choice == 1;
        if (row->type == CONFIG_CHOICE_INDEX) *(uint32_t *)field = (uint32_t)choice;
        if (row->type == CONFIG_CHOICE_TEXT) *(const char **)field = value;
        return true;
    case CONFIG_LIST:
        return list_add(config, row, value);
    case CONFIG_PROCESSORS:
        return processors_parse(value, field) == NULL;
    }
    wick_assert(false);
    return false;
}

void config_defaults(struct config *config, uint32_t use) {
    memset(config, 0, sizeof *config);
    for (const struct config_key *row = NULL; (row = config_next(row)) != NULL;) {
        if ((row->uses & use) == 0 || row->initial == NULL) continue;
        bool stored = value_store(config, row, row->initial);
        wick_assert(stored);
    }
}

static bool row_set(struct config *config, const struct config_key *row, const char *value,
                    struct fault *fault) {
    if (!value_store(config, row, value)) return fault_bad_value(row, value, fault);
    if (row->type != CONFIG_LIST && row->extra < CONFIG_BARE) {
        *(bool *)((char *)config + row->extra) = true;
    }
    return true;
}

bool config_set(struct config *config, uint32_t use, const char *key, const char *value,
                struct fault *fault) {
    const struct config_key *row = key_find(use, key, strlen(key));
    if (row == NULL) return fault_unknown_key(use, key, strlen(key), fault);
    return row_set(config, row, value, fault);
}

/* The first key that takes bare words and has none yet, or NULL. */
static const struct config_key *bare_find(const struct config *config, uint32_t use) {
    for (const struct config_key *row = NULL; (row = config_next(row)) != NULL;) {
        if ((row->uses & use) == 0 || row->extra != CONFIG_BARE) continue;
        if (*(const char *const *)((const char *)config + row->offset) == NULL) return row;
    }
    return NULL;
}

/* One word of argv, and the next one (or NULL) where the value may stand. *taken: 1 or 2. */
static bool word_set(struct config *config, uint32_t use, const char *word, const char *next,
                     int *taken, struct fault *fault) {
    bool option = word[0] == '-' && word[1] == '-';
    const char *key = option ? word + 2 : word;
    size_t length = strcspn(key, "=");
    const struct config_key *row = key_find(use, key, length);
    *taken = 1;
    if (!option && key[length] == '\0') {
        const struct config_key *bare = bare_find(config, use);
        if (bare == NULL || word[0] == '-' || word[0] == '\0') {
            return fault_set(fault, FAULT_INVALID_REQUEST,
                             "'%.*s' is not key=value nor --key value; see --help", VALUE_SHOWN_MAX,
                             word);
        }
        return row_set(config, bare, word, fault);
    }
    if (row == NULL) return fault_unknown_key(use, key, length, fault);
    if (key[length] == '=') return row_set(config, row, key + length + 1, fault);
    if (row->type == CONFIG_BOOL && (next == NULL || choice_find(row->kind, next) < 0)) {
        return row_set(config, row, "1", fault);
    }
    if (next == NULL) {
        return fault_set(fault, FAULT_INVALID_REQUEST, "--%s needs a value: %s", row->name,
                         row->kind);
    }
    *taken = 2;
    return row_set(config, row, next, fault);
}

bool config_from_argv(struct config *config, uint32_t use, int argc, char **argv, char *asked,
                      struct fault *fault) {
    *asked = 0;
    int taken = 1;
    for (int i = 0; i < argc; i += taken) {
        const char *word = argv[i];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) *asked = 'h';
        if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) *asked = 'V';
        if (*asked != 0) return true;
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (!word_set(config, use, word, next, &taken, fault)) return false;
    }
    return true;
}

/* Ends the word that starts at `line` and takes its double quotes out, in place; returns where the
 * next one may start. A blank inside quotes belongs to the word. */
static char *cmdline_word_cut(char *line) {
    bool quoted = false;
    char *out = line;
    for (; *line != '\0'; line++) {
        if (*line == '"') {
            quoted = !quoted;
        } else if (!quoted && strchr(" \t\n", *line) != NULL) {
            line++;
            break;
        } else {
            *out++ = *line;
        }
    }
    char *rest = line;
    *out = '\0';
    return rest;
}

/* One word of the kernel command line that is ours, without "wick.". */
static bool cmdline_word_set(struct config *config, uint32_t use, char *word, struct fault *fault) {
    char *equals = strchr(word, '=');
    if (equals == NULL) {
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "kernel command line: 'wick.%.*s' is not wick.key=value", VALUE_SHOWN_MAX,
                         word);
    }
    *equals = '\0';
    return config_set(config, use, word, equals + 1, fault);
}

bool config_from_cmdline(struct config *config, uint32_t use, char *line, struct fault *fault) {
    static const char prefix[] = "wick.";
    struct fault later;
    bool fine = true;
    for (line += strspn(line, " \t\n"); *line != '\0'; line += strspn(line, " \t\n")) {
        char *word = line;
        line = cmdline_word_cut(word);
        if (strncmp(word, prefix, strlen(prefix)) != 0) continue;
        char *rest = word + strlen(prefix);
        fine = cmdline_word_set(config, use, rest, fine ? fault : &later) && fine;
    }
    return fine;
}

void config_help(int fd, uint32_t use) {
    for (const struct config_key *row = NULL; (row = config_next(row)) != NULL;) {
        if ((row->uses & use) == 0) continue;
        char usage[64];
        snprintf(usage, sizeof usage, "%s=%s", row->name, row->kind);
        const char *initial = row->initial == NULL ? "" : row->initial;
        char line[256];
        int length = snprintf(line, sizeof line, "  %-34s %s%s%s%s\n", usage, row->help,
                              *initial == '\0' ? "" : " [", initial, *initial == '\0' ? "" : "]");
        wick_assert(length > 0 && (size_t)length < sizeof line);
        if (write(fd, line, (size_t)length) < 0) return; /* nobody reads: nothing to help */
    }
}
