#include "reply.h"

#include <ctype.h>
#include <string.h>

#include "wire/frame.h"

bool reply_parse(struct reply *reply, char *line) {
    reply->n_items = 0;
    if (strlen(line) < 5) return false;
    reply->code = 0;
    for (int i = 0; i < 3; i++) {
        if (!isdigit((unsigned char)line[i])) return false;
        reply->code = reply->code * 10 + (line[i] - '0');
    }
    if (reply->code < 100 || (line[3] != ' ' && line[3] != '-')) return false;
    reply->more = line[3] == '-';
    char *at = line + 4;
    reply->tag = 0;
    if (*at == '-') {
        at++;
    } else {
        if (!isdigit((unsigned char)*at)) return false;
        while (isdigit((unsigned char)*at) && reply->tag <= FRAME_TAG_MAX)
            reply->tag = reply->tag * 10 + (uint32_t)(*at++ - '0');
    }
    if (*at != ' ' && *at != 0) return false;
    reply->rest = *at ? at + 1 : at;
    return true;
}

/* One item at *at; terminates it and moves *at behind it. */
static bool item_cut(char **at, struct reply_item *item) {
    char *p = *at;
    item->name = NULL;
    char *name_end = p;
    while (islower((unsigned char)*name_end) || isdigit((unsigned char)*name_end) ||
           *name_end == '_')
        name_end++;
    if (name_end > p && *name_end == '=') {
        item->name = p;
        *name_end = 0;
        p = name_end + 1;
    }
    item->quoted = *p == '"';
    char *end;
    if (item->quoted) {
        item->value = p + 1;
        end = p + 1;
        while (*end && *end != '"') end += *end == '\\' && end[1] ? 2 : 1;
        if (*end != '"') return false;
        if (!frame_unescape(p + 1, (size_t)(end - p - 1), &item->length)) return false;
        p[1 + item->length] = 0;
        end++;
        if (*end && *end != ' ') return false;
    } else {
        item->value = p;
        end = p + strcspn(p, " ");
        item->length = (size_t)(end - p);
    }
    if (*end) *end++ = 0;
    *at = end;
    return true;
}

bool reply_split(struct reply *reply) {
    char *at = reply->rest;
    reply->n_items = 0;
    while (reply->n_items < REPLY_ITEMS_MAX) {
        while (*at == ' ') at++;
        if (!*at) return true;
        if (!item_cut(&at, &reply->item[reply->n_items])) return false;
        reply->n_items++;
    }
    return true;
}

const struct reply_item *reply_find(const struct reply *reply, const char *name) {
    for (size_t i = 0; i < reply->n_items; i++)
        if (reply->item[i].name && strcmp(reply->item[i].name, name) == 0) return &reply->item[i];
    return NULL;
}

const char *reply_value(const struct reply *reply, const char *name, const char *absent) {
    const struct reply_item *item = reply_find(reply, name);
    return item ? item->value : absent;
}

const struct reply_item *reply_word(const struct reply *reply, size_t n) {
    for (size_t i = 0; i < reply->n_items; i++)
        if (!reply->item[i].name && n-- == 0) return &reply->item[i];
    return NULL;
}
