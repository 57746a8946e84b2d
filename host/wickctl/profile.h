/* profile: settings that a person keeps in a file, by name (profile_file.h). */
#ifndef WICKCTL_PROFILE_H
#define WICKCTL_PROFILE_H

#include "commands.h"

/* Takes the settings of call->profile (NULL: [default], if there is one) that `command` (NULL: not
 * known) has a use for. Says on stderr what is wrong. */
enum ctl_exit profile_apply(struct call *call, const struct ctl_command *command);

#endif
