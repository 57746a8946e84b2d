#include "token/utf8.h"

#include "base/panic.h"

/* What a lead byte promises: bytes of the whole character and the range its second byte must lie
 * in (Unicode 15, table 3-7; that range is what excludes overlong forms, surrogates and everything
 * beyond U+10FFFF). 0 bytes: no lead byte. */
struct lead {
    uint8_t bytes, second_min, second_max;
};

static struct lead lead_of(uint8_t byte) {
    if (byte < 0x80) return (struct lead){1, 0, 0};
    if (byte < 0xC2) return (struct lead){0, 0, 0};
    if (byte < 0xE0) return (struct lead){2, 0x80, 0xBF};
    if (byte == 0xE0) return (struct lead){3, 0xA0, 0xBF};
    if (byte == 0xED) return (struct lead){3, 0x80, 0x9F};
    if (byte < 0xF0) return (struct lead){3, 0x80, 0xBF};
    if (byte == 0xF0) return (struct lead){4, 0x90, 0xBF};
    if (byte < 0xF4) return (struct lead){4, 0x80, 0xBF};
    if (byte == 0xF4) return (struct lead){4, 0x80, 0x8F};
    return (struct lead){0, 0, 0};
}

/* How many bytes from text[0] on agree with a well-formed character; *whole is the byte count of
 * that character (0 when text[0] starts none). The character is complete when both are equal. */
static size_t agreeing(const char *text, size_t length, size_t *whole) {
    wick_assert(length > 0);
    struct lead lead = lead_of((uint8_t)text[0]);
    *whole = lead.bytes;
    if (lead.bytes == 0) return 0;
    size_t n = 1;
    while (n < lead.bytes && n < length) {
        uint8_t byte = (uint8_t)text[n];
        uint8_t min = n == 1 ? lead.second_min : 0x80;
        uint8_t max = n == 1 ? lead.second_max : 0xBF;
        if (byte < min || byte > max) break;
        n++;
    }
    return n;
}

size_t utf8_decode(const char *text, size_t length, uint32_t *code_point) {
    size_t whole;
    if (agreeing(text, length, &whole) != whole || whole == 0) {
        *code_point = UTF8_BAD;
        return 1;
    }
    uint8_t first = (uint8_t)text[0];
    uint32_t value = whole == 1 ? first : first & (0x7Fu >> whole);
    for (size_t i = 1; i < whole; i++) value = value << 6 | ((uint8_t)text[i] & 0x3Fu);
    *code_point = value;
    return whole;
}

size_t utf8_encode(uint32_t code_point, char out[4]) {
    wick_assert(code_point <= 0x10FFFF);
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    size_t n = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code_point & 0x3F));
        code_point >>= 6;
    }
    /* 110xxxxx, 1110xxxx, 11110xxx */
    out[0] = (char)((0xF00u >> n & 0xFFu) | code_point);
    return n;
}

size_t utf8_unfinished(const char *text, size_t length) {
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        const char *tail = text + length - back;
        size_t whole;
        size_t n = agreeing(tail, back, &whole);
        if (n == back && whole > back) return back;
        if (((uint8_t)tail[0] & 0xC0) != 0x80) return 0; /* a lead byte or ASCII: no longer tail */
    }
    return 0;
}

size_t utf8_repair(const char *text, size_t length, char *out) {
    size_t written = 0;
    for (size_t i = 0; i < length;) {
        size_t whole;
        size_t n = agreeing(text + i, length - i, &whole);
        if (n == whole && n > 0) {
            for (size_t k = 0; k < n; k++) out[written++] = text[i + k];
        } else {
            written += utf8_encode(0xFFFD, out + written);
            if (n == 0) n = 1;
        }
        i += n;
    }
    wick_assert(written <= 3 * length);
    return written;
}

size_t utf8_count(const char *text, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; count++) {
        uint32_t code_point;
        i += utf8_decode(text + i, length - i, &code_point);
    }
    return count;
}
