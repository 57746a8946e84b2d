#include <criterion/criterion.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "boot/dhcp.h"
#include "boot/ip.h"
#include "boot/netlink.h"

static struct fault fault;
static struct ip_plan plan;

/* --- ip= ------------------------------------------------------------------------------------ */

Test(boot_ip, a_static_address_has_prefix_gateway_and_device) {
    char text[IP_TEXT_BYTES];
    cr_assert(ip_plan_parse("10.0.2.15/24,gw=10.0.2.2,dev=eth1", &plan, &fault), "%s", fault.text);
    cr_assert_eq(plan.way, IP_STATIC);
    cr_assert_eq(plan.prefix, 24);
    ip_address_print(&plan.address, text);
    cr_assert_str_eq(text, "10.0.2.15");
    ip_address_print(&plan.gateway, text);
    cr_assert_str_eq(text, "10.0.2.2");
    cr_assert_str_eq(plan.device, "eth1");
}

Test(boot_ip, an_ipv6_address_is_one_too) {
    char text[IP_TEXT_BYTES];
    cr_assert(ip_plan_parse("fd00::7/64,gw=fd00::1", &plan, &fault), "%s", fault.text);
    ip_address_print(&plan.address, text);
    cr_assert_str_eq(text, "fd00::7");
    cr_assert_eq(plan.gateway.length, 16);
    cr_assert_str_eq(plan.device, "");
}

Test(boot_ip, the_other_ways_are_words) {
    cr_assert(ip_plan_parse("dhcp", &plan, &fault));
    cr_assert_eq(plan.way, IP_DHCP);
    cr_assert(ip_plan_parse("dhcp,dev=eth0", &plan, &fault));
    cr_assert_str_eq(plan.device, "eth0");
    cr_assert(ip_plan_parse("none", &plan, &fault));
    cr_assert_eq(plan.way, IP_NONE);
    cr_assert(ip_plan_parse("link,dev=lan", &plan, &fault));
    cr_assert_eq(plan.way, IP_LINK);
}

Test(boot_ip, anything_else_is_refused_and_means_link) {
    static const char *const bad[] = {
        "",
        "10.0.2.15",
        "10.0.2.15/",
        "10.0.2.15/33",
        "10.0.2/24",
        "10.0.2.15/2x",
        "10.0.2.15/24,gw=x",
        "10.0.2.15/24,gw=fd00::1",
        "dhcp,gw=10.0.2.2",
        "dhcp,dev=",
        "10.0.2.15/24,mtu=9",
        "dhcp,dev=a-name-of-17-char",
        "10.0.2.15/0",
        "fd00::1/129",
        "10.0.2.15/24,",
        "DHCP",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        fault.text[0] = '\0';
        cr_expect_not(ip_plan_parse(bad[i], &plan, &fault), "%s", bad[i]);
        cr_expect_eq(fault.code, FAULT_INVALID_REQUEST);
        cr_expect_not_null(strstr(fault.text, "want ADDR/PREFIX"), "%s", fault.text);
        cr_expect_eq(plan.way, IP_LINK);
    }
    char long_one[300];
    memset(long_one, '1', sizeof long_one);
    long_one[299] = '\0';
    cr_expect_not(ip_plan_parse(long_one, &plan, &fault));
}

Test(boot_ip, a_netmask_is_counted_up_to_its_first_zero) {
    cr_assert_eq(ip_prefix_of_mask((const uint8_t[]){255, 255, 255, 0}), 24);
    cr_assert_eq(ip_prefix_of_mask((const uint8_t[]){255, 255, 240, 0}), 20);
    cr_assert_eq(ip_prefix_of_mask((const uint8_t[]){255, 255, 255, 255}), 32);
    cr_assert_eq(ip_prefix_of_mask((const uint8_t[]){0, 0, 0, 0}), 0);
}

/* --- netlink -------------------------------------------------------------------------------- */

static struct netlink_message message;

static struct nlmsghdr head_of(const struct netlink_message *m) {
    struct nlmsghdr head;
    memcpy(&head, m->bytes, sizeof head);
    cr_assert_eq(head.nlmsg_len, m->length);
    cr_assert_eq(m->length % 4, 0);
    return head;
}

/* The value of an attribute behind a body of that size; NULL: it is not there. */
static const uint8_t *attribute_of(const struct netlink_message *m, size_t body, uint16_t type,
                                   size_t bytes) {
    for (size_t at = NLMSG_HDRLEN + NLMSG_ALIGN(body); at < m->length;) {
        struct rtattr head;
        memcpy(&head, m->bytes + at, sizeof head);
        cr_assert_geq(head.rta_len, sizeof head);
        if (head.rta_type == type) {
            cr_assert_eq(head.rta_len, RTA_LENGTH(bytes));
            return m->bytes + at + RTA_LENGTH(0);
        }
        at += RTA_ALIGN(head.rta_len);
    }
    return NULL;
}

Test(boot_netlink, link_up_changes_one_flag) {
    struct ifinfomsg body;
    netlink_link_up(&message, 7, 3);
    struct nlmsghdr head = head_of(&message);
    memcpy(&body, message.bytes + NLMSG_HDRLEN, sizeof body);
    cr_assert_eq(head.nlmsg_type, RTM_NEWLINK);
    cr_assert_eq(head.nlmsg_seq, 7);
    cr_assert_eq(head.nlmsg_flags & (NLM_F_REQUEST | NLM_F_ACK), NLM_F_REQUEST | NLM_F_ACK);
    cr_assert_eq(body.ifi_index, 3);
    cr_assert_eq(body.ifi_flags, IFF_UP);
    cr_assert_eq(body.ifi_change, IFF_UP);
}

Test(boot_netlink, an_address_carries_its_broadcast) {
    struct ifaddrmsg body;
    cr_assert(ip_plan_parse("10.1.2.3/20,gw=10.1.0.1", &plan, &fault));
    netlink_address(&message, 1, true, 2, &plan.address, plan.prefix);
    cr_assert_eq(head_of(&message).nlmsg_type, RTM_NEWADDR);
    memcpy(&body, message.bytes + NLMSG_HDRLEN, sizeof body);
    cr_assert_eq(body.ifa_family, AF_INET);
    cr_assert_eq(body.ifa_prefixlen, 20);
    cr_assert_eq(body.ifa_index, 2);
    static const uint8_t own[4] = {10, 1, 2, 3};
    static const uint8_t all[4] = {10, 1, 15, 255};
    cr_assert_arr_eq(attribute_of(&message, sizeof body, IFA_LOCAL, 4), own, 4);
    cr_assert_arr_eq(attribute_of(&message, sizeof body, IFA_BROADCAST, 4), all, 4);
    netlink_address(&message, 1, false, 2, &plan.address, plan.prefix);
    cr_assert_eq(head_of(&message).nlmsg_type, RTM_DELADDR);
}

Test(boot_netlink, an_ipv6_address_has_no_broadcast) {
    struct ifaddrmsg body;
    cr_assert(ip_plan_parse("fd00::7/64", &plan, &fault));
    netlink_address(&message, 1, true, 2, &plan.address, plan.prefix);
    memcpy(&body, message.bytes + NLMSG_HDRLEN, sizeof body);
    cr_assert_eq(body.ifa_family, AF_INET6);
    cr_assert_null(attribute_of(&message, sizeof body, IFA_BROADCAST, 4));
    cr_assert_arr_eq(attribute_of(&message, sizeof body, IFA_ADDRESS, 16), plan.address.bytes, 16);
}

Test(boot_netlink, a_route_goes_through_gateway_and_interface) {
    struct rtmsg body;
    cr_assert(ip_plan_parse("10.1.2.3/20,gw=10.1.0.1", &plan, &fault));
    netlink_route(&message, 1, true, 9, &plan.gateway);
    cr_assert_eq(head_of(&message).nlmsg_type, RTM_NEWROUTE);
    memcpy(&body, message.bytes + NLMSG_HDRLEN, sizeof body);
    cr_assert_eq(body.rtm_dst_len, 0);
    uint32_t interface;
    memcpy(&interface, attribute_of(&message, sizeof body, RTA_OIF, 4), 4);
    cr_assert_eq(interface, 9);
    cr_assert_arr_eq(attribute_of(&message, sizeof body, RTA_GATEWAY, 4), plan.gateway.bytes, 4);
}

static size_t answer_write(uint8_t *at, uint32_t sequence, int32_t error) {
    struct nlmsghdr head = {.nlmsg_len = NLMSG_HDRLEN + sizeof(struct nlmsgerr),
                            .nlmsg_type = NLMSG_ERROR,
                            .nlmsg_seq = sequence};
    memset(at, 0, head.nlmsg_len);
    memcpy(at, &head, sizeof head);
    memcpy(at + NLMSG_HDRLEN, &error, sizeof error);
    return head.nlmsg_len;
}

Test(boot_netlink, the_answer_is_that_of_the_sequence_number) {
    uint8_t bytes[256];
    size_t n = answer_write(bytes, 4, -EPERM);
    n += answer_write(bytes + n, 5, 0);
    n += answer_write(bytes + n, 6, -EEXIST);
    cr_assert_eq(netlink_answer(bytes, n, 4), EPERM);
    cr_assert_eq(netlink_answer(bytes, n, 5), 0);
    cr_assert_eq(netlink_answer(bytes, n, 6), EEXIST);
    cr_assert_eq(netlink_answer(bytes, n, 7), -1);
}

Test(boot_netlink, cut_answers_are_none) {
    uint8_t bytes[256];
    size_t n = answer_write(bytes, 4, -EPERM);
    for (size_t cut = 0; cut < n; cut++) cr_expect_eq(netlink_answer(bytes, cut, 4), -1);
    memset(bytes, 0, sizeof bytes); /* a length of 0 would never end */
    cr_assert_eq(netlink_answer(bytes, sizeof bytes, 0), -1);
}

/* --- DHCP ----------------------------------------------------------------------------------- */

#define SECOND 1000000000ull

static const uint8_t mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static struct dhcp dhcp;
static uint8_t frame[DHCP_FRAME_BYTES];
static size_t length;

/* Offsets of what the tests look at, in the frame. */
enum {
    F_IP_SOURCE = 26,
    F_MESSAGE = 42,
    F_XID = 46,
    F_CIADDR = 54,
    F_YIADDR = 58,
    F_CHADDR = 70,
    F_OPTIONS = 282
};

static uint32_t sum16(const uint8_t *bytes, size_t n) {
    uint32_t sum = 0;
    for (size_t i = 0; i < n; i += 2) {
        sum += (uint32_t)bytes[i] << 8;
        if (i + 1 < n) sum += bytes[i + 1];
    }
    while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
    return sum;
}

static const uint8_t *option_of(uint8_t code) {
    for (size_t at = F_OPTIONS; frame[at] != 255; at += 2u + frame[at + 1]) {
        if (frame[at] == code) return frame + at + 1; /* length, value */
    }
    return NULL;
}

/* What a server answers: takes the client's exchange over and adds options; returns the length. */
static size_t reply_write(uint8_t *at, uint8_t kind, const uint8_t *options, size_t n) {
    static const uint8_t address[4] = {10, 0, 2, 15};
    static const uint8_t cookie[4] = {99, 130, 83, 99};
    size_t bytes = F_OPTIONS + 3 + n + 1;
    memset(at, 0, bytes);
    at[12] = 8; /* IPv4 */
    at[14] = 0x45;
    at[23] = 17;
    at[37] = 68;
    at[38] = (uint8_t)((bytes - 34) >> 8);
    at[39] = (uint8_t)(bytes - 34);
    at[F_MESSAGE] = 2;
    for (int i = 0; i < 4; i++) at[F_XID + i] = (uint8_t)(dhcp.xid >> (24 - 8 * i));
    memcpy(at + F_YIADDR, address, 4);
    memcpy(at + F_CHADDR, mac, 6);
    memcpy(at + F_OPTIONS - 4, cookie, 4);
    uint8_t *option = at + F_OPTIONS;
    option[0] = 53;
    option[1] = 1;
    option[2] = kind;
    memcpy(option + 3, options, n);
    option[3 + n] = 255;
    return bytes;
}

static const uint8_t lease_1h[] = {1, 4,  255, 255, 255, 0,  3,  8,  10, 0,  2, 2, 10, 0, 2,
                                   3, 51, 4,   0,   0,   14, 16, 54, 4,  10, 0, 2, 2,  0};

/* To BOUND at that time. */
static void lease_get(uint64_t now_ns) {
    uint8_t reply[600];
    dhcp_start(&dhcp, mac, 42, now_ns);
    cr_assert_eq(dhcp_tick(&dhcp, now_ns, frame, &length), DHCP_NOTHING);
    size_t n = reply_write(reply, DHCP_OFFER, lease_1h, sizeof lease_1h);
    cr_assert_eq(dhcp_receive(&dhcp, reply, n, now_ns, frame, &length), DHCP_NOTHING);
    cr_assert_eq(dhcp.state, DHCP_REQUESTING);
    n = reply_write(reply, DHCP_ACK, lease_1h, sizeof lease_1h);
    cr_assert_eq(dhcp_receive(&dhcp, reply, n, now_ns, frame, &length), DHCP_TAKE);
    cr_assert_eq(dhcp.state, DHCP_BOUND);
}

Test(boot_dhcp, discover_is_a_whole_broadcast_frame_with_right_sums) {
    dhcp_start(&dhcp, mac, 42, 5 * SECOND);
    cr_assert_eq(dhcp_tick(&dhcp, 5 * SECOND, frame, &length), DHCP_NOTHING);
    cr_assert_eq(length, F_MESSAGE + 300);
    for (int i = 0; i < 6; i++) cr_assert_eq(frame[i], 0xFF);
    cr_assert_arr_eq(frame + 6, mac, 6);
    cr_assert_eq(sum16(frame + 14, 20), 0xFFFF, "IP header");
    uint8_t pseudo[12] = {0};
    memcpy(pseudo, frame + F_IP_SOURCE, 8);
    pseudo[9] = 17;
    pseudo[10] = frame[38];
    pseudo[11] = frame[39];
    uint32_t sum = sum16(pseudo, 12) + sum16(frame + 34, length - 34);
    cr_assert_eq((sum & 0xFFFF) + (sum >> 16), 0xFFFF, "UDP");
    cr_assert_arr_eq(frame + F_CHADDR, mac, 6);
    cr_assert_eq(option_of(53)[1], DHCP_DISCOVER);
}

Test(boot_dhcp, request_names_the_offer_and_its_server) {
    uint8_t reply[600];
    dhcp_start(&dhcp, mac, 42, 0);
    dhcp_tick(&dhcp, 0, frame, &length);
    size_t n = reply_write(reply, DHCP_OFFER, lease_1h, sizeof lease_1h);
    dhcp_receive(&dhcp, reply, n, 0, frame, &length);
    cr_assert_gt(length, 0);
    cr_assert_eq(option_of(53)[1], DHCP_REQUEST);
    cr_assert_arr_eq(option_of(50) + 1, reply + F_YIADDR, 4);
    static const uint8_t server[4] = {10, 0, 2, 2};
    cr_assert_arr_eq(option_of(54) + 1, server, 4);
}

Test(boot_dhcp, a_lease_has_address_prefix_gateway_and_half_its_time) {
    char text[IP_TEXT_BYTES];
    lease_get(100 * SECOND);
    ip_address_print(&dhcp.own.address, text);
    cr_assert_str_eq(text, "10.0.2.15");
    ip_address_print(&dhcp.own.gateway, text);
    cr_assert_str_eq(text, "10.0.2.2"); /* the first of two */
    cr_assert_eq(dhcp.own.prefix, 24);
    cr_assert_eq(dhcp.own.lease_s, 3600);
    cr_assert_eq(dhcp.next_ns, (100 + 1800) * SECOND);
    cr_assert_eq(dhcp.expires_ns, (100 + 3600) * SECOND);
}

Test(boot_dhcp, questions_are_asked_again_ever_more_seldom) {
    dhcp_start(&dhcp, mac, 42, 0);
    uint64_t now_ns = 0;
    static const uint32_t gaps_s[] = {1, 2, 4, 8, 16, 32, 32, 32};
    for (size_t i = 0; i < sizeof gaps_s / sizeof *gaps_s; i++) {
        dhcp_tick(&dhcp, now_ns, frame, &length);
        cr_expect_gt(length, 0);
        cr_expect_eq(dhcp.next_ns - now_ns, gaps_s[i] * SECOND, "%zu", i);
        dhcp_tick(&dhcp, dhcp.next_ns - 1, frame, &length);
        cr_expect_eq(length, 0, "too early");
        now_ns = dhcp.next_ns;
    }
}

Test(boot_dhcp, renewal_uses_the_address_and_changes_nothing_when_granted) {
    uint8_t reply[600];
    lease_get(0);
    uint64_t now_ns = dhcp.next_ns;
    cr_assert_eq(dhcp_tick(&dhcp, now_ns, frame, &length), DHCP_NOTHING);
    cr_assert_eq(dhcp.state, DHCP_RENEWING);
    cr_assert_eq(option_of(53)[1], DHCP_REQUEST);
    cr_assert_null(option_of(50), "RFC 2131, table 4");
    cr_assert_null(option_of(54));
    cr_assert_arr_eq(frame + F_CIADDR, dhcp.own.address.bytes, 4);
    cr_assert_arr_eq(frame + F_IP_SOURCE, dhcp.own.address.bytes, 4);
    size_t n = reply_write(reply, DHCP_ACK, lease_1h, sizeof lease_1h);
    cr_assert_eq(dhcp_receive(&dhcp, reply, n, now_ns, frame, &length), DHCP_NOTHING);
    cr_assert_eq(dhcp.expires_ns, now_ns + 3600 * SECOND);
}

Test(boot_dhcp, an_answer_with_another_address_is_taken) {
    uint8_t reply[600];
    lease_get(0);
    dhcp_tick(&dhcp, dhcp.next_ns, frame, &length);
    size_t n = reply_write(reply, DHCP_ACK, lease_1h, sizeof lease_1h);
    reply[F_YIADDR + 3] = 77;
    cr_assert_eq(dhcp_receive(&dhcp, reply, n, 2000 * SECOND, frame, &length), DHCP_TAKE);
    cr_assert_eq(dhcp.own.address.bytes[3], 77);
}

Test(boot_dhcp, a_lease_that_nobody_renews_is_given_back_and_asked_for_anew) {
    lease_get(0);
    enum dhcp_act act = DHCP_NOTHING;
    int ticks = 0;
    while (act == DHCP_NOTHING && ticks++ < 1000) {
        uint64_t now_ns = dhcp.next_ns;
        cr_assert_leq(now_ns, 3600 * SECOND);
        act = dhcp_tick(&dhcp, now_ns, frame, &length);
    }
    cr_assert_eq(act, DHCP_RETURN);
    cr_assert_eq(dhcp.state, DHCP_SELECTING);
    cr_assert_eq(option_of(53)[1], DHCP_DISCOVER);
}

Test(boot_dhcp, a_refusal_gives_the_lease_back) {
    uint8_t reply[600];
    lease_get(0);
    dhcp_tick(&dhcp, dhcp.next_ns, frame, &length);
    size_t n = reply_write(reply, DHCP_NAK, lease_1h, 0);
    cr_assert_eq(dhcp_receive(&dhcp, reply, n, 1800 * SECOND, frame, &length), DHCP_RETURN);
    cr_assert_eq(dhcp.state, DHCP_INIT);
    cr_assert_eq(dhcp.next_ns, 1801 * SECOND);
}

Test(boot_dhcp, a_server_that_offers_and_falls_silent_is_left) {
    uint8_t reply[600];
    dhcp_start(&dhcp, mac, 42, 0);
    dhcp_tick(&dhcp, 0, frame, &length);
    size_t n = reply_write(reply, DHCP_OFFER, lease_1h, sizeof lease_1h);
    dhcp_receive(&dhcp, reply, n, 0, frame, &length);
    for (int i = 0; i < 4; i++) dhcp_tick(&dhcp, dhcp.next_ns, frame, &length);
    cr_assert_eq(option_of(53)[1], DHCP_DISCOVER);
}

Test(boot_dhcp, a_lease_for_ever_is_never_renewed) {
    static const uint8_t for_ever[] = {51, 4, 255, 255, 255, 255};
    uint8_t reply[600];
    dhcp_start(&dhcp, mac, 42, 0);
    dhcp_tick(&dhcp, 0, frame, &length);
    size_t n = reply_write(reply, DHCP_OFFER, for_ever, sizeof for_ever);
    dhcp_receive(&dhcp, reply, n, 0, frame, &length);
    n = reply_write(reply, DHCP_ACK, for_ever, sizeof for_ever);
    cr_assert_eq(dhcp_receive(&dhcp, reply, n, 0, frame, &length), DHCP_TAKE);
    cr_assert_eq(dhcp.next_ns, UINT64_MAX);
    cr_assert_eq(dhcp.own.gateway.length, 0);
}

Test(boot_dhcp, a_lease_of_seconds_makes_no_storm) {
    static const uint8_t tiny[] = {51, 4, 0, 0, 0, 1};
    uint8_t reply[600];
    dhcp_start(&dhcp, mac, 42, 0);
    dhcp_tick(&dhcp, 0, frame, &length);
    size_t n = reply_write(reply, DHCP_OFFER, tiny, sizeof tiny);
    dhcp_receive(&dhcp, reply, n, 0, frame, &length);
    n = reply_write(reply, DHCP_ACK, tiny, sizeof tiny);
    cr_assert_eq(dhcp_receive(&dhcp, reply, n, 0, frame, &length), DHCP_TAKE);
    cr_assert_eq(dhcp.next_ns, SECOND); /* the lease ends: a new one is asked for */
}

Test(boot_dhcp, frames_that_are_no_answer_to_us_are_passed_over) {
    static const struct {
        const char *what;
        size_t at;
    } spoilt[] = {{"not IPv4", 12},         {"IP options", 14},   {"not UDP", 23},
                  {"a fragment", 21},       {"another port", 37}, {"a request", 42},
                  {"another exchange", 49}, {"another card", 75}, {"no cookie", 278}};
    uint8_t reply[600];
    dhcp_start(&dhcp, mac, 42, 0);
    dhcp_tick(&dhcp, 0, frame, &length);
    for (size_t i = 0; i < sizeof spoilt / sizeof *spoilt; i++) {
        size_t n = reply_write(reply, DHCP_OFFER, lease_1h, sizeof lease_1h);
        reply[spoilt[i].at] ^= 1;
        dhcp_receive(&dhcp, reply, n, 0, frame, &length);
        cr_expect_eq(dhcp.state, DHCP_SELECTING, "%s", spoilt[i].what);
    }
    size_t n = reply_write(reply, DHCP_ACK, lease_1h, sizeof lease_1h);
    cr_expect_eq(dhcp_receive(&dhcp, reply, n, 0, frame, &length), DHCP_NOTHING, "nothing asked");
    n = reply_write(reply, DHCP_OFFER, lease_1h, sizeof lease_1h);
    memset(reply + F_YIADDR, 0, 4);
    dhcp_receive(&dhcp, reply, n, 0, frame, &length);
    cr_expect_eq(dhcp.state, DHCP_SELECTING, "no address");
}

Test(boot_dhcp, an_option_that_runs_past_the_end_spoils_the_frame) {
    static const uint8_t cut[] = {51, 4, 0};
    uint8_t reply[600];
    struct dhcp_reply out;
    dhcp_start(&dhcp, mac, 42, 0);
    dhcp_tick(&dhcp, 0, frame, &length);
    size_t n = reply_write(reply, DHCP_OFFER, cut, sizeof cut);
    uint8_t *exact = malloc(n);
    memcpy(exact, reply, n);
    cr_assert_not(dhcp_read(&dhcp, exact, n, &out));
    free(exact);
}

/* Every cut and every changed byte of an offer, on memory of exactly its size. */
Test(boot_dhcp, cut_and_garbled_frames_are_survived) {
    uint8_t reply[600];
    dhcp_start(&dhcp, mac, 42, 0);
    dhcp_tick(&dhcp, 0, frame, &length);
    size_t n = reply_write(reply, DHCP_OFFER, lease_1h, sizeof lease_1h);
    for (size_t cut = 0; cut <= n; cut++) {
        uint8_t *copy = malloc(cut + 1);
        memcpy(copy, reply, cut);
        struct dhcp_reply out;
        bool whole = dhcp_read(&dhcp, copy, cut, &out);
        cr_expect_eq(whole, cut == n, "%zu of %zu", cut, n);
        free(copy);
    }
    for (size_t at = 0; at < n; at++) {
        for (int value = 0; value < 256; value += 5) {
            uint8_t *copy = malloc(n);
            memcpy(copy, reply, n);
            copy[at] = (uint8_t)value;
            struct dhcp_reply out;
            dhcp_read(&dhcp, copy, n, &out); /* the sanitizer judges */
            free(copy);
        }
    }
}
