/* commands: the table of wick-lab (main.c): it drives the command line, --help, completion and the
 * manual page. */
#ifndef WICK_LAB_COMMANDS_H
#define WICK_LAB_COMMANDS_H

#include "base/config.h"

struct lab_command {
    const char *name;
    enum config_use use;
    int (*run)(const struct config *config); /* returns the exit status; NULL: words, not keys */
    int (*print)(int argc, char **argv);     /* the words after the command */
    const char *help;
};

/* Ended by an entry with name NULL. */
extern const struct lab_command lab_commands[];
extern const char lab_usage[], lab_exits[];

#endif
