#include "secret/login.h"

#include <stdio.h>
#include <string.h>

#include "base/panic.h"

enum { STATEMENT_MAX = 128 };

const char *login_role_word(enum login_role role) {
    static const char *const words[LOGIN_ROLES] = {"control", "observer"};
    wick_assert(role < LOGIN_ROLES);
    return words[role];
}

bool login_nonce_valid(const char *nonce, size_t n) {
    if (n != LOGIN_NONCE_HEX) return false;
    for (size_t i = 0; i < n; i++) {
        bool digit = (nonce[i] >= '0' && nonce[i] <= '9') || (nonce[i] >= 'a' && nonce[i] <= 'f');
        if (!digit) return false;
    }
    return true;
}

/* HMAC(key, "wick1 LABEL SERVER_NONCE CLIENT_NONCE"). No label begins with another one and nonces
 * have a fixed length, so no two statements are the same bytes. */
static void statement_compute(const struct mac_key *key, const char *label,
                              const struct login_nonces *nonces, uint8_t mac[MAC_BYTES]) {
    char statement[STATEMENT_MAX];
    int n = snprintf(statement, sizeof statement, "wick1 %s %s %s", label, nonces->server,
                     nonces->client);
    wick_assert(n > 0 && (size_t)n < sizeof statement);
    mac_compute(key, statement, (size_t)n, mac);
}

static void proof_write(const struct mac_key *key, const char *label,
                        const struct login_nonces *nonces, char proof[MAC_HEX + 1]) {
    uint8_t mac[MAC_BYTES];
    statement_compute(key, label, nonces, mac);
    mac_to_hex(mac, MAC_BYTES, proof);
}

void login_client_proof(const struct mac_key *key, const struct login_nonces *nonces,
                        char proof[MAC_HEX + 1]) {
    proof_write(key, "client hello", nonces, proof);
}

void login_server_proof(const struct mac_key *key, const struct login_nonces *nonces,
                        enum login_role role, char proof[MAC_HEX + 1]) {
    char label[32];
    snprintf(label, sizeof label, "server hello %s", login_role_word(role));
    proof_write(key, label, nonces, proof);
}

void login_line_key(const struct mac_key *key, const struct login_nonces *nonces,
                    enum login_side side, struct mac_key *line_key) {
    uint8_t mac[MAC_BYTES];
    statement_compute(key, side == LOGIN_CLIENT ? "client lines" : "server lines", nonces, mac);
    mac_key_set(line_key, mac, sizeof mac);
    mac_wipe(mac, sizeof mac);
}
