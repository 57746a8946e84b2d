/* key: a secret that was given as hex digits, or as the name of a file that holds them. */
#ifndef WICK_SECRET_KEY_H
#define WICK_SECRET_KEY_H

#include "base/fault.h"
#include "secret/mac.h"

enum {
    KEY_BYTES_MIN = 16, /* 128 bits: not to be guessed */
    KEY_BYTES_MAX = 64, /* a block of SHA-256: HMAC would hash a longer one first */
    KEY_HEX_MIN = 2 * KEY_BYTES_MIN,
    KEY_HEX_MAX = 2 * KEY_BYTES_MAX
};

/* `given` is a key if it has KEY_HEX_MIN hex digits or more and nothing else; otherwise a path. A
 * file holds hex digits; blanks and line ends around them do not count. The fault names what was
 * asked for (`name`: "key=") and never a digit of it. */
bool key_read_hex(struct mac_key *key, const char *name, const char *digits, struct fault *fault);
bool key_read_file(struct mac_key *key, const char *name, const char *path, struct fault *fault);

/* One or the other. */
bool key_read(struct mac_key *key, const char *name, const char *given, struct fault *fault);

#endif
