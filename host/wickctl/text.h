/* text: bytes that grow. Zeroed, it is empty; memory that runs out ends the program. */
#ifndef WICKCTL_TEXT_H
#define WICKCTL_TEXT_H

#include <stddef.h>

struct text {
    char *bytes; /* terminated as soon as anything was added */
    size_t length, room;
};

void text_add(struct text *text, const char *bytes, size_t length);
void text_add_string(struct text *text, const char *string);
void text_clear(struct text *text); /* keeps the memory */
void text_free(struct text *text);

/* A copy on the heap, terminated. */
char *text_copy(const char *bytes, size_t length);

#endif
