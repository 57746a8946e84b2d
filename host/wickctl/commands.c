#include "commands.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "help.h"
#include "wire/command.h"

enum {
    GENERATES = FIELDS_GENERATE | FIELDS_TEXT,
    SCORES = FIELDS_SCORE | FIELDS_TEXT,
    SECONDS_MAX = 24 * 3600
};

const char ctl_summary[] = "talks to a wick, the inference firmware";

const struct ctl_command ctl_commands[] = {
    /* clang-format off */
    {"chat", "[key=value ...] [TEXT]",
     "a conversation in the model's own chat format; /help there shows what can be done",
     GENERATES, true, chat_command, NULL},
    {"gen", "[key=value ...] [PROMPT | -]",
     "writes on from the prompt, token by token; Ctrl-C stops it",
     GENERATES, true, gen_command, NULL},
    {"repl", "[key=value ...]",
     "for people: write a beginning, read its continuation",
     GENERATES, true, repl_command, NULL},
    {"top", "", "slots, queue, tokens a second and KV cache of the server, as they change",
     0, false, top_command, NULL},
    {"bench", "[key=value ...] [PROMPT | -]",
     "many clients at once: rates, and percentiles of the first token and of the gaps",
     GENERATES, true, bench_command, NULL},
    {"health", "", "what the server is and how it feels; status 0 only if ready or busy",
     0, false, health_command, NULL},
    {"info", "", "facts and limits of the server and its model",
     0, false, info_command, NULL},
    {"metrics", "", "counters, as Prometheus reads them",
     0, false, metrics_command, NULL},
    {"tokenize", "[bos=0|1] [parse_special=0|1] [TEXT | -]", "the token ids of a text",
     FIELDS_TEXT, true, tokenize_command, NULL},
    {"detokenize", "[special=0|1] [IDS | -]", "the text of token ids",
     FIELDS_IDS, true, detokenize_command, NULL},
    {"score", "[bos=0|1] [parse_special=0|1] [TEXT | -]", "the log-probability of every token",
     SCORES, true, score_command, NULL},
    {"drain", "", "no new jobs from here on; waits for the last one",
     0, false, drain_command, NULL},
    {"shutdown", "", "ends the server when its jobs are done",
     0, false, shutdown_command, NULL},
    {"ping", "", "time of one round trip",
     0, false, ping_command, NULL},
    {"raw", "", "lines of stdin to the server, its lines to stdout",
     0, false, raw_command, NULL},
    {"completion", "bash | zsh", "prints what makes that shell complete wickctl's command line",
     0, true, NULL, completion_print},
    {"man", "", "prints the manual page", 0, false, NULL, man_print},
    {0}
    /* clang-format on */
};

#define AT(field) offsetof(struct call, field)

const struct ctl_option ctl_options[] = {
    /* clang-format off */
    {"connect", 'c', "ADDRESS", OPTION_TEXT, AT(address), 0, 0, NULL,
     "tcp:HOST:PORT, unix:PATH or tty:/dev/NAME[,BAUD]; default: $WICK_CONNECT, else "
     "tcp:127.0.0.1:7411"},
    {"key", 'k', "FILE", OPTION_TEXT, AT(key_file), 0, 0, NULL,
     "the key to log in with, as hex digits in a file; default: $WICK_KEY_FILE, else the digits in "
     "$WICK_KEY"},
    {"profile", 'p', "NAME", OPTION_TEXT, AT(profile), 0, 0, NULL,
     "take settings from [NAME] of the profile file; default: $WICK_PROFILE, else [default]"},
    {"json", 0, NULL, OPTION_FLAG, AT(json), 0, 0, NULL,
     "one JSON object an event or answer, on stdout"},
    {"quiet", 'q', NULL, OPTION_FLAG, AT(quiet), 0, 0, NULL, "no summary line"},
    {"color", 0, "auto|always|never", OPTION_TEXT, AT(color_when), 0, 0, NULL,
     "auto: on a terminal, unless $NO_COLOR is set or $TERM is dumb"},
    {"wait", 'w', "SECONDS", OPTION_NUMBER, AT(wait_s), 0, SECONDS_MAX, NULL,
     "how long to wait for a server that is not up, or loading; default: 0, chat and repl 30"},
    {"file", 'f', "FILE", OPTION_TEXT, AT(file), 0, 0,
     " gen bench tokenize detokenize score ", "the text is this file, byte for byte"},
    {"system", 's', "TEXT", OPTION_TEXT, AT(system), 0, 0, " chat ", "system prompt"},
    {"format", 0, "NAME", OPTION_TEXT, AT(format), 0, 0, " chat ",
     "chat format, in place of the model's: llama2 llama3 chatml mistral zephyr phi3 plain"},
    {"load", 0, "FILE", OPTION_TEXT, AT(load), 0, 0, " chat ", "goes on with a saved conversation"},
    {"clients", 'n', "N[,N...]", OPTION_TEXT, AT(clients), 0, 0, " bench ",
     "connections at once, each with one job after the other; several numbers: a sweep; default: 1"},
    {"requests", 'r', "N", OPTION_NUMBER, AT(requests), 1, 1e6, " bench ",
     "jobs in all; default: 8 a client"},
    {"rate", 0, "R", OPTION_NUMBER, AT(rate), 0, 1e5, " bench ",
     "jobs a second, evenly, however long the answers take; default: 0, as fast as they end"},
    {"same", 0, NULL, OPTION_FLAG, AT(same), 0, 0, " bench ",
     "every job has the very same prompt, which the KV cache then holds; else a number is put in "
     "front"},
    {"svg", 0, "FILE", OPTION_TEXT, AT(svg), 0, 0, " bench ", "draws a sweep"},
    {"interval", 'i', "SECONDS", OPTION_NUMBER, AT(interval_s), 0.1, 3600, " top ",
     "between two looks; default: 1"},
    {"count", 0, "N", OPTION_NUMBER, AT(count), 1, 1e9, " top ",
     "ends after so many looks; default: never, without a terminal 1"},
    {"help", 'h', NULL, OPTION_HELP, 0, 0, 0, NULL, "this"},
    {"version", 'V', NULL, OPTION_VERSION, 0, 0, 0, NULL, "version of the protocol"},
    {0}
    /* clang-format on */
};

const struct ctl_status ctl_statuses[] = {
    {CTL_OK, "done"},
    {CTL_USAGE, "the command line is wrong"},
    {CTL_NO_CONNECTION, "cannot connect, or nobody answers"},
    {CTL_REFUSED, "the server refuses the request (4xx)"},
    {CTL_SERVER_ERROR, "the server has a problem (5xx), or health is not ready"},
    {CTL_LOST, "connection lost before the answer was complete"},
    {CTL_CANCELLED, "cancelled by Ctrl-C"},
    {0, NULL}};

const char ctl_params_help[] =
    "Parameters go to the server as they are, key=value or --key value; stop= may be given up to\n"
    "four times. `--` ends the parameters: what follows is text. A text may be any length up to\n"
    "32768 characters; `-`, or no text, reads stdin.\n";

const char ctl_profile_help[] =
    "$XDG_CONFIG_HOME/wick/wickctl.conf, else ~/.config/wick/wickctl.conf, holds settings, one a\n"
    "line, name = value, with the names of options and parameters. What stands before the first\n"
    "[NAME] holds for every profile. The command line wins, then $WICK_CONNECT, then the "
    "profile.\n";

const struct ctl_command *ctl_command_find(const char *name) {
    for (const struct ctl_command *c = ctl_commands; c->name; c++)
        if (strcmp(c->name, name) == 0) return c;
    return NULL;
}

const struct ctl_option *ctl_option_find(const char *word) {
    for (const struct ctl_option *o = ctl_options; o->name; o++) {
        bool named = word[1] == '-' && strcmp(word + 2, o->name) == 0;
        bool lettered = o->letter && word[1] == o->letter && word[2] == 0;
        if (named || lettered) return o;
    }
    return NULL;
}

bool ctl_option_fits(const struct ctl_option *option, const struct ctl_command *command) {
    if (!option->uses || !command) return true;
    const char *found = strstr(option->uses, command->name);
    size_t length = strlen(command->name);
    for (; found; found = strstr(found + 1, command->name))
        if (found[-1] == ' ' && found[length] == ' ') return true;
    return false;
}

/* Is it one of "a|b|c"? */
static bool choice_has(const char *choices, const char *value) {
    size_t length = strlen(value);
    for (const char *at = choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (strncmp(at, value, length) == 0 && (at[length] == '|' || !at[length])) return true;
    return false;
}

bool ctl_option_set(struct call *call, const struct ctl_option *option, const char *value) {
    void *field = (char *)call + option->offset;
    switch (option->kind) {
    case OPTION_FLAG:
        if (value && strcmp(value, "0") != 0 && strcmp(value, "1") != 0) return false;
        *(bool *)field = !value || *value == '1';
        return true;
    case OPTION_TEXT:
        if (!value || !*value) return false;
        if (strchr(option->value, '|') && !choice_has(option->value, value)) return false;
        *(const char **)field = value;
        return true;
    case OPTION_NUMBER: {
        char *end;
        double number = value ? strtod(value, &end) : 0;
        if (!value || end == value || *end) return false;
        if (!(number >= option->min && number <= option->max)) return false;
        *(double *)field = number;
        return true;
    }
    case OPTION_HELP:
    case OPTION_VERSION:
        break;
    }
    return false;
}
