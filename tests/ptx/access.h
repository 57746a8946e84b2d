#ifndef WICK_TESTS_PTX_ACCESS_H
#define WICK_TESTS_PTX_ACCESS_H

/* One lane's access to memory, checked: what ld, st, atom, ldmatrix and cp.async have in common. */

#include "tests/ptx/decode.h"
#include "tests/ptx/warp.h"

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_UPDATE /* atom, red */ };

struct place {
    uint8_t *bytes;   /* where they are on the host; NULL: the fault is written */
    uint8_t *shadow;  /* one of each; NULL: there is none */
    enum space space; /* after a generic address has been looked at */
};

/* Checks that a lane may access `bytes` (1 to 16, a power of two) at an address of the space.
 * strong: volatile, relaxed and so on. A write marks the bytes as written. */
struct place access_check(struct warp *w, const struct instruction *in, int lane, enum space space,
                          uint64_t address, unsigned bytes, enum access access, bool strong);

enum step access_fault_shared(struct warp *w, const struct instruction *in, int lane,
                              unsigned bytes, enum access access, struct shared_conflict c);

/* The addresses of all lanes: in->a + in->offset. */
void access_addresses(struct warp *w, const struct instruction *in, uint64_t addresses[LANES]);

/* Takes the modifiers of caching that change nothing here, and the policy operand: how many
 * operands they add. */
size_t access_decode_hints(struct decoder *d);
/* Takes .volatile, .relaxed, .acquire, .release, .acq_rel with their scopes, and .weak. */
enum order access_decode_order(struct decoder *d);
/* Takes the state space; SPACE_GENERIC if there is none. */
enum space access_decode_space(struct decoder *d);

#endif
