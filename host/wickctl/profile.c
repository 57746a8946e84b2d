#include "profile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "profile_file.h"
#include "wire/command.h"

enum { PROFILE_BYTES_MAX = 1 << 16 };

struct taker {
    struct call *call;
    const struct ctl_command *command;
    const char *path;
    bool told; /* what is wrong */
};

static bool setting_refuse(struct taker *taker, unsigned line, const char *what, const char *name) {
    taker->told = true;
    fprintf(stderr, "wickctl: %s, line %u: %s \"%s\"\n", taker->path, line, what, name);
    return false;
}

static bool field_known(const char *name, uint32_t sets) {
    for (const struct field *field = fields; field->name; field++)
        if ((field->verbs & sets) && strcmp(field->name, name) == 0) return true;
    return false;
}

static bool setting_take(void *context, const char *name, const char *value, unsigned line) {
    struct taker *taker = context;
    char dashed[64];
    snprintf(dashed, sizeof dashed, "--%s", name);
    const struct ctl_option *option = ctl_option_find(dashed);
    if (option && option->kind != OPTION_HELP && option->kind != OPTION_VERSION &&
        strcmp(name, "profile") != 0) {
        if (!ctl_option_fits(option, taker->command)) return true;
        if (ctl_option_set(taker->call, option, value)) return true;
        return setting_refuse(taker, line, "no such value for", name);
    }
    if (!field_known(name, UINT32_MAX)) return setting_refuse(taker, line, "no setting", name);
    if (!*value) return setting_refuse(taker, line, "no value for", name);
    if (!taker->command || !field_known(name, taker->command->fields)) return true;
    return call_param_set(taker->call, name, value) ||
           setting_refuse(taker, line, "too many parameters at", name);
}

/* The whole file, terminated; NULL with errno when there is none, or it is too long (EFBIG). */
static char *file_read(const char *path) {
    static char text[PROFILE_BYTES_MAX + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return NULL;
    size_t n = 0;
    ssize_t got;
    while (n < sizeof text && (got = read(fd, text + n, sizeof text - n)) != 0) {
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) break;
        n += (size_t)got;
    }
    int problem = n == sizeof text ? EFBIG : got < 0 ? errno : 0;
    close(fd);
    errno = problem;
    if (problem) return NULL;
    text[n] = 0;
    return text;
}

enum ctl_exit profile_apply(struct call *call, const struct ctl_command *command) {
    static char path[PROFILE_PATH_MAX];
    const char *name = call->profile ? call->profile : "default";
    bool there = profile_path("XDG_CONFIG_HOME", ".config", "wickctl.conf", path);
    char *text = there ? file_read(path) : NULL;
    if (!text && !call->profile && (!there || errno == ENOENT || errno == ENOTDIR)) return CTL_OK;
    if (!text) {
        fprintf(stderr, "wickctl: profile \"%s\": cannot read %s: %s\n", name,
                there ? path : "a file without $HOME", strerror(there ? errno : ENOENT));
        return CTL_USAGE;
    }
    struct taker taker = {.call = call, .command = command, .path = path};
    bool found = false;
    unsigned line = 0;
    if (!profile_parse(text, name, setting_take, &taker, &found, &line)) {
        if (!taker.told)
            fprintf(stderr, "wickctl: %s, line %u: neither [NAME] nor name = value\n", path, line);
        return CTL_USAGE;
    }
    if (found || !call->profile) return CTL_OK;
    fprintf(stderr, "wickctl: %s has no profile [%s]\n", path, name);
    return CTL_USAGE;
}
