/* commands: the tables of wickctl: commands, options, exit statuses. They drive the command line,
 * --help, the shells' completion and the manual page. */
#ifndef WICKCTL_COMMANDS_H
#define WICKCTL_COMMANDS_H

#include <stdint.h>

#include "call.h"

typedef enum ctl_exit command_function(struct call *call, struct session *session);

struct ctl_command {
    const char *name;
    const char *syntax; /* of what follows the name, options aside */
    const char *help;
    uint32_t fields; /* field_set bits (wire/command.h): whose fields it hands to the server */
    bool takes_text;
    command_function *run; /* NULL: needs no server, see `print` */
    enum ctl_exit (*print)(const struct call *call);
};

enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char * */
    OPTION_NUMBER, /* double */
    OPTION_HELP,
    OPTION_VERSION
};

struct ctl_option {
    const char *name;  /* long, without the dashes; the same in a profile */
    char letter;       /* 0: none */
    const char *value; /* what stands for its value in help; "a|b": one of these; NULL: a flag */
    enum option_kind kind;
    uint32_t offset;  /* of the field in struct call */
    double min, max;  /* of a number */
    const char *uses; /* the commands that take it, between spaces; NULL: every command */
    const char *help;
};

struct ctl_status {
    int number;
    const char *help;
};

/* In the order of --help; each ended by an entry without a name (a status: without help). */
extern const struct ctl_command ctl_commands[];
extern const struct ctl_option ctl_options[];
extern const struct ctl_status ctl_statuses[];

extern const char ctl_summary[];     /* "talks to a wick" */
extern const char ctl_params_help[]; /* paragraphs, filled at 100 columns */
extern const char ctl_profile_help[];

const struct ctl_command *ctl_command_find(const char *name);

/* By "--name" or "-n". NULL: none. */
const struct ctl_option *ctl_option_find(const char *word);

/* Does the command (NULL: none yet) take it? */
bool ctl_option_fits(const struct ctl_option *option, const struct ctl_command *command);

/* Stores a value (NULL for a flag). False: it is none of those allowed. */
bool ctl_option_set(struct call *call, const struct ctl_option *option, const char *value);

#endif
