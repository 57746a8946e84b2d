/* netlink: rtnetlink requests put together (pure), and sent. */
#ifndef WICK_BOOT_NETLINK_H
#define WICK_BOOT_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/ip.h"

enum { NETLINK_MESSAGE_BYTES = 256 };

struct netlink_message {
    _Alignas(4) uint8_t bytes[NETLINK_MESSAGE_BYTES];
    uint32_t length;
};

/* Each asks for an acknowledgement. */
void netlink_link_up(struct netlink_message *m, uint32_t sequence, int interface);
/* `broadcast`: also the last address of an IPv4 network (its host bits all one). */
void netlink_address(struct netlink_message *m, uint32_t sequence, bool add, int interface,
                     const struct ip_address *address, uint8_t prefix);
/* The default route. */
void netlink_route(struct netlink_message *m, uint32_t sequence, bool add, int interface,
                   const struct ip_address *gateway);

/* What the kernel answered to the request of that sequence number: 0 done, a positive errno, -1:
 * the answer is not among these bytes. Pure. */
int netlink_answer(const void *bytes, size_t n, uint32_t sequence);

/* A socket for requests, non-blocking; -1: errno. */
int netlink_open(void);

/* Sends and reads the answer, which the kernel has ready when write(2) returns. 0, or errno. */
int netlink_ask(int fd, const struct netlink_message *m);

#endif
