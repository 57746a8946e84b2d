#include "call.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "show/progress.h"
#include "wire/frame.h"

const char *call_param_get(const struct call *call, const char *name) {
    for (size_t i = 0; i < call->n_params; i++)
        if (strcmp(call->param[i].name, name) == 0) return call->param[i].value;
    return NULL;
}

bool call_param_set(struct call *call, const char *name, const char *value) {
    size_t at = call->n_params;
    if (strcmp(name, "stop") != 0 || !*value)
        for (size_t i = 0; i < call->n_params; i++)
            if (strcmp(call->param[i].name, name) == 0) at = i;
    if (!*value) {
        if (at == call->n_params) return true;
        call->n_params--;
        memmove(&call->param[at], &call->param[at + 1],
                (call->n_params - at) * sizeof call->param[0]);
        return true;
    }
    if (at == CALL_PARAMS_MAX) return false;
    call->param[at] = (struct call_param){name, value};
    if (at == call->n_params) call->n_params++;
    return true;
}

/* All of a descriptor. */
static enum ctl_exit input_read(int fd, const char *name, char *input, size_t size,
                                size_t *length) {
    *length = 0;
    while (*length < size) {
        ssize_t got = read(fd, input + *length, size - *length);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            fprintf(stderr, "wickctl: cannot read %s: %s\n", name, strerror(errno));
            return CTL_USAGE;
        }
        if (got == 0) return CTL_OK;
        *length += (size_t)got;
    }
    fprintf(stderr, "wickctl: %s has more than %d bytes, the most a prompt may have\n", name,
            ENGINE_TEXT_MAX);
    return CTL_USAGE;
}

enum ctl_exit call_text_read(const struct call *call, const char **text, size_t *length) {
    static char input[ENGINE_TEXT_MAX + 1];
    bool from_stdin = !call->text || strcmp(call->text, "-") == 0;
    *text = call->text;
    *length = call->text ? strlen(call->text) : 0;
    if (call->file && call->text) {
        fprintf(stderr, "wickctl: a text and --file; give one of them\n");
        return CTL_USAGE;
    }
    if (!call->file && !from_stdin) return CTL_OK;
    if (!call->file && !call->text && isatty(STDIN_FILENO)) {
        fprintf(stderr, "wickctl: no text given; write it after the command, or pipe it in\n");
        return CTL_USAGE;
    }
    *text = input;
    if (call->file) {
        int fd = open(call->file, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            fprintf(stderr, "wickctl: cannot open %s: %s\n", call->file, strerror(errno));
            return CTL_USAGE;
        }
        enum ctl_exit status = input_read(fd, call->file, input, sizeof input, length);
        close(fd);
        return status;
    }
    enum ctl_exit status = input_read(STDIN_FILENO, "stdin", input, sizeof input, length);
    if (status == CTL_OK && *length > 0 && input[*length - 1] == '\n') (*length)--;
    return status;
}

/* HEALTH until the model is loaded. */
static enum ctl_exit ready_wait(struct session *session, double wait_s) {
    enum { POLL_MS = 100 };
    struct progress progress;
    enum ctl_exit status;
    progress_begin(&progress, "loading", NULL);
    for (double waited_s = 0;; waited_s += POLL_MS / 1e3) {
        struct reply health;
        status = health_ask(session, &health);
        const char *state = status == CTL_OK ? reply_value(&health, "status", "?") : "";
        if (strcmp(state, "loading") != 0) break;
        if (waited_s >= wait_s) {
            progress_end(&progress);
            fprintf(stderr, "wickctl: %s is loading, not ready after %.0f s; try again later\n",
                    session->address, wait_s);
            return CTL_SERVER_ERROR;
        }
        progress_tell(&progress, strtod(reply_value(&health, "percent", "0"), NULL), 100);
        char *line;
        enum link_status waiting = link_read(&session->link, -1, POLL_MS, &line);
        if (waiting == LINK_INTERRUPT) status = CTL_CANCELLED;
        if (waiting == LINK_CLOSED) status = session_lost(session);
        if (status != CTL_OK) break;
    }
    progress_end(&progress);
    return status;
}

enum ctl_exit call_open(const struct call *call, struct session *session, double wait_s) {
    if (call->wait_s != CALL_NO_WAIT) wait_s = call->wait_s;
    enum ctl_exit status = session_open(session, call->address, (int)(wait_s * 1e3));
    if (status != CTL_OK || wait_s <= 0) return status;
    return ready_wait(session, wait_s);
}

/* What the cable may add to a line: another tag, and at=131072. */
enum { CALL_SPARE = 16, CALL_TTY_PIECE = 200 };

/* VERB tag name=value ... into line. Returns its length, 0 when it does not fit. */
static size_t head_write(const struct call *call, const char *verb, unsigned tag,
                         char line[FRAME_LINE_MAX]) {
    size_t n = (size_t)snprintf(line, FRAME_LINE_MAX, "%s %u", verb, tag);
    for (size_t i = 0; i < call->n_params; i++) {
        const struct call_param *param = &call->param[i];
        size_t length = strlen(param->value), used;
        if (n + strlen(param->name) + 4 >= FRAME_LINE_MAX) return 0;
        n += (size_t)snprintf(line + n, FRAME_LINE_MAX - n, " %s=\"", param->name);
        n += frame_escape(param->value, length, line + n, FRAME_LINE_MAX - 2 - n, &used);
        if (used < length) return 0;
        line[n++] = '"';
    }
    return n;
}

/* The whole text in PUTs, each acknowledged. */
static enum ctl_exit text_stage(struct session *session, unsigned tag, const char *text,
                                size_t length) {
    while (length > 0) {
        char line[FRAME_LINE_MAX];
        size_t used;
        size_t n = (size_t)snprintf(line, sizeof line, "PUT %u \"", tag);
        size_t room = sizeof line - 2 - n - CALL_SPARE;
        if (session->link.tty) room = CALL_TTY_PIECE; /* short lines are lost less often */
        n += frame_escape(text, length, line + n, room, &used);
        line[n++] = '"';
        line[n++] = '\n';
        if (!link_send(&session->link, line, n)) return session_lost(session);
        struct reply reply;
        enum ctl_exit status = session_reply(session, tag, SESSION_ANSWER_MS, &reply);
        if (status == CTL_OK && reply.code >= 400) status = session_refused(session, &reply);
        if (status != CTL_OK) return status;
        text += used;
        length -= used;
    }
    return CTL_OK;
}

static enum ctl_exit head_refuse(void) {
    fprintf(stderr,
            "wickctl: the parameters do not fit a line of %d bytes; shorten the stop "
            "strings\n",
            FRAME_LINE_MAX);
    return CTL_USAGE;
}

enum ctl_exit call_send_staged(const struct call *call, struct session *session, const char *verb,
                               unsigned tag, const char *text, size_t length) {
    char line[FRAME_LINE_MAX];
    size_t n = head_write(call, verb, tag, line);
    if (n == 0) return head_refuse();
    enum ctl_exit status = text_stage(session, tag, text, length);
    if (status != CTL_OK) return status;
    line[n++] = '\n';
    return link_send(&session->link, line, n) ? CTL_OK : session_lost(session);
}

enum ctl_exit call_send(const struct call *call, struct session *session, const char *verb,
                        unsigned tag, const char *text, size_t length) {
    enum { AROUND = sizeof " \"\"\n" - 1 };
    char line[FRAME_LINE_MAX];
    size_t n = head_write(call, verb, tag, line), used = 0;
    if (n == 0) return head_refuse();
    if (n + AROUND + CALL_SPARE < sizeof line) {
        size_t room = sizeof line - n - AROUND - CALL_SPARE;
        size_t more = frame_escape(text, length, line + n + 2, room, &used);
        if (used == length) {
            line[n] = ' ';
            line[n + 1] = '"';
            n += 2 + more;
            line[n++] = '"';
            line[n++] = '\n';
            return link_send(&session->link, line, n) ? CTL_OK : session_lost(session);
        }
    }
    const char *staged = strcmp(verb, "GEN") == 0 ? "RUN" : verb;
    return call_send_staged(call, session, staged, tag, text, length);
}
