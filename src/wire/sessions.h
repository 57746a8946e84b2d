/* sessions: clients as they come, talk, stall and go. The half of the server that faces the wires.
 */
#ifndef WICK_WIRE_SESSIONS_H
#define WICK_WIRE_SESSIONS_H

#include <stdint.h>

#include "wire/server.h"

/* Opens the sessions of wires that are clients themselves: ttys and stdio. */
void sessions_open(struct server *server);

/* A client on these descriptors, which are non-blocking; it is greeted. NULL: all places are taken.
 */
struct client *sessions_add(struct server *server, enum wire_kind kind, int in, int out);

/* Fills server->polled with what each descriptor waits for. Returns when somebody must be looked at
 * without being asked, UINT64_MAX: never. */
uint64_t sessions_poll(struct server *server, uint64_t now_ns);

/* Accepts, reads, serves, after poll(2) has filled server->polled. */
void sessions_serve(struct server *server, uint64_t now_ns);

/* Pauses the jobs of clients whose output is nearly full, and resumes them. */
void sessions_hold(struct server *server, uint64_t now_ns);

/* Writes what can be written, closes what is finished. */
void sessions_flush(struct server *server, uint64_t now_ns);

/* The same line to every client that listens. */
void sessions_tell(struct server *server, int code, const char *text);
void sessions_tell_fault(struct server *server, const struct fault *fault);

/* Nothing more will come: waits up to SERVER_FAREWELL_MS for outputs to drain. */
void sessions_farewell(struct server *server);

#endif
