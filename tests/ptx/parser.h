#ifndef WICK_TESTS_PTX_PARSER_H
#define WICK_TESTS_PTX_PARSER_H

/* Shared by the two halves of the parser: directives (source.c) and function bodies (body.c). A
 * mistake in the text leaves through parser_fail, which does not return. */

#include <setjmp.h>

#include "tests/ptx/lexer.h"
#include "tests/ptx/source.h"

struct parser {
    struct ptx_module *module;
    struct lexer lexer;
    struct token token; /* the one looked at */
    struct ptx_error *error;
    jmp_buf escape;
};

_Noreturn void parser_fail(struct parser *parser, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void parser_advance(struct parser *parser);
bool parser_at(const struct parser *parser, const char *text);
bool parser_accept(struct parser *parser, const char *text);
void parser_expect(struct parser *parser, const char *text);
const char *parser_word(struct parser *parser, const char *what);
uint64_t parser_integer(struct parser *parser, const char *what);
/* Skips what stands on the same line as the current token. */
void parser_skip_line(struct parser *parser);

struct variable *parser_module_variable(struct parser *parser, const char *name, size_t length);
struct function *parser_function(struct parser *parser, const char *name, size_t length);

/* [.align N] .type name[N][M]: space is known. Several, separated by commas, are not ours: nvcc
 * writes one a line. */
struct variable *parser_variable(struct parser *parser, enum space space);

/* From { to }. */
void body_parse(struct parser *parser, struct function *function);

#endif
