#include "profile_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Without blanks around, and without the double quotes that may keep some. */
static char *trimmed(char *text) {
    while (isspace((unsigned char)*text)) text++;
    size_t n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1])) n--;
    if (n >= 2 && text[0] == '"' && text[n - 1] == '"') text++, n -= 2;
    text[n] = 0;
    return text;
}

/* '#' begins a comment where a line begins or after a blank, but not inside double quotes. */
static void comment_cut(char *line) {
    bool quoted = false;
    for (char *at = line; *at; at++) {
        if (*at == '"') quoted = !quoted;
        if (*at != '#' || quoted || (at > line && !isspace((unsigned char)at[-1]))) continue;
        *at = 0;
        return;
    }
}

bool profile_parse(char *text, const char *name, profile_setting *setting, void *context,
                   bool *found, unsigned *line) {
    bool ours = true; /* the part before the first section is everybody's */
    *found = false;
    *line = 0;
    for (char *next; text; text = next) {
        (*line)++;
        next = strchr(text, '\n');
        if (next) *next++ = 0;
        comment_cut(text);
        char *at = trimmed(text), *equals = strchr(at, '=');
        if (!*at) continue;
        if (*at == '[') {
            size_t n = strlen(at);
            if (at[n - 1] != ']') return false;
            at[n - 1] = 0;
            ours = strcmp(trimmed(at + 1), name) == 0;
            *found = *found || ours;
            continue;
        }
        if (!equals || equals == at) return false;
        if (!ours) continue;
        *equals = 0;
        if (!setting(context, trimmed(at), trimmed(equals + 1), *line)) return false;
    }
    return true;
}

bool profile_path(const char *variable, const char *fallback, const char *file,
                  char path[PROFILE_PATH_MAX]) {
    const char *base = getenv(variable), *home = getenv("HOME");
    int n = 0;
    if (base && *base == '/')
        n = snprintf(path, PROFILE_PATH_MAX, "%s/wick/%s", base, file);
    else if (home && *home == '/')
        n = snprintf(path, PROFILE_PATH_MAX, "%s/%s/wick/%s", home, fallback, file);
    return n > 0 && n < PROFILE_PATH_MAX;
}
