#include "wire/door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/panic.h"
#include "secret/key.h"
#include "wire/frame.h"

enum { MS = 1000 * 1000 /* ns */, DOOR_PROTO = 1 };

/* --- keys ------------------------------------------------------------------------------------ */

/* A key that stood in argv is not to be read in /proc. A path may stay. */
static void given_hide(const char *given) {
    size_t n = strlen(given);
    if (n >= KEY_HEX_MIN && strspn(given, "0123456789abcdefABCDEF") == n) {
        memset((char *)(uintptr_t)given, '*', n);
    }
}

static bool keys_read(struct door *door, const struct config *config, struct fault *fault) {
    const struct {
        const char *name, *given;
    } rows[LOGIN_ROLES] = {[LOGIN_CONTROL] = {"key=", config->key},
                           [LOGIN_OBSERVER] = {"observer_key=", config->observer_key}};
    bool fine = true;
    for (uint32_t i = 0; i < LOGIN_ROLES; i++) {
        if (rows[i].given == NULL) continue;
        if (fine) fine = key_read(&door->key[i], rows[i].name, rows[i].given, fault);
        door->has_key[i] = fine;
        given_hide(rows[i].given);
    }
    if (fine && door->has_key[LOGIN_OBSERVER] && !door->has_key[LOGIN_CONTROL]) {
        fine = fault_set(fault, FAULT_INVALID_REQUEST,
                         "observer_key= needs key= too: nobody could control the server");
    }
    struct mac_key *a = &door->key[LOGIN_CONTROL];
    struct mac_key *b = &door->key[LOGIN_OBSERVER];
    if (fine && door->has_key[LOGIN_OBSERVER] && memcmp(a, b, sizeof *a) == 0) {
        fine = fault_set(fault, FAULT_INVALID_REQUEST,
                         "observer_key= and key= are the same: an observer could control the "
                         "server");
    }
    return fine;
}

/* Neither a core file nor another process of the same user shall have the keys. */
static bool memory_hide(struct fault *fault) {
    struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0) return true;
    return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "key=: no core files: %s",
                     strerror(errno));
}

/* Waits for the kernel's entropy: a nonce that comes twice would let a recorded login in. */
static bool nonces_open(struct door *door, struct fault *fault) {
    uint8_t bytes[MAC_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "key=: getrandom: %s",
                         strerror(errno));
    }
    mac_key_set(&door->nonce_key, bytes, sizeof bytes);
    mac_wipe(bytes, sizeof bytes);
    return true;
}

void door_clear(struct door *door) {
    memset(door, 0, sizeof *door);
    for (uint32_t i = 0; i < DOOR_PLACES; i++) door->stranger[i].fd = -1;
}

bool door_open(struct door *door, const struct config *config, struct fault *fault) {
    if (config->key == NULL && config->observer_key == NULL) return true;
    if (keys_read(door, config, fault) && nonces_open(door, fault) && memory_hide(fault)) {
        return true;
    }
    door->has_key[LOGIN_CONTROL] = door->has_key[LOGIN_OBSERVER] = false;
    return false;
}

bool door_is_locked(const struct door *door) {
    return door->has_key[LOGIN_CONTROL];
}

/* --- strangers ------------------------------------------------------------------------------- */

static void nonce_draw(struct door *door, char nonce[LOGIN_NONCE_HEX + 1]) {
    uint8_t mac[MAC_BYTES];
    door->n_nonces++;
    mac_compute(&door->nonce_key, &door->n_nonces, sizeof door->n_nonces, mac);
    mac_to_hex(mac, LOGIN_NONCE_BYTES, nonce);
}

static void stranger_leave(struct stranger *stranger) {
    wick_assert(stranger->fd >= 0);
    close(stranger->fd);
    stranger->fd = -1;
}

/* Told once a failure that counts, so that a flood of them does not flood the log. */
static void stranger_fail(struct door *door, struct stranger *stranger, const char *why,
                          uint64_t now_ns) {
    char text[INET6_ADDRSTRLEN] = "?";
    inet_ntop(AF_INET6, stranger->address.bytes, text, sizeof text);
    door->refused++;
    uint32_t ms = backoff_fail(&door->backoff, &stranger->address, now_ns);
    log_event(LOG_WARN, "login", "refused address=%s reason=\"%s\" wait_ms=%u", text, why, ms);
    stranger_leave(stranger);
}

static uint32_t strangers_of(const struct door *door, const struct address *address) {
    struct address group = address_group(address);
    uint32_t n = 0;
    for (uint32_t i = 0; i < DOOR_PLACES; i++) {
        const struct stranger *stranger = &door->stranger[i];
        struct address other = address_group(&stranger->address);
        n += stranger->fd >= 0 && address_equal(&other, &group);
    }
    return n;
}

/* A free place, or the one whose stranger has to go. */
static struct stranger *place_find(struct door *door) {
    struct stranger *chosen = NULL;
    uint32_t most = 0;
    for (uint32_t i = 0; i < DOOR_PLACES; i++) {
        struct stranger *stranger = &door->stranger[i];
        if (stranger->fd < 0) return stranger;
        uint32_t n = strangers_of(door, &stranger->address);
        bool elder = chosen != NULL && stranger->since_ns < chosen->since_ns;
        if (n > most || (n == most && elder)) chosen = stranger;
        if (n > most) most = n;
    }
    return chosen;
}

void door_knock(struct door *door, int fd, const struct address *address, uint64_t now_ns) {
    wick_assert(door_is_locked(door));
    if (!backoff_allows(&door->backoff, address, now_ns)) {
        close(fd);
        return;
    }
    struct stranger *stranger = place_find(door);
    if (stranger->fd >= 0) stranger_fail(door, stranger, "displaced", now_ns);
    stranger->fd = fd;
    stranger->address = *address;
    stranger->since_ns = now_ns;
    stranger->length = 0;
    nonce_draw(door, stranger->nonce);
    char greeting[80];
    int n = snprintf(greeting, sizeof greeting, "220 - wick proto=%d nonce=%s\n", DOOR_PROTO,
                     stranger->nonce);
    wick_assert(n > 0 && (size_t)n < sizeof greeting);
    /* A fresh socket has room for it. */
    if (write(fd, greeting, (size_t)n) != n) stranger_leave(stranger);
}

void door_poll(const struct door *door, struct pollfd *polled, uint64_t *next_ns) {
    for (uint32_t i = 0; i < DOOR_PLACES; i++) {
        const struct stranger *stranger = &door->stranger[i];
        polled[i] = (struct pollfd){.fd = stranger->fd, .events = POLLIN};
        if (stranger->fd < 0) continue;
        uint64_t end_ns = stranger->since_ns + (uint64_t)DOOR_WAIT_MS * MS;
        if (end_ns < *next_ns) *next_ns = end_ns;
    }
}

/* --- the login ------------------------------------------------------------------------------- */

/* The value of the only field of that name, or an empty text. */
static struct frame_text field_find(const struct frame *frame, const char *name) {
    for (uint32_t i = 0; i < frame->n_fields; i++) {
        if (frame_text_is(frame->field[i].name, name)) return frame->field[i].value;
    }
    return (struct frame_text){"", 0};
}

/* HELLO proto=1 nonce=... mac=..., and nothing else. */
static bool hello_parse(char *line, size_t n, char nonce[LOGIN_NONCE_HEX + 1],
                        char proof[MAC_HEX + 1]) {
    struct frame frame;
    struct fault ignored;
    if (!frame_parse(line, n, &frame, &ignored)) return false;
    struct frame_text proto = field_find(&frame, "proto");
    struct frame_text ours = field_find(&frame, "nonce");
    struct frame_text mac = field_find(&frame, "mac");
    if (!frame_text_is(frame.verb, "HELLO") || frame.tag != 0 || frame.tag_bad) return false;
    if (frame.has_text || frame.n_fields != 3 || !frame_text_is(proto, "1")) return false;
    if (!login_nonce_valid(ours.bytes, ours.length) || mac.length != MAC_HEX) return false;
    memcpy(nonce, ours.bytes, LOGIN_NONCE_HEX);
    nonce[LOGIN_NONCE_HEX] = '\0';
    memcpy(proof, mac.bytes, MAC_HEX);
    return true;
}

/* Every key is tried, so that time does not tell which one fitted. */
static bool proof_check(const struct door *door, const struct login_nonces *nonces,
                        const char *proof, enum login_role *role) {
    bool fits = false;
    for (uint32_t i = 0; i < LOGIN_ROLES; i++) {
        char want[MAC_HEX + 1];
        if (!door->has_key[i]) continue;
        login_client_proof(&door->key[i], nonces, want);
        if (!mac_equal(want, proof, MAC_HEX)) continue;
        *role = (enum login_role)i;
        fits = true;
    }
    return fits;
}

static bool guest_answer(const struct door *door, const struct login_nonces *nonces, int fd,
                         enum login_role role) {
    char proof[MAC_HEX + 1];
    char line[160];
    login_server_proof(&door->key[role], nonces, role, proof);
    int n = snprintf(line, sizeof line, "220 - wick proto=%d login=%s mac=%s\n", DOOR_PROTO,
                     login_role_word(role), proof);
    wick_assert(n > 0 && (size_t)n < sizeof line);
    return write(fd, line, (size_t)n) == n;
}

/* The stranger's line is complete: n bytes, and `used` with its end. */
static bool stranger_login(struct door *door, struct stranger *stranger, size_t n, size_t used,
                           uint64_t now_ns, struct guest *guest) {
    static const char refusal[] = "401 - LOGIN_REFUSED \"HELLO proto=1 nonce=... mac=... with the "
                                  "right key is expected; docs/PROTOCOL.md, Login\"\n";
    struct login_nonces nonces;
    char proof[MAC_HEX + 1];
    guest->n_rest = stranger->length - (uint32_t)used;
    memcpy(guest->rest, stranger->line + used, guest->n_rest);
    memcpy(nonces.server, stranger->nonce, sizeof nonces.server);
    if (n > 0 && stranger->line[n - 1] == '\r') n--;
    if (!hello_parse(stranger->line, n, nonces.client, proof) ||
        !proof_check(door, &nonces, proof, &guest->role)) {
        ssize_t written = write(stranger->fd, refusal, sizeof refusal - 1);
        (void)written; /* closing says the same */
        stranger_fail(door, stranger, "wrong", now_ns);
        return false;
    }
    const struct mac_key *key = &door->key[guest->role];
    guest->seal = (struct seal){.kind = SEAL_MAC};
    login_line_key(key, &nonces, LOGIN_SERVER, &guest->seal.sent_key);
    login_line_key(key, &nonces, LOGIN_CLIENT, &guest->seal.got_key);
    backoff_clear(&door->backoff, &stranger->address);
    guest->fd = stranger->fd;
    guest->address = stranger->address;
    if (!guest_answer(door, &nonces, stranger->fd, guest->role)) {
        stranger_leave(stranger);
        return false;
    }
    stranger->fd = -1;
    return true;
}

static bool stranger_read(struct door *door, struct stranger *stranger, uint64_t now_ns,
                          struct guest *guest) {
    size_t room = sizeof stranger->line - stranger->length;
    ssize_t got = read(stranger->fd, stranger->line + stranger->length, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got <= 0) {
        /* Who only looks whether anybody listens (a load balancer) has done nothing wrong. */
        if (stranger->length == 0) {
            stranger_leave(stranger);
        } else {
            stranger_fail(door, stranger, "gone", now_ns);
        }
        return false;
    }
    stranger->length += (uint32_t)got;
    const char *end = memchr(stranger->line, '\n', stranger->length);
    if (end != NULL) {
        size_t n = (size_t)(end - stranger->line);
        return stranger_login(door, stranger, n, n + 1, now_ns, guest);
    }
    if (stranger->length == sizeof stranger->line) stranger_fail(door, stranger, "long", now_ns);
    return false;
}

bool door_serve(struct door *door, uint32_t place, short events, uint64_t now_ns,
                struct guest *guest) {
    wick_assert(place < DOOR_PLACES);
    struct stranger *stranger = &door->stranger[place];
    if (stranger->fd < 0) return false;
    if (now_ns >= stranger->since_ns + (uint64_t)DOOR_WAIT_MS * MS) {
        stranger_fail(door, stranger, "late", now_ns);
        return false;
    }
    return events != 0 && stranger_read(door, stranger, now_ns, guest);
}

void door_close(struct door *door) {
    for (uint32_t i = 0; i < DOOR_PLACES; i++) {
        if (door->stranger[i].fd >= 0) stranger_leave(&door->stranger[i]);
    }
    mac_wipe(door->key, sizeof door->key);
    mac_wipe(&door->nonce_key, sizeof door->nonce_key);
    door->has_key[LOGIN_CONTROL] = door->has_key[LOGIN_OBSERVER] = false;
}
