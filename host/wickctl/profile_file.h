/* profile_file: the form of the file that profiles are kept in, and where a person's files lie.
 *
 *   # what stands before the first section holds for every profile
 *   connect = tcp:127.0.0.1:7411
 *   [lab]
 *   connect = "tcp:10.0.0.7:7411"   # quotes keep blanks and '#' */
#ifndef WICKCTL_PROFILE_FILE_H
#define WICKCTL_PROFILE_FILE_H

#include <stdbool.h>

enum { PROFILE_PATH_MAX = 4096 };

/* One "name = value"; false ends the reading. */
typedef bool profile_setting(void *context, const char *name, const char *value, unsigned line);

/* Cuts `text`, a terminated file, in place, and hands over what holds for every profile and, in
 * file order, what stands under [name]. *found: there is such a section. False: the function said
 * so, or *line is neither a section nor a setting. */
bool profile_parse(char *text, const char *name, profile_setting *setting, void *context,
                   bool *found, unsigned *line);

/* wick/file in the folder that `variable` names, if that is an absolute path, else in
 * $HOME/fallback. False: there is no home, or the path is too long. */
bool profile_path(const char *variable, const char *fallback, const char *file,
                  char path[PROFILE_PATH_MAX]);

#endif
