#ifndef WICK_TESTS_PTX_FAMILIES_H
#define WICK_TESTS_PTX_FAMILIES_H

/* The families of opcodes, by the first part of the opcode; each list ends with a name of NULL. */

#include "tests/ptx/decode.h"

typedef void decode_function(struct decoder *d);

struct family {
    const char *name;
    decode_function *decode;
};

extern const struct family family_move[];    /* mov setp set selp cvta isspacep and.pred ... */
extern const struct family family_convert[]; /* cvt */
extern const struct family family_access[];  /* ld st prefetch ... */
extern const struct family family_atomic[];  /* atom red */
extern const struct family family_sync[];    /* bar shfl vote match redux fence ... */
extern const struct family family_carry[];   /* add.cc addc sub.cc subc mad.cc madc */
extern const struct family family_control[]; /* bra ret exit trap call ... */
extern const struct family family_tensor[];  /* mma ldmatrix cp.async ... */

/* Whatever the tables of lanes.h have. False: it is none of them. */
bool arithmetic_decode(struct decoder *d);
/* d = compute(s[0], ...), for the lanes in the mask. */
execute_function arithmetic_execute;

/* Where the code goes on behind an instruction. */
struct successors {
    bool falls; /* to the next one */
    uint32_t count;
    const uint32_t *targets;
};
struct successors control_successors(const struct instruction *in);

/* Pieces of a call. */
/* __assertfail: the text's address and the line lie there on the stack. */
void control_assertion(struct instruction *in, uint32_t text, uint32_t line);
void control_nothing(struct instruction *in);
void control_end(struct instruction *in);
void control_return_to(struct instruction *in, uint32_t target); /* if it is an open ret */
void access_copy_stack(struct instruction *in, uint32_t to, uint32_t from, uint32_t bytes);

#endif
