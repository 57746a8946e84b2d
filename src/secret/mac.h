/* mac: HMAC-SHA256 (RFC 2104, FIPS 180-4), by BearSSL.
 *
 * What is compared with a secret is compared in a time that does not depend on it. */
#ifndef WICK_SECRET_MAC_H
#define WICK_SECRET_MAC_H

#include <bearssl/bearssl_hmac.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAC_BYTES = 32, MAC_HEX = 2 * MAC_BYTES };

/* A key made ready: as good as the key itself, and to be kept as well. */
struct mac_key {
    br_hmac_key_context context;
};

void mac_key_set(struct mac_key *key, const void *bytes, size_t n);

void mac_compute(const struct mac_key *key, const void *bytes, size_t n, uint8_t mac[MAC_BYTES]);

/* Lower case, 2 * n characters and a terminator. */
void mac_to_hex(const uint8_t *bytes, size_t n, char *hex);

/* All n characters are looked at, whatever they are. */
bool mac_equal(const char *a, const char *b, size_t n);

/* Bytes that shall not be found again. */
void mac_wipe(void *bytes, size_t n);

#endif
