#include "tests/ptx/registers.h"

#include <stdlib.h>
#include <string.h>

#include "tests/ptx/families.h"

/* A stretch of code that is entered at its start and left at its end. */
struct stretch {
    uint32_t first, last; /* instructions */
    uint64_t *in, *out;   /* registers that live before and behind it */
    uint64_t *reads, *writes;
};

struct range {
    uint32_t start, end; /* instructions, both inclusive; start > end: never touched */
    uint32_t id;
};

struct placing {
    struct ptx_kernel *kernel;
    const struct registers *registers;
    struct stretch *stretches;
    uint32_t stretch_count, words;
    uint32_t *of; /* the stretch of each instruction */
    struct range *ranges;
    uint64_t *bits; /* of all stretches */
};

static bool bit_get(const uint64_t *set, uint32_t i) {
    return set[i / 64] >> (i % 64) & 1;
}

static void bit_set(uint64_t *set, uint32_t i) {
    set[i / 64] |= (uint64_t)1 << (i % 64);
}

static void *need(size_t count, size_t size) {
    void *taken = calloc(count + 1, size);
    if (!taken) abort();
    return taken;
}

/* --- stretches -------------------------------------------------------------------------------- */

static void placing_divide(struct placing *p) {
    const struct ptx_kernel *k = p->kernel;
    bool *leads = need(k->code_count, sizeof *leads);
    leads[0] = true;
    for (uint32_t i = 0; i < k->code_count; i++) {
        struct successors s = control_successors(&k->code[i]);
        for (uint32_t t = 0; t < s.count; t++) leads[s.targets[t]] = true;
        if (s.count || !s.falls) leads[i + 1] = true;
    }
    p->of = need(k->code_count, sizeof *p->of);
    for (uint32_t i = 0; i < k->code_count; i++) {
        p->stretch_count += leads[i];
        p->of[i] = p->stretch_count - 1;
    }
    p->stretches = need(p->stretch_count, sizeof *p->stretches);
    p->words = (p->registers->count + 63) / 64;
    p->bits = need((size_t)p->stretch_count * 4 * p->words, sizeof *p->bits);
    for (uint32_t i = 0; i < k->code_count; i++) {
        struct stretch *s = &p->stretches[p->of[i]];
        if (leads[i]) s->first = i;
        s->last = i;
    }
    for (uint32_t i = 0; i < p->stretch_count; i++) {
        uint64_t *bits = p->bits + (size_t)i * 4 * p->words;
        p->stretches[i].in = bits;
        p->stretches[i].out = bits + p->words;
        p->stretches[i].reads = bits + 2 * p->words;
        p->stretches[i].writes = bits + 3 * p->words;
    }
    free(leads);
}

/* Reads before writes, stretch by stretch. What is written under a guard may keep its old value. */
static void placing_collect(struct placing *p) {
    const struct registers *r = p->registers;
    size_t end;
    for (size_t first = 0; first < r->touch_count; first = end) {
        uint32_t i = r->touches[first].instruction;
        struct stretch *s = &p->stretches[p->of[i]];
        for (end = first; end < r->touch_count && r->touches[end].instruction == i; end++) {
        }
        bool guarded = !p->kernel->code[i].guard.sink;
        for (size_t t = first; t < end; t++)
            if ((!r->touches[t].writes || guarded) && !bit_get(s->writes, r->touches[t].id))
                bit_set(s->reads, r->touches[t].id);
        for (size_t t = first; t < end; t++)
            if (r->touches[t].writes && !guarded) bit_set(s->writes, r->touches[t].id);
    }
}

static bool stretch_flow(struct placing *p, struct stretch *s, uint32_t to) {
    const struct stretch *next = &p->stretches[p->of[to]];
    bool changed = false;
    for (uint32_t w = 0; w < p->words; w++) {
        uint64_t out = s->out[w] | next->in[w];
        changed |= out != s->out[w];
        s->out[w] = out;
    }
    return changed;
}

static void placing_flow(struct placing *p) {
    bool changed = true;
    while (changed) {
        changed = false;
        for (uint32_t i = p->stretch_count; i-- > 0;) {
            struct stretch *s = &p->stretches[i];
            struct successors next = control_successors(&p->kernel->code[s->last]);
            if (next.falls && s->last + 1 < p->kernel->code_count)
                changed |= stretch_flow(p, s, s->last + 1);
            for (uint32_t t = 0; t < next.count; t++)
                changed |= stretch_flow(p, s, next.targets[t]);
            for (uint32_t w = 0; w < p->words; w++) {
                uint64_t in = s->reads[w] | (s->out[w] & ~s->writes[w]);
                changed |= in != s->in[w];
                s->in[w] = in;
            }
        }
    }
}

/* --- ranges ----------------------------------------------------------------------------------- */

static void range_extend(struct range *range, uint32_t at) {
    if (at < range->start) range->start = at;
    if (at > range->end) range->end = at;
}

/* One range from the first to the last place where a register lives. A result and the sources of
 * the same instruction overlap, so that no handler finds its result on top of a source. */
static void placing_ranges(struct placing *p) {
    const struct registers *r = p->registers;
    p->ranges = need(r->count, sizeof *p->ranges);
    for (uint32_t id = 0; id < r->count; id++)
        p->ranges[id] = (struct range){.start = UINT32_MAX, .end = 0, .id = id};
    for (size_t t = 0; t < r->touch_count; t++)
        range_extend(&p->ranges[r->touches[t].id], r->touches[t].instruction);
    for (uint32_t i = 0; i < p->stretch_count; i++) {
        const struct stretch *s = &p->stretches[i];
        for (uint32_t id = 0; id < r->count; id++) {
            if (bit_get(s->in, id)) range_extend(&p->ranges[id], s->first);
            if (bit_get(s->out, id)) range_extend(&p->ranges[id], s->last);
        }
    }
}

static int range_compare(const void *a, const void *b) {
    const struct range *x = a, *y = b;
    if (x->start != y->start) return x->start < y->start ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Slots of one size, in the order of the ranges' starts: the first that is free again. */
static size_t placing_slots(struct placing *p, unsigned bytes, size_t at, uint32_t *offsets) {
    size_t size = bytes ? (size_t)LANES * bytes : sizeof(uint32_t), slots = 0;
    uint32_t *ends = need(p->registers->count, sizeof *ends); /* one behind the last use */
    for (uint32_t i = 0; i < p->registers->count; i++) {
        const struct range *range = &p->ranges[i];
        if (p->registers->bytes[range->id] != bytes || range->start > range->end) continue;
        size_t slot = 0;
        while (slot < slots && ends[slot] > range->start) slot++;
        if (slot == slots) slots++;
        ends[slot] = range->end + 1;
        offsets[range->id] = (uint32_t)(at + slot * size);
    }
    free(ends);
    return at + slots * size;
}

static void row_place(struct row *row, const uint32_t *offsets) {
    if (row->base == BASE_REGISTERS && !row->sink) row->offset = offsets[row->offset];
}

/* Rows that an instruction does not use are all zero, which looks like register 0: no harm. */
static void placing_patch(struct placing *p, const uint32_t *offsets) {
    for (uint32_t i = 0; i < p->kernel->code_count; i++) {
        struct instruction *in = &p->kernel->code[i];
        row_place(&in->guard, offsets);
        row_place(&in->d, offsets);
        row_place(&in->a, offsets);
        for (size_t s = 0; s < sizeof in->s / sizeof in->s[0]; s++) row_place(&in->s[s], offsets);
        for (uint32_t n = 0; in->rows && n < in->row_count; n++) row_place(&in->rows[n], offsets);
    }
}

static void placing_undefined(struct placing *p, struct pool *pool, const uint32_t *offsets) {
    struct ptx_kernel *k = p->kernel;
    for (uint32_t id = 0; id < p->registers->count; id++) {
        if (!bit_get(p->stretches[0].in, id)) continue;
        k->undefined = pool_grow(pool, k->undefined, k->undefined_count, sizeof *k->undefined);
        k->undefined[k->undefined_count++] =
            (struct row){.offset = offsets[id], .bytes = p->registers->bytes[id]};
    }
}

void registers_place(struct ptx_kernel *kernel, struct pool *pool,
                     const struct registers *registers) {
    struct placing p = {.kernel = kernel, .registers = registers};
    placing_divide(&p);
    placing_collect(&p);
    placing_flow(&p);
    placing_ranges(&p);
    qsort(p.ranges, registers->count, sizeof *p.ranges, range_compare);
    uint32_t *offsets = need(registers->count, sizeof *offsets);
    size_t at = 0;
    static const unsigned sizes[] = {16, 8, 4, 2, 0}; /* predicates last: rows stay aligned */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        at = placing_slots(&p, sizes[i], at, offsets);
    kernel->register_bytes = (at + 63) / 64 * 64;
    placing_undefined(&p, pool, offsets);
    placing_patch(&p, offsets);
    free(offsets);
    free(p.ranges);
    free(p.of);
    free(p.stretches);
    free(p.bits);
}
