#include "secret/digest.h"

#include <string.h>
#include <strings.h>

#include "secret/mac.h"

void digest_begin(struct digest *digest) {
    br_sha256_init(&digest->context);
    digest->done = 0;
}

void digest_add(struct digest *digest, const void *bytes, size_t n) {
    br_sha256_update(&digest->context, bytes, n);
    digest->done += n;
}

void digest_tell(const struct digest *digest, char hex[DIGEST_HEX + 1]) {
    uint8_t bytes[DIGEST_BYTES];
    br_sha256_out(&digest->context, bytes);
    mac_to_hex(bytes, sizeof bytes, hex);
}

bool digest_valid(const char *hex) {
    return strlen(hex) == DIGEST_HEX && strspn(hex, "0123456789abcdefABCDEF") == DIGEST_HEX;
}

bool digest_equal(const char *a, const char *b) {
    return strcasecmp(a, b) == 0;
}
