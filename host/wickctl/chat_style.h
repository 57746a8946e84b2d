/* chat_style: how a conversation is written for a model, one entry a format. */
#ifndef WICKCTL_CHAT_STYLE_H
#define WICKCTL_CHAT_STYLE_H

#include <stdbool.h>

#include "conversation.h"
#include "text.h"

enum { CHAT_STOPS_MAX = 2 };

struct chat_style {
    const char *name; /* as INFO's chat_format= has it; "plain" is ours */
    const char *system_begin, *system_end;
    const char *user_begin, *user_end;
    const char *next_user_begin; /* of all but the first; NULL: the same */
    const char *answer_begin, *answer_end;
    const char *generate;             /* stands where the model is to write; NULL: answer_begin */
    const char *stop[CHAT_STOPS_MAX]; /* ends an answer, for models that do not end it themselves */
    bool system_inside;               /* the first user's message begins with the system prompt */
    bool trims;                       /* blanks around messages are taken away */
    bool special;                     /* the names of control tokens in it are meant as such */
};

/* Ended by an entry with name NULL. The last but that is the one for models that have none. */
extern const struct chat_style chat_styles[];

/* NULL: there is none of that name. "none" is "plain". */
const struct chat_style *chat_style_find(const char *name);

/* Adds the conversation from its first turn that is still sent to its last, which has no answer
 * yet. The begin-of-text token is left to the server. */
void chat_style_write(const struct chat_style *format, const struct conversation *conversation,
                      struct text *out);

#endif
