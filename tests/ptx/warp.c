#include "tests/ptx/warp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* After so many atomics, fences and strong accesses while others of the warp wait, one of those
 * runs: what the split spins on may be theirs to do. */
#define TURNS_MAX 32u
/* One time in so many the split that runs is not the one furthest behind. */
#define STRAY_ODDS 32u

uint32_t random_below(struct random *random, uint32_t n) { /* splitmix64 */
    uint64_t z = random->state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

/* --- faults ----------------------------------------------------------------------------------- */

static void thread_id(const struct warp *w, int lane, uint32_t id[3]) {
    const uint32_t *size = w->block->grid->launch->block;
    uint32_t thread = w->index * LANES + (uint32_t)lane;
    id[0] = thread % size[0];
    id[1] = thread / size[0] % size[1];
    id[2] = thread / size[0] / size[1];
}

enum step warp_fault(struct warp *w, const struct instruction *in, int lane, const char *format,
                     ...) {
    struct grid *grid = w->block->grid;
    if (__atomic_exchange_n(&grid->failed, 1, __ATOMIC_SEQ_CST)) return STEP_FAULT;
    char *text = grid->error->text;
    size_t room = sizeof grid->error->text;
    const uint32_t *block = w->block->id;
    int n = snprintf(text, room, "kernel %s, line %u, %s, block (%u, %u, %u), ",
                     grid->kernel->facts.name, in->line, in->opcode, block[0], block[1], block[2]);
    if (lane < 0) {
        n += snprintf(text + n, room - (size_t)n, "warp %u: ", w->index);
    } else {
        uint32_t id[3];
        thread_id(w, lane, id);
        n += snprintf(text + n, room - (size_t)n, "thread (%u, %u, %u): ", id[0], id[1], id[2]);
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + n, room - (size_t)n, format, arguments);
    va_end(arguments);
    return STEP_FAULT;
}

/* --- splits ----------------------------------------------------------------------------------- */

static void splits_merge(struct warp *w) {
    for (uint32_t i = 0; i < w->split_count; i++)
        for (uint32_t j = i + 1; j < w->split_count;) {
            if (w->splits[i].pc != w->splits[j].pc) {
                j++;
                continue;
            }
            w->splits[i].lanes |= w->splits[j].lanes;
            w->splits[i].state = SPLIT_RUNS; /* it may be complete now */
            w->splits[j] = w->splits[--w->split_count];
        }
}

/* No split can run: each waits for lanes that never come. */
static enum step splits_stuck(struct warp *w) {
    const struct split *first = &w->splits[0];
    for (uint32_t i = 1; i < w->split_count; i++)
        if (w->splits[i].pc < first->pc) first = &w->splits[i];
    const struct instruction *code = w->block->grid->kernel->code;
    char others[256] = "";
    int n = 0;
    for (uint32_t i = 0; i < w->split_count && n < 200; i++)
        if (&w->splits[i] != first)
            n += snprintf(others + n, sizeof others - (size_t)n,
                          "; lanes 0x%08x wait at line %u, %s", w->splits[i].lanes,
                          code[w->splits[i].pc].line, code[w->splits[i].pc].opcode);
    return warp_fault(
        w, &code[first->pc], lane_first(first->lanes),
        "a part of the warp waits for lanes that never come: lanes 0x%08x are here%s%s",
        first->lanes, others, w->live == w->born ? "" : "; other lanes have exited");
}

/* Chooses the split that runs next. STEP_FAULT: there is none. */
static enum step splits_choose(struct warp *w) {
    struct worker *worker = w->block->worker;
    splits_merge(w);
    uint32_t ready[LANES], count = 0, best = 0;
    for (uint32_t i = 0; i < w->split_count; i++) {
        if (w->splits[i].state != SPLIT_RUNS) continue;
        ready[count++] = i;
        if (count == 1 || w->splits[i].pc < w->splits[best].pc) best = i;
    }
    if (count == 0) return splits_stuck(w);
    if (count > 1) {
        bool stray = w->turns > TURNS_MAX || (!w->block->grid->launch->calm &&
                                              random_below(&worker->random, STRAY_ODDS) == 0);
        if (stray) {
            best = ready[random_below(&worker->random, count)];
            w->turns = 0;
        }
    }
    w->current = best;
    return STEP_NEXT;
}

/* Where the current split must stop to look for others: the nearest one ahead of it. */
static uint32_t splits_meeting(const struct warp *w) {
    uint32_t here = w->splits[w->current].pc, meeting = UINT32_MAX;
    for (uint32_t i = 0; i < w->split_count; i++)
        if (i != w->current && w->splits[i].pc >= here && w->splits[i].pc < meeting)
            meeting = w->splits[i].pc;
    return meeting;
}

enum step warp_branch(struct warp *w, uint32_t taken, uint32_t target) {
    struct split *s = &w->splits[w->current];
    if (!taken) return STEP_NEXT;
    if (taken != s->lanes) {
        w->splits[w->split_count++] =
            (struct split){.pc = s->pc + 1, .lanes = s->lanes & ~taken, .state = SPLIT_RUNS};
        s->lanes = taken;
    }
    s->pc = target;
    return STEP_JUMP;
}

enum step warp_exit(struct warp *w, uint32_t lanes) {
    struct split *s = &w->splits[w->current];
    w->live &= ~lanes;
    s->lanes &= ~lanes;
    for (uint32_t i = 0; i < w->split_count; i++) /* whoever waited for these need not any more */
        w->splits[i].state = SPLIT_RUNS;
    if (s->lanes) return STEP_NEXT;
    *s = w->splits[--w->split_count];
    if (w->split_count == 0) w->state = WARP_DONE;
    return STEP_JUMP;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void warp_clocks(struct warp *w) {
    uint64_t now = w->block->worker->clock;
    uint8_t *specials = w->base[BASE_SPECIALS];
    for (enum special s = SPECIAL_CLOCK; s <= SPECIAL_GLOBALTIMER_HI; s++) {
        bool high = s == SPECIAL_CLOCK_HI || s == SPECIAL_GLOBALTIMER_HI;
        for (unsigned lane = 0; lane < LANES; lane++) {
            uint64_t value = high ? now >> 32 : now;
            unsigned bytes = special_bytes(s);
            memcpy(specials + s * LANES * 8 + lane * bytes, &value, bytes);
        }
    }
}

bool warp_run(struct warp *w, uint32_t quantum) {
    const struct instruction *code = w->block->grid->kernel->code;
    struct worker *worker = w->block->worker;
    if (splits_choose(w) == STEP_FAULT) return false;
    uint32_t meeting = splits_meeting(w), left = quantum;
    struct split *split = &w->splits[w->current];
    while (left > 0) {
        const struct instruction *in = &code[split->pc];
        uint32_t mask = split->lanes;
        if (!in->guard.sink) mask &= warp_predicate(w, &in->guard);
        left--;
        enum step step = STEP_NEXT;
        if (mask) {
            if (in->clock) {
                worker->clock = worker->clock + quantum - left;
                warp_clocks(w);
            }
            step = in->execute(w, in, mask);
        }
        if (step == STEP_NEXT || step == STEP_YIELD) {
            split->pc++;
            if (step == STEP_YIELD) {
                w->turns += w->split_count > 1;
                break;
            }
            if (split->pc != meeting) continue;
        } else if (step == STEP_JUMP) {
            if (w->state == WARP_DONE) break;
            if (w->split_count == 1) {
                split = &w->splits[w->current = 0];
                meeting = UINT32_MAX;
                continue;
            }
        } else if (step == STEP_JOIN) {
            split->state = SPLIT_JOINS;
        } else if (step == STEP_BLOCK) {
            break;
        } else {
            return false;
        }
        if (splits_choose(w) == STEP_FAULT) return false;
        meeting = splits_meeting(w);
        split = &w->splits[w->current];
    }
    worker->steps += quantum - left;
    worker->clock += quantum - left;
    return true;
}

/* --- birth ------------------------------------------------------------------------------------ */

static void special_fill(struct warp *w, enum special special, uint32_t value) {
    uint8_t *row = w->base[BASE_SPECIALS] + special * LANES * 8;
    for (unsigned lane = 0; lane < LANES; lane++)
        memcpy(row + lane * special_bytes(special), &value, 4);
}

static void warp_specials(struct warp *w) {
    const struct block *block = w->block;
    const struct ptx_launch *launch = block->grid->launch;
    uint32_t *rows = (uint32_t *)(void *)w->base[BASE_SPECIALS];
    memset(rows, 0, (size_t)SPECIAL_COUNT * LANES * 8);
    for (enum special axis = 0; axis < 3; axis++) {
        special_fill(w, SPECIAL_NTID_X + axis, launch->block[axis]);
        special_fill(w, SPECIAL_CTAID_X + axis, block->id[axis]);
        special_fill(w, SPECIAL_NCTAID_X + axis, launch->grid[axis]);
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t id[3], bit = (uint32_t)1 << lane;
        thread_id(w, (int)lane, id);
        for (unsigned axis = 0; axis < 3; axis++)
            rows[(SPECIAL_TID_X + axis) * LANES * 2 + lane] = id[axis];
        rows[SPECIAL_LANEID * LANES * 2 + lane] = lane;
        rows[SPECIAL_LANEMASK_EQ * LANES * 2 + lane] = bit;
        rows[SPECIAL_LANEMASK_LT * LANES * 2 + lane] = bit - 1;
        rows[SPECIAL_LANEMASK_LE * LANES * 2 + lane] = bit | (bit - 1);
        rows[SPECIAL_LANEMASK_GT * LANES * 2 + lane] = ~(bit | (bit - 1));
        rows[SPECIAL_LANEMASK_GE * LANES * 2 + lane] = ~(bit - 1);
    }
    special_fill(w, SPECIAL_WARPID, w->index);
    special_fill(w, SPECIAL_NWARPID, WARPS_MAX);
    special_fill(w, SPECIAL_SMID, 0);
    special_fill(w, SPECIAL_NSMID, 1);
    special_fill(w, SPECIAL_DYNAMIC_SMEM_SIZE, launch->dynamic_shared);
    special_fill(w, SPECIAL_TOTAL_SMEM_SIZE, block->grid->shared_bytes);
}

/* Registers that may be read before they are written hold what nobody should rely on. */
void warp_start(struct warp *w) {
    const struct grid *grid = w->block->grid;
    uint32_t first = w->index * LANES;
    uint32_t count = grid->thread_count - first;
    w->born = w->live = count >= LANES ? ALL_LANES : ((uint32_t)1 << count) - 1;
    w->splits[0] = (struct split){.pc = 0, .lanes = w->live, .state = SPLIT_RUNS};
    w->split_count = 1;
    w->current = 0;
    w->state = WARP_READY;
    w->carry = w->turns = 0;
    w->waiting = NULL;
    for (uint32_t i = 0; i < grid->kernel->undefined_count; i++) {
        const struct row *row = &grid->kernel->undefined[i];
        memset(warp_row(w, row), (int)(0xC0 + random_below(&w->block->worker->random, 16)),
               row->bytes ? (size_t)LANES * row->bytes : sizeof(uint32_t));
    }
    if (grid->kernel->local_bytes)
        memset(w->local_shadow, 0, (size_t)LANES * grid->kernel->local_bytes + 16);
    tensor_async_clear(&w->async);
    warp_specials(w);
}
