/* wickctl: the control host's client of wick. Speaks docs/PROTOCOL.md over tcp, unix and tty. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "call.h"
#include "login.h"

static const char default_address[] = "tcp:127.0.0.1:7411";

typedef enum ctl_exit command_function(struct call *call, struct session *session);

/* One command: how it is written, what it does. The order is that of --help. */
static const struct command {
    const char *name;
    const char *syntax;
    const char *help;
    bool takes_text, takes_params;
    command_function *run;
} commands[] = {
    {"gen", "[key=value ...] [PROMPT | -]",
     "writes on from the prompt, token by token; Ctrl-C stops it", true, true, gen_command},
    {"repl", "[key=value ...]", "for people: write a beginning, read its continuation", true, true,
     repl_command},
    {"health", "", "what the server is and how it feels; status 0 only if ready or busy", false,
     false, health_command},
    {"info", "", "facts and limits of the server and its model", false, false, info_command},
    {"metrics", "", "counters, as Prometheus reads them", false, false, metrics_command},
    {"tokenize", "[bos=0|1] [parse_special=0|1] [TEXT | -]", "the token ids of a text", true, true,
     tokenize_command},
    {"detokenize", "[special=0|1] [IDS | -]", "the text of token ids", true, true,
     detokenize_command},
    {"score", "[bos=0|1] [parse_special=0|1] [TEXT | -]", "the log-probability of every token",
     true, true, score_command},
    {"drain", "", "no new jobs from here on; waits for the last one", false, false, drain_command},
    {"shutdown", "", "ends the server when its jobs are done", false, false, shutdown_command},
    {"ping", "", "time of one round trip", false, false, ping_command},
    {"raw", "", "lines of stdin to the server, its lines to stdout", false, false, raw_command},
    {0}};

/* One option. A letter only where people type it often. */
static const struct option {
    const char *name;
    char letter; /* 0: none */
    const char *value;
    const char *help;
} options[] = {
    {"connect", 'c', "ADDRESS",
     "tcp:HOST:PORT, unix:PATH or tty:/dev/NAME[,BAUD]; default: $WICK_CONNECT, else "
     "tcp:127.0.0.1:7411"},
    {"key", 'k', "FILE",
     "the key to log in with, as hex digits in a file; default: $WICK_KEY_FILE, else the "
     "digits in $WICK_KEY"},
    {"json", 0, NULL, "one JSON object an event or answer, on stdout"},
    {"quiet", 'q', NULL, "no summary line"},
    {"help", 'h', NULL, "this"},
    {"version", 'V', NULL, "version of the protocol"},
    {0}};

static const char params_help[] =
    "Parameters of gen and repl go to the server as they are, key=value or --key value:\n"
    "  max_tokens temperature top_p top_k min_p repetition_penalty seed stop logprobs\n"
    "  bytes ignore_eos bos parse_special deadline_ms; docs/PROTOCOL.md has their limits.\n"
    "  stop= may be given up to four times. `--` ends the parameters: what follows is text.\n"
    "A text may be any length up to 32768 characters; `-`, or no text, reads stdin.\n";

static const char exits_help[] = "Exit status:\n"
                                 "  0    done\n"
                                 "  1    the command line is wrong\n"
                                 "  2    cannot connect, or nobody answers\n"
                                 "  3    the server refuses the request (4xx)\n"
                                 "  4    the server has a problem (5xx), or health is not ready\n"
                                 "  5    connection lost before the answer was complete\n"
                                 "  130  cancelled by Ctrl-C\n";

static void help_print(void) {
    puts("wickctl [options] COMMAND [key=value ...] [TEXT]\n\nCommands:");
    for (const struct command *c = commands; c->name; c++) {
        printf("  %s%s%s\n", c->name, *c->syntax ? " " : "", c->syntax);
        printf("      %s\n", c->help);
    }
    puts("\nOptions:");
    for (const struct option *o = options; o->name; o++) {
        printf("  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        if (o->letter)
            printf(", -%c%s%s", o->letter, o->value ? " " : "", o->value ? o->value : "");
        printf("\n      %s\n", o->help);
    }
    printf("\n%s\n%s", params_help, exits_help);
}

static const struct command *command_find(const char *name) {
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0) return c;
    return NULL;
}

static const struct option *option_find(const char *word) {
    for (const struct option *o = options; o->name; o++) {
        bool named = word[1] == '-' && strcmp(word + 2, o->name) == 0;
        bool lettered = o->letter && word[1] == o->letter && word[2] == 0;
        if (named || lettered) return o;
    }
    return NULL;
}

/* Arguments being read. */
struct arguments {
    int argc, at;
    char **argv;
    const struct command *command;
    char text[1 << 16]; /* words of the text, joined by spaces */
    bool has_text;
};

static enum ctl_exit complain(const char *what, const char *word) {
    fprintf(stderr, "wickctl: %s \"%s\"; wickctl --help shows what there is\n", what, word);
    return CTL_USAGE;
}

static enum ctl_exit text_add(struct arguments *arguments, const char *word) {
    size_t have = strlen(arguments->text), more = strlen(word);
    if (have + more + 2 > sizeof arguments->text) {
        fprintf(stderr, "wickctl: the text is longer than %zu bytes; give it on stdin\n",
                sizeof arguments->text - 1);
        return CTL_USAGE;
    }
    if (arguments->has_text) arguments->text[have++] = ' ';
    memcpy(arguments->text + have, word, more + 1);
    arguments->has_text = true;
    return CTL_OK;
}

/* Length of the name if the word is name=value, else 0. */
static size_t param_name_length(const char *word) {
    if (!islower((unsigned char)*word)) return 0;
    size_t n = 0;
    while (islower((unsigned char)word[n]) || isdigit((unsigned char)word[n]) || word[n] == '_' ||
           word[n] == '-')
        n++;
    return word[n] == '=' ? n : 0;
}

static enum ctl_exit param_add(struct call *call, const struct arguments *arguments, char *name,
                               const char *value) {
    if (!arguments->command) return complain("a command must come before", name);
    if (!arguments->command->takes_params)
        return complain("this command takes no parameter, but there is", name);
    for (char *c = name; *c; c++)
        if (*c == '-') *c = '_';
    if (!*value) return complain("no value for the parameter", name);
    return call_param_set(call, name, value) ? CTL_OK : complain("too many parameters at", name);
}

/* "--json", "-c ADDRESS", "--max-tokens 5", "--max-tokens=5" */
static enum ctl_exit dashed_read(struct call *call, struct arguments *arguments, char *word) {
    const struct option *option = option_find(word);
    const char *value = NULL;
    char *equals = strchr(word, '=');
    if (!option && equals && strncmp(word, "--", 2) == 0) {
        *equals = 0;
        option = option_find(word);
        value = equals + 1;
    }
    bool needs_value = !option || option->value;
    if (!option && strncmp(word, "--", 2) != 0) return complain("unknown option", word);
    if (needs_value && !value) {
        if (arguments->at == arguments->argc) return complain("no value for", word);
        value = arguments->argv[arguments->at++];
    }
    if (!option) return param_add(call, arguments, word + 2, value);
    if (strcmp(option->name, "connect") == 0) call->address = value;
    if (strcmp(option->name, "key") == 0) call->key_file = value;
    if (strcmp(option->name, "json") == 0) call->json = true;
    if (strcmp(option->name, "quiet") == 0) call->quiet = true;
    if (strcmp(option->name, "help") == 0) {
        help_print();
        exit(CTL_OK);
    }
    if (strcmp(option->name, "version") == 0) {
        puts("wickctl, protocol 1");
        exit(CTL_OK);
    }
    return CTL_OK;
}

static enum ctl_exit arguments_read(struct call *call, struct arguments *arguments) {
    bool dashes = true; /* until "--" */
    while (arguments->at < arguments->argc) {
        char *word = arguments->argv[arguments->at++];
        size_t name = dashes ? param_name_length(word) : 0;
        enum ctl_exit status = CTL_OK;
        if (dashes && strcmp(word, "--") == 0) {
            dashes = false;
        } else if (dashes && word[0] == '-' && word[1] && !isspace((unsigned char)word[1])) {
            status = dashed_read(call, arguments, word);
        } else if (!arguments->command) {
            arguments->command = command_find(word);
            if (!arguments->command) return complain("no command", word);
        } else if (name > 0 && arguments->command->takes_params) {
            word[name] = 0;
            status = param_add(call, arguments, word, word + name + 1);
        } else if (!arguments->command->takes_text) {
            return complain("this command takes no text, but there is", word);
        } else {
            status = text_add(arguments, word);
        }
        if (status != CTL_OK) return status;
    }
    if (arguments->has_text) call->text = arguments->text;
    return CTL_OK;
}

int main(int argc, char **argv) {
    static struct session session;
    static struct arguments arguments;
    struct call call = {.address = getenv("WICK_CONNECT")};
    if (!call.address || !*call.address) call.address = default_address;
    const char *terminal = getenv("TERM"), *no_color = getenv("NO_COLOR");
    call.color = isatty(STDOUT_FILENO) && !(no_color && *no_color) && terminal &&
                 strcmp(terminal, "dumb") != 0;

    arguments = (struct arguments){.argc = argc, .argv = argv, .at = 1};
    enum ctl_exit status = arguments_read(&call, &arguments);
    if (status != CTL_OK) return status;
    if (!arguments.command) {
        fprintf(stderr, "wickctl: no command given; wickctl --help shows what there is\n");
        return CTL_USAGE;
    }
    session.link.fd = -1;
    if (!login_key_find(call.key_file, &session.key)) return CTL_USAGE;
    session.json = call.json;
    status = arguments.command->run(&call, &session);
    session_close(&session);
    if (fflush(stdout) != 0 && status == CTL_OK) status = CTL_LOST;
    return status;
}
