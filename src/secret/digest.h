/* digest: SHA-256 of a file (FIPS 180-4), by BearSSL, and what was expected of it. */
#ifndef WICK_SECRET_DIGEST_H
#define WICK_SECRET_DIGEST_H

#include <bearssl/bearssl_hash.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32, DIGEST_HEX = 2 * DIGEST_BYTES };

struct digest {
    br_sha256_context context;
    uint64_t done; /* bytes so far */
};

void digest_begin(struct digest *digest);
void digest_add(struct digest *digest, const void *bytes, size_t n);

/* Of the bytes so far, lower-case and terminated; more may follow. */
void digest_tell(const struct digest *digest, char hex[DIGEST_HEX + 1]);

/* DIGEST_HEX hex digits of either case? */
bool digest_valid(const char *hex);

/* The same number, whatever the case. A digest is no secret. */
bool digest_equal(const char *a, const char *b);

#endif
