/* call: what the command line asked for, and the commands that do it. */
#ifndef WICKCTL_CALL_H
#define WICKCTL_CALL_H

#include <stdbool.h>
#include <stddef.h>

#include "session.h"

enum { CALL_PARAMS_MAX = 32 }; /* as many fields as a line may have */

struct call_param {
    const char *name; /* as the protocol spells it: max_tokens */
    const char *value;
};

struct call {
    const char *address;
    const char *key_file; /* NULL: see the environment */
    bool json;
    bool quiet;
    bool color; /* stdout is a terminal that wants it */
    struct call_param param[CALL_PARAMS_MAX];
    size_t n_params;
    const char *text; /* NULL: none given; "-": read it from stdin */
};

/* Adds or, except for stop, replaces a parameter. An empty value removes it. False: too many. */
bool call_param_set(struct call *call, const char *name, const char *value);

/* The text of the call or of stdin, at most what a prompt may have. One LF at the end of stdin is
 * dropped. On failure a message is on stderr. */
enum ctl_exit call_text_read(const struct call *call, const char **text, size_t *length);

/* Sends VERB tag params "text", through PUT (and RUN for GEN) what does not fit a line. */
enum ctl_exit call_send(const struct call *call, struct session *session, const char *verb,
                        unsigned tag, const char *text, size_t length);

/* The same, always through PUT. */
enum ctl_exit call_send_staged(const struct call *call, struct session *session, const char *verb,
                               unsigned tag, const char *text, size_t length);

/* The commands of the table in main.c. */
enum ctl_exit gen_command(struct call *call, struct session *session);
enum ctl_exit score_command(struct call *call, struct session *session);
enum ctl_exit repl_command(struct call *call, struct session *session);
enum ctl_exit health_command(struct call *call, struct session *session);
enum ctl_exit info_command(struct call *call, struct session *session);
enum ctl_exit metrics_command(struct call *call, struct session *session);
enum ctl_exit tokenize_command(struct call *call, struct session *session);
enum ctl_exit detokenize_command(struct call *call, struct session *session);
enum ctl_exit ping_command(struct call *call, struct session *session);
enum ctl_exit drain_command(struct call *call, struct session *session);
enum ctl_exit shutdown_command(struct call *call, struct session *session);
enum ctl_exit raw_command(struct call *call, struct session *session);

/* Streams one job to stdout until its terminal line; `echo` is printed in front of it. */
enum ctl_exit gen_stream(const struct call *call, struct session *session, const char *prompt,
                         size_t length, bool echo);

/* HEALTH, split into items. */
enum ctl_exit health_ask(struct session *session, struct reply *reply);
/* What HEALTH said as a table on stdout. */
void health_print(const struct reply *reply);

#endif
