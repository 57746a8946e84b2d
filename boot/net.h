/* net: addresses for the machine, by rtnetlink, and a DHCP lease kept for as long as it runs.
 *
 * net_start never waits: a static address is there when it returns, a lease comes while the main
 * loop already turns (net_poll, net_serve). After boot only read and write are called. */
#ifndef WICK_BOOT_NET_H
#define WICK_BOOT_NET_H

#include <net/if.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/dhcp.h"
#include "boot/ip.h"
#include "boot/patience.h"

enum { NET_REASON_BYTES = 96 };

struct net {
    struct ip_plan plan;
    char device[IF_NAMESIZE]; /* "": none was found */
    int interface;            /* its index */
    int netlink;              /* -1: none */
    int packet;               /* frames of the interface, for DHCP; -1: none */
    uint32_t sequence;        /* of the last netlink request */
    uint64_t started_ns;
    struct dhcp dhcp;
    struct dhcp_reply held; /* the lease as it was given to the kernel; address.length 0: none */
    char reason[NET_REASON_BYTES]; /* what failed; "": nothing */
};

/* Brings up lo, and what the plan says. Waits for the plan's interface to appear. */
void net_start(struct net *net, const struct ip_plan *plan, struct patience patience);

/* What to wait for; the descriptor is -1 where there is nothing. */
struct pollfd net_poll(const struct net *net, uint64_t *next_ns);
void net_serve(struct net *net, const struct pollfd *polled, uint64_t now_ns);

/* What is wrong with the network, for HEALTH: "" when nothing is. */
void net_notice(const struct net *net, uint64_t now_ns, char *text, size_t size);

#endif
