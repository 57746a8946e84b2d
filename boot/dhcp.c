#include "boot/dhcp.h"

#include <string.h>

#include "base/panic.h"

/* Offsets in the frame: Ethernet 14, IPv4 20, UDP 8, then the message of RFC 2131, figure 1. */
enum {
    ETHERNET = 0,
    IP = 14,
    UDP = IP + 20,
    MESSAGE = UDP + 8,
    XID = MESSAGE + 4,
    SECONDS = MESSAGE + 8,
    FLAGS = MESSAGE + 10,
    CIADDR = MESSAGE + 12,
    YIADDR = MESSAGE + 16,
    CHADDR = MESSAGE + 28,
    COOKIE = MESSAGE + 236,
    OPTIONS = COOKIE + 4,
    /* Some relays and servers drop messages that are shorter than BOOTP's 300 bytes. */
    FRAME_MIN = MESSAGE + 300
};

/* RFC 2132. */
enum {
    OPTION_PAD = 0,
    OPTION_NETMASK = 1,
    OPTION_ROUTER = 3,
    OPTION_ADDRESS = 50,
    OPTION_LEASE = 51,
    OPTION_KIND = 53,
    OPTION_SERVER = 54,
    OPTION_WANTED = 55,
    OPTION_RENEW = 58,
    OPTION_END = 255
};

static const uint8_t cookie[4] = {99, 130, 83, 99};

#define SECOND_NS 1000000000ull

static void put16(uint8_t *at, uint32_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value) {
    put16(at, value >> 16);
    put16(at + 2, value & 0xFFFF);
}

static uint32_t get16(const uint8_t *at) {
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at) {
    return get16(at) << 16 | get16(at + 2);
}

/* Ones' complement sum of RFC 1071, `n` even or the last byte alone. */
static uint32_t sum_add(uint32_t sum, const uint8_t *bytes, size_t n) {
    for (size_t i = 0; i + 1 < n; i += 2) sum += get16(bytes + i);
    if (n % 2 == 1) sum += (uint32_t)bytes[n - 1] << 8;
    return sum;
}

static uint32_t sum_end(uint32_t sum) {
    while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
    return ~sum & 0xFFFF;
}

/* Headers around a message that ends at `length`: broadcast, from 0.0.0.0 or from the address in
 * use. */
static void headers_write(const struct dhcp *dhcp, uint8_t *frame, size_t length) {
    memset(frame + ETHERNET, 0xFF, 6);
    memcpy(frame + ETHERNET + 6, dhcp->mac, 6);
    put16(frame + ETHERNET + 12, 0x0800);

    frame[IP] = 0x45;
    put16(frame + IP + 2, (uint32_t)(length - IP));
    frame[IP + 8] = 64; /* hops */
    frame[IP + 9] = 17; /* UDP */
    if (dhcp->state == DHCP_RENEWING) memcpy(frame + IP + 12, dhcp->own.address.bytes, 4);
    memset(frame + IP + 16, 0xFF, 4);
    put16(frame + IP + 10, sum_end(sum_add(0, frame + IP, 20)));

    put16(frame + UDP, DHCP_CLIENT_PORT);
    put16(frame + UDP + 2, DHCP_SERVER_PORT);
    put16(frame + UDP + 4, (uint32_t)(length - UDP));
    /* The sum counts addresses, protocol and length as well (RFC 768). */
    uint32_t sum = sum_add(17 + (uint32_t)(length - UDP), frame + IP + 12, 8);
    sum = sum_end(sum_add(sum, frame + UDP, length - UDP));
    put16(frame + UDP + 6, sum == 0 ? 0xFFFF : sum);
}

static uint8_t *option_put(uint8_t *at, uint8_t code, const uint8_t *value, uint8_t n) {
    at[0] = code;
    at[1] = n;
    memcpy(at + 2, value, n);
    return at + 2 + n;
}

size_t dhcp_write(const struct dhcp *dhcp, enum dhcp_kind kind, uint64_t now_ns,
                  uint8_t frame[DHCP_FRAME_BYTES]) {
    wick_assert(kind == DHCP_DISCOVER || kind == DHCP_REQUEST);
    static const uint8_t wanted[] = {OPTION_NETMASK, OPTION_ROUTER, OPTION_LEASE, OPTION_RENEW};
    bool renewing = dhcp->state == DHCP_RENEWING;
    uint64_t seconds = (now_ns - dhcp->started_ns) / SECOND_NS;
    memset(frame, 0, FRAME_MIN);
    frame[MESSAGE] = 1;     /* a request */
    frame[MESSAGE + 1] = 1; /* Ethernet, */
    frame[MESSAGE + 2] = 6; /* of 6 bytes */
    put32(frame + XID, dhcp->xid);
    put16(frame + SECONDS, seconds > 0xFFFF ? 0xFFFF : (uint32_t)seconds);
    put16(frame + FLAGS, 0x8000); /* answer by broadcast */
    if (renewing) memcpy(frame + CIADDR, dhcp->own.address.bytes, 4);
    memcpy(frame + CHADDR, dhcp->mac, 6);
    memcpy(frame + COOKIE, cookie, sizeof cookie);

    uint8_t *at = frame + OPTIONS;
    at = option_put(at, OPTION_KIND, (const uint8_t[]){(uint8_t)kind}, 1);
    if (kind == DHCP_REQUEST && !renewing) {
        at = option_put(at, OPTION_ADDRESS, dhcp->own.address.bytes, 4);
        at = option_put(at, OPTION_SERVER, dhcp->own.server, 4);
    }
    at = option_put(at, OPTION_WANTED, wanted, sizeof wanted);
    *at++ = OPTION_END;
    size_t length = (size_t)(at - frame);
    if (length < FRAME_MIN) length = FRAME_MIN;
    headers_write(dhcp, frame, length);
    return length;
}

/* An unfragmented UDP packet to our port with a message of this exchange; *end: where it ends. */
static bool headers_read(const struct dhcp *dhcp, const uint8_t *bytes, size_t n, size_t *end) {
    if (n < OPTIONS || get16(bytes + ETHERNET + 12) != 0x0800) return false;
    if (bytes[IP] != 0x45 || bytes[IP + 9] != 17)
        return false;                                        /* no IP options: no server sends
                                                                them */
    if ((get16(bytes + IP + 6) & 0x3FFF) != 0) return false; /* a fragment */
    if (get16(bytes + UDP + 2) != DHCP_CLIENT_PORT) return false;
    uint32_t length = get16(bytes + UDP + 4);
    if (length < OPTIONS - UDP || length > n - UDP) return false;
    *end = UDP + length;
    return bytes[MESSAGE] == 2 && get32(bytes + XID) == dhcp->xid &&
           memcmp(bytes + CHADDR, dhcp->mac, 6) == 0 &&
           memcmp(bytes + COOKIE, cookie, sizeof cookie) == 0;
}

static struct ip_address address_of(const uint8_t bytes[4]) {
    struct ip_address address = {.length = 4};
    memcpy(address.bytes, bytes, 4);
    return address;
}

static void option_read(uint8_t code, const uint8_t *value, uint8_t n, struct dhcp_reply *reply) {
    if (code == OPTION_KIND && n >= 1) reply->kind = value[0];
    if (n < 4) return;
    if (code == OPTION_NETMASK) reply->prefix = ip_prefix_of_mask(value);
    if (code == OPTION_ROUTER) reply->gateway = address_of(value);
    if (code == OPTION_SERVER) memcpy(reply->server, value, 4);
    if (code == OPTION_LEASE) reply->lease_s = get32(value);
    if (code == OPTION_RENEW) reply->renew_s = get32(value);
}

bool dhcp_read(const struct dhcp *dhcp, const uint8_t *bytes, size_t n, struct dhcp_reply *reply) {
    size_t end;
    if (!headers_read(dhcp, bytes, n, &end)) return false;
    memset(reply, 0, sizeof *reply);
    reply->address = address_of(bytes + YIADDR);
    reply->prefix = 24;
    for (size_t at = OPTIONS; at < end && bytes[at] != OPTION_END;) {
        if (bytes[at] == OPTION_PAD) {
            at++;
            continue;
        }
        if (end - at < 2 || bytes[at + 1] > end - at - 2) return false;
        option_read(bytes[at], bytes + at + 2, bytes[at + 1], reply);
        at += 2u + bytes[at + 1];
    }
    if (reply->kind == DHCP_NAK) return true;
    if (reply->kind != DHCP_OFFER && reply->kind != DHCP_ACK) return false;
    if (reply->prefix == 0 || get32(reply->address.bytes) == 0) return false;
    if (reply->gateway.length == 4 && get32(reply->gateway.bytes) == 0) reply->gateway.length = 0;
    if (reply->lease_s == 0) reply->lease_s = UINT32_MAX; /* BOOTP's way: for ever */
    if (reply->renew_s == 0 || reply->renew_s >= reply->lease_s) {
        reply->renew_s = reply->lease_s / 2;
    }
    return true;
}

/* --- the exchange --------------------------------------------------------------------------- */

static void exchange_begin(struct dhcp *dhcp, enum dhcp_state state, uint64_t now_ns) {
    dhcp->state = state;
    dhcp->xid = dhcp->xid * 1664525u + 1013904223u; /* another one; need not be unguessable */
    dhcp->tries = 0;
    dhcp->started_ns = now_ns;
    dhcp->next_ns = now_ns;
}

void dhcp_start(struct dhcp *dhcp, const uint8_t mac[6], uint32_t xid, uint64_t now_ns) {
    memset(dhcp, 0, sizeof *dhcp);
    memcpy(dhcp->mac, mac, 6);
    dhcp->xid = xid;
    dhcp->expires_ns = UINT64_MAX;
    exchange_begin(dhcp, DHCP_INIT, now_ns);
}

/* Asks, and sets when to ask again. */
static size_t question(struct dhcp *dhcp, enum dhcp_kind kind, uint64_t now_ns, uint8_t *frame) {
    enum { DOUBLINGS_MAX = 5 };
    uint32_t doublings = dhcp->tries < DOUBLINGS_MAX ? dhcp->tries : DOUBLINGS_MAX;
    dhcp->tries++;
    dhcp->next_ns = now_ns + (SECOND_NS << doublings);
    return dhcp_write(dhcp, kind, now_ns, frame);
}

enum dhcp_act dhcp_tick(struct dhcp *dhcp, uint64_t now_ns, uint8_t frame[DHCP_FRAME_BYTES],
                        size_t *length) {
    enum { REQUESTS_MAX = 4 }; /* then the server that offered is gone */
    *length = 0;
    enum dhcp_act act = DHCP_NOTHING;
    bool held = dhcp->state == DHCP_BOUND || dhcp->state == DHCP_RENEWING;
    if (held && now_ns >= dhcp->expires_ns) {
        exchange_begin(dhcp, DHCP_INIT, now_ns);
        act = DHCP_RETURN;
    }
    if (now_ns < dhcp->next_ns) return act;
    if (dhcp->state == DHCP_BOUND) exchange_begin(dhcp, DHCP_RENEWING, now_ns);
    if (dhcp->state == DHCP_REQUESTING && dhcp->tries >= REQUESTS_MAX) {
        exchange_begin(dhcp, DHCP_INIT, now_ns);
    }
    if (dhcp->state == DHCP_INIT) dhcp->state = DHCP_SELECTING;
    bool discovers = dhcp->state == DHCP_SELECTING;
    *length = question(dhcp, discovers ? DHCP_DISCOVER : DHCP_REQUEST, now_ns, frame);
    if (dhcp->state == DHCP_RENEWING && dhcp->expires_ns < dhcp->next_ns) {
        dhcp->next_ns = dhcp->expires_ns;
    }
    return act;
}

static enum dhcp_act lease_take(struct dhcp *dhcp, const struct dhcp_reply *reply,
                                uint64_t now_ns) {
    bool same = dhcp->state == DHCP_RENEWING &&
                memcmp(&dhcp->own.address, &reply->address, sizeof reply->address) == 0;
    bool for_ever = reply->lease_s == UINT32_MAX;
    uint32_t renew_s =
        reply->renew_s < 30 ? 30 : reply->renew_s; /* not a storm, whatever it says */
    dhcp->own = *reply;
    dhcp->state = DHCP_BOUND;
    dhcp->next_ns = for_ever ? UINT64_MAX : now_ns + renew_s * SECOND_NS;
    dhcp->expires_ns = for_ever ? UINT64_MAX : now_ns + reply->lease_s * SECOND_NS;
    if (dhcp->next_ns > dhcp->expires_ns) dhcp->next_ns = dhcp->expires_ns;
    return same ? DHCP_NOTHING : DHCP_TAKE;
}

enum dhcp_act dhcp_receive(struct dhcp *dhcp, const uint8_t *bytes, size_t n, uint64_t now_ns,
                           uint8_t frame[DHCP_FRAME_BYTES], size_t *length) {
    *length = 0;
    struct dhcp_reply reply;
    if (dhcp->state == DHCP_INIT || dhcp->state == DHCP_BOUND) return DHCP_NOTHING;
    if (!dhcp_read(dhcp, bytes, n, &reply)) return DHCP_NOTHING;
    switch (reply.kind) {
    case DHCP_OFFER:
        if (dhcp->state != DHCP_SELECTING) return DHCP_NOTHING;
        dhcp->own = reply;
        dhcp->state = DHCP_REQUESTING;
        dhcp->tries = 0;
        *length = question(dhcp, DHCP_REQUEST, now_ns, frame);
        return DHCP_NOTHING;
    case DHCP_ACK:
        if (dhcp->state == DHCP_SELECTING) return DHCP_NOTHING;
        return lease_take(dhcp, &reply, now_ns);
    case DHCP_NAK: {
        bool held = dhcp->state == DHCP_RENEWING;
        if (dhcp->state == DHCP_SELECTING) return DHCP_NOTHING;
        exchange_begin(dhcp, DHCP_INIT, now_ns);
        dhcp->next_ns = now_ns + SECOND_NS; /* a server that refuses for ever is not flooded */
        return held ? DHCP_RETURN : DHCP_NOTHING;
    }
    case DHCP_DISCOVER:
    case DHCP_REQUEST:
        break;
    }
    return DHCP_NOTHING;
}
