/* tokenize: the command `wick-lab tokenize`: text from stdin, token ids to stdout. */
#ifndef WICK_LAB_TOKENIZE_H
#define WICK_LAB_TOKENIZE_H

#include "base/config.h"

/* Reads all of stdin and writes its ids, one line, separated by spaces. BOS only with add_bos=1;
 * special tokens only with parse_special=1. Needs no tensors: a vocabulary-only GGUF will do.
 * Returns the exit code: 0, or 1 with a line on stderr. */
int tokenize_run(const struct config *config);

#endif
