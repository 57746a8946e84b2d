#include "json.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "token/utf8.h"

void json_text_add(struct text *out, const char *bytes, size_t length) {
    char escape[16];
    text_add(out, "\"", 1);
    for (size_t i = 0; i < length;) {
        uint32_t c;
        size_t n = utf8_decode(bytes + i, length - i, &c);
        if (c == UTF8_BAD)
            text_add_string(out, "\\ufffd");
        else if (c == '"' || c == '\\')
            text_add(out, c == '"' ? "\\\"" : "\\\\", 2);
        else if (c == '\n')
            text_add_string(out, "\\n");
        else if (c < 0x20 || c == 0x7f)
            text_add(out, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c));
        else
            text_add(out, bytes + i, n);
        i += n;
    }
    text_add(out, "\"", 1);
}

void json_text(const char *bytes, size_t length) {
    static struct text text;
    text_clear(&text);
    json_text_add(&text, bytes, length);
    fwrite(text.bytes, 1, text.length, stdout);
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
