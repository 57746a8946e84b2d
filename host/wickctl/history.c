#include "history.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

/* The file has a line an entry: a line feed is \n, a backslash \\. */
static void entry_write(FILE *file, const char *line) {
    for (; *line; line++) {
        if (*line == '\n')
            fputs("\\n", file);
        else if (*line == '\\')
            fputs("\\\\", file);
        else
            fputc(*line, file);
    }
    fputc('\n', file);
}

static void entry_read(char *line) {
    char *to = line;
    for (; *line && *line != '\n'; line++) {
        if (*line == '\\' && line[1]) {
            line++;
            *to++ = *line == 'n' ? '\n' : *line;
        } else {
            *to++ = *line;
        }
    }
    *to = 0;
}

static void keep(struct history *history, const char *line) {
    if (history->n == HISTORY_MAX) {
        free(history->line[0]);
        memmove(history->line, history->line + 1, sizeof history->line - sizeof history->line[0]);
        history->n--;
    }
    history->line[history->n++] = text_copy(line, strlen(line));
}

void history_open(struct history *history, const char *path) {
    *history = (struct history){.path = path};
    FILE *file = path ? fopen(path, "re") : NULL;
    char *line = NULL;
    size_t room = 0;
    while (file && getline(&line, &room, file) > 0) {
        entry_read(line);
        if (*line) keep(history, line);
    }
    free(line);
    if (file) fclose(file);
}

/* The folders above the file, for the person alone. */
static void folders_make(const char *path) {
    char folder[4096];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t n = (size_t)(slash - path);
        if (n >= sizeof folder) return;
        memcpy(folder, path, n);
        folder[n] = 0;
        (void)mkdir(folder, 0700);
    }
}

/* Nobody else may read what was typed. */
static FILE *file_open(const char *path, int flags) {
    folders_make(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (fd >= 0 && !file) close(fd);
    return file;
}

void history_add(struct history *history, const char *line) {
    if (!*line || (history->n > 0 && strcmp(history->line[history->n - 1], line) == 0)) return;
    keep(history, line);
    FILE *file = history->path ? file_open(history->path, O_APPEND) : NULL;
    if (!file) return;
    entry_write(file, line);
    fclose(file);
}

void history_close(struct history *history) {
    struct stat status;
    /* Now and then: a file of few lines is left alone. */
    bool large = history->path && stat(history->path, &status) == 0 && status.st_size > 1 << 18;
    FILE *file = large ? file_open(history->path, O_TRUNC) : NULL;
    for (size_t i = 0; i < history->n; i++) {
        if (file) entry_write(file, history->line[i]);
        free(history->line[i]);
    }
    if (file) fclose(file);
    history->n = 0;
}
