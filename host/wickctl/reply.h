/* reply: a line of the server taken apart: code, tag, and the words, fields and texts after them.
 * Grammar: docs/PROTOCOL.md. */
#ifndef WICKCTL_REPLY_H
#define WICKCTL_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REPLY_ITEMS_MAX = 64 }; /* HEALTH, the richest line, has 24 */

/* started · index=0 · " was": a word, a field, a text. */
struct reply_item {
    const char *name;  /* NULL: a word or a text */
    const char *value; /* terminated; a text may hold zero bytes, so length counts */
    size_t length;
    bool quoted;
};

struct reply {
    int code;
    bool more;    /* not the last line of this reply */
    uint32_t tag; /* 0: none */
    char *rest;   /* all after the tag, as it came */
    size_t n_items;
    struct reply_item item[REPLY_ITEMS_MAX];
};

/* Code, tag and rest. False: not a line of this protocol. */
bool reply_parse(struct reply *reply, char *line);

/* Splits rest into items, in place: rest is gone afterwards. False: not words, fields and texts. */
bool reply_split(struct reply *reply);

/* The field of that name, or NULL. */
const struct reply_item *reply_find(const struct reply *reply, const char *name);

/* Its value, or `absent`. */
const char *reply_value(const struct reply *reply, const char *name, const char *absent);

/* The nth word or text (not field) from 0, or NULL. */
const struct reply_item *reply_word(const struct reply *reply, size_t n);

#endif
