#ifndef WICK_TESTS_PTX_PROGRAM_H
#define WICK_TESTS_PTX_PROGRAM_H

/* A kernel as it runs: decoded instructions over rows of 32 lanes. A register is a row of 32
 * values of its width; a predicate is one word, a bit per lane. Constants are rows too, so that an
 * instruction does not care where its operands come from. */

#include "tests/ptx/source.h"

#define LANES 32
#define ALL_LANES UINT32_MAX

struct warp;
struct instruction;

/* Where a row lies: which of a warp's three bases, and how far in. */
enum base { BASE_REGISTERS, BASE_CONSTANTS, BASE_SPECIALS, BASE_COUNT };

struct row {
    uint32_t offset;
    uint8_t base;
    uint8_t bytes; /* of an element: 2, 4, 8, 16; 0: a predicate */
    bool negated;  /* predicates */
    bool sink;     /* nothing is written */
};

enum step {
    STEP_NEXT,  /* go on with the following instruction */
    STEP_JUMP,  /* the splits of the warp have changed: look again */
    STEP_YIELD, /* go on, but let another warp run first */
    STEP_JOIN,  /* this split must wait for others of its warp at this instruction */
    STEP_BLOCK, /* the warp waits at a barrier of its block */
    STEP_FAULT  /* the launch is over; the error is written */
};

/* Executes an instruction for the lanes in mask (never none, except for branches and exits). */
typedef enum step execute_function(struct warp *warp, const struct instruction *in, uint32_t mask);
/* Computes all 32 lanes: d = f(s[0], s[1], ...). d may be one of the sources. */
typedef void compute_function(void *d, const void *const *s);
/* Compares all 32 lanes. */
typedef uint32_t compare_function(const void *a, const void *b);

#define ROWS_MAX 16

enum order { ORDER_WEAK, ORDER_VOLATILE, ORDER_RELAXED, ORDER_ACQUIRE, ORDER_RELEASE, ORDER_BOTH };

struct instruction {
    execute_function *execute;
    union {
        compute_function *compute;
        compare_function *compare;
        void *detail; /* what the instruction's family keeps */
    };
    struct row guard; /* guard.sink: none */
    uint8_t source_count, result_bytes;
    uint8_t space, order, vector, element_bytes; /* memory */
    bool sign_extend;                            /* ld of a signed type */
    bool constant;                               /* ld.global.nc */
    bool clock;                                  /* reads a clock */
    uint8_t kind;                                /* of its family */
    uint8_t kind2;
    uint32_t float_control; /* MXCSR while it computes; 0: as it is */
    uint32_t target;        /* of a branch */
    int64_t offset;         /* of an address */
    uint32_t line, row_count;
    const char *opcode;
    struct row d, a;  /* the result and the first source or the address */
    struct row s[4];  /* sources; s[0] is a for arithmetic */
    struct row *rows; /* more: vectors, results of mma */
};

struct ptx_kernel {
    const struct ptx_module *module;
    const struct function *function;
    struct ptx_kernel_facts facts;
    struct instruction *code;
    uint32_t code_count;
    uint8_t *constants;
    size_t constant_bytes, register_bytes;
    uint32_t shared_bytes, local_bytes;
    struct row *undefined; /* registers that may be read before they are written */
    uint32_t undefined_count;
    bool exchanges; /* global memory by atomics, fences or strong accesses */
};

#endif
