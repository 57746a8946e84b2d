#include "secret/seal.h"

#include <stdio.h>
#include <string.h>

#include "base/panic.h"

enum { CRC_POLYNOMIAL = 0x1021, SEAL_CRC_DIGITS = SEAL_CRC_CHARS - 2, SEALED_LINE_MAX = 2048 };

static uint32_t crc_add(uint32_t crc, const char *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint32_t)(unsigned char)bytes[i] << 8;
        for (int bit = 0; bit < 8; bit++) crc = crc << 1 ^ (crc & 0x8000 ? CRC_POLYNOMIAL : 0);
    }
    return crc & 0xFFFF;
}

uint16_t seal_crc(const char *bytes, size_t n) {
    return (uint16_t)crc_add(0xFFFF, bytes, n);
}

/* The CRC is that of everything before it, the number included. */
static void crc_write(struct seal *seal, const char *line, size_t n,
                      char text[SEAL_TRAILER_MAX + 1]) {
    snprintf(text, SEAL_TRAILER_MAX + 1, " *%02x", (unsigned)(seal->sent++ & 0xFF));
    uint32_t crc = crc_add(crc_add(0xFFFF, line, n), text, 4);
    snprintf(text + 4, 5, "%04x", (unsigned)crc);
}

/* HMAC(key, "NUMBER LINE"), the first half as hex. */
static void line_mac(const struct mac_key *key, uint64_t number, const char *line, size_t n,
                     char hex[SEAL_MAC_HEX + 1]) {
    char text[SEALED_LINE_MAX + 24];
    uint8_t mac[MAC_BYTES];
    int head = snprintf(text, sizeof text, "%llu ", (unsigned long long)number);
    wick_assert(n <= SEALED_LINE_MAX);
    memcpy(text + head, line, n);
    mac_compute(key, text, (size_t)head + n, mac);
    mac_to_hex(mac, SEAL_MAC_HEX / 2, hex);
}

size_t seal_write(struct seal *seal, const char *line, size_t n, char trailer[SEAL_TRAILER_MAX]) {
    char text[SEAL_TRAILER_MAX + 1];
    char hex[SEAL_MAC_HEX + 1];
    switch (seal->kind) {
    case SEAL_NONE:
        return 0;
    case SEAL_CRC:
        crc_write(seal, line, n, text);
        memcpy(trailer, text, SEAL_CRC_CHARS);
        return SEAL_CRC_CHARS;
    case SEAL_MAC:
        line_mac(&seal->sent_key, seal->sent++, line, n, hex);
        snprintf(text, sizeof text, " #%s", hex);
        memcpy(trailer, text, SEAL_MAC_CHARS);
        return SEAL_MAC_CHARS;
    }
    wick_assert(false);
    return 0;
}

static int digit_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool seal_has_crc(const char *line, size_t n) {
    if (n < SEAL_CRC_CHARS || memcmp(line + n - SEAL_CRC_CHARS, " *", 2) != 0) return false;
    for (size_t i = n - SEAL_CRC_DIGITS; i < n; i++) {
        if (digit_value(line[i]) < 0) return false;
    }
    return true;
}

/* Lines are numbered modulo 256. */
static bool crc_check(struct seal *seal, const char *line, size_t *n) {
    if (!seal_has_crc(line, *n)) return false;
    char want[5];
    snprintf(want, sizeof want, "%04x", (unsigned)seal_crc(line, *n - 4));
    if (memcmp(want, line + *n - 4, 4) != 0) return false;
    const char *digits = line + *n - SEAL_CRC_DIGITS;
    uint8_t number = (uint8_t)(16 * digit_value(digits[0]) + digit_value(digits[1]));
    seal->lost = number != (uint8_t)seal->got;
    seal->got = number + 1u;
    *n -= SEAL_CRC_CHARS;
    return true;
}

static bool mac_check(struct seal *seal, const char *line, size_t *n) {
    if (*n < SEAL_MAC_CHARS || *n > SEALED_LINE_MAX) return false;
    size_t length = *n - SEAL_MAC_CHARS;
    char want[SEAL_MAC_HEX + 1];
    line_mac(&seal->got_key, seal->got, line, length, want);
    if (memcmp(line + length, " #", 2) != 0) return false;
    if (!mac_equal(want, line + length + 2, SEAL_MAC_HEX)) return false;
    seal->got++;
    *n = length;
    return true;
}

bool seal_check(struct seal *seal, const char *line, size_t *n) {
    switch (seal->kind) {
    case SEAL_NONE:
        return !seal_has_crc(line, *n) || crc_check(seal, line, n);
    case SEAL_CRC:
        return crc_check(seal, line, n);
    case SEAL_MAC:
        return mac_check(seal, line, n);
    }
    wick_assert(false);
    return false;
}
