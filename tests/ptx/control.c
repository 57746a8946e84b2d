/* Branches, returns, traps. */

#include <string.h>

#include "tests/ptx/families.h"
#include "tests/ptx/warp.h"

static enum step execute_branch(struct warp *w, const struct instruction *in, uint32_t mask) {
    return warp_branch(w, mask, in->target);
}

static void decode_bra(struct decoder *d) {
    (void)decode_take(d, "uni");
    decode_operands(d, 1, 1);
    decode_jump(d, decode_operand(d, 0), NULL);
    d->in->execute = execute_branch;
}

/* brx.idx: each lane goes where its index says. */
struct branch_table {
    uint32_t count;
    uint32_t targets[];
};

static enum step execute_branch_table(struct warp *w, const struct instruction *in, uint32_t mask) {
    const struct branch_table *table = in->detail;
    const uint32_t *index = warp_row(w, &in->a);
    struct split whole = w->splits[w->current];
    for (uint32_t m = mask; m; m &= m - 1)
        if (index[lane_first(m)] >= table->count)
            return warp_fault(w, in, lane_first(m), "index %u of %u branch targets",
                              index[lane_first(m)], table->count);
    uint32_t rest = mask;
    bool first = true;
    while (rest) { /* a split for each target */
        uint32_t lanes = 0, target = index[lane_first(rest)];
        for (uint32_t m = rest; m; m &= m - 1)
            if (index[lane_first(m)] == target) lanes |= (uint32_t)1 << lane_first(m);
        struct split split = {.pc = table->targets[target], .lanes = lanes, .state = SPLIT_RUNS};
        if (first)
            w->splits[w->current] = split;
        else
            w->splits[w->split_count++] = split;
        first = false;
        rest &= ~lanes;
    }
    if (whole.lanes != mask)
        w->splits[w->split_count++] =
            (struct split){.pc = whole.pc + 1, .lanes = whole.lanes & ~mask, .state = SPLIT_RUNS};
    return STEP_JUMP;
}

static void decode_brx(struct decoder *d) {
    (void)decode_take(d, "uni");
    if (!decode_take(d, "idx")) decode_fail(d, "only brx.idx is known");
    decode_operands(d, 2, 2);
    const struct operand *o = decode_operand(d, 1);
    const struct label *label =
        o->kind == OPERAND_LABEL ? function_label_find(d->function, o->label, d->statement->scope)
                                 : NULL;
    if (!label || !label->target_count) decode_fail(d, "a table of branch targets is expected");
    struct branch_table *table =
        pool_take(&d->module->pool, sizeof *table + label->target_count * sizeof(uint32_t));
    table->count = (uint32_t)label->target_count;
    for (size_t i = 0; i < label->target_count; i++)
        decode_jump(d, &label->targets[i], &table->targets[i]);
    d->in->detail = table;
    d->in->a = decode_source(d, decode_operand(d, 0), TYPE_U32);
    d->in->execute = execute_branch_table;
}

/* --- the end ---------------------------------------------------------------------------------- */

static enum step execute_exit(struct warp *w, const struct instruction *in, uint32_t mask) {
    if (tensor_async_pending(&w->async, mask))
        return warp_fault(w, in, lane_first(mask), "exits while its cp.async are under way");
    return warp_exit(w, mask);
}

static void decode_exit(struct decoder *d) {
    decode_operands(d, 0, 0);
    d->in->execute = execute_exit;
}

/* A ret of the kernel ends the thread; one of a function that stands here goes to its end. */
static enum step execute_ret(struct warp *w, const struct instruction *in, uint32_t mask) {
    return execute_exit(w, in, mask);
}

static void decode_ret(struct decoder *d) {
    (void)decode_take(d, "uni");
    decode_operands(d, 0, 0);
    d->in->execute = execute_ret;
}

void control_end(struct instruction *in) {
    in->execute = execute_exit;
}

void control_return_to(struct instruction *in, uint32_t target) {
    if (in->execute != execute_ret) return;
    in->execute = execute_branch;
    in->target = target;
}

static enum step execute_nothing(struct warp *w, const struct instruction *in, uint32_t mask) {
    (void)w, (void)in, (void)mask;
    return STEP_NEXT;
}

void control_nothing(struct instruction *in) {
    in->execute = execute_nothing;
}

static enum step execute_trap(struct warp *w, const struct instruction *in, uint32_t mask) {
    return warp_fault(w, in, lane_first(mask), "trap");
}

static void decode_trap(struct decoder *d) {
    decode_operands(d, 0, 0);
    d->in->execute = execute_trap;
}

static enum step execute_assertion(struct warp *w, const struct instruction *in, uint32_t mask) {
    int lane = lane_first(mask);
    const uint8_t *stack = w->local + (size_t)lane * w->block->grid->kernel->local_bytes;
    uint64_t text;
    uint32_t line;
    memcpy(&text, stack + in->target, sizeof text);
    memcpy(&line, stack + in->offset, sizeof line);
    const struct allocation *a = memory_allocation(w->block->grid->launch->memory, text);
    int room = a ? (int)(a->size - (text - a->base)) : 0;
    return warp_fault(w, in, lane, "assertion failed, line %u of its source: %.*s", line,
                      room > 200 ? 200 : room, a ? (const char *)(uintptr_t)text : "");
}

void control_assertion(struct instruction *in, uint32_t text, uint32_t line) {
    in->execute = execute_assertion;
    in->target = text;
    in->offset = line;
}

static enum step execute_yield(struct warp *w, const struct instruction *in, uint32_t mask) {
    (void)w, (void)in, (void)mask;
    return STEP_YIELD;
}

static void decode_nanosleep(struct decoder *d) {
    if (decode_take_type(d) != TYPE_U32) decode_fail(d, "only .u32 is known");
    decode_operands(d, 1, 1);
    (void)decode_source(d, decode_operand(d, 0), TYPE_U32);
    d->in->execute = execute_yield;
}

/* griddepcontrol: launches follow each other here, so what came before is always done. */
static void decode_griddepcontrol(struct decoder *d) {
    static const char *const actions[] = {"launch_dependents", "wait", NULL};
    if (decode_take_one(d, actions) < 0) decode_fail(d, "this action is not known");
    decode_operands(d, 0, 0);
    d->in->execute = execute_nothing;
}

struct successors control_successors(const struct instruction *in) {
    struct successors s = {.falls = !in->guard.sink};
    if (in->execute == execute_branch) {
        s.count = 1;
        s.targets = &in->target;
    } else if (in->execute == execute_branch_table) {
        const struct branch_table *table = in->detail;
        s.count = table->count;
        s.targets = table->targets;
    } else if (in->execute != execute_exit && in->execute != execute_ret) {
        s.falls = true;
    }
    return s;
}

static void decode_pmevent(struct decoder *d) {
    (void)decode_take(d, "mask");
    decode_operands(d, 1, 1);
    d->in->execute = execute_nothing;
}

const struct family family_control[] = {{"bra", decode_bra},
                                        {"brx", decode_brx},
                                        {"ret", decode_ret},
                                        {"exit", decode_exit},
                                        {"trap", decode_trap},
                                        {"brkpt", decode_trap},
                                        {"call", decode_call},
                                        {"nanosleep", decode_nanosleep},
                                        {"griddepcontrol", decode_griddepcontrol},
                                        {"pmevent", decode_pmevent},
                                        {NULL, NULL}};
