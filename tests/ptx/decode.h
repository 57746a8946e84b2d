#ifndef WICK_TESTS_PTX_DECODE_H
#define WICK_TESTS_PTX_DECODE_H

/* From statements to instructions. Each family of opcodes has a decode function: it takes the
 * modifiers it knows (one left over is an error), checks the operands and fills the instruction.
 * Calls are expanded in place: a kernel is one stretch of code without a stack. */

#include <setjmp.h>

#include "tests/ptx/program.h"
#include "tests/ptx/registers.h"

#define PARTS_MAX 16

struct decoder {
    struct ptx_module *module;
    struct ptx_kernel *kernel;
    struct ptx_error *error;
    jmp_buf escape;

    const struct function *function; /* the one being expanded */
    const struct statement *statement;
    const struct row *rows;     /* of this expansion's registers: ids, no offsets yet */
    struct registers registers; /* of the kernel */
    uint32_t local_base;        /* its stack */
    uint32_t depth;

    const char *parts[PARTS_MAX]; /* the opcode's, cut at the dots; [0] is its name */
    bool taken[PARTS_MAX];
    int part_count;
    char cut[128];

    struct instruction *in;
    struct decoder_jump *jumps; /* to be resolved at the end of the expansion */
    size_t jump_count;
    struct decoder_constant *constants;
    size_t constant_count;
    size_t constant_room;
    size_t code_room;
};

_Noreturn void decode_fail(struct decoder *d, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Takes a modifier if the opcode has it. */
bool decode_take(struct decoder *d, const char *modifier);
/* Takes the first of these that is there; its index, or -1. The list ends with NULL. */
int decode_take_one(struct decoder *d, const char *const *modifiers);
/* Takes the next modifier that is a type. */
enum type decode_take_type(struct decoder *d);

void decode_operands(struct decoder *d, size_t least, size_t most);
const struct operand *decode_operand(struct decoder *d, size_t index);

/* A source of `bytes` bytes an element: register, special register, constant or symbol. A float
 * type makes a constant of the other float width fit. */
struct row decode_source(struct decoder *d, const struct operand *o, enum type type);
/* The same, whatever the width of the register is (at least that of the type). */
struct row decode_source_wide(struct decoder *d, const struct operand *o, enum type type);
struct row decode_result(struct decoder *d, const struct operand *o, unsigned bytes);
struct row decode_result_wide(struct decoder *d, const struct operand *o, unsigned bytes);
struct row decode_predicate(struct decoder *d, const struct operand *o);
struct row decode_predicate_result(struct decoder *d, const struct operand *o);
/* True: the operand is a predicate register. */
bool decode_is_predicate(const struct decoder *d, const struct operand *o);
/* A row of 32 copies. */
struct row decode_constant(struct decoder *d, uint64_t value, unsigned bytes);
/* [register + offset], [symbol + offset], [constant]: into in->a and in->offset. bytes: of the
 * space's addresses, when a register holds one. */
void decode_address(struct decoder *d, const struct operand *o);
/* The vector's elements, or the one register, into in->rows. */
void decode_rows(struct decoder *d, const struct operand *o, unsigned bytes, bool result);
/* An integer that is known now. */
uint64_t decode_number(struct decoder *d, const struct operand *o);
/* A branch: the instruction's target is filled in when the labels are known. */
void decode_jump(struct decoder *d, const struct operand *o, uint32_t *target);

/* The instructions of a module's kernels. False: error says where and what. */
bool decode_module(struct ptx_module *module, struct ptx_error *error);
/* call: expands the function in place. */
void decode_call(struct decoder *d);

#endif
