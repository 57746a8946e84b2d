#include "help.h"

#include <stdio.h>
#include <string.h>

#include "show/completion.h"
#include "show/manual.h"
#include "wire/command.h"

/* "--connect ADDRESS, -c ADDRESS" */
static void option_syntax(const struct ctl_option *o, char *out, size_t size) {
    const char *space = o->value ? " " : "", *value = o->value ? o->value : "";
    int n = snprintf(out, size, "--%s%s%s", o->name, space, value);
    if (o->letter) snprintf(out + n, size - (size_t)n, ", -%c%s%s", o->letter, space, value);
}

/* " gen bench " as "gen, bench". */
static void uses_list(const struct ctl_option *o, char *out, size_t size) {
    size_t n = 0;
    for (const char *at = o->uses + 1; *at && n + 3 < size; at++) {
        if (*at == ' ' && at[1]) out[n++] = ',';
        if (*at != ' ' || at[1]) out[n++] = *at;
    }
    out[n] = 0;
}

void help_print(void) {
    printf("wickctl: %s\n\nwickctl [options] COMMAND [key=value ...] [TEXT]\n\nCommands:\n",
           ctl_summary);
    for (const struct ctl_command *c = ctl_commands; c->name; c++) {
        printf("  %s%s%s\n", c->name, *c->syntax ? " " : "", c->syntax);
        printf("      %s\n", c->help);
    }
    puts("\nOptions:");
    for (const struct ctl_option *o = ctl_options; o->name; o++) {
        char syntax[128], uses[128];
        option_syntax(o, syntax, sizeof syntax);
        printf("  %s\n      %s", syntax, o->help);
        if (o->uses) uses_list(o, uses, sizeof uses);
        printf(o->uses ? " (%s)\n" : "\n", uses);
    }
    puts("\nParameters of chat, gen, repl and bench:");
    for (const struct field *field = fields; field->name; field++) {
        char limits[48];
        field_limits(field, 0, limits);
        if (field->verbs & (FIELDS_GENERATE | FIELDS_TEXT))
            printf("  %s=%s\n      %s [%s]\n", field->name, limits, field->help, field->initial);
    }
    printf("\n%s\n%s\nExit status:\n", ctl_params_help, ctl_profile_help);
    for (const struct ctl_status *s = ctl_statuses; s->help; s++)
        printf("  %-4d %s\n", s->number, s->help);
}

enum { WORDS_MAX = 1024, COMMANDS_MAX = 64, TEXTS_BYTES = 1 << 15 };

/* Words are made of names: they need memory while the completion is written. */
struct words {
    struct completion_command command[COMMANDS_MAX];
    struct completion_word word[WORDS_MAX];
    size_t n_commands, n_words, used;
    char texts[TEXTS_BYTES];
};

static void word_add(struct words *words, const char *command, const char *prefix, const char *name,
                     const char *suffix, const char *values, const char *help) {
    size_t room = sizeof words->texts - words->used;
    char *text = words->texts + words->used;
    int n = snprintf(text, room, "%s%s%s", prefix, name, suffix);
    if (n < 0 || (size_t)n >= room || words->n_words == WORDS_MAX) return;
    words->used += (size_t)n + 1;
    words->word[words->n_words++] = (struct completion_word){command, text, values, help};
}

static void option_add(struct words *words, const struct ctl_option *option) {
    if (!option->uses) {
        word_add(words, NULL, "--", option->name, "", option->value, option->help);
        return;
    }
    for (const struct ctl_command *c = ctl_commands; c->name; c++)
        if (ctl_option_fits(option, c))
            word_add(words, c->name, "--", option->name, "", option->value, option->help);
}

enum ctl_exit completion_print(const struct call *call) {
    static struct words words;
    for (const struct ctl_command *c = ctl_commands; c->name && words.n_commands < COMMANDS_MAX;
         c++)
        words.command[words.n_commands++] = (struct completion_command){c->name, c->help};
    for (const struct ctl_option *o = ctl_options; o->name; o++) option_add(&words, o);
    for (const struct ctl_command *c = ctl_commands; c->name; c++)
        for (const struct field *field = fields; field->name; field++)
            if (field->verbs & c->fields)
                word_add(&words, c->name, "", field->name, "=",
                         field->kind == FIELD_BOOL ? "0|1" : "", field->help);
    word_add(&words, "completion", "", "bash", "", NULL, "for bash");
    word_add(&words, "completion", "", "zsh", "", NULL, "for zsh");
    const struct completion completion = {.program = "wickctl",
                                          .command = words.command,
                                          .n_commands = words.n_commands,
                                          .word = words.word,
                                          .n_words = words.n_words};
    if (call->text && completion_write(&completion, call->text, stdout)) return CTL_OK;
    fprintf(stderr, "wickctl: completion for which shell? bash or zsh\n");
    return CTL_USAGE;
}

static void man_tables(struct manual *manual) {
    char term[256], text[512];
    manual_section(manual, "COMMANDS");
    for (const struct ctl_command *c = ctl_commands; c->name; c++) {
        snprintf(term, sizeof term, "%s%s%s", c->name, *c->syntax ? " " : "", c->syntax);
        manual_item(manual, term, c->help);
    }
    manual_section(manual, "OPTIONS");
    for (const struct ctl_option *o = ctl_options; o->name; o++) {
        char uses[128] = "";
        option_syntax(o, term, sizeof term);
        if (o->uses) uses_list(o, uses, sizeof uses);
        snprintf(text, sizeof text, "%s%s%s%s", o->help, o->uses ? " (" : "", uses,
                 o->uses ? ")" : "");
        manual_item(manual, term, text);
    }
    manual_section(manual, "PARAMETERS");
    manual_text(manual, ctl_params_help);
    for (const struct field *field = fields; field->name; field++) {
        char limits[48];
        field_limits(field, 0, limits);
        if (!(field->verbs & (FIELDS_GENERATE | FIELDS_TEXT | FIELDS_IDS))) continue;
        snprintf(term, sizeof term, "%s=%s", field->name, limits);
        snprintf(text, sizeof text, "%s [%s]", field->help, field->initial);
        manual_item(manual, term, text);
    }
}

enum ctl_exit man_print(const struct call *call) {
    (void)call;
    struct manual manual;
    manual_begin(&manual, stdout, "wickctl", "1", ctl_summary);
    manual_section(&manual, "SYNOPSIS");
    manual_text(&manual, "wickctl [options] COMMAND [key=value ...] [TEXT]");
    manual_section(&manual, "DESCRIPTION");
    manual_text(&manual,
                "wickctl is the client of wick(8): it speaks wick's line protocol over TCP, "
                "a unix socket or a serial line, for people and for scripts.");
    man_tables(&manual);
    manual_section(&manual, "FILES");
    manual_text(&manual, ctl_profile_help);
    manual_example(&manual, "[default]\nconnect = unix:/run/wick.sock\n\n[lab]\n"
                            "connect = tcp:10.0.0.7:7411\ntemperature = 0.7\n");
    manual_section(&manual, "EXIT STATUS");
    for (const struct ctl_status *s = ctl_statuses; s->help; s++) {
        char number[16];
        snprintf(number, sizeof number, "%d", s->number);
        manual_item(&manual, number, s->help);
    }
    manual_section(&manual, "SEE ALSO");
    manual_text(&manual, "wick(8), wick-lab(1)");
    return CTL_OK;
}
