/* What lanes of a warp and warps of a block do together. */

#include <string.h>

#include "tests/ptx/access.h"
#include "tests/ptx/families.h"
#include "tests/ptx/worker.h"

/* --- members ---------------------------------------------------------------------------------- */

/* STEP_NEXT: every lane that the members' masks name has come (or has exited). */
static enum step members_check(struct warp *w, const struct instruction *in, uint32_t mask,
                               const uint32_t *members) {
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        if (!(members[lane] >> lane & 1))
            return warp_fault(w, in, lane, "the lane is not in its own member mask 0x%08x",
                              members[lane]);
        if (!warp_has(w, mask, members[lane])) return STEP_JOIN;
    }
    return STEP_NEXT;
}

/* --- shfl ------------------------------------------------------------------------------------- */

enum { SHFL_UP, SHFL_DOWN, SHFL_BFLY, SHFL_IDX };

static bool shuffle_source(int kind, int lane, uint32_t b, uint32_t c, int *from) {
    int segment = (int)(c >> 8 & 31), limit = (int)(c & 31), by = (int)(b & 31);
    int most = (lane & segment) | (limit & ~segment), least = lane & segment;
    int j = kind == SHFL_UP     ? lane - by
            : kind == SHFL_DOWN ? lane + by
            : kind == SHFL_BFLY ? lane ^ by
                                : least | (by & ~segment);
    bool inside = kind == SHFL_UP ? j >= most : j <= most;
    *from = inside ? j : lane;
    return inside;
}

static enum step execute_shfl(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint32_t *b = warp_row(w, &in->s[1]), *c = warp_row(w, &in->s[2]);
    const uint32_t *members = warp_row(w, &in->s[3]);
    enum step step = members_check(w, in, mask, members);
    if (step != STEP_NEXT) return step;
    uint32_t a[LANES], inside = 0;
    memcpy(a, warp_row(w, &in->s[0]), sizeof a);
    uint32_t *d = in->d.sink ? NULL : warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m), from;
        bool in_range = shuffle_source(in->kind, lane, b[lane], c[lane], &from);
        if (!((mask & members[lane]) >> from & 1))
            return warp_fault(w, in, lane, "reads lane %d, which does not take part", from);
        inside |= (uint32_t)in_range << lane;
        if (d) d[lane] = a[from];
    }
    if (in->row_count) warp_predicate_set(w, &in->rows[0], inside, mask);
    return STEP_NEXT;
}

static void decode_second_result(struct decoder *d, const struct operand *o) {
    if (!o->second) return;
    struct row *second = pool_take(&d->module->pool, sizeof *second);
    *second = decode_predicate_result(d, o->second);
    d->in->rows = second;
    d->in->row_count = 1;
}

static void decode_shfl(struct decoder *d) {
    static const char *const kinds[] = {"up", "down", "bfly", "idx", NULL};
    struct instruction *in = d->in;
    if (!decode_take(d, "sync")) decode_fail(d, "only shfl.sync is known");
    int kind = decode_take_one(d, kinds);
    if (kind < 0) decode_fail(d, "this kind is not known");
    if (decode_take_type(d) != TYPE_B32) decode_fail(d, "only .b32 is known");
    decode_operands(d, 5, 5);
    in->kind = (uint8_t)kind;
    in->d = decode_result(d, decode_operand(d, 0), 4);
    decode_second_result(d, decode_operand(d, 0));
    for (size_t i = 0; i < 4; i++) in->s[i] = decode_source(d, decode_operand(d, i + 1), TYPE_B32);
    in->execute = execute_shfl;
}

/* --- vote, match, redux, activemask ------------------------------------------------------------
 */

enum { VOTE_ALL, VOTE_ANY, VOTE_UNI, VOTE_BALLOT };

static enum step execute_vote(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint32_t *members = warp_row(w, &in->s[1]);
    enum step step = members_check(w, in, mask, members);
    if (step != STEP_NEXT) return step;
    uint32_t yes = warp_predicate(w, &in->s[0]) & mask, result = 0;
    uint32_t *d = in->kind == VOTE_BALLOT ? warp_row(w, &in->d) : NULL;
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint32_t all = members[lane] & mask, votes = yes & all;
        bool holds = in->kind == VOTE_ALL   ? votes == all
                     : in->kind == VOTE_ANY ? votes != 0
                                            : votes == all || votes == 0;
        result |= (uint32_t)holds << lane;
        if (d) d[lane] = votes;
    }
    if (!d) warp_predicate_set(w, &in->d, result, mask);
    return STEP_NEXT;
}

static void decode_vote(struct decoder *d) {
    static const char *const kinds[] = {"all", "any", "uni", "ballot", NULL};
    struct instruction *in = d->in;
    if (!decode_take(d, "sync")) decode_fail(d, "only vote.sync is known");
    int kind = decode_take_one(d, kinds);
    if (kind < 0) decode_fail(d, "this kind is not known");
    bool ballot = kind == VOTE_BALLOT;
    if (decode_take_type(d) != (ballot ? TYPE_B32 : TYPE_PRED))
        decode_fail(d, "not with that type");
    decode_operands(d, 3, 3);
    in->kind = (uint8_t)kind;
    in->d = ballot ? decode_result(d, decode_operand(d, 0), 4)
                   : decode_predicate_result(d, decode_operand(d, 0));
    in->s[0] = decode_predicate(d, decode_operand(d, 1));
    in->s[1] = decode_source(d, decode_operand(d, 2), TYPE_B32);
    in->execute = execute_vote;
}

static uint64_t match_value(struct warp *w, const struct row *row, int lane) {
    uint64_t value = 0;
    memcpy(&value, (uint8_t *)warp_row(w, row) + (unsigned)lane * row->bytes, row->bytes);
    return value;
}

static enum step execute_match(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint32_t *members = warp_row(w, &in->s[1]);
    enum step step = members_check(w, in, mask, members);
    if (step != STEP_NEXT) return step;
    uint32_t results[LANES], all_equal = 0;
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint32_t all = members[lane] & mask, same = 0;
        for (uint32_t n = all; n; n &= n - 1)
            if (match_value(w, &in->s[0], lane_first(n)) == match_value(w, &in->s[0], lane))
                same |= (uint32_t)1 << lane_first(n);
        bool whole = same == all;
        all_equal |= (uint32_t)whole << lane;
        results[lane] = in->kind == 0 ? same : whole ? all : 0; /* .any, .all */
    }
    uint32_t *d = warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) d[lane_first(m)] = results[lane_first(m)];
    if (in->row_count) warp_predicate_set(w, &in->rows[0], all_equal, mask);
    return STEP_NEXT;
}

static void decode_match(struct decoder *d) {
    static const char *const kinds[] = {"any", "all", NULL};
    struct instruction *in = d->in;
    int kind = decode_take_one(d, kinds);
    if (kind < 0 || !decode_take(d, "sync")) decode_fail(d, "this form is not known");
    enum type type = decode_take_type(d);
    if (type != TYPE_B32 && type != TYPE_B64) decode_fail(d, "not with that type");
    decode_operands(d, 3, 3);
    in->kind = (uint8_t)kind;
    in->d = decode_result(d, decode_operand(d, 0), 4);
    decode_second_result(d, decode_operand(d, 0));
    in->s[0] = decode_source(d, decode_operand(d, 1), type);
    in->s[1] = decode_source(d, decode_operand(d, 2), TYPE_B32);
    in->execute = execute_match;
}

enum { REDUX_ADD, REDUX_MIN, REDUX_MAX, REDUX_AND, REDUX_OR, REDUX_XOR };

static uint32_t redux_combine(const struct instruction *in, uint32_t x, uint32_t y) {
    uint32_t flip = type_is_signed(in->kind2) ? 0x80000000 : 0;
    switch (in->kind) {
    case REDUX_ADD:
        return x + y;
    case REDUX_MIN:
        return (x ^ flip) < (y ^ flip) ? x : y;
    case REDUX_MAX:
        return (x ^ flip) > (y ^ flip) ? x : y;
    case REDUX_AND:
        return x & y;
    case REDUX_OR:
        return x | y;
    default:
        return x ^ y;
    }
}

static enum step execute_redux(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint32_t *members = warp_row(w, &in->s[1]);
    enum step step = members_check(w, in, mask, members);
    if (step != STEP_NEXT) return step;
    uint32_t a[LANES];
    memcpy(a, warp_row(w, &in->s[0]), sizeof a);
    uint32_t *d = warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) {
        int lane = lane_first(m);
        uint32_t all = members[lane] & mask, value = a[lane_first(all)];
        for (uint32_t n = all & (all - 1); n; n &= n - 1)
            value = redux_combine(in, value, a[lane_first(n)]);
        d[lane] = value;
    }
    return STEP_NEXT;
}

static void decode_redux(struct decoder *d) {
    static const char *const kinds[] = {"add", "min", "max", "and", "or", "xor", NULL};
    struct instruction *in = d->in;
    if (!decode_take(d, "sync")) decode_fail(d, "only redux.sync is known");
    int kind = decode_take_one(d, kinds);
    enum type type = decode_take_type(d);
    bool bits = kind >= REDUX_AND;
    if (kind < 0 || (bits ? type != TYPE_B32 : type != TYPE_U32 && type != TYPE_S32))
        decode_fail(d, "this form is not known");
    decode_operands(d, 3, 3);
    in->kind = (uint8_t)kind;
    in->kind2 = (uint8_t)type;
    in->d = decode_result(d, decode_operand(d, 0), 4);
    in->s[0] = decode_source(d, decode_operand(d, 1), type);
    in->s[1] = decode_source(d, decode_operand(d, 2), TYPE_B32);
    in->execute = execute_redux;
}

static enum step execute_activemask(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint32_t *d = warp_row(w, &in->d);
    for (uint32_t m = mask; m; m &= m - 1) d[lane_first(m)] = mask;
    return STEP_NEXT;
}

static void decode_activemask(struct decoder *d) {
    if (decode_take_type(d) != TYPE_B32) decode_fail(d, "only .b32 is known");
    decode_operands(d, 1, 1);
    d->in->d = decode_result(d, decode_operand(d, 0), 4);
    d->in->execute = execute_activemask;
}

/* --- bar.warp.sync, fences -------------------------------------------------------------------- */

static enum step execute_warp_sync(struct warp *w, const struct instruction *in, uint32_t mask);

/* The lanes that wait at any bar.warp.sync with this mask. */
static uint32_t warp_sync_waiting(struct warp *w, uint32_t members) {
    const struct instruction *code = w->block->grid->kernel->code;
    uint32_t lanes = 0;
    for (uint32_t i = 0; i < w->split_count; i++) {
        const struct split *s = &w->splits[i];
        const struct instruction *at = &code[s->pc];
        if (i == w->current || s->state != SPLIT_JOINS || at->execute != execute_warp_sync)
            continue;
        const uint32_t *theirs = warp_row(w, &at->s[0]);
        if (theirs[lane_first(s->lanes)] == members) lanes |= s->lanes;
    }
    return lanes;
}

/* Lanes may meet at different instructions. */
static enum step execute_warp_sync(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint32_t *members = warp_row(w, &in->s[0]);
    uint32_t rest = mask;
    while (rest) {
        int lane = lane_first(rest);
        uint32_t group = members[lane];
        if (!(group >> lane & 1))
            return warp_fault(w, in, lane, "the lane is not in its own member mask 0x%08x", group);
        uint32_t waiting = warp_sync_waiting(w, group);
        if (!warp_has(w, mask | waiting, group)) return STEP_JOIN;
        shared_sync_lanes(&w->block->shared, w->index, group & w->live, !(w->live & ~group));
        for (uint32_t i = 0; i < w->split_count; i++)
            if (i != w->current && w->splits[i].lanes & waiting) {
                w->splits[i].pc++;
                w->splits[i].state = SPLIT_RUNS;
            }
        rest &= ~group;
    }
    return STEP_NEXT;
}

static enum step execute_fence(struct warp *w, const struct instruction *in, uint32_t mask) {
    (void)w, (void)in, (void)mask;
    __sync_synchronize();
    return STEP_YIELD;
}

static void decode_fence(struct decoder *d) {
    static const char *const kinds[] = {"sc", "acq_rel", "acquire", "release", NULL};
    static const char *const scopes[] = {"cta", "gpu", "gl", "sys", NULL};
    if (strcmp(d->parts[0], "fence") == 0) (void)decode_take_one(d, kinds);
    int scope = decode_take_one(d, scopes);
    if (scope < 0) decode_fail(d, "a scope is missing");
    decode_operands(d, 0, 0);
    if (scope > 0) d->kernel->exchanges = true;
    d->in->execute = execute_fence;
}

/* --- bar -------------------------------------------------------------------------------------- */

enum { BAR_SYNC, BAR_ARRIVE, BAR_RED_POPC, BAR_RED_AND, BAR_RED_OR };

static bool row_uniform(struct warp *w, const struct row *row, uint32_t mask, uint32_t *value) {
    const uint32_t *values = warp_row(w, row);
    *value = values[lane_first(mask)];
    for (uint32_t m = mask; m; m &= m - 1)
        if (values[lane_first(m)] != *value) return false;
    return true;
}

static enum step barrier_join(struct warp *w, const struct instruction *in, uint32_t number,
                              uint32_t count, uint32_t mask) {
    struct barrier *b = &w->block->barriers[number];
    bool all = count == 0, waits = in->kind != BAR_ARRIVE;
    uint32_t bit = (uint32_t)1 << w->index;
    uint32_t pc = (uint32_t)(in - w->block->grid->kernel->code);
    if (b->arrived && (b->all != all || (!all && b->expected != count)))
        return warp_fault(w, in, -1, "barrier %u is in use with another number of threads", number);
    if (b->waiting && all && waits && b->pc != pc)
        return warp_fault(w, in, -1,
                          "a divergent barrier: this warp comes to barrier %u here, another of its "
                          "block waits for all at line %u",
                          number, w->block->grid->kernel->code[b->pc].line);
    if (!b->arrived) *b = (struct barrier){.expected = count, .all = all, .reduction = 1};
    if (!b->waiting) b->pc = pc;
    b->arrived += LANES;
    b->warps |= bit;
    if (in->kind >= BAR_RED_POPC) {
        uint32_t yes = warp_predicate(w, &in->s[2]) & mask;
        b->count += (uint32_t)__builtin_popcount(yes);
        b->reduction &= yes == mask;
    }
    if (!waits) {
        shared_arrive(&w->block->shared, w->index);
        w->splits[w->current].pc++;
        w->barrier = number;
        (void)block_barriers_settle(w->block);
        return STEP_JUMP;
    }
    b->waiting |= bit;
    w->splits[w->current].pc++;
    w->state = WARP_AT_BARRIER;
    w->barrier = number;
    w->waiting = in;
    (void)block_barriers_settle(w->block);
    return STEP_BLOCK;
}

static enum step execute_bar(struct warp *w, const struct instruction *in, uint32_t mask) {
    uint32_t number, count = 0;
    if (mask != w->live) {
        if (mask != w->splits[w->current].lanes)
            return warp_fault(w, in, lane_first(mask),
                              "a divergent barrier: the guard lets a part of the warp through");
        return STEP_JOIN;
    }
    if (!row_uniform(w, &in->s[0], mask, &number) || number >= BARRIERS_MAX)
        return warp_fault(w, in, -1, "the barrier's number is no single one below 16");
    if (in->source_count > 1 &&
        (!row_uniform(w, &in->s[1], mask, &count) || count == 0 || count % LANES))
        return warp_fault(w, in, -1, "the barrier's number of threads is no multiple of 32");
    return barrier_join(w, in, number, count, mask);
}

static void barrier_release(struct block *block, struct barrier *b) {
    struct barrier done = *b;
    *b = (struct barrier){0};
    shared_sync_warps(&block->shared, done.warps, done.waiting);
    for (uint32_t m = done.waiting; m; m &= m - 1) {
        struct warp *w = &block->warps[lane_first(m)];
        const struct instruction *in = w->waiting;
        w->state = WARP_READY;
        worker_ready(block->worker, w);
        if (in->kind == BAR_RED_POPC && !in->d.sink) {
            uint32_t *d = warp_row(w, &in->d);
            for (uint32_t n = w->live; n; n &= n - 1) d[lane_first(n)] = done.count;
        } else if (in->kind >= BAR_RED_AND) {
            bool yes = in->kind == BAR_RED_AND ? done.reduction : done.count != 0;
            warp_predicate_set(w, &in->d, yes ? ALL_LANES : 0, w->live);
        }
    }
}

bool block_barriers_settle(struct block *block) {
    uint32_t done = 0, warps = block->grid->warp_count;
    bool any = false;
    for (uint32_t i = 0; i < warps; i++)
        if (block->warps[i].state == WARP_DONE) done |= (uint32_t)1 << i;
    uint32_t everyone = warps == 32 ? ALL_LANES : ((uint32_t)1 << warps) - 1;
    for (struct barrier *b = block->barriers; b < block->barriers + BARRIERS_MAX; b++) {
        if (!b->arrived) continue;
        bool full = b->all ? (b->warps | done) == everyone : b->arrived >= b->expected;
        if (full) barrier_release(block, b);
        any |= full;
    }
    return any;
}

static void decode_bar(struct decoder *d) {
    struct instruction *in = d->in;
    static const char *const reductions[] = {"popc", "and", "or", NULL};
    (void)decode_take(d, "cta");
    if (decode_take(d, "warp")) {
        if (!decode_take(d, "sync")) decode_fail(d, "only bar.warp.sync is known");
        decode_operands(d, 1, 1);
        in->s[0] = decode_source(d, decode_operand(d, 0), TYPE_B32);
        in->execute = execute_warp_sync;
        return;
    }
    (void)decode_take(d, "aligned"); /* a warp comes together to the others as well */
    size_t first = 0, sources = d->statement->operand_count;
    if (decode_take(d, "red")) {
        int op = decode_take_one(d, reductions);
        if (op < 0) decode_fail(d, "this reduction is not known");
        in->kind = (uint8_t)(BAR_RED_POPC + op);
        if (decode_take_type(d) != (op == 0 ? TYPE_U32 : TYPE_PRED))
            decode_fail(d, "not with that type");
        decode_operands(d, 3, 4);
        in->d = op == 0 ? decode_result(d, decode_operand(d, 0), 4)
                        : decode_predicate_result(d, decode_operand(d, 0));
        in->s[2] = decode_predicate(d, decode_operand(d, sources - 1));
        first = 1;
        sources -= 2;
    } else if (decode_take(d, "arrive")) {
        in->kind = BAR_ARRIVE;
        decode_operands(d, 2, 2);
    } else if (decode_take(d, "sync")) {
        in->kind = BAR_SYNC;
        decode_operands(d, 1, 2);
    } else {
        decode_fail(d, "this form is not known");
    }
    in->source_count = (uint8_t)sources;
    for (size_t i = 0; i < sources; i++)
        in->s[i] = decode_source(d, decode_operand(d, first + i), TYPE_U32);
    in->execute = execute_bar;
}

const struct family family_sync[] = {{"shfl", decode_shfl},
                                     {"vote", decode_vote},
                                     {"match", decode_match},
                                     {"redux", decode_redux},
                                     {"activemask", decode_activemask},
                                     {"bar", decode_bar},
                                     {"barrier", decode_bar},
                                     {"membar", decode_fence},
                                     {"fence", decode_fence},
                                     {NULL, NULL}};
