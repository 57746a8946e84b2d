#include "boot/netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/panic.h"

static void message_begin(struct netlink_message *m, uint16_t type, uint16_t flags,
                          uint32_t sequence, const void *body, size_t bytes) {
    struct nlmsghdr head = {.nlmsg_type = type,
                            .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
                            .nlmsg_seq = sequence};
    memset(m, 0, sizeof *m);
    memcpy(m->bytes, &head, sizeof head);
    memcpy(m->bytes + NLMSG_HDRLEN, body, bytes);
    m->length = (uint32_t)(NLMSG_HDRLEN + NLMSG_ALIGN(bytes));
}

static void message_add(struct netlink_message *m, uint16_t type, const void *value, size_t bytes) {
    struct rtattr head = {.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(bytes)};
    wick_assert(m->length + RTA_SPACE(bytes) <= sizeof m->bytes);
    memcpy(m->bytes + m->length, &head, sizeof head);
    memcpy(m->bytes + m->length + RTA_LENGTH(0), value, bytes);
    m->length += (uint32_t)RTA_SPACE(bytes);
}

static void message_end(struct netlink_message *m) {
    memcpy(m->bytes + offsetof(struct nlmsghdr, nlmsg_len), &m->length, sizeof m->length);
}

static uint8_t family_of(const struct ip_address *address) {
    wick_assert(address->length == 4 || address->length == 16);
    return address->length == 4 ? AF_INET : AF_INET6;
}

void netlink_link_up(struct netlink_message *m, uint32_t sequence, int interface) {
    struct ifinfomsg body = {.ifi_index = interface, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    message_begin(m, RTM_NEWLINK, 0, sequence, &body, sizeof body);
    message_end(m);
}

/* Host bits all one. */
static struct ip_address broadcast_of(const struct ip_address *address, uint8_t prefix) {
    struct ip_address all = *address;
    for (int i = prefix; i < 32; i++) all.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
    return all;
}

void netlink_address(struct netlink_message *m, uint32_t sequence, bool add, int interface,
                     const struct ip_address *address, uint8_t prefix) {
    struct ifaddrmsg body = {.ifa_family = family_of(address),
                             .ifa_prefixlen = prefix,
                             .ifa_index = (uint32_t)interface};
    bool six = address->length == 16;
    if (six) body.ifa_flags = IFA_F_NODAD; /* usable at once: listen= may name it */
    message_begin(m, add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_REPLACE : 0,
                  sequence, &body, sizeof body);
    message_add(m, IFA_LOCAL, address->bytes, address->length);
    message_add(m, IFA_ADDRESS, address->bytes, address->length);
    if (!six && prefix < 31) {
        struct ip_address all = broadcast_of(address, prefix);
        message_add(m, IFA_BROADCAST, all.bytes, all.length);
    }
    message_end(m);
}

void netlink_route(struct netlink_message *m, uint32_t sequence, bool add, int interface,
                   const struct ip_address *gateway) {
    struct rtmsg body = {.rtm_family = family_of(gateway),
                         .rtm_table = RT_TABLE_MAIN,
                         .rtm_protocol = RTPROT_BOOT,
                         .rtm_scope = RT_SCOPE_UNIVERSE,
                         .rtm_type = RTN_UNICAST};
    uint32_t index = (uint32_t)interface;
    message_begin(m, add ? RTM_NEWROUTE : RTM_DELROUTE, add ? NLM_F_CREATE | NLM_F_REPLACE : 0,
                  sequence, &body, sizeof body);
    message_add(m, RTA_GATEWAY, gateway->bytes, gateway->length);
    message_add(m, RTA_OIF, &index, sizeof index);
    message_end(m);
}

int netlink_answer(const void *bytes, size_t n, uint32_t sequence) {
    const uint8_t *at = bytes;
    while (n >= NLMSG_HDRLEN) {
        struct nlmsghdr head;
        memcpy(&head, at, sizeof head);
        if (head.nlmsg_len < NLMSG_HDRLEN || head.nlmsg_len > n) return -1;
        if (head.nlmsg_type == NLMSG_ERROR && head.nlmsg_seq == sequence) {
            int32_t error;
            if (head.nlmsg_len < NLMSG_HDRLEN + sizeof error) return -1;
            memcpy(&error, at + NLMSG_HDRLEN, sizeof error);
            return error > 0 ? -1 : -error;
        }
        size_t step = NLMSG_ALIGN(head.nlmsg_len);
        if (step > n) return -1;
        at += step;
        n -= step;
    }
    return -1;
}

int netlink_open(void) {
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
}

int netlink_ask(int fd, const struct netlink_message *m) {
    struct nlmsghdr head;
    memcpy(&head, m->bytes, sizeof head);
    if (write(fd, m->bytes, m->length) < 0) return errno;
    uint8_t answer[1024];
    ssize_t n;
    while ((n = read(fd, answer, sizeof answer)) > 0) {
        int status = netlink_answer(answer, (size_t)n, head.nlmsg_seq);
        if (status >= 0) return status;
    }
    return n < 0 ? errno : EIO;
}
