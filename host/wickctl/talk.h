/* talk: a person (or a script on stdin) says lines, something answers: what chat and repl share.
 *
 * On a terminal lines are edited (editor.h) and kept (history.h). A line that begins with '/' is a
 * command of the tables. */
#ifndef WICKCTL_TALK_H
#define WICKCTL_TALK_H

#include "call.h"
#include "editor.h"
#include "history.h"
#include "profile_file.h"

struct talk;

struct talk_command {
    const char *name;   /* "/set" */
    const char *syntax; /* "KEY=VALUE" */
    const char *help;
    enum ctl_exit (*run)(struct talk *talk, const char *rest);
};

struct talk {
    struct call *call;
    struct session *session;
    const struct talk_command *commands; /* beside those of every talk; ended by a name NULL */
    enum ctl_exit (*say)(struct talk *talk, const char *line); /* NULL line: stdin was empty */
    void *context;                                             /* of say and the commands */

    bool person; /* a terminal: errors of one line do not end it, nor Ctrl-C */
    bool edits;  /* one that can move its cursor */
    bool quit;
    const char *next; /* text to be edited next, on the heap; NULL: none */
    struct editor editor;
    struct history history;
    char history_path[PROFILE_PATH_MAX];
    struct text screen, line, input;
};

/* Lines until the end of stdin or /quit. The session is open. */
enum ctl_exit talk_run(struct talk *talk);

/* The model, where it is and what computes it, on stdout. */
void talk_welcome(const struct talk *talk, const struct reply *health);

/* Sets a parameter to copies that live as long as the program. False: there are too many. */
bool talk_param_set(struct call *call, const char *name, const char *value);

/* Sets those of defaults[n] that the command line has not. */
void talk_params_default(struct call *call, const struct call_param *defaults, size_t n);

#endif
