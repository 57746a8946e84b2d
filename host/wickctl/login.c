#include "login.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "secret/key.h"
#include "secret/login.h"

bool login_key_find(const char *file, const struct mac_key **found) {
    static struct mac_key key;
    struct fault fault;
    char *digits = getenv("WICK_KEY");
    if (!file) file = getenv("WICK_KEY_FILE");
    if (!digits || !*digits) digits = NULL;
    if (!file || !*file) file = NULL;
    *found = file || digits ? &key : NULL;
    if (!*found) return true;
    bool fine = file ? key_read_file(&key, "", file, &fault)
                     : key_read_hex(&key, "$WICK_KEY", digits, &fault);
    if (digits) memset(digits, '*', strlen(digits));
    if (!fine) fprintf(stderr, "wickctl: the key: %s\n", fault.text);
    return fine;
}

static enum ctl_exit login_fail(const struct session *session, const char *why) {
    fprintf(stderr, "wickctl: %s: %s\n", session->address, why);
    return CTL_REFUSED;
}

enum ctl_exit login_do(struct session *session, const struct reply_item *nonce) {
    struct login_nonces nonces;
    char proof[MAC_HEX + 1], bytes[LOGIN_NONCE_BYTES], *line;
    struct link *link = &session->link;
    if (!session->key)
        return login_fail(session, "a login is needed: name the file of the key with --key FILE "
                                   "or $WICK_KEY_FILE, or put the key into $WICK_KEY");
    if (!login_nonce_valid(nonce->value, nonce->length) ||
        getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return login_fail(session, "no login: the greeting has no proper nonce");
    memcpy(nonces.server, nonce->value, sizeof nonces.server);
    mac_to_hex((const uint8_t *)bytes, sizeof bytes, nonces.client);
    login_client_proof(session->key, &nonces, proof);
    if (!link_print(link, "HELLO proto=1 nonce=%s mac=%s", nonces.client, proof))
        return session_lost(session);
    struct reply reply;
    enum link_status status = link_read(link, -1, SESSION_ANSWER_MS, &line);
    if (status == LINK_INTERRUPT) return CTL_CANCELLED;
    if (status == LINK_TIMEOUT) return session_silent(session, SESSION_ANSWER_MS);
    if (status != LINK_LINE || !reply_parse(&reply, line) || reply.code != 220 ||
        !reply_split(&reply))
        return login_fail(session, "the login was refused: is it the right key? After some "
                                   "failures the server makes us wait");
    bool control = strcmp(reply_value(&reply, "login", ""), "control") == 0;
    const struct reply_item *theirs = reply_find(&reply, "mac");
    login_server_proof(session->key, &nonces, control ? LOGIN_CONTROL : LOGIN_OBSERVER, proof);
    if (!theirs || theirs->length != MAC_HEX || !mac_equal(theirs->value, proof, MAC_HEX))
        return login_fail(session, "the server does not know the key: it is not the one you mean");
    struct seal seal = {.kind = SEAL_MAC};
    login_line_key(session->key, &nonces, LOGIN_CLIENT, &seal.sent_key);
    login_line_key(session->key, &nonces, LOGIN_SERVER, &seal.got_key);
    link->seal = seal;
    return CTL_OK;
}
