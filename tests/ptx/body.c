/* Function bodies: scopes, register and variable declarations, labels and statements. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/parser.h"

/* .reg .b32 %r<55> declares %r0 to %r54; .reg .b32 x declares x. */
struct declaration {
    const char *name;
    size_t length;
    bool range;
    uint32_t first, count;
};

struct scope {
    struct scope *outer;
    uint32_t id;
    struct declaration *declarations;
    size_t declaration_count;
    struct variable **variables;
    size_t variable_count;
};

struct body {
    struct parser *parser;
    struct function *function;
    struct scope *scope;
};

static struct pool *body_pool(struct body *body) {
    return &body->parser->module->pool;
}

/* --- names ------------------------------------------------------------------------------------ */

static uint32_t declaration_match(const struct declaration *d, const char *name, size_t length) {
    if (length < d->length || memcmp(name, d->name, d->length) != 0) return NO_REGISTER;
    if (!d->range) return length == d->length ? d->first : NO_REGISTER;
    if (length == d->length || length - d->length > 9) return NO_REGISTER;
    uint32_t number = 0;
    for (size_t i = d->length; i < length; i++) {
        if (name[i] < '0' || name[i] > '9') return NO_REGISTER;
        number = number * 10 + (uint32_t)(name[i] - '0');
    }
    return number < d->count ? d->first + number : NO_REGISTER;
}

static uint32_t body_register_find(const struct body *body, const char *name, size_t length) {
    for (const struct scope *s = body->scope; s; s = s->outer)
        for (size_t i = 0; i < s->declaration_count; i++) {
            uint32_t id = declaration_match(&s->declarations[i], name, length);
            if (id != NO_REGISTER) return id;
        }
    return NO_REGISTER;
}

static struct variable *variable_match(struct variable *v, const char *name, size_t length) {
    return strlen(v->name) == length && memcmp(v->name, name, length) == 0 ? v : NULL;
}

static struct variable *body_variable_find(const struct body *body, const char *name,
                                           size_t length) {
    struct variable *found = NULL;
    for (const struct scope *s = body->scope; s; s = s->outer)
        for (size_t i = 0; i < s->variable_count; i++)
            if ((found = variable_match(s->variables[i], name, length))) return found;
    for (size_t i = 0; i < body->function->param_count; i++)
        if ((found = variable_match(&body->function->params[i], name, length))) return found;
    for (size_t i = 0; i < body->function->return_count; i++)
        if ((found = variable_match(&body->function->returns[i], name, length))) return found;
    return parser_module_variable(body->parser, name, length);
}

const struct label *function_label_find(const struct function *function, const char *name,
                                        uint32_t scope) {
    for (;;) {
        for (size_t i = 0; i < function->label_count; i++)
            if (function->labels[i].scope == scope && strcmp(function->labels[i].name, name) == 0)
                return &function->labels[i];
        if (scope == 0) return NULL;
        scope = function->scope_parents[scope];
    }
}

/* --- operands --------------------------------------------------------------------------------- */

static struct operand body_operand(struct body *body);

static void body_operand_list(struct body *body, struct operand *list, const char *end) {
    while (!parser_accept(body->parser, end)) {
        list->parts =
            pool_grow(body_pool(body), list->parts, list->part_count, sizeof *list->parts);
        list->parts[list->part_count] = body_operand(body);
        list->part_count++;
        if (!parser_at(body->parser, end)) parser_expect(body->parser, ",");
    }
}

static struct operand body_address(struct body *body) {
    struct operand address = {.kind = OPERAND_ADDRESS};
    address.parts = pool_take(body_pool(body), sizeof *address.parts);
    address.part_count = 1;
    address.parts[0] = body_operand(body);
    for (;;) {
        bool minus = parser_accept(body->parser, "-");
        if (!minus && !parser_accept(body->parser, "+")) break;
        minus ^= parser_accept(body->parser, "-");
        int64_t offset = (int64_t)parser_integer(body->parser, "an offset");
        address.offset += minus ? -offset : offset;
    }
    parser_expect(body->parser, "]");
    return address;
}

static struct operand body_word_operand(struct body *body) {
    struct parser *parser = body->parser;
    const char *text = parser->token.text;
    size_t length = parser->token.length;
    struct operand o = {.kind = OPERAND_REGISTER};
    o.id = body_register_find(body, text, length);
    if (o.id == NO_REGISTER) {
        enum special special = special_find(text, length);
        struct function *function;
        if (special != SPECIAL_COUNT) {
            o = (struct operand){.kind = OPERAND_SPECIAL, .id = special};
        } else if (parser_at(parser, "_")) {
            o.kind = OPERAND_SINK;
        } else if (parser_at(parser, "WARP_SZ")) {
            o = (struct operand){.kind = OPERAND_INTEGER, .value = 32};
        } else if ((o.variable = body_variable_find(body, text, length))) {
            o.kind = OPERAND_SYMBOL;
        } else if ((function = parser_function(parser, text, length))) {
            o = (struct operand){.kind = OPERAND_FUNCTION, .function = function};
        } else if (text[0] == '%') {
            parser_fail(parser, parser->token.line, "register '%.*s' is not known", (int)length,
                        text);
        } else {
            o.kind = OPERAND_LABEL;
            o.label = pool_copy(body_pool(body), text, length);
        }
    }
    parser_advance(parser);
    return o;
}

/* -(-7), 3 and the like; not more: nvcc folds its constants. */
static struct operand body_number(struct body *body, bool minus) {
    struct parser *parser = body->parser;
    struct operand o = {.kind = OPERAND_INTEGER, .value = parser->token.integer};
    if (parser->token.kind == TOKEN_FLOAT) {
        o.kind = OPERAND_FLOAT;
        o.single = parser->token.single;
        if (minus) o.value ^= o.single ? (uint64_t)1 << 31 : (uint64_t)1 << 63;
    } else if (minus) {
        o.value = -o.value;
    }
    parser_advance(parser);
    return o;
}

static struct operand body_single_operand(struct body *body) {
    struct parser *parser = body->parser;
    struct operand o = {0};
    if (parser_accept(parser, "[")) return body_address(body);
    if (parser_accept(parser, "{")) {
        o.kind = OPERAND_VECTOR;
        body_operand_list(body, &o, "}");
        return o;
    }
    if (parser_accept(parser, "(")) {
        o.kind = OPERAND_GROUP;
        body_operand_list(body, &o, ")");
        return o;
    }
    if (parser_accept(parser, "!")) {
        o = body_single_operand(body);
        o.negated = !o.negated;
        return o;
    }
    bool minus = parser_accept(parser, "-");
    if (parser->token.kind == TOKEN_INTEGER || parser->token.kind == TOKEN_FLOAT)
        return body_number(body, minus);
    if (minus || parser->token.kind != TOKEN_WORD)
        parser_fail(parser, parser->token.line, "expected an operand, found '%.*s'",
                    (int)parser->token.length, parser->token.text);
    return body_word_operand(body);
}

static struct operand body_operand(struct body *body) {
    struct operand o = body_single_operand(body);
    if (parser_accept(body->parser, "|")) {
        o.second = pool_take(body_pool(body), sizeof *o.second);
        *o.second = body_single_operand(body);
    }
    if (o.kind == OPERAND_SYMBOL && parser_accept(body->parser, "+"))
        o.offset = (int64_t)parser_integer(body->parser, "an offset");
    return o;
}

/* --- declarations ----------------------------------------------------------------------------- */

static void body_registers(struct body *body) {
    struct parser *parser = body->parser;
    struct function *f = body->function;
    enum type type = parser->token.kind == TOKEN_WORD
                         ? type_find(parser->token.text + 1, parser->token.length - 1)
                         : TYPE_NONE;
    if (type == TYPE_NONE)
        parser_fail(parser, parser->token.line, "registers of type '%.*s' are not known",
                    (int)parser->token.length, parser->token.text);
    parser_advance(parser);
    do {
        struct declaration d = {.first = (uint32_t)f->register_count, .count = 1};
        d.name = parser_word(parser, "a register's name");
        d.length = strlen(d.name);
        if (parser_accept(parser, "<")) {
            d.range = true;
            d.count = (uint32_t)parser_integer(parser, "a number of registers");
            parser_expect(parser, ">");
        }
        for (uint32_t i = 0; i < d.count; i++) {
            f->registers =
                pool_grow(body_pool(body), f->registers, f->register_count, sizeof *f->registers);
            f->registers[f->register_count++].type = type;
        }
        struct scope *s = body->scope;
        s->declarations = pool_grow(body_pool(body), s->declarations, s->declaration_count,
                                    sizeof *s->declarations);
        s->declarations[s->declaration_count++] = d;
    } while (parser_accept(parser, ","));
    parser_expect(parser, ";");
}

static uint32_t align_up(uint32_t value, uint32_t align) {
    return (value + align - 1) / align * align;
}

/* Where a variable lies: shared memory belongs to the kernel, local memory and the parameters of
 * calls to one activation of the function. */
static void body_variable(struct body *body, enum space space) {
    struct function *f = body->function;
    struct scope *s = body->scope;
    struct variable *v = parser_variable(body->parser, space);
    if (space == SPACE_SHARED && !v->dynamic) {
        v->offset = align_up(f->shared_bytes, v->align);
        f->shared_bytes = (uint32_t)(v->offset + v->size);
    } else if (space == SPACE_LOCAL || space == SPACE_CALL) {
        v->offset = align_up(f->local_bytes, v->align);
        f->local_bytes = (uint32_t)(v->offset + v->size);
    }
    s->variables =
        pool_grow(body_pool(body), s->variables, s->variable_count, sizeof *s->variables);
    s->variables[s->variable_count++] = v;
    parser_expect(body->parser, ";");
}

static void body_label(struct body *body, const char *name) {
    struct function *f = body->function;
    struct label label = {.name = name, .scope = body->scope->id, .statement = f->statement_count};
    if (parser_accept(body->parser, ".branchtargets")) {
        struct operand list = {0};
        body_operand_list(body, &list, ";");
        label.targets = list.parts;
        label.target_count = list.part_count;
    } else if (parser_at(body->parser, ".callprototype") ||
               parser_at(body->parser, ".calltargets")) {
        parser_fail(body->parser, body->parser->token.line, "indirect calls are not known");
    }
    f->labels = pool_grow(body_pool(body), f->labels, f->label_count, sizeof *f->labels);
    f->labels[f->label_count++] = label;
}

/* --- statements ------------------------------------------------------------------------------- */

static void body_statement(struct body *body, struct statement statement) {
    struct parser *parser = body->parser;
    struct function *f = body->function;
    struct operand list = {0};
    body_operand_list(body, &list, ";");
    (void)parser;
    statement.scope = body->scope->id;
    statement.operands = list.parts;
    statement.operand_count = list.part_count;
    f->statements =
        pool_grow(body_pool(body), f->statements, f->statement_count, sizeof *f->statements);
    f->statements[f->statement_count++] = statement;
}

static void body_instruction(struct body *body) {
    struct parser *parser = body->parser;
    struct statement statement = {.line = parser->token.line, .guard = NO_REGISTER};
    if (parser_accept(parser, "@")) {
        statement.guard_negated = parser_accept(parser, "!");
        statement.guard = body_register_find(body, parser->token.text, parser->token.length);
        if (statement.guard == NO_REGISTER ||
            body->function->registers[statement.guard].type != TYPE_PRED)
            parser_fail(parser, parser->token.line, "guard '%.*s' is no predicate",
                        (int)parser->token.length, parser->token.text);
        parser_advance(parser);
        statement.line = parser->token.line;
    }
    statement.opcode = parser_word(parser, "an opcode");
    body_statement(body, statement);
}

static void body_scope_enter(struct body *body) {
    struct function *f = body->function;
    struct scope *scope = pool_take(body_pool(body), sizeof *scope);
    scope->outer = body->scope;
    scope->id = (uint32_t)f->scope_count;
    f->scope_parents =
        pool_grow(body_pool(body), f->scope_parents, f->scope_count, sizeof *f->scope_parents);
    f->scope_parents[f->scope_count++] = body->scope ? body->scope->id : 0;
    body->scope = scope;
}

static void body_directive(struct body *body) {
    struct parser *parser = body->parser;
    if (parser_at(parser, ".loc")) {
        parser_skip_line(parser);
    } else if (parser_accept(parser, ".pragma")) {
        parser_advance(parser);
        parser_expect(parser, ";");
    } else if (parser_accept(parser, ".reg")) {
        body_registers(body);
    } else if (parser_accept(parser, ".shared")) {
        body_variable(body, SPACE_SHARED);
    } else if (parser_accept(parser, ".local")) {
        body_variable(body, SPACE_LOCAL);
    } else if (parser_accept(parser, ".param")) {
        body_variable(body, SPACE_CALL);
    } else {
        parser_fail(parser, parser->token.line, "directive '%.*s' is not known",
                    (int)parser->token.length, parser->token.text);
    }
}

void body_parse(struct parser *parser, struct function *function) {
    struct body body = {.parser = parser, .function = function};
    /* The formal parameters of a device function lie on its stack as the caller's do. */
    for (size_t i = 0; !function->entry && i < function->param_count + function->return_count;
         i++) {
        struct variable *v = i < function->param_count
                                 ? &function->params[i]
                                 : &function->returns[i - function->param_count];
        v->offset = align_up(function->local_bytes, v->align);
        function->local_bytes = (uint32_t)(v->offset + v->size);
    }
    parser_expect(parser, "{");
    body_scope_enter(&body);
    while (body.scope) {
        const struct token *t = &parser->token;
        if (t->kind == TOKEN_END) {
            parser_fail(parser, t->line, "function '%s' does not end", function->name);
        } else if (parser_accept(parser, "{")) {
            body_scope_enter(&body);
        } else if (parser_accept(parser, "}")) {
            body.scope = body.scope->outer;
        } else if (parser_accept(parser, ";")) {
        } else if (t->kind == TOKEN_WORD && t->text[0] == '.') {
            body_directive(&body);
        } else if (t->kind == TOKEN_WORD && *parser->lexer.at == ':') {
            const char *name = parser_word(parser, "a label");
            parser_expect(parser, ":");
            body_label(&body, name);
        } else {
            body_instruction(&body);
        }
    }
}
