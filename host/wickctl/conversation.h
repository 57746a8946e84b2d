/* conversation: what a person and a model have said. Kept in files as JSON Lines, one message a
 * line: {"role":"user","content":"..."}, role: system, user or assistant. */
#ifndef WICKCTL_CONVERSATION_H
#define WICKCTL_CONVERSATION_H

#include <stdbool.h>
#include <stddef.h>

#include "text.h"

struct turn {
    char *user;
    char *answer; /* NULL: not yet */
};

/* Zeroed, it is empty. */
struct conversation {
    char *system; /* NULL: none */
    struct turn *turn;
    size_t n, room;
    size_t first; /* turns before it are no longer sent: they would not fit the context */
};

/* NULL or "": none. */
void conversation_set_system(struct conversation *conversation, const char *system);

/* A new turn; the answer to the last. */
void conversation_say(struct conversation *conversation, const char *user);
void conversation_answer(struct conversation *conversation, const char *answer, size_t length);

/* Takes the last turn away. False: there is none. */
bool conversation_undo(struct conversation *conversation);

/* Forgets all turns; the system prompt stays. */
void conversation_reset(struct conversation *conversation);

/* As lines of JSON. */
void conversation_write(const struct conversation *conversation, struct text *out);

/* Takes the conversation in place of what there is. False: nothing has changed, and *line is where
 * it is not as it should be. */
bool conversation_read(struct conversation *conversation, const char *text, size_t length,
                       unsigned *line);

#endif
