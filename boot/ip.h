/* ip: what `ip=` says. Pure.
 *
 *   ip=ADDR/PREFIX[,gw=ADDR][,dev=NAME]   this IPv4 or IPv6 address
 *   ip=dhcp[,dev=NAME]                    IPv4 from a DHCP server
 *   ip=link[,dev=NAME]                    only the link-local addresses that the kernel makes
 *   ip=none                               no link is brought up */
#ifndef WICK_BOOT_IP_H
#define WICK_BOOT_IP_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"

enum ip_way { IP_LINK, IP_STATIC, IP_DHCP, IP_NONE };

/* An IPv4 (4 bytes) or IPv6 (16 bytes) address in network order. */
struct ip_address {
    uint8_t length; /* 0: none */
    uint8_t bytes[16];
};

struct ip_plan {
    enum ip_way way;
    struct ip_address address; /* IP_STATIC */
    uint8_t prefix;            /* bits of the network */
    struct ip_address gateway;
    char device[IF_NAMESIZE]; /* "": the first Ethernet there is */
};

/* The fault (INVALID_REQUEST) says what is not as it should be. */
bool ip_plan_parse(const char *text, struct ip_plan *plan, struct fault *fault);

enum { IP_TEXT_BYTES = 48 };

/* "10.0.2.15", "fe80::1" */
void ip_address_print(const struct ip_address *address, char text[IP_TEXT_BYTES]);

/* Bits of a netmask in network order: 255.255.255.0 is 24. */
uint8_t ip_prefix_of_mask(const uint8_t mask[4]);

#endif
