#include "secret/mac.h"

#include <string.h>

#include "base/panic.h"

void mac_key_set(struct mac_key *key, const void *bytes, size_t n) {
    wick_assert(n > 0);
    br_hmac_key_init(&key->context, &br_sha256_vtable, bytes, n);
}

void mac_compute(const struct mac_key *key, const void *bytes, size_t n, uint8_t mac[MAC_BYTES]) {
    br_hmac_context context;
    br_hmac_init(&context, &key->context, 0);
    br_hmac_update(&context, bytes, n);
    size_t length = br_hmac_out(&context, mac);
    wick_assert(length == MAC_BYTES);
    mac_wipe(&context, sizeof context);
}

void mac_to_hex(const uint8_t *bytes, size_t n, char *hex) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[2 * n] = '\0';
}

bool mac_equal(const char *a, const char *b, size_t n) {
    unsigned char different = 0;
    for (size_t i = 0; i < n; i++) different |= (unsigned char)(a[i] ^ b[i]);
    /* The compiler must not see that one difference settles it. */
    __asm__ volatile("" : "+r"(different));
    return different == 0;
}

void mac_wipe(void *bytes, size_t n) {
    explicit_bzero(bytes, n);
}
