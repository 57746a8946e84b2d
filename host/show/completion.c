#include "show/completion.h"

#include <string.h>

/* The program's name as a shell's function may be called. */
static void function_name(const struct completion *c, char name[64]) {
    snprintf(name, 64, "_%s", c->program);
    for (char *at = name; *at; at++)
        if (*at == '-') *at = '_';
}

static bool is_choice(const char *values) {
    return values && strchr(values, '|');
}

static bool is_file(const char *values) {
    return values && (strcmp(values, "FILE") == 0 || strcmp(values, "DIR") == 0);
}

static bool is_key(const char *word) {
    return word[strlen(word) - 1] == '=';
}

/* "a|b" as "a b". */
static void choices_write(const char *values, FILE *out) {
    for (; *values; values++) fputc(*values == '|' ? ' ' : *values, out);
}

static bool is_offered(const struct completion_word *word, const char *command) {
    return !word->command || (command && strcmp(word->command, command) == 0);
}

/* Inside single quotes of a shell; ':' ends the word in zsh's descriptions, so there it is escaped.
 */
static void quoted_write(const char *text, bool zsh, FILE *out) {
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else if (zsh && *text == ':')
            fputs("\\:", out);
        else
            fputc(*text, out);
    }
}

/* One line of bash's case a word that takes a value: what may follow it. */
static void bash_values(const struct completion *c, FILE *out) {
    fputs("    case $command:$key in\n", out);
    for (size_t i = 0; i < c->n_words; i++) {
        const struct completion_word *word = &c->word[i];
        if (!word->values) continue;
        size_t length = strlen(word->word) - (is_key(word->word) ? 1 : 0);
        fprintf(out, "    %s:%.*s) ", word->command ? word->command : "*", (int)length, word->word);
        if (is_file(word->values)) {
            fputs("compopt -o filenames; COMPREPLY=($(compgen -f -- \"$cur\")); ", out);
        } else if (is_choice(word->values)) {
            fputs("COMPREPLY=($(compgen -W '", out);
            choices_write(word->values, out);
            fputs("' -- \"$cur\")); ", out);
        }
        fputs("return ;;\n", out);
    }
    fputs("    esac\n", out);
}

static void bash_words(const struct completion *c, const char *command, FILE *out) {
    for (size_t i = 0; i < c->n_words; i++)
        if (is_offered(&c->word[i], command)) fprintf(out, " %s", c->word[i].word);
}

/* '=' separates words in bash: "isa=av" is three of them. */
static void bash_write(const struct completion *c, FILE *out) {
    char name[64];
    function_name(c, name);
    fprintf(out, "# bash completion of %s, made by it\n%s() {\n", c->program, name);
    fputs("    local cur=${COMP_WORDS[COMP_CWORD]} key= command= words= i\n"
          "    [ \"$COMP_CWORD\" -gt 0 ] && key=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    if [ \"$key\" = = ]; then key=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
          "    if [ \"$cur\" = = ]; then cur=; fi\n",
          out);
    if (c->n_commands) {
        fputs("    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n"
              "        ",
              out);
        for (size_t i = 0; i < c->n_commands; i++)
            fprintf(out, "%s%s", i ? "|" : "", c->command[i].name);
        fputs(") command=${COMP_WORDS[i]}; break ;;\n        esac\n    done\n", out);
    }
    bash_values(c, out);
    fputs("    case $command in\n    '') words='", out);
    for (size_t i = 0; i < c->n_commands; i++) fprintf(out, "%s ", c->command[i].name);
    bash_words(c, NULL, out);
    fputs("' ;;\n", out);
    for (size_t i = 0; i < c->n_commands; i++) {
        fprintf(out, "    %s) words='", c->command[i].name);
        bash_words(c, c->command[i].name, out);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n", out);
    if (c->files)
        fputs("    if [ ${#COMPREPLY[@]} -eq 0 ]; then\n        compopt -o filenames\n"
              "        COMPREPLY=($(compgen -f -- \"$cur\"))\n    fi\n",
              out);
    fputs("    case ${COMPREPLY[0]} in *=) compopt -o nospace ;; esac\n}\n", out);
    fprintf(out, "complete -F %s %s\n", name, c->program);
}

/* The words of one command as arrays of 'word:help', keys apart from options. */
static void zsh_words(const struct completion *c, const char *command, FILE *out) {
    for (int keys = 0; keys < 2; keys++) {
        fprintf(out, "        %s=(", keys ? "keys" : "options");
        for (size_t i = 0; i < c->n_words; i++) {
            const struct completion_word *word = &c->word[i];
            if (!is_offered(word, command) || is_key(word->word) != (keys == 1)) continue;
            fputs("\n            '", out);
            quoted_write(word->word, true, out);
            fputc(':', out);
            quoted_write(word->help, true, out);
            fputc('\'', out);
        }
        fputs(")\n", out);
    }
}

static void zsh_values(const struct completion *c, FILE *out) {
    fputs("    case $command:$key in\n", out);
    for (size_t i = 0; i < c->n_words; i++) {
        const struct completion_word *word = &c->word[i];
        if (!word->values) continue;
        fprintf(out, "    %s:%s) ", word->command ? word->command : "*", word->word);
        if (is_file(word->values)) {
            fputs("_files; return", out);
        } else if (is_choice(word->values)) {
            fputs("compadd -- ", out);
            choices_write(word->values, out);
            fputs("; return", out);
        } else {
            fputs("return 1", out);
        }
        fputs(" ;;\n", out);
    }
    fputs("    esac\n", out);
}

static void zsh_write(const struct completion *c, FILE *out) {
    char name[64];
    function_name(c, name);
    fprintf(out, "#compdef %s\n# zsh completion of %s, made by it\n%s() {\n", c->program,
            c->program, name);
    fputs("    local -a commands options keys\n    local command= key= word\n", out);
    fputs("    commands=(", out);
    for (size_t i = 0; i < c->n_commands; i++) {
        fprintf(out, "\n        '%s:", c->command[i].name);
        quoted_write(c->command[i].help, true, out);
        fputc('\'', out);
    }
    fputs(")\n    for word in ${words[2,CURRENT-1]}; do\n"
          "        if (( ${commands[(I)$word:*]} )); then command=$word; break; fi\n    done\n"
          "    key=${words[CURRENT-1]}\n"
          "    if [[ ${words[CURRENT]} == ?*=* ]]; then\n"
          "        key=${words[CURRENT]%%=*}=\n        compset -P '*='\n    fi\n",
          out);
    zsh_values(c, out);
    fputs("    case $command in\n    '')\n", out);
    zsh_words(c, NULL, out);
    fputs("        (( ${#commands} )) && _describe -t commands command commands\n        ;;\n",
          out);
    for (size_t i = 0; i < c->n_commands; i++) {
        fprintf(out, "    %s)\n", c->command[i].name);
        zsh_words(c, c->command[i].name, out);
        fputs("        ;;\n", out);
    }
    fputs("    esac\n"
          "    (( ${#keys} )) && _describe -t keys key keys -S ''\n"
          "    (( ${#options} )) && _describe -t options option options\n",
          out);
    fputs(c->files ? "    _files\n}\n" : "}\n", out);
    fprintf(
        out,
        "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then %s \"$@\"; else compdef %s %s; fi\n",
        name, name, c->program);
}

bool completion_write(const struct completion *completion, const char *shell, FILE *out) {
    bool zsh = strcmp(shell, "zsh") == 0;
    if (!zsh && strcmp(shell, "bash") != 0) return false;
    if (zsh)
        zsh_write(completion, out);
    else
        bash_write(completion, out);
    return true;
}
