#include "boot/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text_file.h"
#include "boot/netlink.h"
#include "boot/sysfs.h"

enum {
    ETHERTYPE_IP = 0x0800,
    ARPHRD_ETHERNET = 1,
    /* A lease that is not there after this is a matter for HEALTH. */
    NET_LEASE_SOON_S = 10
};

#define SECOND_NS 1000000000ull

static void net_fail(struct net *net, const char *what, int error) {
    if (net->reason[0] == '\0') {
        snprintf(net->reason, sizeof net->reason, "%s: %s", what, strerror(error));
    }
    log_event(LOG_WARN, "net", "%s: %s", what, strerror(error));
}

static void net_ask(struct net *net, const struct netlink_message *m, const char *what) {
    int error = netlink_ask(net->netlink, m);
    if (error != 0) net_fail(net, what, error);
}

static void link_up(struct net *net, int interface, const char *name) {
    struct netlink_message m;
    char what[32];
    netlink_link_up(&m, ++net->sequence, interface);
    snprintf(what, sizeof what, "link %s up", name);
    net_ask(net, &m, what);
}

/* --- interfaces ----------------------------------------------------------------------------- */

static int number_read(const char *interface, const char *file) {
    char path[SYSFS_PATH_BYTES];
    char text[32];
    snprintf(path, sizeof path, "/sys/class/net/%.*s/%s", IF_NAMESIZE, interface, file);
    return text_file_read(path, text, sizeof text) > 0 ? (int)strtol(text, NULL, 10) : -1;
}

/* The next Ethernet of the list from *at on; NULL: none. */
static const char *ethernet_next(const struct sysfs_names *names, unsigned *at) {
    while (*at < names->n) {
        const char *name = names->name[(*at)++];
        if (strcmp(name, "lo") == 0 || strlen(name) >= IF_NAMESIZE) continue;
        if (number_read(name, "type") == ARPHRD_ETHERNET) return name;
    }
    return NULL;
}

/* The interface that the plan means, if it is there. */
static bool interface_find(struct net *net) {
    struct sysfs_names names;
    if (!sysfs_list("/sys/class/net", &names)) return false;
    unsigned at = 0;
    const char *name;
    while ((name = ethernet_next(&names, &at)) != NULL) {
        if (net->plan.device[0] != '\0' && strcmp(net->plan.device, name) != 0) continue;
        snprintf(net->device, sizeof net->device, "%.*s", IF_NAMESIZE - 1, name);
        net->interface = number_read(name, "ifindex");
        return net->interface > 0;
    }
    return false;
}

static void interface_wait(struct net *net, struct patience patience) {
    while (!interface_find(net)) {
        if (patience_wait(&patience)) continue;
        const char *what = net->plan.device[0] != '\0' ? net->plan.device : "Ethernet interface";
        net_fail(net, what, ENODEV);
        return;
    }
}

/* Every Ethernet there is: the kernel gives each a link-local address of IPv6. */
static void links_up(struct net *net) {
    struct sysfs_names names;
    if (!sysfs_list("/sys/class/net", &names)) return;
    unsigned at = 0;
    const char *name;
    while ((name = ethernet_next(&names, &at)) != NULL) {
        link_up(net, number_read(name, "ifindex"), name);
    }
}

/* --- addresses ------------------------------------------------------------------------------ */

static void address_set(struct net *net, bool add, const struct ip_address *address, uint8_t prefix,
                        const struct ip_address *gateway) {
    struct netlink_message m;
    char text[IP_TEXT_BYTES];
    char via[IP_TEXT_BYTES] = "none";
    ip_address_print(address, text);
    netlink_address(&m, ++net->sequence, add, net->interface, address, prefix);
    net_ask(net, &m, add ? "address" : "address removed");
    if (add && gateway->length > 0) { /* without the address the kernel drops the route itself */
        ip_address_print(gateway, via);
        netlink_route(&m, ++net->sequence, add, net->interface, gateway);
        net_ask(net, &m, "default route");
    }
    log_event(LOG_INFO, "net", "%s %s=%s/%u gw=%s", net->device, add ? "address" : "removed", text,
              prefix, via);
}

/* --- DHCP ----------------------------------------------------------------------------------- */

/* Lets only IPv4 UDP to port 68 through, so that the socket costs nothing while TCP works. Offsets
 * in the Ethernet frame; no server sends IP options, but their length is counted anyway. */
static bool filter_attach(int fd) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETHERTYPE_IP, 0, 8),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 9),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 17, 0, 6),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 14 + 6),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1FFF, 4, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 14 + 2),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, DHCP_CLIENT_PORT, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, DHCP_FRAME_BYTES),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0;
}

static bool mac_read(const struct net *net, uint8_t mac[6]) {
    char path[SYSFS_PATH_BYTES];
    char text[32];
    snprintf(path, sizeof path, "/sys/class/net/%s/address", net->device);
    if (text_file_read(path, text, sizeof text) != 17) return false;
    for (int i = 0; i < 6; i++) mac[i] = (uint8_t)strtoul(text + 3 * i, NULL, 16);
    return true;
}

static void lease_start(struct net *net) {
    uint8_t mac[6];
    uint32_t xid;
    struct sockaddr_ll here = {.sll_family = AF_PACKET,
                               .sll_protocol = htons(ETHERTYPE_IP),
                               .sll_ifindex = net->interface};
    /* Protocol 0: nothing is heard before the filter stands and the interface is chosen. */
    net->packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (net->packet < 0 || !mac_read(net, mac) || !filter_attach(net->packet) ||
        bind(net->packet, (struct sockaddr *)&here, sizeof here) != 0) {
        net_fail(net, "dhcp", errno);
        if (net->packet >= 0) close(net->packet);
        net->packet = -1;
        return;
    }
    uint64_t now_ns = clock_ns();
    if (getrandom(&xid, sizeof xid, GRND_NONBLOCK) != (ssize_t)sizeof xid) {
        /* No entropy yet: cards differ, and so do boots. */
        xid = (uint32_t)now_ns ^ (uint32_t)mac[5] << 24 ^ (uint32_t)mac[4] << 16;
    }
    dhcp_start(&net->dhcp, mac, xid, now_ns);
    struct pollfd quiet = {.fd = -1};
    net_serve(net, &quiet, now_ns); /* the first question, now */
}

static void lease_return(struct net *net) {
    if (net->held.address.length == 0) return;
    address_set(net, false, &net->held.address, net->held.prefix, &net->held.gateway);
    memset(&net->held, 0, sizeof net->held);
}

static void lease_act(struct net *net, enum dhcp_act act) {
    if (act == DHCP_NOTHING) return;
    const struct dhcp_reply *own = &net->dhcp.own;
    bool same = act == DHCP_TAKE && net->held.prefix == own->prefix &&
                memcmp(&net->held.address, &own->address, sizeof own->address) == 0;
    if (!same) lease_return(net);
    if (act == DHCP_RETURN) return;
    net->held = *own;
    log_event(LOG_INFO, "net", "lease of %u s from %u.%u.%u.%u", own->lease_s, own->server[0],
              own->server[1], own->server[2], own->server[3]);
    address_set(net, true, &own->address, own->prefix, &own->gateway);
}

static void frame_send(struct net *net, const uint8_t *frame, size_t length) {
    if (length == 0) return;
    /* A frame that is lost is asked again: the link may not be up yet. */
    ssize_t written = write(net->packet, frame, length);
    (void)written;
}

struct pollfd net_poll(const struct net *net, uint64_t *next_ns) {
    *next_ns = net->packet < 0 ? UINT64_MAX : net->dhcp.next_ns;
    return (struct pollfd){.fd = net->packet, .events = POLLIN};
}

void net_serve(struct net *net, const struct pollfd *polled, uint64_t now_ns) {
    uint8_t out[DHCP_FRAME_BYTES];
    uint8_t in[DHCP_FRAME_BYTES];
    size_t length;
    if (net->packet < 0) return;
    for (int i = 0; i < 16 && polled->revents != 0; i++) { /* a flood does not stop the loop */
        ssize_t n = read(net->packet, in, sizeof in);
        if (n <= 0) break;
        lease_act(net, dhcp_receive(&net->dhcp, in, (size_t)n, now_ns, out, &length));
        frame_send(net, out, length);
    }
    lease_act(net, dhcp_tick(&net->dhcp, now_ns, out, &length));
    frame_send(net, out, length);
}

/* --- all of it ------------------------------------------------------------------------------ */

void net_start(struct net *net, const struct ip_plan *plan, struct patience patience) {
    memset(net, 0, sizeof *net);
    net->plan = *plan;
    net->packet = -1;
    net->started_ns = clock_ns();
    net->netlink = netlink_open();
    if (net->netlink < 0) {
        net_fail(net, "netlink", errno);
        return;
    }
    link_up(net, 1, "lo"); /* the kernel makes it first, always */
    switch (plan->way) {
    case IP_NONE:
        return;
    case IP_LINK:
        if (plan->device[0] == '\0') {
            links_up(net);
            return;
        }
        break;
    case IP_STATIC:
    case IP_DHCP:
        break;
    }
    interface_wait(net, patience);
    if (net->device[0] == '\0') return;
    link_up(net, net->interface, net->device);
    if (plan->way == IP_STATIC) {
        address_set(net, true, &plan->address, plan->prefix, &plan->gateway);
    } else if (plan->way == IP_DHCP) {
        lease_start(net);
    }
}

void net_notice(const struct net *net, uint64_t now_ns, char *text, size_t size) {
    text[0] = '\0';
    if (net->reason[0] != '\0') {
        snprintf(text, size, "network: %s", net->reason);
    } else if (net->packet >= 0 && net->held.address.length == 0 &&
               now_ns - net->started_ns > NET_LEASE_SOON_S * SECOND_NS) {
        snprintf(text, size, "network: no DHCP server answers on %s; still asking", net->device);
    }
}
