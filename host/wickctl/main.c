/* wickctl: the control host's client of wick. Speaks docs/PROTOCOL.md over tcp, unix and tty. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "help.h"
#include "login.h"
#include "profile.h"

static const char default_address[] = "tcp:127.0.0.1:7411";

/* Arguments being read. */
struct arguments {
    int argc, at;
    char **argv;
    const struct ctl_command *command;
    char text[1 << 16]; /* words of the text, joined by spaces */
    bool has_text;
    uint64_t options; /* bit i: ctl_options[i] was given */
};

static enum ctl_exit complain(const char *what, const char *word) {
    fprintf(stderr, "wickctl: %s \"%s\"; wickctl --help shows what there is\n", what, word);
    return CTL_USAGE;
}

static enum ctl_exit words_add(struct arguments *arguments, const char *word) {
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
    if (!arguments->command->fields)
        return complain("this command takes no parameter, but there is", name);
    for (char *c = name; *c; c++)
        if (*c == '-') *c = '_';
    if (!*value) return complain("no value for the parameter", name);
    return call_param_set(call, name, value) ? CTL_OK : complain("too many parameters at", name);
}

/* "--json", "-c ADDRESS", "--max-tokens 5", "--max-tokens=5" */
static enum ctl_exit dashed_read(struct call *call, struct arguments *arguments, char *word) {
    const struct ctl_option *option = ctl_option_find(word);
    const char *value = NULL;
    char *equals = strchr(word, '=');
    if (!option && equals && strncmp(word, "--", 2) == 0) {
        *equals = 0;
        option = ctl_option_find(word);
        value = equals + 1;
    }
    bool needs_value = !option || option->value;
    if (!option && strncmp(word, "--", 2) != 0) return complain("unknown option", word);
    if (needs_value && !value) {
        if (arguments->at == arguments->argc) return complain("no value for", word);
        value = arguments->argv[arguments->at++];
    }
    if (!option) return param_add(call, arguments, word + 2, value);
    if (option->kind == OPTION_HELP) {
        help_print();
        exit(CTL_OK);
    }
    if (option->kind == OPTION_VERSION) {
        puts("wickctl, protocol 1");
        exit(CTL_OK);
    }
    arguments->options |= 1ull << (option - ctl_options);
    if (!ctl_option_set(call, option, value)) return complain("no such value for", word);
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
            arguments->command = ctl_command_find(word);
            if (!arguments->command) return complain("no command", word);
        } else if (name > 0 && arguments->command->fields) {
            word[name] = 0;
            status = param_add(call, arguments, word, word + name + 1);
        } else if (!arguments->command->takes_text) {
            return complain("this command takes no text, but there is", word);
        } else {
            status = words_add(arguments, word);
        }
        if (status != CTL_OK) return status;
    }
    for (size_t i = 0; ctl_options[i].name; i++)
        if (arguments->options >> i & 1 && !ctl_option_fits(&ctl_options[i], arguments->command))
            return complain("this command does not take --", ctl_options[i].name);
    if (arguments->has_text) call->text = arguments->text;
    return CTL_OK;
}

/* The profile is read before the command line, which overrules it and may name it: what is asked
 * for, and by which command, is looked up ahead. */
static enum ctl_exit profile_take(struct call *call, int argc, char **argv) {
    const struct ctl_command *command = NULL;
    const char *name = getenv("WICK_PROFILE");
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const struct ctl_option *option = argv[i][0] == '-' ? ctl_option_find(argv[i]) : NULL;
        if (strncmp(argv[i], "--profile=", 10) == 0) name = argv[i] + 10;
        if (option && option->value && i + 1 < argc) {
            i++;
            if (strcmp(option->name, "profile") == 0) name = argv[i];
        } else if (argv[i][0] != '-' && !command) {
            command = ctl_command_find(argv[i]);
        }
    }
    call->profile = name && *name ? name : NULL;
    return profile_apply(call, command);
}

static bool color_wanted(const struct call *call, int fd) {
    if (call->color_when && strcmp(call->color_when, "auto") != 0)
        return strcmp(call->color_when, "always") == 0;
    const char *terminal = getenv("TERM"), *no_color = getenv("NO_COLOR");
    return isatty(fd) && !(no_color && *no_color) && terminal && strcmp(terminal, "dumb") != 0;
}

static enum ctl_exit command_run(const struct ctl_command *command, struct call *call) {
    static struct session session;
    session.link.fd = -1;
    session.json = call->json;
    if (!login_key_find(call->key_file, &session.key)) return CTL_USAGE;
    enum ctl_exit status = command->run(call, &session);
    session_close(&session);
    return status;
}

int main(int argc, char **argv) {
    static struct arguments arguments;
    static struct call call = {.address = default_address, .wait_s = CALL_NO_WAIT};
    arguments = (struct arguments){.argc = argc, .argv = argv, .at = 1};
    enum ctl_exit status = profile_take(&call, argc, argv);
    if (status != CTL_OK) return status;
    const char *address = getenv("WICK_CONNECT");
    if (address && *address) call.address = address;
    status = arguments_read(&call, &arguments);
    if (status != CTL_OK) return status;
    if (!arguments.command) {
        fprintf(stderr, "wickctl: no command given; wickctl --help shows what there is\n");
        return CTL_USAGE;
    }
    call.color = color_wanted(&call, STDOUT_FILENO);
    call.color_err = color_wanted(&call, STDERR_FILENO);
    status = arguments.command->run ? command_run(arguments.command, &call)
                                    : arguments.command->print(&call);
    if (fflush(stdout) != 0 && status == CTL_OK) status = CTL_LOST;
    return status;
}
