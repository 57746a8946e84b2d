#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory) {
    if (memory) return memory;
    fputs("wickctl: out of memory\n", stderr);
    exit(1);
}

void text_add(struct text *text, const char *bytes, size_t length) {
    if (length + 1 > text->room - text->length) {
        size_t room = text->room ? text->room : 256;
        while (length + 1 > room - text->length) room *= 2;
        text->bytes = must(realloc(text->bytes, room));
        text->room = room;
    }
    if (length) memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = 0;
}

void text_add_string(struct text *text, const char *string) {
    text_add(text, string, strlen(string));
}

void text_clear(struct text *text) {
    text->length = 0;
    if (text->bytes) text->bytes[0] = 0;
}

void text_free(struct text *text) {
    free(text->bytes);
    *text = (struct text){0};
}

char *text_copy(const char *bytes, size_t length) {
    char *copy = must(malloc(length + 1));
    if (length) memcpy(copy, bytes, length);
    copy[length] = 0;
    return copy;
}
