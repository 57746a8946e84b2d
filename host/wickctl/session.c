#include "session.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "json.h"
#include "login.h"

enum ctl_exit session_lost(const struct session *session) {
    if (session->link.forged) {
        fprintf(stderr,
                "wickctl: a line from %s was changed, added or left out on its way; the "
                "connection is not to be trusted\n",
                session->address);
        return CTL_LOST;
    }
    fprintf(stderr, "wickctl: connection to %s lost before the answer was complete\n",
            session->address);
    return CTL_LOST;
}

enum ctl_exit session_silent(const struct session *session, int waited_ms) {
    fprintf(stderr, "wickctl: no answer from %s within %d s; %s\n", session->address,
            waited_ms / 1000,
            session->link.tty ? "check the cable, the baud rate and that wick listens on that tty"
                              : "is that a wick?");
    return CTL_NO_CONNECTION;
}

/* The fields of an error: what is wrong with which, or INVALID_REQUEST would say nothing. */
static void fields_tell(const struct reply *reply, const char **mark) {
    for (size_t i = 0; i < reply->n_items; i++) {
        const struct reply_item *item = &reply->item[i];
        if (!item->name || strcmp(item->name, "retriable") == 0) continue;
        fprintf(stderr, "%s%s: %s", *mark, item->name, item->value);
        *mark = ", ";
    }
}

enum ctl_exit session_refused(struct session *session, struct reply *reply) {
    enum ctl_exit result = reply->code >= 500 ? CTL_SERVER_ERROR : CTL_REFUSED;
    const struct reply_item *word = reply_split(reply) ? reply_word(reply, 0) : NULL;
    if (!word) {
        fprintf(stderr, "wickctl: %s answers with error %d\n", session->address, reply->code);
        return result;
    }
    bool retriable = strcmp(reply_value(reply, "retriable", "0"), "1") == 0;
    const struct reply_item *text = reply_word(reply, 1);
    fprintf(stderr, "wickctl: %s (%d)", word->value, reply->code);
    if (text) fprintf(stderr, ": %s", text->value);
    if (session->json) {
        printf("{\"event\":\"error\",\"code\":%d,\"error\":", reply->code);
        json_text(word->value, word->length);
        printf(",\"retriable\":%s", retriable ? "true" : "false");
        if (text) fputs(",\"message\":", stdout);
        if (text) json_text(text->value, text->length);
    }
    const char *mark = text ? "; " : ": ";
    for (;;) {
        fields_tell(reply, &mark);
        if (session->json) json_fields(reply);
        if (!reply->more) break;
        if (session_reply(session, reply->tag, SESSION_ANSWER_MS, reply) != CTL_OK) break;
        if (!reply_split(reply)) break;
    }
    fputs(retriable ? " (may work later)\n" : "\n", stderr);
    if (session->json) puts("}");
    return result;
}

/* The next line; in slices where somebody wants to show that time passes. */
static enum link_status line_wait(struct session *session, int timeout_ms, char **line) {
    enum { SLICE_MS = 100 };
    while (session->idle && (timeout_ms < 0 || timeout_ms > SLICE_MS)) {
        enum link_status status = link_read(&session->link, -1, SLICE_MS, line);
        if (status != LINK_TIMEOUT) return status;
        session->idle(session->idle_context);
        if (timeout_ms > 0) timeout_ms -= SLICE_MS;
    }
    return link_read(&session->link, -1, timeout_ms, line);
}

enum ctl_exit session_reply(struct session *session, unsigned tag, int timeout_ms,
                            struct reply *reply) {
    for (;;) {
        char *line;
        switch (line_wait(session, timeout_ms, &line)) {
        case LINK_INTERRUPT:
            return CTL_CANCELLED;
        case LINK_TIMEOUT:
            return session_silent(session, timeout_ms);
        case LINK_CLOSED:
            return session_lost(session);
        case LINK_INPUT:
        case LINK_LINE:
            break;
        }
        if (!reply_parse(reply, line)) continue; /* noise on a serial line */
        if (reply->tag == tag && reply->code != 230 && (tag || reply->code >= 200)) return CTL_OK;
        /* The server has no line for our tag any more when it ends or misread the request. */
        if (reply->tag == 0 && tag && reply->code >= 400) return session_refused(session, reply);
        if (reply->tag == 0 && reply->code == 261) return session_lost(session);
    }
}

enum ctl_exit session_ask(struct session *session, const char *line, struct reply *reply) {
    if (!link_print(&session->link, "%s", line)) return session_lost(session);
    enum ctl_exit status = session_reply(session, 0, SESSION_ANSWER_MS, reply);
    if (status == CTL_OK && reply->code >= 400) return session_refused(session, reply);
    return status;
}

/* A tty carries no connections: whatever an earlier user left is ended with BYE, and only what
 * follows the answer to that is ours. A cable may be bad, so a CRC is agreed. It holds once the
 * mark of the last try has come back: an answer to the HELLO before it may come late, and say
 * nothing of what the BYE after it has ended. */
static enum ctl_exit tty_greet(struct session *session) {
    struct reply reply;
    struct link *link = &session->link;
    for (int i = 0; i < SESSION_TTY_TRIES; i++) {
        link->seal = (struct seal){.kind = SEAL_CRC}; /* of what we send */
        unsigned mark = SESSION_TTY_MARK + (unsigned)i;
        if (!link_print(link, "\nBYE\nHELLO proto=1 crc=1\nSTOP %u", mark))
            return session_lost(session);
        link->seal.kind = SEAL_NONE; /* of what comes, until it is agreed; checked all the same */
        bool fresh = false;
        char *line;
        for (;;) {
            enum link_status status = link_read(link, -1, 1000, &line);
            if (status == LINK_INTERRUPT) return CTL_CANCELLED;
            if (status == LINK_CLOSED) return session_lost(session);
            if (status == LINK_TIMEOUT) break;
            if (!reply_parse(&reply, line)) continue;
            fresh = fresh || reply.code == 221;
            bool marked = reply.code == 230 && reply.tag == mark;
            if (marked && link->seal.kind == SEAL_CRC)
                return link_repair(link) ? CTL_OK : CTL_USAGE;
            if (!fresh || reply.code != 220 || !reply_split(&reply)) continue;
            if (strcmp(reply_value(&reply, "crc", "0"), "1") != 0) continue;
            link->seal.kind = SEAL_CRC; /* lines without one are passed over now */
        }
    }
    return session_silent(session, SESSION_TTY_TRIES * 1000);
}

static enum ctl_exit greet(struct session *session) {
    if (session->link.tty) return tty_greet(session);
    struct reply reply;
    char *line;
    switch (link_read(&session->link, -1, SESSION_ANSWER_MS, &line)) {
    case LINK_INTERRUPT:
        return CTL_CANCELLED;
    case LINK_TIMEOUT:
        return session_silent(session, SESSION_ANSWER_MS);
    case LINK_LINE:
        break;
    default:
        return session_lost(session);
    }
    if (!reply_parse(&reply, line) || (reply.code != 220 && reply.code < 400)) {
        fprintf(stderr, "wickctl: what listens at %s does not speak wick's protocol: \"%.60s\"\n",
                session->address, line);
        return CTL_NO_CONNECTION;
    }
    if (reply.code >= 400) return session_refused(session, &reply);
    bool split = reply_split(&reply);
    if (!split || strcmp(reply_value(&reply, "proto", "1"), "1") != 0) {
        fprintf(stderr, "wickctl: %s speaks protocol %s, this wickctl speaks 1\n", session->address,
                reply_value(&reply, "proto", "?"));
        return CTL_NO_CONNECTION;
    }
    const struct reply_item *nonce = reply_find(&reply, "nonce");
    if (!nonce && session->key && strncmp(session->address, "tcp:", 4) == 0) {
        fprintf(stderr,
                "wickctl: %s asks for no login, but a key is given: it may not be the server you "
                "mean; without WICK_KEY, WICK_KEY_FILE and --key it is talked to\n",
                session->address);
        return CTL_NO_CONNECTION;
    }
    return nonce ? login_do(session, nonce) : CTL_OK;
}

enum ctl_exit session_open(struct session *session, const char *address, int wait_ms) {
    enum { RETRY_MS = 100 };
    char error[LINK_ERROR_BYTES];
    session->address = address;
    while (!link_open(&session->link, address, error)) {
        if (wait_ms <= 0) {
            fprintf(stderr, "wickctl: %s\n", error);
            return CTL_NO_CONNECTION;
        }
        struct timespec pause = {.tv_nsec = RETRY_MS * 1000000L};
        nanosleep(&pause, NULL);
        wait_ms -= RETRY_MS;
    }
    return greet(session);
}

void session_close(struct session *session) {
    /* On a tty nothing else tells the server that we are gone. */
    if (session->link.tty && session->link.fd >= 0) (void)link_print(&session->link, "BYE");
    link_close(&session->link);
}
