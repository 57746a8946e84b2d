/* chat_format: which way of writing conversations a model was trained on.
 *
 * A GGUF carries it as a Jinja template, a program. wick runs none: it knows the widespread formats
 * by what only they contain, and INFO names the one it found; clients write it (host/wickctl). */
#ifndef WICK_TOKEN_CHAT_FORMAT_H
#define WICK_TOKEN_CHAT_FORMAT_H

#include "gguf/gguf.h"

/* "llama2", "llama3", "chatml", "mistral", "zephyr" or "phi3" by tokenizer.chat_template; "none"
 * where there is no template or one of another kind. Never fails; the name is a constant. */
const char *chat_format_find(const struct gguf *gguf);

#endif
