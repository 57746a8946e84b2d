/* call: what the command line asked for, and the commands that do it. */
#ifndef WICKCTL_CALL_H
#define WICKCTL_CALL_H

#include <stdbool.h>
#include <stddef.h>

#include "session.h"
#include "text.h"

enum {
    CALL_PARAMS_MAX = 32, /* as many fields as a line may have */
    CALL_NO_WAIT = -1,    /* of call.wait_s: as the command thinks best */
    CALL_PERSON_WAIT_S = 30
};

struct call_param {
    const char *name; /* as the protocol spells it: max_tokens */
    const char *value;
};

/* Options stay NULL or 0 where they were not given (commands.c). */
struct call {
    const char *address, *profile;
    const char *key_file; /* NULL: see the environment */
    bool json;
    bool quiet;
    const char *color_when;
    bool color, color_err; /* what stdout and stderr want */
    double wait_s;
    struct call_param param[CALL_PARAMS_MAX];
    size_t n_params;
    const char *text;                   /* NULL: none given; "-": read it from stdin */
    const char *file;                   /* in place of the text */
    const char *system, *format, *load; /* chat */
    const char *clients, *svg;          /* bench */
    double requests, rate;
    bool same;
    double interval_s, count; /* top */
    double prompt_rate;       /* tokens a second of the last prompt; 0: unknown */
};

/* Adds or, except for stop, replaces a parameter. An empty value removes it. False: too many. */
bool call_param_set(struct call *call, const char *name, const char *value);

/* The parameter of that name, or NULL. */
const char *call_param_get(const struct call *call, const char *name);

/* Opens the session. Waits for the server to come up and for its model to be loaded as long as
 * --wait says, or wait_s where it says nothing; shows how far loading is. */
enum ctl_exit call_open(const struct call *call, struct session *session, double wait_s);

/* The text of the call, of its file or of stdin, at most what a prompt may have. One LF at the end
 * of stdin is dropped. On failure a message is on stderr. */
enum ctl_exit call_text_read(const struct call *call, const char **text, size_t *length);

/* Sends VERB tag params "text", through PUT (and RUN for GEN) what does not fit a line. */
enum ctl_exit call_send(const struct call *call, struct session *session, const char *verb,
                        unsigned tag, const char *text, size_t length);

/* The same, always through PUT. */
enum ctl_exit call_send_staged(const struct call *call, struct session *session, const char *verb,
                               unsigned tag, const char *text, size_t length);

/* The commands of the table in commands.c. */
enum ctl_exit chat_command(struct call *call, struct session *session);
enum ctl_exit gen_command(struct call *call, struct session *session);
enum ctl_exit score_command(struct call *call, struct session *session);
enum ctl_exit repl_command(struct call *call, struct session *session);
enum ctl_exit top_command(struct call *call, struct session *session);
enum ctl_exit bench_command(struct call *call, struct session *session);
enum ctl_exit health_command(struct call *call, struct session *session);
enum ctl_exit info_command(struct call *call, struct session *session);
enum ctl_exit metrics_command(struct call *call, struct session *session);
enum ctl_exit tokenize_command(struct call *call, struct session *session);
enum ctl_exit detokenize_command(struct call *call, struct session *session);
enum ctl_exit ping_command(struct call *call, struct session *session);
enum ctl_exit drain_command(struct call *call, struct session *session);
enum ctl_exit shutdown_command(struct call *call, struct session *session);
enum ctl_exit raw_command(struct call *call, struct session *session);

/* What a caller of gen_stream wants to know about the answer. */
struct gen_answer {
    struct text text;
    bool trim;        /* blanks in front of it are not shown */
    const char *echo; /* shown in front of it, in bold where there are colours; NULL: nothing */
    bool too_long_is_mine; /* 413 is not told: the caller shortens the prompt and tries again */
    bool too_long;
};

/* Streams one job to stdout until its terminal line. answer: NULL where nobody wants to know. */
enum ctl_exit gen_stream(struct call *call, struct session *session, const char *prompt,
                         size_t length, struct gen_answer *answer);

/* HEALTH, split into items. */
enum ctl_exit health_ask(struct session *session, struct reply *reply);
/* What HEALTH said as a table on stdout. */
void health_print(const struct reply *reply);

#endif
