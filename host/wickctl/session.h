/* session: a link on which a wick has answered. Says on stderr what goes wrong. */
#ifndef WICKCTL_SESSION_H
#define WICKCTL_SESSION_H

#include <stdbool.h>

#include "link.h"
#include "reply.h"
#include "secret/mac.h"

/* Exit status of wickctl, and result of what leads to one. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_USAGE = 1,
    CTL_NO_CONNECTION = 2,
    CTL_REFUSED = 3,      /* 4xx */
    CTL_SERVER_ERROR = 4, /* 5xx */
    CTL_LOST = 5,         /* the connection broke before the answer was complete */
    CTL_CANCELLED = 130   /* Ctrl-C */
};

enum {
    SESSION_ANSWER_MS = 10000, /* for answers that do not wait for a model */
    SESSION_TTY_TRIES = 12,    /* one a second: a cable may be silent for 5 s, twice in a row */
    SESSION_TTY_MARK = 9900    /* tag of the first try's mark: never that of a job */
};

struct session {
    struct link link;
    const char *address;
    const struct mac_key *key; /* log in with it on TCP, or not at all; NULL: none */
    bool json;                 /* errors go to stdout as objects, too */
    /* Called about ten times a second while session_reply waits, if set. */
    void (*idle)(void *context);
    void *idle_context;
};

/* Connects and reads the greeting. wait_ms: how long to try again while nobody listens. */
enum ctl_exit session_open(struct session *session, const char *address, int wait_ms);
void session_close(struct session *session);

/* Next reply with that tag (0: untagged); other tags, untagged 1xx and 230 are passed over.
 * timeout_ms < 0: for ever. CTL_SERVER_ERROR after a timeout, CTL_CANCELLED on Ctrl-C, CTL_LOST;
 * all but Ctrl-C say so on stderr. */
enum ctl_exit session_reply(struct session *session, unsigned tag, int timeout_ms,
                            struct reply *reply);

/* Sends a line of which the answer is untagged, and reads the first line of it. An error in the
 * answer is told and becomes the result. */
enum ctl_exit session_ask(struct session *session, const char *line, struct reply *reply);

/* Tells an error reply (4xx, 5xx), all its lines, on stderr; returns the exit status it stands for.
 */
enum ctl_exit session_refused(struct session *session, struct reply *reply);

enum ctl_exit session_lost(const struct session *session);
enum ctl_exit session_silent(const struct session *session, int waited_ms);

#endif
