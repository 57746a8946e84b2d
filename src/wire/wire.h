/* wire: descriptors: what listen= opens, and the connections that arrive there.
 *
 * Knows addresses, sockets and terminals; does not know what is said. After boot only wire_accept
 * and wire_close are called (accept4, setsockopt, shutdown, close, fcntl). */
#ifndef WICK_WIRE_WIRE_H
#define WICK_WIRE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/fault.h"
#include "wire/backoff.h"

enum { WIRE_CLIENTS_MAX = 64, WIRE_NAME_BYTES = 128 };

enum wire_kind { WIRE_TCP, WIRE_UNIX, WIRE_TTY, WIRE_STDIO };

struct wire {
    enum wire_kind kind;
    int fd;                     /* listens (TCP, UNIX); the terminal (TTY); stdin (STDIO) */
    char name[WIRE_NAME_BYTES]; /* as opened: "tcp:127.0.0.1:43211" */
    uint64_t retry_ns;          /* accepts again then: descriptors have run out; 0: now */
};

/* Opens one listen= spec. The fault (INVALID_REQUEST or INSUFFICIENT_RESOURCES) names the spec and
 * the reason. Descriptors are non-blocking and close on exec. */
bool wire_open(struct wire *wire, const char *spec, struct fault *fault);

/* Is the spec a TCP address that other machines could reach? */
bool wire_is_exposed(const char *spec);

/* The next connection of a TCP or UNIX wire, ready for use; -1: none, errno says why. *peer: who,
 * on TCP. */
int wire_accept(const struct wire *wire, struct address *peer);

/* No more will be written to this connection; what was written is still delivered. */
void wire_shutdown(int fd);

/* Closes a descriptor of a wire or a connection. stdin and stdout stay open and get their blocking
 * mode back. */
void wire_close(enum wire_kind kind, int fd);

#endif
