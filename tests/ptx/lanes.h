#ifndef WICK_TESTS_PTX_LANES_H
#define WICK_TESTS_PTX_LANES_H

/* What instructions compute, 32 lanes at a time: a table from opcode to function. */

#include "tests/ptx/program.h"

/* Modifiers that the opcode's name in the table is written without. */
enum {
    LANES_ROUND = 1,   /* .rn .rz .rm .rp, by the host's rounding mode */
    LANES_RN = 2,      /* .rn, which is all it can */
    LANES_FTZ = 4,     /* .ftz, by the host's flush to zero */
    LANES_SAT = 8,     /* .sat: clamp to [0, 1], NaN to 0 */
    LANES_DIVIDES = 16 /* a zero in the second source is an error */
};

/* Types of result and sources, a letter each: h w d = 16, 32, 64 bits; f g = f32, f64; e E = f16,
 * f16x2; b B = bf16, bf16x2; p = predicate. */
struct lanes_operation {
    const char *name;
    const char *types;
    compute_function *compute;
    unsigned modifiers;
};

struct lanes_comparison {
    const char *name; /* "lt.s32" */
    char type;        /* of both sources */
    compare_function *compare;
};

extern const struct lanes_operation lanes_integer[], lanes_bits[], lanes_float[], lanes_half[];
extern const struct lanes_comparison lanes_compare_integer[], lanes_compare_float[],
    lanes_compare_half[];

/* NULL: no such opcode. */
const struct lanes_operation *lanes_find(const char *name);
const struct lanes_comparison *lanes_compare_find(const char *name);

/* A conversion with no more than a rounding, between registers of these widths; NULL: none here. */
compute_function *lanes_convert_find(enum type to, unsigned to_bytes, enum type from,
                                     unsigned from_bytes, bool integral, bool to_nearest);
/* An integer of a type in a register of `bytes` bytes, to or from a row of 64-bit values. */
compute_function *lanes_integer_step(enum type type, unsigned bytes, bool write);

/* --- for the files that fill the tables ------------------------------------------------------- */

/* Each loop is compiled twice; the processor decides. */
#if defined(__x86_64__)
#define LANES_CODE __attribute__((target_clones("default", "arch=x86-64-v3")))
#else
#define LANES_CODE
#endif

/* A result may be its own source, in the same lane: no other dependence between iterations. */
#define LANES_LOOP _Pragma("GCC ivdep") for (int i = 0; i < LANES; i++)

#define LANES_1(name, R, A, expression)                                                            \
    LANES_CODE static void name(void *result, const void *const *s) {                              \
        R *r = result;                                                                             \
        const A *pa = s[0];                                                                        \
        LANES_LOOP {                                                                               \
            A a = pa[i];                                                                           \
            r[i] = (R)(expression);                                                                \
        }                                                                                          \
    }
#define LANES_2(name, R, A, B, expression)                                                         \
    LANES_CODE static void name(void *result, const void *const *s) {                              \
        R *r = result;                                                                             \
        const A *pa = s[0];                                                                        \
        const B *pb = s[1];                                                                        \
        LANES_LOOP {                                                                               \
            A a = pa[i];                                                                           \
            B b = pb[i];                                                                           \
            r[i] = (R)(expression);                                                                \
        }                                                                                          \
    }
#define LANES_3(name, R, A, B, C, expression)                                                      \
    LANES_CODE static void name(void *result, const void *const *s) {                              \
        R *r = result;                                                                             \
        const A *pa = s[0];                                                                        \
        const B *pb = s[1];                                                                        \
        const C *pc = s[2];                                                                        \
        LANES_LOOP {                                                                               \
            A a = pa[i];                                                                           \
            B b = pb[i];                                                                           \
            C c = pc[i];                                                                           \
            r[i] = (R)(expression);                                                                \
        }                                                                                          \
    }
#define LANES_4(name, R, A, B, C, D, expression)                                                   \
    LANES_CODE static void name(void *result, const void *const *s) {                              \
        R *r = result;                                                                             \
        const A *pa = s[0];                                                                        \
        const B *pb = s[1];                                                                        \
        const C *pc = s[2];                                                                        \
        const D *pd = s[3];                                                                        \
        LANES_LOOP {                                                                               \
            A a = pa[i];                                                                           \
            B b = pb[i];                                                                           \
            C c = pc[i];                                                                           \
            D d = pd[i];                                                                           \
            r[i] = (R)(expression);                                                                \
        }                                                                                          \
    }
#define LANES_COMPARE(name, A, expression)                                                         \
    LANES_CODE static uint32_t name(const void *left, const void *right) {                         \
        const A *pa = left, *pb = right;                                                           \
        uint32_t bits[LANES], mask = 0;                                                            \
        for (int i = 0; i < LANES; i++) {                                                          \
            A a = pa[i], b = pb[i];                                                                \
            bits[i] = (uint32_t)(expression) << i;                                                 \
        }                                                                                          \
        for (int i = 0; i < LANES; i++) mask |= bits[i];                                           \
        return mask;                                                                               \
    }

#endif
