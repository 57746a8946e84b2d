/* completion: what makes a shell complete a command line, written from a program's tables. */
#ifndef SHOW_COMPLETION_H
#define SHOW_COMPLETION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct completion_command {
    const char *name;
    const char *help;
};

/* "--json", "--file", "seed=". */
struct completion_word {
    const char *command; /* where it is offered; NULL: everywhere */
    const char *word;
    const char *values; /* "a|b": one of these; "FILE"; others, or NULL: cannot be completed */
    const char *help;
};

struct completion {
    const char *program;
    const struct completion_command *command;
    size_t n_commands;
    const struct completion_word *word;
    size_t n_words;
    bool files; /* what is no word may be a file's name */
};

/* shell: "bash" or "zsh"; false: another. */
bool completion_write(const struct completion *completion, const char *shell, FILE *out);

#endif
