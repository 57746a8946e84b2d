/* help: what the tables of commands.h say, as --help, as completion for shells and as a manual
 * page.
 */
#ifndef WICKCTL_HELP_H
#define WICKCTL_HELP_H

#include "commands.h"

void help_print(void);

/* `wickctl completion bash|zsh`, `wickctl man`: to stdout. */
enum ctl_exit completion_print(const struct call *call);
enum ctl_exit man_print(const struct call *call);

#endif
