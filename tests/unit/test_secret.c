#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "secret/key.h"
#include "secret/login.h"
#include "secret/mac.h"
#include "secret/seal.h"

static void check_mac(const void *key, size_t n_key, const char *text, const char *want) {
    struct mac_key ready;
    uint8_t mac[MAC_BYTES];
    char hex[MAC_HEX + 1];
    mac_key_set(&ready, key, n_key);
    mac_compute(&ready, text, strlen(text), mac);
    mac_to_hex(mac, MAC_BYTES, hex);
    cr_expect_str_eq(hex, want);
}

/* RFC 4231, sections 4.2, 4.3 and 4.7. */
Test(secret, mac_is_hmac_sha256) {
    uint8_t key[131];
    memset(key, 0x0B, 20);
    check_mac(key, 20, "Hi There",
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    check_mac("Jefe", 4, "what do ya want for nothing?",
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xAA, sizeof key);
    check_mac(key, sizeof key, "Test Using Larger Than Block-Size Key - Hash Key First",
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

Test(secret, mac_equal_looks_at_every_character) {
    const char *text = "0123456789abcdef";
    char other[17];
    cr_expect(mac_equal(text, text, 16));
    for (size_t i = 0; i < 16; i++) {
        strcpy(other, text);
        other[i] ^= 1;
        cr_expect_not(mac_equal(text, other, 16), "%zu", i);
    }
}

/* What docs/PROTOCOL.md states as an example. */
Test(secret, login_says_what_the_protocol_page_says) {
    struct mac_key key;
    struct mac_key line_key;
    struct fault fault;
    struct login_nonces nonces = {"00112233445566778899aabbccddeeff",
                                  "ffeeddccbbaa99887766554433221100"};
    char proof[MAC_HEX + 1];
    cr_assert(key_read(&key, "key=", "000102030405060708090a0b0c0d0e0f", &fault));
    login_client_proof(&key, &nonces, proof);
    cr_expect_str_eq(proof, "38ab37ec25c3887325fd8a8f3b8046e8c6db0d5330fdc21a327be26632164920");
    login_server_proof(&key, &nonces, LOGIN_CONTROL, proof);
    cr_expect_str_eq(proof, "c100fe5cd08bed111b36a75954301d01c767c071a10ce8041701df7f527e9b2b");
    login_line_key(&key, &nonces, LOGIN_CLIENT, &line_key);
    struct seal seal = {.kind = SEAL_MAC, .sent_key = line_key};
    char trailer[SEAL_TRAILER_MAX + 1] = "";
    cr_assert_eq(seal_write(&seal, "PING", 4, trailer), SEAL_MAC_CHARS);
    cr_expect_str_eq(trailer, " #71931c2e61309c449139fb054da7fe17");
    cr_assert_eq(seal_write(&seal, "PING", 4, trailer), SEAL_MAC_CHARS);
    cr_expect_str_eq(trailer, " #79fd05f4a4c21a82355f5ae49f8fdcca");
}

Test(secret, every_statement_of_a_login_is_another_one) {
    struct mac_key key;
    struct fault fault;
    struct login_nonces nonces = {"00112233445566778899aabbccddeeff",
                                  "00112233445566778899aabbccddeeff"};
    char proof[3][MAC_HEX + 1];
    cr_assert(key_read(&key, "key=", "000102030405060708090a0b0c0d0e0f", &fault));
    login_client_proof(&key, &nonces, proof[0]);
    login_server_proof(&key, &nonces, LOGIN_CONTROL, proof[1]);
    login_server_proof(&key, &nonces, LOGIN_OBSERVER, proof[2]);
    cr_expect_str_neq(proof[0], proof[1]);
    cr_expect_str_neq(proof[0], proof[2]);
    cr_expect_str_neq(proof[1], proof[2]);
    cr_expect(login_nonce_valid(nonces.server, LOGIN_NONCE_HEX));
    cr_expect_not(login_nonce_valid("00112233445566778899AABBCCDDEEFF", LOGIN_NONCE_HEX));
    cr_expect_not(login_nonce_valid(nonces.server, LOGIN_NONCE_HEX - 1));
}

Test(secret, crc_of_the_check_string_is_29b1) {
    cr_expect_eq(seal_crc("123456789", 9), 0x29B1);
    cr_expect_eq(seal_crc("", 0), 0xFFFF);
    struct seal seal = {.kind = SEAL_CRC};
    char line[64] = "123456789";
    size_t n = 9 + seal_write(&seal, line, 9, line + 9);
    cr_assert_eq(n, strlen("123456789 *004879"));
    cr_expect_arr_eq(line, "123456789 *004879", n);
    size_t left = n;
    cr_expect(seal_check(&seal, line, &left));
    cr_expect_eq(left, 9);
    cr_expect_not(seal.lost);
    left = n;
    cr_expect(seal_check(&seal, line, &left));
    cr_expect(seal.lost, "line 0 in place of line 1");
}

/* Up to three wrong bits, and any burst of up to 16, are always seen. */
Test(secret, crc_sees_every_pair_of_wrong_bits_and_every_short_burst) {
    struct seal seal = {.kind = SEAL_CRC};
    char line[96] = "151 7 12 \" once upon a time there was\"";
    size_t n = strlen(line);
    n += seal_write(&seal, line, n, line + n);
    for (size_t i = 0; i < 8 * n; i++) {
        for (size_t j = i; j < 8 * n; j++) {
            size_t left = n;
            line[i / 8] ^= (char)(1 << i % 8);
            if (j != i) line[j / 8] ^= (char)(1 << j % 8);
            cr_assert_not(seal_check(&seal, line, &left), "bits %zu and %zu", i, j);
            line[i / 8] ^= (char)(1 << i % 8);
            if (j != i) line[j / 8] ^= (char)(1 << j % 8);
        }
    }
    for (size_t i = 0; i + 1 < n; i++) {
        for (unsigned burst = 1; burst < 1 << 16; burst += 2) {
            size_t left = n;
            line[i] ^= (char)(burst >> 8);
            line[i + 1] ^= (char)burst;
            cr_assert_not(seal_check(&seal, line, &left), "burst %x at %zu", burst, i);
            line[i] ^= (char)(burst >> 8);
            line[i + 1] ^= (char)burst;
        }
    }
}

Test(secret, a_mac_counts_lines_and_is_for_one_of_them_only) {
    struct seal ours = {.kind = SEAL_MAC};
    mac_key_set(&ours.sent_key, "01234567890123456", 16);
    struct seal theirs = {.kind = SEAL_MAC, .got_key = ours.sent_key};
    char line[2][64] = {"PING", "PING"};
    size_t n = 4 + seal_write(&ours, line[0], 4, line[0] + 4);
    seal_write(&ours, line[1], 4, line[1] + 4);
    cr_expect_arr_neq(line[0], line[1], n);
    size_t left = n;
    cr_expect_not(seal_check(&theirs, line[1], &left), "the second line first");
    for (size_t cut = 0; cut < n; cut++) {
        left = cut;
        cr_expect_not(seal_check(&theirs, line[0], &left), "cut to %zu", cut);
    }
    left = n;
    cr_expect(seal_check(&theirs, line[0], &left));
    cr_expect_eq(left, 4);
    left = n;
    cr_expect_not(seal_check(&theirs, line[0], &left), "again");
    left = n;
    cr_expect(seal_check(&theirs, line[1], &left));
}

static bool reads(const char *given) {
    struct mac_key key;
    struct fault fault = {.text = ""};
    bool fine = key_read(&key, "key=", given, &fault);
    if (!fine) cr_expect_eq(fault.code, FAULT_INVALID_REQUEST);
    if (!fine) cr_expect_null(strstr(fault.text, "0123456789abcdef"), "%s", fault.text);
    return fine;
}

static bool reads_file(const char *text) {
    char path[] = "/tmp/wick-test-key-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    bool fine = reads(path);
    unlink(path);
    return fine;
}

Test(secret, a_key_has_128_to_512_bits_of_hex) {
    char digits[KEY_HEX_MAX + 3];
    memset(digits, 'a', sizeof digits);
    for (size_t n = 1; n < sizeof digits; n++) {
        digits[n] = '\0';
        bool fits = n >= KEY_HEX_MIN && n <= KEY_HEX_MAX && n % 2 == 0;
        cr_expect_eq(reads(digits), fits, "%zu digits", n);
        cr_expect_eq(reads_file(digits), fits, "%zu digits in a file", n);
        digits[n] = 'a';
    }
    cr_expect(reads("0123456789ABCDEFabcdef0123456789"));
    cr_expect(reads_file("0123456789abcdef0123456789abcdef\n"));
    cr_expect(reads_file(" \r\n0123456789abcdef0123456789abcdef\r\n \n"));
    cr_expect_not(reads_file("0123456789abcdef0123456789abcde"));
    cr_expect_not(reads_file("0123456789abcdef 0123456789abcdef"));
    cr_expect_not(reads_file("0123456789abcdef0123456789abcdeg"));
    cr_expect_not(reads_file(""));
    cr_expect_not(reads("/nonexistent"));
    cr_expect_not(reads("/"));
}
