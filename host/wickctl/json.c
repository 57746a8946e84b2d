#include "json.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "token/utf8.h"

void json_text(const char *bytes, size_t length) {
    putchar('"');
    for (size_t i = 0; i < length;) {
        uint32_t code_point;
        size_t n = utf8_decode(bytes + i, length - i, &code_point);
        if (code_point == UTF8_BAD) {
            fputs("\\ufffd", stdout);
        } else if (code_point == '"' || code_point == '\\') {
            printf("\\%c", (char)code_point);
        } else if (code_point == '\n') {
            fputs("\\n", stdout);
        } else if (code_point < 0x20 || code_point == 0x7f) {
            printf("\\u%04x", code_point);
        } else {
            fwrite(bytes + i, 1, n, stdout);
        }
        i += n;
    }
    putchar('"');
}

/* The number grammar of RFC 8259, which is narrower than strtod's. */
static bool is_number(const char *s) {
    if (*s == '-') s++;
    if (*s == '0') {
        s++;
    } else {
        if (!isdigit((unsigned char)*s)) return false;
        while (isdigit((unsigned char)*s)) s++;
    }
    if (*s == '.') {
        s++;
        if (!isdigit((unsigned char)*s)) return false;
        while (isdigit((unsigned char)*s)) s++;
    }
    if (*s == 'e' || *s == 'E') {
        s++;
        if (*s == '+' || *s == '-') s++;
        if (!isdigit((unsigned char)*s)) return false;
        while (isdigit((unsigned char)*s)) s++;
    }
    return *s == 0;
}

void json_value(const struct reply_item *item) {
    /* 64 bits of seed do not fit the numbers of most JSON readers. */
    bool text = item->quoted || (item->name && strcmp(item->name, "seed") == 0);
    if (item->name && (strcmp(item->name, "resident") == 0 || strcmp(item->name, "tied") == 0))
        fputs(strcmp(item->value, "yes") == 0 ? "true" : "false", stdout);
    else if (!text && is_number(item->value))
        fputs(item->value, stdout);
    else
        json_text(item->value, item->length);
}

void json_fields(const struct reply *reply) {
    for (size_t i = 0; i < reply->n_items; i++) {
        const struct reply_item *item = &reply->item[i];
        if (!item->name || strcmp(item->name, "retriable") == 0) continue;
        printf(",\"%s\":", item->name);
        json_value(item);
    }
}
