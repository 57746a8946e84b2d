/* mma.sync, ldmatrix, movmatrix and cp.async: operands and addresses here, the computing in
 * tensor.c. All but cp.async are .aligned: the whole warp executes them together. */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/ptx/access.h"
#include "tests/ptx/conflict.h"
#include "tests/ptx/families.h"

static void take_everything(struct decoder *d) {
    memset(d->taken, 1, sizeof d->taken);
}

static enum step aligned_check(struct warp *w, const struct instruction *in, uint32_t mask) {
    if (mask != w->splits[w->current].lanes)
        return warp_fault(w, in, lane_first(mask), "the guard lets a part of the warp through");
    if (mask != w->live) return STEP_JOIN;
    if (mask != ALL_LANES)
        return warp_fault(w, in, lane_first(mask), "only lanes 0x%08x of the warp are there", mask);
    return STEP_NEXT;
}

/* --- mma -------------------------------------------------------------------------------------- */

static enum step execute_mma(struct warp *w, const struct instruction *in, uint32_t mask) {
    const struct tensor_mma *mma = in->detail;
    enum step step = aligned_check(w, in, mask);
    if (step != STEP_NEXT) return step;
    uint32_t *d[tensor_registers_max];
    const uint32_t *a[tensor_registers_max], *b[tensor_registers_max], *c[tensor_registers_max];
    const struct row *rows = in->rows;
    for (int i = 0; i < mma->d_registers; i++) d[i] = warp_row(w, rows++);
    for (int i = 0; i < mma->a_registers; i++) a[i] = warp_row(w, rows++);
    for (int i = 0; i < mma->b_registers; i++) b[i] = warp_row(w, rows++);
    for (int i = 0; i < mma->c_registers; i++) c[i] = warp_row(w, rows++);
    tensor_mma_run(mma, d, a, b, c);
    return STEP_NEXT;
}

static void decode_mma(struct decoder *d) {
    struct tensor_mma *mma = pool_take(&d->module->pool, sizeof *mma);
    if (!tensor_mma_parse(d->statement->opcode, mma)) decode_fail(d, "this mma is not known");
    take_everything(d);
    decode_operands(d, 4, 4);
    int counts[4] = {mma->d_registers, mma->a_registers, mma->b_registers, mma->c_registers};
    struct row *rows = pool_take(&d->module->pool, 4 * tensor_registers_max * sizeof *rows);
    uint32_t n = 0;
    for (size_t o = 0; o < 4; o++) {
        decode_rows(d, decode_operand(d, o), 4, o == 0);
        if (d->in->row_count != (uint32_t)counts[o])
            decode_fail(d, "operand %zu has %u registers, not %d", o + 1, d->in->row_count,
                        counts[o]);
        for (int i = 0; i < counts[o]; i++) {
            if (d->in->rows[i].bytes != 4 || d->in->rows[i].sink)
                decode_fail(d, "operand %zu is not of 32-bit registers", o + 1);
            rows[n++] = d->in->rows[i];
        }
    }
    d->in->rows = rows;
    d->in->row_count = n;
    d->in->detail = mma;
    d->in->execute = execute_mma;
}

/* --- ldmatrix, movmatrix ---------------------------------------------------------------------- */

static enum step execute_ldmatrix(struct warp *w, const struct instruction *in, uint32_t mask) {
    enum step step = aligned_check(w, in, mask);
    if (step != STEP_NEXT) return step;
    uint64_t addresses[LANES];
    uint8_t rows[LANES][tensor_row_bytes];
    uint32_t *d[4];
    access_addresses(w, in, addresses);
    for (int lane = 0; lane < 8 * (int)in->row_count; lane++) {
        struct place p = access_check(w, in, lane, in->space, addresses[lane], tensor_row_bytes,
                                      ACCESS_READ, false);
        if (!p.bytes) return STEP_FAULT;
        if (p.space != SPACE_SHARED)
            return warp_fault(w, in, lane, "0x%" PRIx64 " is not in shared memory",
                              addresses[lane]);
        memcpy(rows[lane], p.bytes, tensor_row_bytes);
    }
    for (uint32_t i = 0; i < in->row_count; i++) d[i] = warp_row(w, &in->rows[i]);
    tensor_ldmatrix((int)in->row_count, in->kind, (const uint8_t(*)[tensor_row_bytes])rows, d);
    return STEP_NEXT;
}

static void decode_ldmatrix(struct decoder *d) {
    static const char *const counts[] = {"x1", "x2", "x4", NULL};
    struct instruction *in = d->in;
    if (!decode_take(d, "sync") || !decode_take(d, "aligned") || !decode_take(d, "m8n8"))
        decode_fail(d, "this form is not known");
    int count = decode_take_one(d, counts);
    if (count < 0) decode_fail(d, "this form is not known");
    in->kind = decode_take(d, "trans");
    in->space = (uint8_t)access_decode_space(d);
    if (in->space != SPACE_SHARED && in->space != SPACE_GENERIC)
        decode_fail(d, "only .shared is known");
    if (decode_take_type(d) != TYPE_B16) decode_fail(d, "only .b16 is known");
    decode_operands(d, 2, 2);
    decode_rows(d, decode_operand(d, 0), 4, true);
    if (in->row_count != 1u << count) decode_fail(d, "%u registers", in->row_count);
    for (uint32_t i = 0; i < in->row_count; i++)
        if (in->rows[i].sink || in->rows[i].bytes != 4) decode_fail(d, "not 32-bit registers");
    decode_address(d, decode_operand(d, 1));
    in->execute = execute_ldmatrix;
}

static enum step execute_movmatrix(struct warp *w, const struct instruction *in, uint32_t mask) {
    enum step step = aligned_check(w, in, mask);
    if (step == STEP_NEXT) tensor_movmatrix(warp_row(w, &in->d), warp_row(w, &in->s[0]));
    return step;
}

static void decode_movmatrix(struct decoder *d) {
    if (strcmp(d->statement->opcode, "movmatrix.sync.aligned.m8n8.trans.b16") != 0)
        decode_fail(d, "this form is not known");
    take_everything(d);
    decode_operands(d, 2, 2);
    d->in->d = decode_result(d, decode_operand(d, 0), 4);
    d->in->s[0] = decode_source(d, decode_operand(d, 1), TYPE_B32);
    d->in->execute = execute_movmatrix;
}

/* --- cp.async --------------------------------------------------------------------------------- */

static enum step copy_issue(struct warp *w, const struct instruction *in, int lane, uint64_t target,
                            uint64_t source, uint32_t read) {
    struct shared *s = &w->block->shared;
    uint8_t data[16] = {0};
    unsigned bytes = in->element_bytes;
    if ((target & WINDOW_MASK) == WINDOW_SHARED) target &= ~WINDOW_MASK;
    if (target & (bytes - 1) || source & (bytes - 1))
        return warp_fault(w, in, lane,
                          "copies %u bytes from 0x%" PRIx64 " to %" PRIu64
                          " of shared memory, one of which is misaligned",
                          bytes, source, target);
    if (target > s->size || bytes > s->size - target)
        return warp_fault(w, in, lane,
                          "writes %u bytes at %" PRIu64 " of shared memory, which has "
                          "%u bytes",
                          bytes, target, s->size);
    for (uint32_t i = 0; i < read;) { /* whole words where the size allows it */
        uint32_t part = read - i >= bytes ? bytes : 1;
        struct place p =
            access_check(w, in, lane, SPACE_GLOBAL, source + i, part, ACCESS_READ, false);
        if (!p.bytes || !conflict_read_lane(w, in, lane, source + i, part, false))
            return STEP_FAULT;
        memcpy(data + i, p.bytes, part);
        i += part;
    }
    struct shared_conflict c =
        shared_flight_begin(s, w->index, (uint32_t)lane, (uint32_t)target, bytes);
    if (c.trouble) return access_fault_shared(w, in, lane, bytes, ACCESS_WRITE, c);
    memset(s->bytes + target, 0xA5, bytes);
    tensor_async_copy(&w->async, lane, source, (uint32_t)target, (int)bytes, (int)read, data);
    return STEP_NEXT;
}

static enum step execute_copy(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint64_t targets[LANES];
    const uint64_t *sources = warp_row(w, &in->s[0]);
    access_addresses(w, in, targets);
    const uint32_t *sizes = in->source_count > 1 ? warp_row(w, &in->s[1]) : NULL;
    uint32_t ignored = in->kind ? warp_predicate(w, &in->s[2]) : 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint32_t read = sizes ? sizes[lane] : in->element_bytes;
        if (ignored >> lane & 1) read = 0;
        if (read > in->element_bytes)
            return warp_fault(w, in, lane, "reads %u bytes to copy %u", read, in->element_bytes);
        uint64_t source = sources[lane] + in->target;
        if (copy_issue(w, in, lane, targets[lane], source, read) == STEP_FAULT) return STEP_FAULT;
    }
    return STEP_NEXT;
}

struct landing {
    struct warp *w;
    const struct instruction *in;
    bool fault;
};

static void copy_land(void *context, const struct tensor_copy *copy) {
    struct landing *landing = context;
    struct warp *w = landing->w;
    struct shared *s = &w->block->shared;
    if (copy->read && memcmp((const void *)(uintptr_t)copy->source, copy->data, copy->read) != 0) {
        warp_fault(w, landing->in, copy->lane,
                   "the source of a cp.async, 0x%" PRIx64 ", changed while it was under way",
                   copy->source);
        landing->fault = true;
    }
    memcpy(s->bytes + copy->target, copy->data, copy->bytes);
    shared_flight_end(s, w->index, copy->lane, copy->target, copy->bytes);
}

enum { ASYNC_COMMIT, ASYNC_WAIT, ASYNC_WAIT_ALL };

static enum step execute_async(struct warp *w, const struct instruction *in, uint32_t mask) {
    struct landing landing = {.w = w, .in = in};
    if (in->kind == ASYNC_COMMIT) tensor_async_commit(&w->async, mask);
    if (in->kind == ASYNC_WAIT) tensor_async_wait(&w->async, mask, in->target, copy_land, &landing);
    if (in->kind == ASYNC_WAIT_ALL) tensor_async_wait_all(&w->async, mask, copy_land, &landing);
    return landing.fault ? STEP_FAULT : STEP_NEXT;
}

static void decode_copy(struct decoder *d) {
    struct instruction *in = d->in;
    static const char *const caches[] = {"ca", "cg", NULL};
    bool around = decode_take_one(d, caches) == 1;
    bool spaces =
        (decode_take(d, "shared") || decode_take(d, "shared::cta")) && decode_take(d, "global");
    if (!spaces) decode_fail(d, "this form is not known");
    size_t policy = access_decode_hints(d), n = d->statement->operand_count - policy;
    decode_operands(d, 3 + policy, 4 + policy);
    in->space = SPACE_SHARED;
    decode_address(d, decode_operand(d, 0));
    struct instruction target = *in;
    in->space = SPACE_GLOBAL;
    decode_address(d, decode_operand(d, 1));
    in->s[0] = in->a;
    in->target = (uint32_t)in->offset; /* the source's; addresses of nvcc have small ones */
    if (in->offset < 0 || in->offset > INT32_MAX) decode_fail(d, "an offset out of range");
    in->space = SPACE_SHARED;
    in->a = target.a;
    in->offset = target.offset;
    uint64_t bytes = decode_number(d, decode_operand(d, 2));
    if (bytes != 16 && (around || (bytes != 4 && bytes != 8)))
        decode_fail(d, "this size is not known");
    in->element_bytes = (uint8_t)bytes;
    in->source_count = 1;
    in->execute = execute_copy;
    if (n < 4) return;
    const struct operand *o = decode_operand(d, 3);
    if (decode_is_predicate(d, o)) {
        in->kind = 1; /* ignore-src */
        in->s[2] = decode_predicate(d, o);
        return;
    }
    in->source_count = 2;
    in->s[1] = decode_source(d, o, TYPE_U32);
}

static void decode_cp(struct decoder *d) {
    struct instruction *in = d->in;
    if (!decode_take(d, "async")) decode_fail(d, "only cp.async is known");
    in->execute = execute_async;
    if (decode_take(d, "commit_group")) {
        decode_operands(d, 0, 0);
        in->kind = ASYNC_COMMIT;
    } else if (decode_take(d, "wait_group")) {
        decode_operands(d, 1, 1);
        in->kind = ASYNC_WAIT;
        in->target = (uint32_t)decode_number(d, decode_operand(d, 0));
    } else if (decode_take(d, "wait_all")) {
        decode_operands(d, 0, 0);
        in->kind = ASYNC_WAIT_ALL;
    } else {
        decode_copy(d);
    }
}

const struct family family_tensor[] = {{"mma", decode_mma},
                                       {"ldmatrix", decode_ldmatrix},
                                       {"movmatrix", decode_movmatrix},
                                       {"cp", decode_cp},
                                       {NULL, NULL}};
