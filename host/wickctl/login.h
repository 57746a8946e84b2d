/* login: the key, and the proof that we have it. */
#ifndef WICKCTL_LOGIN_H
#define WICKCTL_LOGIN_H

#include "session.h"

/* From the file, else from $WICK_KEY_FILE, else from $WICK_KEY: what stands on a command line
 * everybody on the machine can read. *found: NULL if there is none. On failure a message is on
 * stderr. */
bool login_key_find(const char *file, const struct mac_key **found);

/* Answers a greeting that asks for a login: our proof, then theirs; from then on every line has a
 * MAC. On failure a message is on stderr. */
enum ctl_exit login_do(struct session *session, const struct reply_item *nonce);

#endif
