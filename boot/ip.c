#include "boot/ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"

static bool address_parse(const char *text, struct ip_address *address) {
    memset(address, 0, sizeof *address);
    if (inet_pton(AF_INET, text, address->bytes) == 1) {
        address->length = 4;
    } else if (inet_pton(AF_INET6, text, address->bytes) == 1) {
        address->length = 16;
    }
    return address->length > 0;
}

/* "ADDR/PREFIX" */
static bool network_parse(char *text, struct ip_plan *plan) {
    char *slash = strchr(text, '/');
    if (slash == NULL) return false;
    *slash = '\0';
    const char *digits = slash + 1;
    size_t n = strlen(digits);
    if (n == 0 || n > 3 || strspn(digits, "0123456789") != n) return false;
    unsigned long prefix = strtoul(digits, NULL, 10);
    if (!address_parse(text, &plan->address)) return false;
    if (prefix == 0 || prefix > 8ul * plan->address.length) return false;
    plan->prefix = (uint8_t)prefix;
    plan->way = IP_STATIC;
    return true;
}

/* One of the words between the commas; the first is the way. */
static bool word_parse(char *word, bool first, struct ip_plan *plan) {
    if (first) {
        if (strcmp(word, "dhcp") == 0) plan->way = IP_DHCP;
        if (strcmp(word, "none") == 0) plan->way = IP_NONE;
        return strcmp(word, "link") == 0 || plan->way != IP_LINK || network_parse(word, plan);
    }
    if (strncmp(word, "gw=", 3) == 0) {
        return plan->way == IP_STATIC && address_parse(word + 3, &plan->gateway) &&
               plan->gateway.length == plan->address.length;
    }
    if (strncmp(word, "dev=", 4) != 0) return false;
    size_t length = strlen(word + 4);
    if (length == 0 || length >= sizeof plan->device) return false;
    memcpy(plan->device, word + 4, length + 1);
    return true;
}

bool ip_plan_parse(const char *text, struct ip_plan *plan, struct fault *fault) {
    char copy[160];
    memset(plan, 0, sizeof *plan);
    bool fine = strlen(text) < sizeof copy;
    snprintf(copy, sizeof copy, "%s", text);
    bool first = true;
    for (char *word = copy; fine && word != NULL; first = false) {
        char *comma = strchr(word, ',');
        if (comma != NULL) *comma++ = '\0';
        fine = word_parse(word, first, plan);
        word = comma;
    }
    if (fine) return true;
    memset(plan, 0, sizeof *plan);
    return fault_set(fault, FAULT_INVALID_REQUEST,
                     "ip=%.60s: want ADDR/PREFIX[,gw=ADDR][,dev=NAME], dhcp[,dev=NAME], "
                     "link[,dev=NAME] or none",
                     text);
}

void ip_address_print(const struct ip_address *address, char text[IP_TEXT_BYTES]) {
    wick_assert(address->length == 4 || address->length == 16);
    const char *printed =
        inet_ntop(address->length == 4 ? AF_INET : AF_INET6, address->bytes, text, IP_TEXT_BYTES);
    wick_assert(printed != NULL);
}

uint8_t ip_prefix_of_mask(const uint8_t mask[4]) {
    uint8_t bits = 0;
    for (int i = 0; i < 32 && (mask[i / 8] & (0x80 >> i % 8)) != 0; i++) bits++;
    return bits;
}
