/* door: strangers on TCP, until they have proved that they have a key.
 *
 *   knock -> greeted with a nonce -> one line, HELLO nonce= mac= -> guest: a client from here on
 *                                 -> anything else, or DOOR_WAIT_MS over: closed
 *
 * What a stranger costs is fixed: one of DOOR_PLACES, DOOR_LINE_MAX bytes, DOOR_WAIT_MS. Who comes
 * when all places are taken displaces the eldest stranger of the address that has most of them: a
 * flood displaces itself. Knows keys and bytes, not commands: strangers never reach the parser of
 * commands. */
#ifndef WICK_WIRE_DOOR_H
#define WICK_WIRE_DOOR_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/fault.h"
#include "secret/login.h"
#include "secret/seal.h"
#include "wire/backoff.h"

enum {
    DOOR_PLACES = 16,
    DOOR_WAIT_MS = 3000,
    /* `HELLO proto=1 nonce=` 32 digits ` mac=` 64 digits: 121 */
    DOOR_LINE_MAX = 256
};

struct stranger {
    int fd; /* -1: the place is free */
    struct address address;
    uint64_t since_ns;
    uint32_t length;
    char line[DOOR_LINE_MAX];
    char nonce[LOGIN_NONCE_HEX + 1]; /* ours */
};

struct door {
    bool has_key[LOGIN_ROLES]; /* none: there is no door, TCP is open to all */
    struct mac_key key[LOGIN_ROLES];
    struct mac_key nonce_key; /* drawn at boot: nonces are MACs of a count */
    uint64_t n_nonces;
    uint64_t refused; /* wrong logins, for METRICS */
    struct backoff backoff;
    struct stranger stranger[DOOR_PLACES];
};

/* Who has passed: everything the server needs to go on talking. */
struct guest {
    int fd;
    struct address address;
    enum login_role role;
    struct seal seal;
    uint32_t n_rest; /* bytes behind the login: the first of the client's lines */
    char rest[DOOR_LINE_MAX];
};

/* No keys, nobody there. */
void door_clear(struct door *door);

/* Reads the keys of config, if it names any, and overwrites those that stand in it as digits. From
 * here on the process leaves no core file and nobody may look into it. */
bool door_open(struct door *door, const struct config *config, struct fault *fault);

bool door_is_locked(const struct door *door);

/* Somebody has connected: greeted, or closed at once while the address has to wait. */
void door_knock(struct door *door, int fd, const struct address *address, uint64_t now_ns);

/* Fills polled[0 .. DOOR_PLACES); *next_ns becomes earlier when somebody's time is over earlier. */
void door_poll(const struct door *door, struct pollfd *polled, uint64_t *next_ns);

/* What poll said about the place. True: *guest is somebody to let in; its fd is the caller's. */
bool door_serve(struct door *door, uint32_t place, short events, uint64_t now_ns,
                struct guest *guest);

void door_close(struct door *door);

#endif
