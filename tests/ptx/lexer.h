#ifndef WICK_TESTS_PTX_LEXER_H
#define WICK_TESTS_PTX_LEXER_H

/* PTX text as a row of tokens. A word is an identifier, a register (%r1, %tid.x), a directive
 * (.reg) or a whole opcode with its modifiers (ld.global.L2::128B.u32). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum token_kind { TOKEN_END, TOKEN_WORD, TOKEN_INTEGER, TOKEN_FLOAT, TOKEN_STRING, TOKEN_SIGN };

struct token {
    enum token_kind kind;
    int line;
    const char *text; /* into the source */
    size_t length;
    uint64_t integer; /* TOKEN_INTEGER; the bits of a double for TOKEN_FLOAT */
    bool single;      /* TOKEN_FLOAT written as 0f...: integer holds the bits of a float */
};

struct lexer {
    const char *at;
    int line;
    const char *trouble; /* set when a token could not be read */
};

struct token lexer_next(struct lexer *lexer);
bool token_is(const struct token *token, const char *text);

#endif
