/* drain, shutdown, raw: commands that change the server, or leave everything to the user. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "call.h"

/* Says how many jobs are waited for. */
static void progress_print(const struct call *call, struct reply *reply) {
    if (call->quiet || !reply_split(reply)) return;
    fprintf(stderr, "%s: %s jobs to finish\n", reply_word(reply, 0)->value,
            reply_value(reply, "jobs", "?"));
}

/* Sends the verb and reads until the code that ends it. */
static enum ctl_exit last_wait(struct call *call, struct session *session, const char *verb,
                               int last) {
    enum ctl_exit status = call_open(call, session, 0);
    if (status != CTL_OK) return status;
    link_catch_interrupt();
    if (!link_print(&session->link, "%s", verb)) return session_lost(session);
    for (;;) {
        struct reply reply;
        char *line;
        switch (link_read(&session->link, -1, -1, &line)) {
        case LINK_INTERRUPT:
            return CTL_CANCELLED;
        case LINK_CLOSED:
            return session_lost(session);
        default:
            break;
        }
        if (!reply_parse(&reply, line)) continue;
        if (reply.code == 160 || reply.code == 161) progress_print(call, &reply);
        if (reply.code == last) return CTL_OK;
        if (reply.code >= 400) return session_refused(session, &reply);
    }
}

enum ctl_exit drain_command(struct call *call, struct session *session) {
    enum ctl_exit status = last_wait(call, session, "DRAIN", 260);
    if (status == CTL_OK) puts(call->json ? "{\"event\":\"drained\"}" : "drained");
    return status;
}

enum ctl_exit shutdown_command(struct call *call, struct session *session) {
    enum ctl_exit status = last_wait(call, session, "SHUTDOWN", 261);
    if (status == CTL_OK) puts(call->json ? "{\"event\":\"shutdown\"}" : "shut down");
    return status;
}

static bool write_all(int fd, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t put = write(fd, bytes, n);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        bytes += put;
        n -= (size_t)put;
    }
    return true;
}

/* Bytes go both ways as they are. At the end of stdin the sending side is closed and the rest of
 * the answers awaited; a tty, which has no such thing, is done when it is silent. */
enum ctl_exit raw_command(struct call *call, struct session *session) {
    enum { TTY_SILENCE_MS = 2000 };
    struct link *link = &session->link;
    char error[LINK_ERROR_BYTES];
    if (!link_open(link, call->address, error)) {
        fprintf(stderr, "wickctl: %s\n", error);
        return CTL_NO_CONNECTION;
    }
    session->address = call->address;
    bool open = true;
    for (;;) {
        struct pollfd wait[2] = {{.fd = link->fd, .events = POLLIN},
                                 {.fd = open ? STDIN_FILENO : -1, .events = POLLIN}};
        int ready = poll(wait, 2, !open && link->tty ? TTY_SILENCE_MS : -1);
        if (ready < 0 && errno != EINTR) return CTL_LOST;
        if (ready == 0) return CTL_OK;
        if (ready < 0) continue;
        char bytes[4096];
        if (wait[0].revents) {
            ssize_t got = read(link->fd, bytes, sizeof bytes);
            if (got <= 0 && !(got < 0 && errno == EAGAIN))
                return open ? session_lost(session) : CTL_OK;
            if (got > 0 && !write_all(STDOUT_FILENO, bytes, (size_t)got)) return CTL_OK;
        }
        if (wait[1].revents) {
            ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
            if (got > 0 && !link_send(link, bytes, (size_t)got)) return session_lost(session);
            if (link->end > link->begin) { /* what link_send took in meanwhile */
                (void)write_all(STDOUT_FILENO, link->buffer + link->begin, link->end - link->begin);
                link->begin = link->end = 0;
            }
            if (got > 0 || (got < 0 && errno == EINTR)) continue;
            open = false;
            if (!link->tty) (void)shutdown(link->fd, SHUT_WR);
        }
    }
}
