/* dhcp: an IPv4 address from the network (RFC 2131), as little of it as an appliance needs.
 *
 * Pure: time and frames in, frames and a lease out; net.c has the socket. Frames are whole Ethernet
 * frames, because before there is an address no UDP socket can hear the answer.
 *
 *   INIT --DISCOVER--> SELECTING --OFFER, REQUEST--> REQUESTING --ACK--> BOUND
 *                                                                         | half the lease
 *     ^------------- NAK, or the lease has run out -------------- RENEWING (REQUEST, broadcast)
 *
 * Questions are asked again after 1, 2, 4 ... 32 s, for ever. Renewal is by broadcast from the
 * start: it reaches the server that gave the lease and any other that may extend it. */
#ifndef WICK_BOOT_DHCP_H
#define WICK_BOOT_DHCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/ip.h"

enum {
    DHCP_CLIENT_PORT = 68,
    DHCP_SERVER_PORT = 67,
    DHCP_FRAME_BYTES = 1514 /* the longest Ethernet frame that is looked at */
};

enum dhcp_kind { /* option 53 */
                 DHCP_DISCOVER = 1,
                 DHCP_OFFER = 2,
                 DHCP_REQUEST = 3,
                 DHCP_ACK = 5,
                 DHCP_NAK = 6
};

/* What a server's message says. */
struct dhcp_reply {
    enum dhcp_kind kind;
    struct ip_address address, gateway; /* gateway.length 0: none was named */
    uint8_t prefix;                     /* 24 where no netmask was named */
    uint8_t server[4];                  /* option 54 */
    uint32_t lease_s;                   /* UINT32_MAX: for ever */
    uint32_t renew_s;                   /* half the lease unless option 58 says otherwise */
};

enum dhcp_state { DHCP_INIT, DHCP_SELECTING, DHCP_REQUESTING, DHCP_BOUND, DHCP_RENEWING };

struct dhcp {
    enum dhcp_state state;
    uint8_t mac[6];
    uint32_t xid;          /* of the exchange that goes on */
    uint32_t tries;        /* questions of this exchange that were asked */
    uint64_t started_ns;   /* of the exchange */
    uint64_t next_ns;      /* when dhcp_tick has something to do */
    uint64_t expires_ns;   /* of the lease; UINT64_MAX: never */
    struct dhcp_reply own; /* what was offered, then what is held */
};

void dhcp_start(struct dhcp *dhcp, const uint8_t mac[6], uint32_t xid, uint64_t now_ns);

/* What has to be done about the lease. */
enum dhcp_act { DHCP_NOTHING, DHCP_TAKE /* dhcp->own */, DHCP_RETURN /* it is no longer ours */ };

/* Call at next_ns: writes the frame to be sent, *length 0: none. */
enum dhcp_act dhcp_tick(struct dhcp *dhcp, uint64_t now_ns, uint8_t frame[DHCP_FRAME_BYTES],
                        size_t *length);

/* A frame has come; may write one to be sent. */
enum dhcp_act dhcp_receive(struct dhcp *dhcp, const uint8_t *bytes, size_t n, uint64_t now_ns,
                           uint8_t frame[DHCP_FRAME_BYTES], size_t *length);

/* --- codec --------------------------------------------------------------------------------- */

/* A DISCOVER or REQUEST as an Ethernet frame; returns its length. REQUEST names dhcp->own: while
 * RENEWING as the address in use, else as the offer that is taken. */
size_t dhcp_write(const struct dhcp *dhcp, enum dhcp_kind kind, uint64_t now_ns,
                  uint8_t frame[DHCP_FRAME_BYTES]);

/* False: not an intact answer to this client's exchange. */
bool dhcp_read(const struct dhcp *dhcp, const uint8_t *bytes, size_t n, struct dhcp_reply *reply);

#endif
