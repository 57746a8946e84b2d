/* json: one object a line on stdout. */
#ifndef WICKCTL_JSON_H
#define WICKCTL_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "reply.h"
#include "text.h"

/* Text as a JSON string, to a text or to stdout; bytes that are not UTF-8 become U+FFFD. */
void json_text_add(struct text *out, const char *bytes, size_t length);
void json_text(const char *bytes, size_t length);

/* An item's value: a number, true or false where the name is known to be such, else a string. */
void json_value(const struct reply_item *item);

/* , "name": value for every field of the reply but retriable, which only errors have. */
void json_fields(const struct reply *reply);

#endif
