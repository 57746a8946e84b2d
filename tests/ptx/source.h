#ifndef WICK_TESTS_PTX_SOURCE_H
#define WICK_TESTS_PTX_SOURCE_H

/* A module as the parser leaves it: variables, and functions made of statements whose names are
 * resolved but whose opcodes nobody has looked at yet. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/ptx/machine.h"
#include "tests/ptx/pool.h"
#include "tests/ptx/type.h"

enum space {
    SPACE_GENERIC,
    SPACE_GLOBAL,
    SPACE_CONST,
    SPACE_SHARED,
    SPACE_LOCAL,
    SPACE_PARAM, /* a kernel's parameters */
    SPACE_CALL   /* a call's parameters: a slot of the thread's stack */
};

struct variable {
    const char *name;
    enum space space;
    uint32_t align;
    uint64_t size;
    uint64_t offset; /* in its space; the host's address for global and const */
    bool dynamic;    /* .extern .shared: as long as the launch says */
    bool common;     /* .shared of the module */
};

struct reg {
    enum type type;
};

enum operand_kind {
    OPERAND_REGISTER,
    OPERAND_SPECIAL,
    OPERAND_INTEGER,
    OPERAND_FLOAT,
    OPERAND_SYMBOL,
    OPERAND_FUNCTION,
    OPERAND_LABEL,
    OPERAND_ADDRESS, /* [parts[0] + offset] */
    OPERAND_VECTOR,  /* {...} */
    OPERAND_GROUP,   /* (...) */
    OPERAND_SINK     /* _ */
};

struct operand {
    enum operand_kind kind;
    bool negated; /* !%p */
    bool single;  /* OPERAND_FLOAT: value holds a float's bits, else a double's */
    uint32_t id;  /* register, or enum special */
    uint64_t value;
    int64_t offset;
    struct variable *variable;
    struct function *function;
    const char *label;
    struct operand *parts;
    size_t part_count;
    struct operand *second; /* a|b */
};

#define NO_REGISTER UINT32_MAX

struct statement {
    int line;
    const char *opcode; /* whole, as written */
    uint32_t guard;     /* register or NO_REGISTER */
    bool guard_negated;
    uint32_t scope;
    struct operand *operands;
    size_t operand_count;
};

/* A label, or a table of labels (.branchtargets). */
struct label {
    const char *name;
    uint32_t scope;
    size_t statement; /* the one it stands before */
    struct operand *targets;
    size_t target_count;
};

struct function {
    const char *name;
    bool entry, has_body;
    int line;
    struct variable *returns, *params; /* formal */
    size_t return_count, param_count;
    uint32_t param_bytes;
    uint32_t max_threads, required[3], min_blocks;
    uint32_t shared_bytes, local_bytes; /* shared: of the kernel; local: one activation's stack */
    uint32_t shared_base;               /* where its shared variables begin */
    struct reg *registers;
    size_t register_count;
    struct statement *statements;
    size_t statement_count;
    struct label *labels;
    size_t label_count;
    uint32_t *scope_parents; /* scope 0 is the body's outermost */
    size_t scope_count;
    struct function *next;
    struct ptx_kernel *kernel; /* decoded, for an entry */
};

struct ptx_module {
    struct pool pool;
    unsigned version, target;
    struct variable **variables; /* of module scope */
    size_t variable_count;
    struct function *functions; /* in the order of the text */
    struct ptx_kernel **kernels;
    size_t kernel_count;
};

/* The label a name means, seen from a scope; NULL: none. */
const struct label *function_label_find(const struct function *function, const char *name,
                                        uint32_t scope);

/* Reads the whole text into the module. False: error says where and what. */
bool source_parse(struct ptx_module *module, const char *text, struct ptx_error *error);

#endif
