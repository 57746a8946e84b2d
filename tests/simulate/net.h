/* net: the descriptors of the simulated world. The system calls of src/wire end here (the linker's
 * --wrap), clients use the functions below. Faults are thrown in on the way. */
#ifndef WICK_SIMULATE_NET_H
#define WICK_SIMULATE_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

enum { NET_SOCKETS_MAX = 256, NET_LOG_FD = 4000, NET_TTY_PATH_BYTES = 32 };
#define NET_TTY_PATH "/dev/ttySIM0"

void net_open(void);

/* A new connection to the wire of that kind, from one of a few addresses; -1: nobody listens or the
 * backlog is full. WIRE_TTY: the other end of the line. */
int net_connect(enum wire_kind kind, uint32_t address);

/* What the kernel takes of it; 0: nothing, now or ever. */
uint32_t net_send(int id, const char *bytes, uint32_t n);

/* What has come; 0: nothing. */
uint32_t net_receive(int id, char *bytes, uint32_t n);

/* The server has closed its side and all has been received, or the connection was reset. */
bool net_is_over(int id);
/* The server's end cut off what it had said (it closed over unread bytes), or never accepted. */
bool net_is_torn(int id);

void net_half_close(int id);
void net_close(int id);   /* the id is free */
void net_reset(int id);   /* likewise */
void net_hang_up(int id); /* of a tty: until net_pick_up */
void net_pick_up(int id);

/* The server still has a descriptor for it. */
bool net_is_held(int id);

/* SIGTERM is on its way to the server. */
void net_signal(void);

/* Descriptors that the server has and has not closed, listeners not counted. */
uint32_t net_held(void);

/* The most that it had at the same time, its ttys among them. */
uint32_t net_most_held(void);

/* Somebody waits that the server does not listen to: bytes or an end that it has not been told. */
bool net_has_news(void);

/* Called in each poll of the main loop: the world moves. False: nothing will ever move again. */
typedef bool net_turn_hook(bool sleeps);
void net_on_turn(net_turn_hook *hook);

#endif
