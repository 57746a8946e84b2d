#include "tests/ptx/source.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/parser.h"

_Noreturn void parser_fail(struct parser *parser, int line, const char *format, ...) {
    int n = snprintf(parser->error->text, sizeof parser->error->text, "line %d: ", line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(parser->error->text + n, sizeof parser->error->text - (size_t)n, format, arguments);
    va_end(arguments);
    longjmp(parser->escape, 1);
}

void parser_advance(struct parser *parser) {
    parser->token = lexer_next(&parser->lexer);
    if (parser->lexer.trouble) parser_fail(parser, parser->token.line, "%s", parser->lexer.trouble);
}

bool parser_at(const struct parser *parser, const char *text) {
    return parser->token.kind != TOKEN_END && token_is(&parser->token, text);
}

bool parser_accept(struct parser *parser, const char *text) {
    bool at = parser_at(parser, text);
    if (at) parser_advance(parser);
    return at;
}

void parser_expect(struct parser *parser, const char *text) {
    if (!parser_accept(parser, text))
        parser_fail(parser, parser->token.line, "expected '%s', found '%.*s'", text,
                    (int)parser->token.length, parser->token.text);
}

const char *parser_word(struct parser *parser, const char *what) {
    if (parser->token.kind != TOKEN_WORD)
        parser_fail(parser, parser->token.line, "expected %s, found '%.*s'", what,
                    (int)parser->token.length, parser->token.text);
    char *word = pool_copy(&parser->module->pool, parser->token.text, parser->token.length);
    parser_advance(parser);
    return word;
}

uint64_t parser_integer(struct parser *parser, const char *what) {
    if (parser->token.kind != TOKEN_INTEGER)
        parser_fail(parser, parser->token.line, "expected %s, found '%.*s'", what,
                    (int)parser->token.length, parser->token.text);
    uint64_t value = parser->token.integer;
    parser_advance(parser);
    return value;
}

void parser_skip_line(struct parser *parser) {
    int line = parser->token.line;
    while (parser->token.kind != TOKEN_END && parser->token.line == line) parser_advance(parser);
}

struct variable *parser_module_variable(struct parser *parser, const char *name, size_t length) {
    struct ptx_module *m = parser->module;
    for (size_t i = 0; i < m->variable_count; i++)
        if (strlen(m->variables[i]->name) == length &&
            memcmp(m->variables[i]->name, name, length) == 0)
            return m->variables[i];
    return NULL;
}

struct function *parser_function(struct parser *parser, const char *name, size_t length) {
    for (struct function *f = parser->module->functions; f; f = f->next)
        if (strlen(f->name) == length && memcmp(f->name, name, length) == 0) return f;
    return NULL;
}

/* --- variables -------------------------------------------------------------------------------- */

static enum type parser_type(struct parser *parser) {
    const struct token *t = &parser->token;
    enum type type = t->kind == TOKEN_WORD && t->length > 1 && t->text[0] == '.'
                         ? type_find(t->text + 1, t->length - 1)
                         : TYPE_NONE;
    if (type == TYPE_NONE)
        parser_fail(parser, t->line, "expected a type, found '%.*s'", (int)t->length, t->text);
    parser_advance(parser);
    return type;
}

/* An element of an initialiser into `bytes` at `to`: a number, a symbol's address, generic(it). */
static void parser_initial_value(struct parser *parser, uint8_t *to, enum type type) {
    bool minus = parser_accept(parser, "-");
    uint64_t value = parser->token.integer;
    if (parser->token.kind == TOKEN_INTEGER) {
        value = minus ? -value : value;
        parser_advance(parser);
    } else if (parser->token.kind == TOKEN_FLOAT) {
        double number = 0;
        if (parser->token.single) {
            float narrow;
            uint32_t bits = (uint32_t)value;
            memcpy(&narrow, &bits, sizeof narrow);
            number = (double)narrow;
        } else {
            memcpy(&number, &value, sizeof number);
        }
        if (minus) number = -number;
        memcpy(&value, &number, sizeof value);
        float narrow = (float)number;
        if (type == TYPE_F32) memcpy(to, &narrow, sizeof narrow);
        if (type == TYPE_F64) memcpy(to, &number, sizeof number);
        if (type != TYPE_F32 && type != TYPE_F64)
            parser_fail(parser, parser->token.line, "a floating constant initialises .%s",
                        type_name(type));
        parser_advance(parser);
        return;
    } else {
        bool generic = parser_accept(parser, "generic");
        if (generic) parser_expect(parser, "(");
        int line = parser->token.line;
        const char *name = parser_word(parser, "a value");
        struct variable *v = parser_module_variable(parser, name, strlen(name));
        if (!v || (v->space != SPACE_GLOBAL && v->space != SPACE_CONST))
            parser_fail(parser, line, "initialiser '%s' is no .global or .const variable", name);
        if (generic) parser_expect(parser, ")");
        value = v->offset;
        if (parser_accept(parser, "+")) value += parser_integer(parser, "an offset");
    }
    memcpy(to, &value, type_bytes(type));
}

static size_t parser_initialiser(struct parser *parser, struct variable *v, enum type type,
                                 size_t at) {
    if (parser_accept(parser, "{")) {
        while (!parser_accept(parser, "}")) {
            at = parser_initialiser(parser, v, type, at);
            if (!parser_at(parser, "}")) parser_expect(parser, ",");
        }
        return at;
    }
    unsigned bytes = type_bytes(type);
    if (at + bytes > v->size)
        parser_fail(parser, parser->token.line, "'%s' has more initial values than elements",
                    v->name);
    parser_initial_value(parser, (uint8_t *)(uintptr_t)v->offset + at, type);
    return at + bytes;
}

struct variable *parser_variable(struct parser *parser, enum space space) {
    struct variable *v = pool_take(&parser->module->pool, sizeof *v);
    v->space = space;
    uint64_t elements = 1;
    for (;;) {
        if (parser_accept(parser, ".align")) {
            v->align = (uint32_t)parser_integer(parser, "an alignment");
        } else if (parser_accept(parser, ".ptr")) {
            if (parser->token.kind == TOKEN_WORD && !parser_at(parser, ".align"))
                (void)parser_word(parser, "a state space");
            if (parser_accept(parser, ".align")) (void)parser_integer(parser, "an alignment");
            if (v->name) break;
        } else if (parser_accept(parser, ".v2")) {
            elements *= 2;
        } else if (parser_accept(parser, ".v4")) {
            elements *= 4;
        } else if (parser_accept(parser, ".attribute")) {
            parser_fail(parser, parser->token.line, ".attribute is not known");
        } else {
            break;
        }
    }
    enum type type = parser_type(parser);
    if (type == TYPE_PRED) parser_fail(parser, parser->token.line, "a variable cannot be .pred");
    if (parser_accept(parser, ".ptr")) { /* what a pointer parameter points to: we check anyway */
        while (parser_at(parser, ".global") || parser_at(parser, ".const") ||
               parser_at(parser, ".shared") || parser_at(parser, ".local"))
            parser_advance(parser);
        if (parser_accept(parser, ".align")) (void)parser_integer(parser, "an alignment");
    }
    v->name = parser_word(parser, "a name");
    bool open = false;
    while (parser_accept(parser, "[")) {
        if (parser_accept(parser, "]")) {
            open = true;
            continue;
        }
        elements *= parser_integer(parser, "a number of elements");
        parser_expect(parser, "]");
    }
    v->size = open ? 0 : elements * type_bytes(type);
    if (v->align < type_bytes(type)) v->align = type_bytes(type);
    bool memory = space == SPACE_GLOBAL || space == SPACE_CONST;
    if (open && memory) parser_fail(parser, parser->token.line, "'%s' has no size", v->name);
    if (memory) /* the pool aligns to 64 */
        v->offset = (uint64_t)(uintptr_t)pool_take(&parser->module->pool, v->size);
    if (parser_accept(parser, "=")) {
        if (!memory) parser_fail(parser, parser->token.line, "'%s' cannot be initialised", v->name);
        (void)parser_initialiser(parser, v, type, 0);
    }
    v->dynamic = open && space == SPACE_SHARED;
    return v;
}

static void parser_module_variable_add(struct parser *parser, struct variable *v) {
    struct ptx_module *m = parser->module;
    m->variables = pool_grow(&m->pool, m->variables, m->variable_count, sizeof *m->variables);
    m->variables[m->variable_count++] = v;
}

/* --- functions -------------------------------------------------------------------------------- */

static void parser_params(struct parser *parser, struct function *f, struct variable **list,
                          size_t *count, bool entry) {
    uint64_t offset = 0;
    parser_expect(parser, "(");
    while (!parser_accept(parser, ")")) {
        if (!parser_accept(parser, ".param"))
            parser_fail(parser, parser->token.line,
                        "function '%s': only .param parameters are "
                        "known",
                        f->name ? f->name : "");
        struct variable *v = parser_variable(parser, entry ? SPACE_PARAM : SPACE_CALL);
        offset = (offset + v->align - 1) / v->align * v->align;
        if (entry) v->offset = offset;
        offset += v->size;
        *list = pool_grow(&parser->module->pool, *list, *count, sizeof **list);
        (*list)[(*count)++] = *v;
        if (!parser_at(parser, ")")) parser_expect(parser, ",");
    }
    if (entry) f->param_bytes = (uint32_t)offset;
}

static void parser_performance(struct parser *parser, struct function *f) {
    for (;;) {
        if (parser_at(parser, ".maxntid") || parser_at(parser, ".reqntid")) {
            bool required = parser_at(parser, ".reqntid");
            uint32_t size[3] = {1, 1, 1};
            parser_advance(parser);
            for (int i = 0; i < 3; i++) {
                size[i] = (uint32_t)parser_integer(parser, "a number of threads");
                if (!parser_accept(parser, ",")) break;
            }
            f->max_threads = size[0] * size[1] * size[2];
            if (required) memcpy(f->required, size, sizeof size);
        } else if (parser_accept(parser, ".minnctapersm")) {
            f->min_blocks = (uint32_t)parser_integer(parser, "a number of blocks");
        } else if (parser_accept(parser, ".maxnreg")) {
            (void)parser_integer(parser, "a number of registers");
        } else if (parser_accept(parser, ".pragma")) {
            parser_advance(parser);
            parser_expect(parser, ";");
        } else if (!parser_accept(parser, ".noreturn")) {
            return;
        }
    }
}

static void parser_function_add(struct parser *parser, bool entry) {
    struct ptx_module *m = parser->module;
    struct function *f = pool_take(&m->pool, sizeof *f);
    f->entry = entry;
    f->line = parser->token.line;
    if (!entry && parser_at(parser, "("))
        parser_params(parser, f, &f->returns, &f->return_count, false);
    f->name = parser_word(parser, "a function's name");
    struct function *known = parser_function(parser, f->name, strlen(f->name));
    if (known && known->has_body)
        parser_fail(parser, f->line, "function '%s' is defined already", f->name);
    if (parser_at(parser, "(")) parser_params(parser, f, &f->params, &f->param_count, entry);
    parser_performance(parser, f);
    if (known) { /* declared before: calls already point to it */
        f->next = known->next;
        *known = *f;
        f = known;
    } else {
        struct function **end = &m->functions;
        while (*end) end = &(*end)->next;
        *end = f;
    }
    if (parser_accept(parser, ";")) return;
    f->has_body = true;
    body_parse(parser, f);
}

/* --- the module ------------------------------------------------------------------------------- */

static void parser_version(struct parser *parser) {
    char number[16] = "";
    size_t n = parser->token.length < 15 ? parser->token.length : 15;
    memcpy(number, parser->token.text, n);
    unsigned major = 0, minor = 0;
    if (sscanf(number, "%u.%u", &major, &minor) != 2)
        parser_fail(parser, parser->token.line, "'.version %s' is no version", number);
    parser->module->version = major * 10 + minor;
    parser_advance(parser);
}

static void parser_target(struct parser *parser) {
    int line = parser->token.line;
    const char *target = parser_word(parser, "a target");
    if (strncmp(target, "sm_", 3) != 0)
        parser_fail(parser, line, "'.target %s' is not known", target);
    parser->module->target = (unsigned)strtoul(target + 3, NULL, 10);
    while (parser_accept(parser, ",")) {
        const char *more = parser_word(parser, "a target option");
        if (strcmp(more, "debug") != 0)
            parser_fail(parser, line, "target option '%s' is not known", more);
    }
}

static void parser_skip_section(struct parser *parser) {
    while (parser->token.kind != TOKEN_END && !parser_accept(parser, "{")) parser_advance(parser);
    while (parser->token.kind != TOKEN_END && !parser_accept(parser, "}")) parser_advance(parser);
}

static bool parser_linkage(struct parser *parser, bool *external) {
    if (parser_accept(parser, ".extern")) return *external = true;
    return parser_accept(parser, ".visible") || parser_accept(parser, ".weak") ||
           parser_accept(parser, ".common");
}

static void parser_module(struct parser *parser) {
    parser_advance(parser);
    while (parser->token.kind != TOKEN_END) {
        int line = parser->token.line;
        bool external = false;
        while (parser_linkage(parser, &external)) {
        }
        if (parser_accept(parser, ".version")) {
            parser_version(parser);
        } else if (parser_accept(parser, ".target")) {
            parser_target(parser);
        } else if (parser_accept(parser, ".address_size")) {
            if (parser_integer(parser, "an address size") != 64)
                parser_fail(parser, line, "only .address_size 64 is known");
        } else if (parser_at(parser, ".file")) {
            parser_skip_line(parser);
        } else if (parser_at(parser, ".section")) {
            parser_skip_section(parser);
        } else if (parser_accept(parser, ".entry")) {
            parser_function_add(parser, true);
        } else if (parser_accept(parser, ".func")) {
            parser_function_add(parser, false);
        } else if (parser_at(parser, ".global") || parser_at(parser, ".const") ||
                   parser_at(parser, ".shared")) {
            enum space space = parser_at(parser, ".global")  ? SPACE_GLOBAL
                               : parser_at(parser, ".const") ? SPACE_CONST
                                                             : SPACE_SHARED;
            parser_advance(parser);
            if (external && space != SPACE_SHARED)
                parser_fail(parser, line, ".extern variables of another module are not known");
            parser_module_variable_add(parser, parser_variable(parser, space));
            parser_expect(parser, ";");
        } else {
            parser_fail(parser, line, "directive '%.*s' is not known", (int)parser->token.length,
                        parser->token.text);
        }
    }
    if (!parser->module->version) parser_fail(parser, parser->token.line, "no .version");
    if (!parser->module->target) parser_fail(parser, parser->token.line, "no .target");
}

bool source_parse(struct ptx_module *module, const char *text, struct ptx_error *error) {
    struct parser *parser = pool_take(&module->pool, sizeof *parser);
    parser->module = module;
    parser->lexer = (struct lexer){.at = text, .line = 1};
    parser->error = error;
    if (setjmp(parser->escape)) return false;
    parser_module(parser);
    return true;
}
