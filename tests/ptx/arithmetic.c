/* Opcodes that compute a result lane by lane: decoded from the tables of lanes.h, executed with
 * the rounding and flushing they ask for. */

#include <stdio.h>
#include <string.h>
#include <xmmintrin.h>

#include "tests/ptx/families.h"
#include "tests/ptx/lanes.h"
#include "tests/ptx/warp.h"

#define MXCSR_DEFAULT 0x1F80u /* all exceptions masked, to nearest */
#define MXCSR_DOWN 0x2000u
#define MXCSR_UP 0x4000u
#define MXCSR_ZERO 0x6000u
#define MXCSR_FLUSH 0x8040u /* results and operands */

/* --- execution -------------------------------------------------------------------------------- */

static void blend(void *to, const void *from, unsigned bytes, uint32_t mask) {
    uint32_t *words = to;
    uint64_t *longs = to;
    for (uint32_t m = mask; bytes == 4 && m; m &= m - 1)
        words[lane_first(m)] = ((const uint32_t *)from)[lane_first(m)];
    for (uint32_t m = mask; bytes == 8 && m; m &= m - 1)
        longs[lane_first(m)] = ((const uint64_t *)from)[lane_first(m)];
    if (bytes >= 4) return;
    for (uint32_t m = mask; m; m &= m - 1) {
        unsigned at = (unsigned)lane_first(m) * bytes;
        memcpy((uint8_t *)to + at, (const uint8_t *)from + at, bytes);
    }
}

enum step arithmetic_execute(struct warp *w, const struct instruction *in, uint32_t mask) {
    const void *s[4];
    for (int i = 0; i < in->source_count; i++) s[i] = warp_row(w, &in->s[i]);
    if (in->d.sink) return STEP_NEXT;
    void *d = warp_row(w, &in->d);
    if ((mask | ~w->live) == ALL_LANES) {
        in->compute(d, s);
        return STEP_NEXT;
    }
    _Alignas(64) uint8_t result[LANES * 8];
    in->compute(result, s);
    blend(d, result, in->result_bytes, mask);
    return STEP_NEXT;
}

static enum step execute_controlled(struct warp *w, const struct instruction *in, uint32_t mask) {
    _mm_setcsr(in->float_control);
    enum step step = arithmetic_execute(w, in, mask);
    _mm_setcsr(MXCSR_DEFAULT);
    return step;
}

static enum step execute_saturated(struct warp *w, const struct instruction *in, uint32_t mask) {
    const void *s[4];
    _Alignas(64) float result[LANES];
    for (int i = 0; i < in->source_count; i++) s[i] = warp_row(w, &in->s[i]);
    if (in->d.sink) return STEP_NEXT;
    _mm_setcsr(in->float_control ? in->float_control : MXCSR_DEFAULT);
    in->compute(result, s);
    _mm_setcsr(MXCSR_DEFAULT);
    for (int i = 0; i < LANES; i++) {
        float v = result[i];
        result[i] = v > 0 ? (v < 1 ? v : 1) : 0;
    }
    blend(warp_row(w, &in->d), result, 4, mask);
    return STEP_NEXT;
}

/* PTX leaves the result of a division by zero open: nobody can rely on it. */
static enum step execute_division(struct warp *w, const struct instruction *in, uint32_t mask) {
    const uint8_t *divisors = warp_row(w, &in->s[1]);
    static const uint8_t zero[8];
    for (uint32_t m = mask; m; m &= m - 1)
        if (memcmp(divisors + (unsigned)lane_first(m) * in->s[1].bytes, zero, in->s[1].bytes) == 0)
            return warp_fault(w, in, lane_first(m), "division by zero");
    return arithmetic_execute(w, in, mask);
}

/* --- decoding --------------------------------------------------------------------------------- */

static enum type letter_type(char letter) {
    switch (letter) {
    case 'h':
        return TYPE_B16;
    case 'w':
        return TYPE_B32;
    case 'd':
        return TYPE_B64;
    case 'f':
        return TYPE_F32;
    case 'g':
        return TYPE_F64;
    case 'e':
        return TYPE_F16;
    case 'E':
        return TYPE_F16X2;
    case 'b':
        return TYPE_BF16;
    case 'B':
        return TYPE_BF16X2;
    default:
        return TYPE_PRED;
    }
}

struct generic {
    bool ftz, sat, rn;
    uint32_t rounding;
    bool directed;
};

/* The opcode without .ftz, .sat and rounding, which are returned. */
static struct generic opcode_strip(const struct decoder *d, char *name, size_t size) {
    struct generic g = {0};
    size_t n = 0;
    for (int i = 0; i < d->part_count; i++) {
        const char *p = d->parts[i];
        if (i > 0 && strcmp(p, "ftz") == 0) {
            g.ftz = true;
        } else if (i > 0 && strcmp(p, "sat") == 0) {
            g.sat = true;
        } else if (i > 0 && strcmp(p, "rn") == 0) {
            g.rn = true;
        } else if (i > 0 &&
                   (strcmp(p, "rz") == 0 || strcmp(p, "rm") == 0 || strcmp(p, "rp") == 0)) {
            g.directed = true;
            g.rounding = p[1] == 'z' ? MXCSR_ZERO : p[1] == 'm' ? MXCSR_DOWN : MXCSR_UP;
        } else {
            n += (size_t)snprintf(name + n, size - n, "%s%s", i ? "." : "", p);
        }
    }
    return g;
}

static void arithmetic_operands(struct decoder *d, const struct lanes_operation *o) {
    struct instruction *in = d->in;
    size_t sources = strlen(o->types) - 1;
    decode_operands(d, sources + 1, sources + 1);
    enum type result = letter_type(o->types[0]);
    in->source_count = (uint8_t)sources;
    in->result_bytes = (uint8_t)type_bytes(result);
    in->d = decode_result(d, decode_operand(d, 0), in->result_bytes);
    for (size_t i = 0; i < sources; i++) {
        enum type type = letter_type(o->types[i + 1]);
        const struct operand *source = decode_operand(d, i + 1);
        in->s[i] = type == TYPE_PRED ? decode_predicate(d, source) : decode_source(d, source, type);
        if (type == TYPE_PRED && in->s[i].negated) decode_fail(d, "a negated selector");
    }
}

bool arithmetic_decode(struct decoder *d) {
    char name[128];
    struct generic g = opcode_strip(d, name, sizeof name);
    const struct lanes_operation *o = lanes_find(d->statement->opcode);
    bool exact = o != NULL;
    if (!o) o = lanes_find(name);
    if (!o) return false;
    /* mov has other forms: vectors and addresses of functions */
    if (strcmp(d->parts[0], "mov") == 0 && (decode_operand(d, 0)->kind == OPERAND_VECTOR ||
                                            decode_operand(d, 1)->kind == OPERAND_VECTOR))
        return false;
    unsigned m = o->modifiers;
    if (!exact) {
        if (g.directed && !(m & LANES_ROUND)) decode_fail(d, "this rounding is not known here");
        if (g.rn && !(m & (LANES_ROUND | LANES_RN))) decode_fail(d, ".rn is not known here");
        if (g.ftz && !(m & LANES_FTZ)) decode_fail(d, ".ftz is not known here");
        if (g.sat && !(m & LANES_SAT)) decode_fail(d, ".sat is not known here");
    }
    arithmetic_operands(d, o);
    struct instruction *in = d->in;
    in->compute = o->compute;
    in->execute = arithmetic_execute;
    if (m & LANES_DIVIDES) in->execute = execute_division;
    bool flush = g.ftz && m & LANES_FTZ;
    if (flush || (g.directed && m & LANES_ROUND)) {
        in->float_control = MXCSR_DEFAULT | g.rounding | (flush ? MXCSR_FLUSH : 0);
        in->execute = execute_controlled;
    }
    if (g.sat && m & LANES_SAT) in->execute = execute_saturated;
    return true;
}
