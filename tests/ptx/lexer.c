#include "tests/ptx/lexer.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static void lexer_skip_blank(struct lexer *lexer) {
    for (;;) {
        const char *p = lexer->at;
        if (*p == '\n') {
            lexer->line++;
            lexer->at++;
        } else if (isspace((unsigned char)*p)) {
            lexer->at++;
        } else if (p[0] == '/' && p[1] == '/') {
            while (*lexer->at && *lexer->at != '\n') lexer->at++;
        } else if (p[0] == '/' && p[1] == '*') {
            const char *end = strstr(p + 2, "*/");
            if (!end) {
                lexer->trouble = "a comment does not end";
                lexer->at += strlen(lexer->at);
                return;
            }
            for (; lexer->at < end; lexer->at++) lexer->line += *lexer->at == '\n';
            lexer->at = end + 2;
        } else {
            return;
        }
    }
}

static bool is_word_start(char c) {
    return isalpha((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.';
}

static bool is_word_part(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.';
}

/* A pair of colons belongs to the word (.L2::128B); a single one ends a label. A directive ends
 * before the next one (.reg.b32). */
static size_t word_length(const char *p) {
    size_t n = 1;
    for (;;) {
        if (p[0] == '.' && p[n] == '.') return n;
        if (is_word_part(p[n])) {
            n++;
        } else if (p[n] == ':' && p[n + 1] == ':') {
            n += 2;
        } else {
            return n;
        }
    }
}

static void lexer_read_number(struct lexer *lexer, struct token *token) {
    const char *p = lexer->at;
    char *end;
    token->kind = TOKEN_INTEGER;
    if (p[0] == '0' && (p[1] == 'f' || p[1] == 'F' || p[1] == 'd' || p[1] == 'D')) {
        token->kind = TOKEN_FLOAT;
        token->single = (p[1] | 0x20) == 'f';
        token->integer = strtoull(p + 2, &end, 16);
        if (end - p != (token->single ? 10 : 18)) lexer->trouble = "a malformed floating constant";
    } else if (p[0] == '0' && (p[1] == 'b' || p[1] == 'B')) {
        token->integer = strtoull(p + 2, &end, 2);
    } else {
        token->integer = strtoull(p, &end, 0);
        bool hexadecimal = p[0] == '0' && (p[1] | 0x20) == 'x';
        if (!hexadecimal && (*end == '.' || *end == 'e' || *end == 'E')) {
            double value = strtod(p, &end);
            token->kind = TOKEN_FLOAT;
            memcpy(&token->integer, &value, sizeof value);
        }
    }
    if (token->kind == TOKEN_INTEGER && (*end == 'U' || *end == 'u')) end++;
    if (is_word_part(*end)) lexer->trouble = "a malformed number";
    token->length = (size_t)(end - p);
}

struct token lexer_next(struct lexer *lexer) {
    lexer_skip_blank(lexer);
    const char *p = lexer->at;
    struct token token = {.line = lexer->line, .text = p, .length = 1};
    if (!*p) {
        token.length = 0;
        return token;
    }
    if (isdigit((unsigned char)*p)) {
        lexer_read_number(lexer, &token);
    } else if (is_word_start(*p)) {
        token.kind = TOKEN_WORD;
        token.length = word_length(p);
    } else if (*p == '"') {
        const char *end = strchr(p + 1, '"');
        token.kind = TOKEN_STRING;
        if (!end) {
            lexer->trouble = "a string does not end";
            end = p + strlen(p) - 1;
        }
        token.length = (size_t)(end - p) + 1;
        for (const char *q = p; q < end; q++) lexer->line += *q == '\n';
    } else {
        token.kind = TOKEN_SIGN;
    }
    lexer->at = p + token.length;
    return token;
}

bool token_is(const struct token *token, const char *text) {
    return token->length == strlen(text) && memcmp(token->text, text, token->length) == 0;
}
