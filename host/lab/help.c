#include "lab/help.h"

#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "lab/commands.h"
#include "show/completion.h"
#include "show/manual.h"
#include "wire/command.h"

enum { EXIT_USAGE = 2 };

static int refuse(const char *what) {
    fprintf(stderr, "wick-lab: %s; wick-lab --help shows what there is\n", what);
    return EXIT_USAGE;
}

/* --- manual pages -------------------------------------------------------------------------------
 */

/* The commands that a key has a use for, but for those it shares with all: "run, logits". */
static void uses_list(const struct config_key *key, char *out, size_t size) {
    size_t n = 0;
    out[0] = '\0';
    for (const struct lab_command *c = lab_commands; c->name != NULL; c++) {
        if (c->run == NULL || (key->uses & (uint32_t)c->use) == 0) continue;
        n += (size_t)snprintf(out + n, size - n, "%s%s", n > 0 ? ", " : "", c->name);
        if (n >= size) return;
    }
}

static void key_item(struct manual *manual, const struct config_key *key, const char *uses) {
    char term[128], text[512];
    const char *initial = key->initial == NULL ? "" : key->initial;
    snprintf(term, sizeof term, "%s=%s", key->name, key->kind);
    snprintf(text, sizeof text, "%s%s%s%s%s%s%s", key->help, *initial != '\0' ? " [" : "", initial,
             *initial != '\0' ? "]" : "", uses != NULL ? " (" : "", uses != NULL ? uses : "",
             uses != NULL ? ")" : "");
    manual_item(manual, term, text);
}

static void lab_page(struct manual *manual) {
    manual_begin(manual, stdout, "wick-lab", "1", "looks into GGUF models and measures wick");
    manual_section(manual, "SYNOPSIS");
    manual_text(manual, "wick-lab COMMAND [MODEL.gguf] [KEY=VALUE | --KEY VALUE]...");
    manual_section(manual, "DESCRIPTION");
    manual_text(manual,
                "wick-lab is the workstation's tool: the engine of wick(8) without the server, one "
                "model and one sequence at a time.");
    manual_section(manual, "COMMANDS");
    for (const struct lab_command *c = lab_commands; c->name != NULL; c++)
        manual_item(manual, c->name, c->help);
    manual_section(manual, "KEYS");
    manual_text(manual, "In parentheses, the commands that take a key. Words without = are the "
                        "values of model, model_b and file, as far as the command has them.");
    for (const struct config_key *key = NULL; (key = config_next(key)) != NULL;) {
        char uses[256];
        uses_list(key, uses, sizeof uses);
        if (uses[0] != '\0') key_item(manual, key, uses);
    }
    manual_section(manual, "EXIT STATUS");
    manual_text(manual, lab_exits);
    manual_section(manual, "EXAMPLES");
    manual_example(manual, "wick-lab score model.gguf text.txt ctx=512\n"
                           "wick-lab diff f16.gguf q4.gguf text.txt\n"
                           "wick-lab diff model.gguf file=text.txt isa=exact isa_b=avx2\n"
                           "wick-lab bench model.gguf sweep=rows svg=rows.svg\n");
    manual_section(manual, "SEE ALSO");
    manual_text(manual, "wick(8), wickctl(1)");
}

static void protocol_tables(struct manual *manual) {
    char term[256], text[512];
    manual_section(manual, "PROTOCOL");
    manual_text(manual, "Every wire speaks lines: a verb, a tag where there is a job, fields, a "
                        "text. docs/PROTOCOL.md has the rest.");
    for (const struct verb *verb = verbs; verb->name != NULL; verb++) {
        snprintf(term, sizeof term, "%s%s%s", verb->name, *verb->syntax != '\0' ? " " : "",
                 verb->syntax);
        manual_item(manual, term, verb->help);
    }
    manual_section(manual, "FIELDS");
    for (const struct field *field = fields; field->name != NULL; field++) {
        char limits[48];
        field_limits(field, 0, limits);
        snprintf(term, sizeof term, "%s=%s", field->name, limits);
        snprintf(text, sizeof text, "%s [%s]", field->help, field->initial);
        manual_item(manual, term, text);
    }
    manual_section(manual, "ERRORS");
    for (int code = FAULT_NONE + 1; code < FAULT_CODES; code++) {
        const struct fault_kind *kind = fault_kind((enum fault_code)code);
        snprintf(term, sizeof term, "%d %s", kind->number, kind->word);
        snprintf(text, sizeof text, "%s%s", kind->meaning,
                 kind->retriable ? " (may work later)" : "");
        manual_item(manual, term, text);
    }
}

static void wick_page(struct manual *manual) {
    manual_begin(manual, stdout, "wick", "8", "inference firmware for Llama-family models");
    manual_section(manual, "SYNOPSIS");
    manual_text(manual, "wick model=FILE.gguf [key=value ...]");
    manual_section(manual, "DESCRIPTION");
    manual_text(manual,
                "wick maps a GGUF file, takes one block of memory, and answers a line protocol on "
                "TCP, a unix socket, a serial line or stdin. As process 1 of a machine it is the "
                "machine's whole user space: the same keys stand on the kernel's command line, "
                "with wick. in front.");
    manual_section(manual, "KEYS");
    for (const struct config_key *key = NULL; (key = config_next(key)) != NULL;)
        if ((key->uses & CONFIG_SERVE) != 0) key_item(manual, key, NULL);
    protocol_tables(manual);
    manual_section(manual, "SIGNALS");
    manual_text(manual, "SIGTERM and SIGINT end the server as SHUTDOWN does: jobs go on for "
                        "drain_ms. A second one ends it at once.");
    manual_section(manual, "EXIT STATUS");
    manual_text(manual, "0 after a shutdown, 1 when the model or the machine does not do, 2 for a "
                        "wrong command line.");
    manual_section(manual, "SEE ALSO");
    manual_text(manual, "wickctl(1), wick-lab(1)");
}

int man_print(int argc, char **argv) {
    struct manual manual;
    const char *page = argc > 0 ? argv[0] : "wick-lab";
    if (strcmp(page, "wick") == 0)
        wick_page(&manual);
    else if (strcmp(page, "wick-lab") == 0)
        lab_page(&manual);
    else
        return refuse("there are manual pages of wick and wick-lab");
    return fflush(stdout) == 0 ? 0 : 1;
}

/* --- completion ---------------------------------------------------------------------------------
 */

enum { WORDS_MAX = 1024, COMMANDS_MAX = 64, TEXTS_BYTES = 1 << 15 };

struct words {
    struct completion_command command[COMMANDS_MAX];
    struct completion_word word[WORDS_MAX];
    size_t n_commands, n_words, used;
    char texts[TEXTS_BYTES]; /* "seed=" */
};

static void key_add(struct words *words, const char *command, const struct config_key *key) {
    char *text = words->texts + words->used;
    size_t room = sizeof words->texts - words->used;
    int n = snprintf(text, room, "%s=", key->name);
    if (n < 0 || (size_t)n >= room || words->n_words == WORDS_MAX) return;
    words->used += (size_t)n + 1;
    words->word[words->n_words++] = (struct completion_word){command, text, key->kind, key->help};
}

/* Keys of one command; of wick, which has none, CONFIG_SERVE's. */
static void keys_add(struct words *words, const char *command, uint32_t use) {
    for (const struct config_key *key = NULL; (key = config_next(key)) != NULL;)
        if ((key->uses & use) != 0) key_add(words, command, key);
}

int completion_print(int argc, char **argv) {
    static struct words words;
    const char *program = argc > 1 ? argv[1] : "wick-lab";
    bool lab = strcmp(program, "wick-lab") == 0;
    if (!lab && strcmp(program, "wick") != 0) return refuse("completion of wick or of wick-lab");
    for (const struct lab_command *c = lab_commands; lab && c->name != NULL; c++) {
        words.command[words.n_commands++] = (struct completion_command){c->name, c->help};
        if (c->run != NULL) keys_add(&words, c->name, (uint32_t)c->use);
    }
    if (!lab) keys_add(&words, NULL, CONFIG_SERVE);
    words.word[words.n_words++] = (struct completion_word){NULL, "--help", NULL, "what there is"};
    const struct completion completion = {.program = program,
                                          .command = words.command,
                                          .n_commands = words.n_commands,
                                          .word = words.word,
                                          .n_words = words.n_words,
                                          .files = true};
    if (argc < 1 || !completion_write(&completion, argv[0], stdout))
        return refuse("completion for which shell? bash or zsh");
    return fflush(stdout) == 0 ? 0 : 1;
}
