/* login: what two sides that share a key say to prove it, and the keys of their lines. Formulas:
 * docs/PROTOCOL.md, "Login". Used by the server and by wickctl. */
#ifndef WICK_SECRET_LOGIN_H
#define WICK_SECRET_LOGIN_H

#include "secret/mac.h"

enum { LOGIN_NONCE_BYTES = 16, LOGIN_NONCE_HEX = 2 * LOGIN_NONCE_BYTES };

enum login_role { LOGIN_CONTROL, LOGIN_OBSERVER, LOGIN_ROLES };
const char *login_role_word(enum login_role role); /* "control" */

enum login_side { LOGIN_CLIENT, LOGIN_SERVER };

/* Lower-case hex, terminated. Each side draws its own, new for each connection. */
struct login_nonces {
    char server[LOGIN_NONCE_HEX + 1];
    char client[LOGIN_NONCE_HEX + 1];
};

/* LOGIN_NONCE_HEX characters, all of them 0-9 a-f. */
bool login_nonce_valid(const char *nonce, size_t n);

void login_client_proof(const struct mac_key *key, const struct login_nonces *nonces,
                        char proof[MAC_HEX + 1]);
void login_server_proof(const struct mac_key *key, const struct login_nonces *nonces,
                        enum login_role role, char proof[MAC_HEX + 1]);

/* The key of the lines which that side sends. */
void login_line_key(const struct mac_key *key, const struct login_nonces *nonces,
                    enum login_side side, struct mac_key *line_key);

#endif
