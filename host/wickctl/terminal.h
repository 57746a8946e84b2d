/* terminal: the person's own: how it treats keys, how large it is. What is changed is changed back
 * when the program ends, however it ends, short of SIGKILL. */
#ifndef WICKCTL_TERMINAL_H
#define WICKCTL_TERMINAL_H

#include <stdbool.h>

enum terminal_mode {
    TERMINAL_AS_IT_WAS,
    TERMINAL_KEYS, /* every key at once, none echoed, Ctrl-C is a key */
    TERMINAL_QUIET /* the same, but Ctrl-C and Ctrl-Z are signals */
};

/* Of stdin; nothing where that is no terminal. */
void terminal_set(enum terminal_mode mode);

/* Stops the program as Ctrl-Z does; returns when it goes on, in the mode it was in. */
void terminal_suspend(void);

/* Of stdout; 80 x 24 where it does not say. */
void terminal_size(unsigned *columns, unsigned *rows);

/* Does the locale say UTF-8? */
bool terminal_is_utf8(void);

#endif
