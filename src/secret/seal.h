/* seal: the trailer of a line: a CRC-16 against a bad cable, or a MAC against people. Formats:
 * docs/PROTOCOL.md, "Trailers". Used by the server and by wickctl. */
#ifndef WICK_SECRET_SEAL_H
#define WICK_SECRET_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "secret/mac.h"

enum seal_kind { SEAL_NONE, SEAL_CRC, SEAL_MAC };

enum {
    SEAL_CRC_CHARS = 2 + 6,  /* ` *`, the line's number and the CRC */
    SEAL_MAC_HEX = 32,       /* 128 of the 256 bits (RFC 2104, section 5: half or more) */
    SEAL_MAC_CHARS = 2 + 32, /* ` #` and the digits */
    SEAL_TRAILER_MAX = SEAL_MAC_CHARS
};

/* One side of a connection. All zero: SEAL_NONE. */
struct seal {
    enum seal_kind kind;
    struct mac_key sent_key, got_key; /* SEAL_MAC */
    uint64_t sent, got;               /* lines so far: the numbers of the next ones */
    bool lost;                        /* SEAL_CRC: lines are missing before the last one */
};

/* Writes the trailer of the next line that is sent; returns its length (0: none). */
size_t seal_write(struct seal *seal, const char *line, size_t n, char trailer[SEAL_TRAILER_MAX]);

/* Checks the line that has come and takes its trailer off: *n gets shorter. With SEAL_CRC
 * seal->lost says whether lines before it are missing. Where no trailer was
 * agreed, one with a CRC may be there all the same and is checked. False: the line is not what was
 * sent; with SEAL_MAC nothing that follows can be believed. */
bool seal_check(struct seal *seal, const char *line, size_t *n);

/* Does the line end like one with a CRC trailer? */
bool seal_has_crc(const char *line, size_t n);

/* CRC-16/IBM-3740: x^16 + x^12 + x^5 + 1, from 0xFFFF, not reflected; of "123456789": 0x29B1. */
uint16_t seal_crc(const char *bytes, size_t n);

#endif
