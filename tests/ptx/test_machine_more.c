/* Tests of the PTX machine that are not one launch of one kernel. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/machine.h"
#include "tests/ptx/test_machine.h"

#define WANT(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("    line %d: %s\n", __LINE__, #condition);                                     \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

/* --- what the parser refuses -------------------------------------------------------------------
 */

#define HEAD ".version 7.0\n.target sm_80\n.address_size 64\n"
#define BODY(text)                                                                                 \
    HEAD ".visible .entry k(.param .u64 a)\n{\n"                                                   \
         ".reg .pred %p<4>;\n.reg .b16 %h<4>;\n.reg .b32 %r<4>;\n.reg .b64 %rd<4>;\n"              \
         "\n" text "\nret;\n}\n"

static const struct {
    const char *name, *text, *says;
} refused[] = {
    {"unknown_opcode", BODY("frob.u32 %r1, %r2;"), "line 11: frob.u32: this opcode is not known"},
    {"unknown_modifier", BODY("add.odd.u32 %r1, %r2, %r3;"), "line 11: add.odd.u32"},
    {"unknown_modifier_of_load", BODY("ld.global.fast.u32 %r1, [%rd1];"), "modifier .fast"},
    {"unknown_type_of_operation", BODY("add.b32 %r1, %r2, %r3;"), "line 11: add.b32"},
    {"unknown_register", BODY("add.u32 %r1, %r2, %q3;"), "line 11: register '%q3' is not known"},
    {"register_beyond_range", BODY("add.u32 %r1, %r2, %r4;"), "register '%r4' is not known"},
    {"unknown_label", BODY("bra NOWHERE;"), "label 'NOWHERE' is not known"},
    {"label_of_inner_scope", BODY("{ L: add.u32 %r1, %r1, 1; } bra L;"), "label 'L' is not known"},
    {"unknown_directive", HEAD ".surface x;", "line 4: directive '.surface' is not known"},
    {"unknown_symbol", BODY("mov.u64 %rd1, nothing;"), "'nothing' is not known"},
    {"narrow_register", BODY("add.u64 %rd1, %rd2, %r1;"), "a register of 32 bits"},
    {"wide_result", BODY("add.u32 %rd1, %r2, %r1;"), "the result's register has 64 bits"},
    {"predicate_as_value", BODY("add.u32 %r1, %r2, %p1;"), "a predicate stands where"},
    {"value_as_predicate", BODY("selp.u32 %r1, %r2, %r3, %r1;"), "a predicate is expected"},
    {"too_few_operands", BODY("add.u32 %r1, %r2;"), "2 operands"},
    {"store_to_parameters", BODY("st.param.u32 [a], %r1;"), "cannot be written"},
    {"rounding_where_none_is", BODY("cvt.rn.u32.u64 %r1, %rd1;"), "nothing is rounded"},
    {"conversion_without_rounding", BODY("cvt.u32.f32 %r1, %r2;"), "rounding is missing"},
    {"unknown_mma",
     BODY("mma.sync.aligned.m16n8k99.row.col.f32.f16.f16.f32 {%r1}, {%r1}, {%r1}, "
          "{%r1};"),
     "this mma is not known"},
    {"body_without_end", HEAD ".entry k()\n{ ret;", "function 'k' does not end"},
    {"call_of_unknown_function", BODY("call.uni frob, ();"), "only a .func can be called"},
    {"function_that_calls_itself",
     HEAD ".func f()\n{ call.uni f, (); ret; }\n.entry k()\n{ call.uni f, (); ret; }",
     "calls nest too deep"},
    {"no_version", ".target sm_80\n.address_size 64\n", "no .version"},
    {"malformed_number", BODY("add.u32 %r1, %r2, 12q;"), "a malformed number"},
    {"comment_without_end", HEAD "/* for ever", "a comment does not end"},
};

static void test_refusals(void) {
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        char name[96];
        snprintf(name, sizeof name, "refuses_%s", refused[i].name);
        if (!test_wanted(name)) continue;
        struct ptx_error error;
        struct ptx_module *module = ptx_module_parse(refused[i].text, &error);
        bool good = !module && strstr(error.text, refused[i].says);
        if (!good)
            printf("    %s\n    does not say: %s\n", module ? "it was accepted" : error.text,
                   refused[i].says);
        ptx_module_free(module);
        test_report(name, good);
    }
}

/* --- memory ----------------------------------------------------------------------------------- */

static bool memory_knows_its_allocations(void) {
    struct ptx_memory *m = ptx_memory_create();
    static uint8_t bytes[1000];
    void *base;
    size_t whole;
    WANT(ptx_memory_add(m, bytes + 100, 100, "a", PTX_MEMORY_DEVICE));
    WANT(ptx_memory_add(m, bytes + 300, 100, "b", PTX_MEMORY_HOST));
    WANT(ptx_memory_add(m, bytes + 200, 100, "between", PTX_MEMORY_DEVICE));
    WANT(!ptx_memory_add(m, bytes + 399, 10, "over b", PTX_MEMORY_DEVICE));
    WANT(!ptx_memory_add(m, bytes + 50, 51, "over a", PTX_MEMORY_DEVICE));
    WANT(!ptx_memory_add(m, bytes, 0, "empty", PTX_MEMORY_DEVICE));
    WANT(ptx_memory_find(m, bytes + 250, 50, &base, &whole));
    WANT(base == bytes + 200 && whole == 100);
    WANT(!ptx_memory_find(m, bytes + 250, 51, NULL, NULL));
    WANT(!ptx_memory_find(m, bytes + 99, 1, NULL, NULL));
    WANT(ptx_memory_remove(m, bytes + 200));
    WANT(!ptx_memory_remove(m, bytes + 200));
    WANT(!ptx_memory_find(m, bytes + 250, 1, NULL, NULL));
    ptx_memory_free(m);
    return true;
}

static bool memory_knows_what_was_written(void) {
    struct ptx_memory *m = ptx_memory_create();
    static uint8_t bytes[200];
    WANT(ptx_memory_add(m, bytes, 100, "a", PTX_MEMORY_DEVICE));
    WANT(ptx_memory_add(m, bytes + 100, 100, "b", PTX_MEMORY_HOST));
    WANT(ptx_memory_written(m, bytes, 100) == 0);
    WANT(ptx_memory_written(m, bytes + 100, 100) == 100);
    ptx_memory_mark(m, bytes + 10, 20, true);
    WANT(ptx_memory_written(m, bytes + 10, 50) == 20);
    ptx_memory_copy_state(m, bytes + 50, bytes + 5, 10);
    WANT(ptx_memory_written(m, bytes + 50, 10) == 0 && ptx_memory_written(m, bytes + 55, 10) == 5);
    ptx_memory_mark(m, bytes + 10, 5, false);
    WANT(ptx_memory_written(m, bytes + 10, 20) == 0 && ptx_memory_written(m, bytes + 15, 20) == 15);
    ptx_memory_free(m);
    return true;
}

/* --- launches --------------------------------------------------------------------------------- */

struct bench {
    struct ptx_module *module;
    struct ptx_memory *memory;
    uint32_t *in, *out, n, out_words;
    struct ptx_error error;
};

static void bench_open(struct bench *b, const char *file, uint32_t n, uint32_t out_words) {
    *b = (struct bench){.n = n, .out_words = out_words};
    b->module = test_module(file);
    b->memory = ptx_memory_create();
    b->in = aligned_alloc(256, (n * 4 + 255) / 256 * 256);
    b->out = aligned_alloc(256, (out_words * 4 + 255) / 256 * 256);
    for (uint32_t i = 0; i < n; i++) b->in[i] = i;
    memset(b->out, 0, out_words * 4);
    (void)ptx_memory_add(b->memory, b->in, n * 4, "in", PTX_MEMORY_DEVICE);
    (void)ptx_memory_add(b->memory, b->out, out_words * 4, "out", PTX_MEMORY_DEVICE);
    (void)ptx_module_attach(b->module, b->memory);
    ptx_memory_mark(b->memory, b->in, n * 4, true);
}

static void bench_close(struct bench *b) {
    ptx_module_detach(b->module, b->memory);
    ptx_memory_free(b->memory);
    ptx_module_free(b->module);
    free(b->in);
    free(b->out);
}

static bool bench_run(struct bench *b, const char *kernel, uint32_t blocks, uint32_t threads,
                      uint64_t seed, const volatile bool *stop) {
    void *params[] = {&b->in, &b->out, &b->n};
    return ptx_launch(&(struct ptx_launch){.kernel = ptx_kernel_find(b->module, kernel),
                                           .memory = b->memory,
                                           .grid = {blocks, 1, 1},
                                           .block = {threads, 1, 1},
                                           .params = params,
                                           .seed = seed,
                                           .threads = 1,
                                           .stop = stop},
                      &b->error);
}

static bool a_race_in_global_memory_shows_in_some_seed(void) {
    struct bench b;
    bench_open(&b, "sync", 1, 1);
    uint32_t first = 0;
    bool differs = false;
    for (uint64_t seed = 0; seed < 8; seed++) {
        WANT(bench_run(&b, "global_race", 4, 128, seed, NULL));
        differs |= seed > 0 && b.out[0] != first;
        first = b.out[0];
    }
    WANT(differs);
    bench_close(&b);
    return true;
}

static bool a_race_of_lanes_shows_in_some_seed(void) {
    struct bench b;
    bench_open(&b, "sync", 1, 1);
    uint32_t seen = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        WANT(bench_run(&b, "race_of_lanes", 1, 32, seed, NULL));
        seen |= b.out[0];
    }
    WANT(seen == 3);
    bench_close(&b);
    return true;
}

static bool lanes_that_part_meet_again(void) {
    struct bench b;
    uint64_t steps = 0;
    bench_open(&b, "sync", 1000, 1);
    void *params[] = {&b.in, &b.out, &b.n};
    WANT(ptx_launch(&(struct ptx_launch){.kernel = ptx_kernel_find(b.module, "part_and_meet"),
                                         .memory = b.memory,
                                         .grid = {1, 1, 1},
                                         .block = {32, 1, 1},
                                         .params = params,
                                         .calm = true,
                                         .steps = &steps},
                    &b.error));
    WANT(steps == 5 + 2 + 1 + 4 * 1000 + 1);
    bench_close(&b);
    return true;
}

static bool pinned_memory_has_bounds(void) {
    struct bench b;
    bench_open(&b, "checks", 64, 64);
    WANT(ptx_memory_remove(b.memory, b.in));
    WANT(ptx_memory_add(b.memory, b.in, 24, "pinned", PTX_MEMORY_HOST));
    WANT(bench_run(&b, "read_over_end", 1, 1, 1, NULL));
    WANT(!bench_run(&b, "read_over_end", 1, 2, 1, NULL));
    WANT(strstr(b.error.text, "'pinned', 24 bytes"));
    bench_close(&b);
    return true;
}

static bool a_seed_repeats_what_it_did(void) {
    struct bench b;
    bench_open(&b, "sync", 1, 1);
    for (uint64_t seed = 0; seed < 8; seed++) {
        WANT(bench_run(&b, "global_race", 4, 128, seed, NULL));
        uint32_t before = b.out[0];
        WANT(bench_run(&b, "global_race", 4, 128, seed, NULL));
        WANT(b.out[0] == before);
    }
    bench_close(&b);
    return true;
}

static bool a_launch_can_be_stopped(void) {
    struct bench b;
    volatile bool stop = true;
    bench_open(&b, "checks", 1, 1);
    WANT(!bench_run(&b, "spin", 1, 32, 1, &stop));
    WANT(strstr(b.error.text, "stopped"));
    bench_close(&b);
    return true;
}

static bool guards_may_not_be_touched(void) {
    struct bench b;
    bench_open(&b, "checks", 64, 64);
    WANT(bench_run(&b, "copy", 2, 32, 1, NULL));
    ptx_memory_guard(b.memory, b.out + 40, 4, true);
    WANT(!bench_run(&b, "copy", 2, 32, 1, NULL));
    WANT(strstr(b.error.text, "in a guarded gap (byte 160 of 'out')"));
    ptx_memory_guard(b.memory, b.out + 40, 4, false);
    WANT(bench_run(&b, "copy", 2, 32, 1, NULL));
    ptx_memory_guard(b.memory, b.in + 3, 1, true);
    WANT(!bench_run(&b, "copy", 2, 32, 1, NULL));
    WANT(strstr(b.error.text, "thread (3, 0, 0): reads 4 bytes"));
    bench_close(&b);
    return true;
}

static bool what_was_freed_is_outside(void) {
    struct bench b;
    bench_open(&b, "checks", 64, 64);
    WANT(ptx_memory_remove(b.memory, b.in));
    WANT(!bench_run(&b, "copy", 2, 32, 1, NULL));
    WANT(strstr(b.error.text, "outside every allocation"));
    bench_close(&b);
    return true;
}

static bool module_variables_outlive_launches(void) {
    struct bench b;
    void *address;
    size_t size;
    bench_open(&b, "run", 1, 1);
    for (uint32_t i = 0; i < 3; i++) {
        WANT(bench_run(&b, "counts_launches", 1, 1, i, NULL));
        WANT(b.out[0] == i);
    }
    WANT(ptx_module_global(b.module, "counter", &address, &size));
    WANT(size == 4 && *(uint32_t *)address == 3);
    WANT(!ptx_module_global(b.module, "nothing", NULL, NULL));
    WANT(ptx_kernel_find(b.module, "nothing") == NULL);
    WANT(ptx_module_version(b.module) == 70 && ptx_module_target(b.module) == 80);
    bench_close(&b);
    return true;
}

static bool kernels_are_described(void) {
    struct ptx_module *m = test_module("run");
    struct ptx_kernel_facts f = ptx_kernel_describe(ptx_kernel_find(m, "required"));
    WANT(f.max_threads == 64 && f.required[0] == 32 && f.required[1] == 2 && f.required[2] == 1);
    WANT(f.param_count == 3 && f.param_bytes == 20);
    WANT(f.params[1].offset == 8 && f.params[1].size == 8 && f.params[2].offset == 16);
    f = ptx_kernel_describe(ptx_kernel_find(m, "shared_and_generic"));
    WANT(f.shared_bytes == 32);
    ptx_module_free(m);
    return true;
}

/* --- code that nvcc wrote -----------------------------------------------------------------------
 */

/* What compiled.cu computes of i: see there. Each within a few units of the last place. */
static double compiled_expected(uint32_t which, double x, uint32_t i) {
    switch (which) {
    case 0:
        return exp(x);
    case 1:
        return sin(x * 1000);
    case 2:
        return cos(x * 100000);
    case 3:
        return log((double)(fabsf((float)x) + 1e-3f));
    case 4:
        return pow(fabs(x) + 0.5, (double)2.3f);
    case 5:
        return tanh(x);
    case 6:
        return erf(x);
    case 7:
        return 1 / sqrt((double)(fabsf((float)x) + 1e-4f));
    case 8:
        return x / (double)3.7f;
    case 9:
        return cbrt(x);
    case 10:
        return (double)((i * 2654435761u) / 1000u % 997u);
    case 11:
        return (double)((int32_t)(i * 2654435761u) / 7 % 1000);
    case 12:
        return (double)(uint32_t)((((uint64_t)i << 33) + 12345) / 1000003);
    case 13:
        return (double)__builtin_popcount(i) + __builtin_clz(i + 1) * 100.0;
    case 14:
        return fma(x, x, 0.25) - 3 * x;
    default:
        return (double)(int8_t)(i * 37);
    }
}

static bool compiled_code_computes(void) {
    struct bench b;
    const uint32_t cases = 16, count = 512;
    bench_open(&b, "compiled", 512, cases * count);
    WANT(bench_run(&b, "mathematics", 4, 128, 3, NULL) || (puts(b.error.text), false));
    for (uint32_t which = 0; which < cases; which++)
        for (uint32_t i = 0; i < count; i++) {
            double x = ((double)i - 256) / 64,
                   expected = compiled_expected(which, (double)(float)x, i);
            float got;
            memcpy(&got, &b.out[which * count + i], sizeof got);
            double error = fabs((double)got - expected);
            double allowed = which == 1 || which == 2 ? 4e-7 : 6e-7 * fabs(expected) + 1e-30;
            if (which == 4) allowed *= 4;
            if (error > allowed) {
                printf("    case %u of %g: %.9g, not %.9g\n", which, x, (double)got, expected);
                return false;
            }
        }
    bench_close(&b);
    return true;
}

__extension__ typedef unsigned __int128 u128;
__extension__ typedef __int128 s128;

static double half_value(uint16_t half) {
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double value = exponent ? ldexp(mantissa + 1024, exponent - 25) : ldexp(mantissa, -24);
    if (exponent == 31) value = mantissa ? (double)NAN : (double)INFINITY;
    return half & 0x8000 ? -value : value;
}

static void words_expected(uint32_t i, uint32_t expected[11]) {
    uint64_t a = (i + 1) * 0x9E3779B97F4A7C15u, b = (i + 3) * 0xC2B2AE3D27D4EB4Fu;
    u128 wide = (u128)a * b + a - (((u128)b << 64) + a * 3);
    for (int k = 0; k < 4; k++) expected[k] = (uint32_t)(wide >> 32 * k);
    expected[4] = (uint32_t)(((s128)(int64_t)a * (int64_t)b) >> 96);
    double p[2] = {half_value((uint16_t)a), half_value((uint16_t)b)};
    double q[2] = {half_value((uint16_t)b), half_value((uint16_t)(a >> 16))};
    expected[5] = (p[0] < q[0] ? 0xFFFFu : 0) | (p[1] < q[1] ? 0xFFFF0000 : 0);
    expected[6] = (!(p[0] < q[0]) ? 0xFFFFu : 0) | (!(p[1] < q[1]) ? 0xFFFF0000 : 0);
    expected[7] =
        (p[0] < q[0] || p[0] > q[0] ? 0x3C00u : 0) | (p[1] < q[1] || p[1] > q[1] ? 0x3C000000u : 0);
    expected[8] = (p[0] < q[0]) + 2u * (p[0] > q[0] && p[1] > q[1]);
    uint64_t bytes = (uint64_t)(uint32_t)b << 32 | (uint32_t)a;
    expected[9] = 0;
    for (int k = 0; k < 4; k++)
        expected[9] |= (uint32_t)(bytes >> 8 * (b >> (32 + 4 * k) & 7) & 255) << 8 * k;
    expected[10] = (uint32_t)((bytes << (i & 31)) >> 32);
}

static bool compiled_code_carries_and_permutes(void) {
    struct bench b;
    bench_open(&b, "compiled", 256, 11 * 256);
    WANT(bench_run(&b, "words", 2, 128, 4, NULL) || (puts(b.error.text), false));
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t expected[11];
        words_expected(i, expected);
        for (uint32_t k = 0; k < 11; k++) {
            if (b.out[k * 256 + i] == expected[k]) continue;
            printf("    %u of %u: %08x, not %08x\n", k, i, b.out[k * 256 + i], expected[k]);
            return false;
        }
    }
    bench_close(&b);
    return true;
}

static bool an_assertion_that_fails_says_so(void) {
    struct bench b;
    bench_open(&b, "compiled", 32, 32);
    WANT(!bench_run(&b, "asserts", 1, 32, 1, NULL));
    WANT(strstr(b.error.text, "thread (17, 0, 0): assertion failed"));
    WANT(strstr(b.error.text, "in[threadIdx.x] != 17"));
    bench_close(&b);
    return true;
}

/* A reduction over the block, by shuffles and shared memory; then a histogram by atomics. */
static bool compiled_code_works_together(void) {
    struct bench b;
    bench_open(&b, "compiled", 1000, 1 + 16);
    ptx_memory_mark(b.memory, b.out, 17 * 4, true);
    for (uint64_t seed = 0; seed < 6; seed++) {
        memset(b.out, 0, 17 * 4);
        WANT(bench_run(&b, "together", 4, 256, seed, NULL) || (puts(b.error.text), false));
        WANT(b.out[0] == 999 * 1000 / 2);
        for (uint32_t i = 0; i < 16; i++) WANT(b.out[1 + i] == (i < 8 ? 63u : 62u));
    }
    bench_close(&b);
    return true;
}

static bool compiled_code_sorts(void) {
    struct bench b;
    bench_open(&b, "compiled", 256, 256);
    for (uint32_t i = 0; i < 256; i++) b.in[i] = (i * 167 + 13) % 256;
    WANT(bench_run(&b, "sort", 1, 256, 5, NULL) || (puts(b.error.text), false));
    for (uint32_t i = 0; i < 256; i++) WANT(b.out[i] == i);
    bench_close(&b);
    return true;
}

/* --- all of them ------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    bool (*run)(void);
} tests[] = {
    {"memory_knows_its_allocations", memory_knows_its_allocations},
    {"memory_knows_what_was_written", memory_knows_what_was_written},
    {"a_race_in_global_memory_shows_in_some_seed", a_race_in_global_memory_shows_in_some_seed},
    {"a_race_of_lanes_shows_in_some_seed", a_race_of_lanes_shows_in_some_seed},
    {"lanes_that_part_meet_again", lanes_that_part_meet_again},
    {"pinned_memory_has_bounds", pinned_memory_has_bounds},
    {"a_seed_repeats_what_it_did", a_seed_repeats_what_it_did},
    {"a_launch_can_be_stopped", a_launch_can_be_stopped},
    {"guards_may_not_be_touched", guards_may_not_be_touched},
    {"what_was_freed_is_outside", what_was_freed_is_outside},
    {"module_variables_outlive_launches", module_variables_outlive_launches},
    {"kernels_are_described", kernels_are_described},
    {"compiled_code_computes", compiled_code_computes},
    {"compiled_code_works_together", compiled_code_works_together},
    {"compiled_code_sorts", compiled_code_sorts},
    {"compiled_code_carries_and_permutes", compiled_code_carries_and_permutes},
    {"an_assertion_that_fails_says_so", an_assertion_that_fails_says_so},
};

void test_more(void) {
    test_refusals();
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (test_wanted(tests[i].name)) test_report(tests[i].name, tests[i].run());
}
