/* Tests of the PTX machine: kernels of tests/ptx/cases, each with what it must write or with the
 * error it must end with. Usage: test_machine CASES [NAME]. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ptx/machine.h"
#include "tests/ptx/test_machine.h"

#define IN_WORDS 256u
#define OUT_WORDS 4096u
#define TEXT_MAX ((size_t)4 << 20)

/* What a kernel wrote: false if a word is wrong. */
typedef bool judge_function(const uint32_t *out);

struct test {
    const char *name; /* of the test and, where kernel is NULL, of the kernel */
    const char *file, *kernel;
    uint32_t grid[3], block[3], shared;
    uint32_t in_words;     /* 0: IN_WORDS */
    uint32_t zeroed;       /* words of out that are written, as 0, before */
    const char *fault;     /* what the error says; NULL: it must succeed */
    judge_function *judge; /* what it must write; NULL: nothing is looked at */
    bool cooperative;
    uint64_t step_limit;
};

static uint32_t *in, *out;

#define EXPECT(count, value)                                                                       \
    for (uint32_t t = 0; t < (count); t++)                                                         \
        if (out[t] != (uint32_t)(value)) {                                                         \
            printf("    word %u is %u, not %u\n", t, out[t], (uint32_t)(value));                   \
            return false;                                                                          \
        }                                                                                          \
    return true

/* --- what kernels write ----------------------------------------------------------------------- */

static bool judge_copy(const uint32_t *out) {
    EXPECT(200, t);
}
static bool judge_neighbour(const uint32_t *out) {
    EXPECT(64, t ^ 1);
}
static bool judge_other_warp(const uint32_t *out) {
    EXPECT(64, t ^ 32);
}
static bool judge_bytes(const uint32_t *out) {
    EXPECT(64, (t & ~3u) * 0x01010101 + 0x03020100);
}
static bool judge_atomics_sum(const uint32_t *out) {
    EXPECT(64, 63 * 64 / 2);
}
static bool judge_half_warp(const uint32_t *out) {
    EXPECT(64, t ^ 8);
}
static bool judge_arrive(const uint32_t *out) {
    EXPECT(64, t & 31);
}
static bool judge_async(const uint32_t *out) {
    EXPECT(64, (t ^ 63) * 4);
}
static bool judge_after_exit(const uint32_t *out) {
    EXPECT(96, t > 40 ? t : t + 1000);
}
static bool judge_warp_sync_branches(const uint32_t *out) {
    EXPECT(32, t ^ 16);
}
static bool judge_exit_shuffle(const uint32_t *out) {
    EXPECT(32, t < 8 ? t ^ 1 : t);
}
static bool judge_guarded(const uint32_t *out) {
    EXPECT(64, t & 1 ? 9 : 8);
}
static uint32_t collatz(uint32_t n) {
    uint32_t steps = 0;
    for (; n != 1; steps++) n = n & 1 ? n * 3 + 1 : n / 2;
    return steps;
}
static bool judge_divergent_loop(const uint32_t *out) {
    EXPECT(64, collatz(t + 1));
}
static bool judge_lock(const uint32_t *out) {
    EXPECT(64, 64);
}
static bool judge_grid_barrier(const uint32_t *words) {
    const uint32_t *out = words + 1;
    EXPECT(5 * 64, (t / 64 + 3) % 5 * 64 + t % 64);
}
static bool judge_last_block(const uint32_t *out) {
    if (out[1] == 39 * 40 / 2) return true;
    printf("    the sum is %u\n", out[1]);
    return false;
}
static bool judge_reductions(const uint32_t *out) {
    EXPECT(64, 32 + 1000 + 10000 + 100000);
}
static bool judge_reductions_many(const uint32_t *out) {
    EXPECT(96, 48 + 0 + 10000 + 100000);
}
static bool judge_where(const uint32_t *out) {
    /* x fastest: threads 3 x 2 x 2, blocks 2 x 3 x 2 */
    EXPECT(144, t / 72 * 100000 + t / 24 % 3 * 10000 + t / 12 % 2 * 1000 + t / 6 % 2 * 100 +
                    t / 3 % 2 * 10 + t % 3);
}
static bool judge_module_variables(const uint32_t *out) {
    static const uint32_t primes[8] = {2, 3, 5, 7, 11, 13, 17, 19};
    static const uint32_t bytes[7] = {1, 2, 3, 4, 5, 0, 0};
    EXPECT(64, primes[t & 7] * 3 + bytes[t % 7] + 3 + 2);
}
static bool judge_shared_generic(const uint32_t *out) {
    EXPECT(64, 256 * 100000 + t * 1000 + 32); /* 20 bytes rounded up to 16s lie before */
}
static bool judge_local(const uint32_t *out) {
    EXPECT(64, t * 100 + (t & 7));
}
static uint32_t twice(uint32_t x) {
    return x == 5 ? 7 : 2 * x;
}
static bool judge_calls(const uint32_t *out) {
    EXPECT(64, t & 1 ? twice(t) + t + 10 : twice(t));
}
static bool judge_branch_table(const uint32_t *out) {
    static const uint32_t values[4] = {100, 200, 300, 200};
    EXPECT(64, values[t & 3] + t);
}
static bool judge_widths(const uint32_t *out) {
    static const uint32_t words[12] = {0xFFFFFF80, /* s8 0x80 */
                                       0x80,       0xFFFF80FF, 0x80FF,    0xFFFFFFFF,
                                       0xFFFFFFFF, 0x000100FF, 2,         6,
                                       7,          0x80FF7F01, 0x0080007F};
    EXPECT(12, words[t]);
}
static bool judge_atomics(const uint32_t *out) {
    /* threads 0 to 127 */
    uint32_t xor = 0;
    for (uint32_t t = 0; t < 128; t++) xor ^= t;
    float sum = 127 * 128 / 2;
    uint32_t sum_bits;
    memcpy(&sum_bits, &sum, sizeof sum_bits);
    const uint32_t words[15] = {
        127 * 128 / 2, 0,         127,      (uint32_t)-127,       0, /* 0 & ... */
        127,           xor,       128 % 11, (11 - 128 % 11) % 11, sum_bits, 77, 5, 128,
        127 * 128 / 2, 0x58005C00}; /* f16: 128 ones, 128 twos */
    EXPECT(15, words[t]);
}
static bool judge_tickets(const uint32_t *words) {
    const uint32_t *out = words + 1;
    EXPECT(1000, 1);
}
static bool judge_scopes(const uint32_t *out) {
    EXPECT(64, (t >= 8 ? 1 : 0) + (t % 2 == 0 && t < 8 ? 2 : 0) + (t % 2 == 0 || t >= 8 ? 4 : 0) +
                   ((t % 2 == 0 && t < 8) == (t % 2 == 0 || t >= 8) ? 8 : 0) + (t < 4 ? 16 : 0));
}
static bool judge_exits(const uint32_t *out) {
    EXPECT(40, t);
}
static bool judge_one(const uint32_t *out) {
    EXPECT(1, 1);
}

/* --- the table -------------------------------------------------------------------------------- */

#define CHECK(name, says)                                                                          \
    { name, "checks", NULL, {1, 1, 1}, {32, 1, 1}, .fault = says }
#define RACE(name, says)                                                                           \
    { name, "races", NULL, {1, 1, 1}, {64, 1, 1}, .fault = says }
#define CONFLICT(name, says)                                                                       \
    { name, "conflicts", NULL, {1, 1, 1}, {64, 1, 1}, .fault = says }
#define CLEAN(name, judged)                                                                        \
    { name, "races", NULL, {1, 1, 1}, {64, 1, 1}, .judge = judged }
#define SYNC(name, threads, says, judged)                                                          \
    { name, "sync", NULL, {1, 1, 1}, {threads, 1, 1}, .fault = says, .judge = judged }
#define RUN(name, judged)                                                                          \
    { name, "run", NULL, {1, 1, 1}, {64, 1, 1}, .judge = judged }

static const struct test tests[] = {
    CHECK("read_past_end", "thread (0, 0, 0): reads 4 bytes"),
    {"read_over_end",
     "checks",
     NULL,
     {1, 1, 1},
     {2, 1, 1},
     .in_words = 6,
     .fault = "thread (1, 0, 0): reads 16 bytes"},
    CHECK("write_before_start", "outside every allocation"),
    CHECK("read_null", "reads 4 bytes at 0x0, outside every allocation"),
    CHECK("read_misaligned", "misaligned"),
    CHECK("read_misaligned_vector", "misaligned"),
    CHECK("atomic_misaligned", "updates 4 bytes"),
    CHECK("read_unwritten", "thread (5, 0, 0): reads 4 bytes"),
    CHECK("update_unwritten", "nobody has written (byte 0 of 'out')"),
    CHECK("read_half_written", "nobody has written (byte 2 of 'out')"),
    CHECK("read_shared_past_end", "writes 4 bytes at 64 of shared memory, which has 64 bytes"),
    {"read_shared_unwritten",
     "checks",
     NULL,
     {1, 1, 1},
     {1, 1, 1},
     .fault = "byte 4 was never written"},
    CHECK("read_local_unwritten", "local memory, not all written"),
    CHECK("read_local_past_end", "writes 4 bytes at 16 of local memory, which has 16 bytes"),
    CHECK("divide_by_zero", "thread (9, 0, 0): division by zero"),
    CHECK("trap_in_thread_3", "thread (3, 0, 0): trap"),
    CHECK("branch_past_table", "thread (2, 0, 0): index 2 of 2 branch targets"),
    {"spin",
     "checks",
     NULL,
     {2, 1, 1},
     {64, 1, 1},
     .step_limit = 100000,
     .fault = "exceeds its limit of 100000 warp instructions"},
    {"copy", "checks", NULL, {7, 1, 1}, {32, 1, 1}, .in_words = 200, .judge = judge_copy},

    RACE("neighbour_without_sync", "a race in shared memory"),
    CLEAN("neighbour_with_warp_sync", judge_neighbour),
    RACE("neighbour_with_shuffle", "a race in shared memory"),
    RACE("other_warp_with_warp_sync", "shared memory"),
    CLEAN("other_warp_with_barrier", judge_other_warp),
    RACE("overwrite_without_second_barrier", "a race in shared memory"),
    CLEAN("overwrite_with_second_barrier", judge_other_warp),
    RACE("write_after_many_reads", "a race in shared memory"),
    {"write_after_reads_of_the_warp",
     "races",
     NULL,
     {1, 1, 1},
     {32, 1, 1},
     .fault = "a race in shared memory"},
    CLEAN("bytes_of_a_word", judge_bytes),
    RACE("same_byte_twice", "wrote byte"),
    CLEAN("atomics_and_barrier", judge_atomics_sum),
    RACE("atomics_without_barrier", "a race in shared memory"),
    CLEAN("half_warp_sync_near", judge_half_warp),
    RACE("half_warp_sync_far", "a race in shared memory"),
    CLEAN("arrive_and_wait", judge_arrive),
    RACE("write_after_arrive", "a race in shared memory"),
    RACE("async_without_wait", "a cp.async of warp"),
    RACE("async_without_barrier", "shared memory"),
    CLEAN("async_with_barrier", judge_async),
    RACE("async_over_unread", "a race in shared memory"),
    {"async_left_behind",
     "races",
     NULL,
     {1, 1, 1},
     {1, 1, 1},
     .fault = "exits while its cp.async are under way"},

    CONFLICT("global_neighbour_without_sync", "a race in global memory: reads 4 bytes"),
    CONFLICT("global_neighbour_with_warp_sync", NULL),
    {"global_other_warp_with_warp_sync",
     "conflicts",
     NULL,
     {1, 1, 1},
     {64, 1, 1},
     .zeroed = 64,
     .fault = "a race in global memory: reads 4 bytes"},
    CONFLICT("global_other_warp_with_barrier", NULL),
    {"global_other_block",
     "conflicts",
     NULL,
     {5, 1, 1},
     {1, 1, 1},
     .zeroed = 5,
     .fault = "of the grid wrote in this launch"},
    CONFLICT("global_same_value", NULL),
    CONFLICT("global_own_values", "a race in global memory: writes 4 bytes"),
    CONFLICT("global_bytes_of_a_word", NULL),
    CONFLICT("global_same_byte", "a race in global memory: writes 1 bytes"),
    CONFLICT("constant_read_of_own_word", "as if they were constant"),
    CONFLICT("async_copy_of_neighbour", "a race in global memory: reads 4 bytes"),

    SYNC("barrier_under_guard", 32, "the guard lets a part of the warp through", NULL),
    SYNC("barrier_in_both_branches", 32, "waits for lanes that never come", NULL),
    SYNC("barrier_by_warp", 64, "a divergent barrier", NULL),
    SYNC("barrier_never_complete", 64, "a barrier that is never complete", NULL),
    SYNC("barrier_counts_differ", 64, "with another number of threads", NULL),
    SYNC("barrier_after_exit", 96, NULL, judge_after_exit),
    SYNC("shuffle_from_outside", 32, "reads lane 20, which does not take part", NULL),
    SYNC("shuffle_in_both_branches", 32, "waits for lanes that never come", NULL),
    SYNC("shuffle_without_oneself", 32, "thread (16, 0, 0): the lane is not in its own", NULL),
    SYNC("waiting_until_the_others_exit", 32, NULL, judge_exit_shuffle),
    SYNC("warp_sync_in_both_branches", 32, NULL, judge_warp_sync_branches),
    SYNC("mma_with_few_lanes", 31, "only lanes 0x7fffffff", NULL),
    SYNC("divergent_loop", 64, NULL, judge_divergent_loop),
    SYNC("lock_within_warp", 64, NULL, judge_lock),
    {"grid_barrier",
     "sync",
     NULL,
     {5, 1, 1},
     {64, 1, 1},
     .zeroed = 1,
     .cooperative = true,
     .judge = judge_grid_barrier},
    {"last_block_sums",
     "sync",
     NULL,
     {40, 1, 1},
     {1, 1, 1},
     .zeroed = 1,
     .judge = judge_last_block},
    SYNC("barrier_reductions", 64, NULL, judge_reductions),
    {"barrier_reductions_that_fail",
     "sync",
     "barrier_reductions",
     {1, 1, 1},
     {96, 1, 1},
     .judge = judge_reductions_many},

    {"where_am_i", "run", NULL, {2, 3, 2}, {3, 2, 2}, .judge = judge_where},
    RUN("module_variables", judge_module_variables),
    {"shared_and_generic",
     "run",
     NULL,
     {1, 1, 1},
     {64, 1, 1},
     .shared = 256,
     .judge = judge_shared_generic},
    RUN("local_memory", judge_local),
    RUN("calls", judge_calls),
    RUN("branch_table", judge_branch_table),
    {"widths", "run", NULL, {1, 1, 1}, {1, 1, 1}, .judge = judge_widths},
    {"atomics", "run", NULL, {4, 1, 1}, {32, 1, 1}, .zeroed = 16, .judge = judge_atomics},
    {"tickets", "run", NULL, {10, 1, 1}, {100, 1, 1}, .zeroed = 1, .judge = judge_tickets},
    RUN("scopes_and_predicates", judge_scopes),
    {"exits", "run", NULL, {1, 1, 1}, {40, 1, 1}, .judge = judge_exits},
    RUN("guarded_write_in_loop", judge_guarded),
    {"clocks", "run", NULL, {1, 1, 1}, {1, 1, 1}, .judge = judge_one},
    {"block_of_too_many_threads",
     "run",
     "exits",
     {1, 1, 1},
     {1025, 1, 1},
     .fault = "a block of 1025 x 1 x 1 threads"},
    {"grid_without_blocks",
     "run",
     "exits",
     {1, 0, 1},
     {32, 1, 1},
     .fault = "a grid of 1 x 0 x 1 blocks"},
    {"block_beyond_maxntid",
     "run",
     "limited",
     {1, 1, 1},
     {65, 1, 1},
     .fault = "the kernel allows 64"},
    {"block_other_than_reqntid",
     "run",
     "required",
     {1, 1, 1},
     {64, 1, 1},
     .fault = "the kernel requires 32 x 2 x 1"},
    {"too_much_shared_memory",
     "run",
     "exits",
     {1, 1, 1},
     {32, 1, 1},
     .shared = PTX_SHARED_BYTES_MAX + 1,
     .fault = "bytes of shared memory, at most"},
};

/* --- running ---------------------------------------------------------------------------------- */

static const char *cases;

char *test_text_read(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s.ptx", cases, name);
    char *text = calloc(1, TEXT_MAX);
    FILE *file = fopen(path, "r");
    if (!text || !file || fread(text, 1, TEXT_MAX - 1, file) == 0) {
        fprintf(stderr, "test_machine: %s cannot be read\n", path);
        exit(2);
    }
    fclose(file);
    return text;
}

struct ptx_module *test_module(const char *name) {
    char *text = test_text_read(name);
    struct ptx_error error;
    struct ptx_module *module = ptx_module_parse(text, &error);
    free(text);
    if (!module) {
        fprintf(stderr, "test_machine: %s.ptx: %s\n", name, error.text);
        exit(2);
    }
    return module;
}

/* One launch of a test, with fresh memory. */
static bool test_launch(const struct test *test, const struct ptx_module *module, uint64_t seed,
                        uint32_t threads, bool calm, struct ptx_error *error) {
    struct ptx_memory *memory = ptx_memory_create();
    uint32_t n = test->in_words ? test->in_words : IN_WORDS;
    (void)ptx_memory_add(memory, in, n * sizeof *in, "in", PTX_MEMORY_DEVICE);
    (void)ptx_memory_add(memory, out, OUT_WORDS * sizeof *out, "out", PTX_MEMORY_DEVICE);
    (void)ptx_module_attach((struct ptx_module *)(uintptr_t)module, memory);
    for (uint32_t i = 0; i < IN_WORDS; i++) in[i] = i;
    memset(out, 0xEE, OUT_WORDS * sizeof *out);
    memset(out, 0, test->zeroed * sizeof *out);
    ptx_memory_mark(memory, in, n * sizeof *in, true);
    ptx_memory_mark(memory, out, test->zeroed * sizeof *out, true);
    void *params[] = {&in, &out, &n};
    struct ptx_launch launch = {
        .kernel = ptx_kernel_find(module, test->kernel ? test->kernel : test->name),
        .memory = memory,
        .dynamic_shared = test->shared,
        .params = params,
        .seed = seed,
        .step_limit = test->step_limit ? test->step_limit : 50000000,
        .cooperative = test->cooperative,
        .threads = threads,
        .calm = calm};
    memcpy(launch.grid, test->grid, sizeof launch.grid);
    memcpy(launch.block, test->block, sizeof launch.block);
    bool done = ptx_launch(&launch, error);
    ptx_module_detach((struct ptx_module *)(uintptr_t)module, memory);
    ptx_memory_free(memory);
    return done;
}

/* Whatever the order of warps and however many threads of the host: the same end. */
static bool test_run(const struct test *test, const struct ptx_module *module) {
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct ptx_error error;
        bool calm = seed == 11;
        bool done = test_launch(test, module, seed, seed & 1 ? 2 : 1, calm, &error);
        if (test->fault && done) {
            printf("    seed %u: it ran, without '%s'\n", (unsigned)seed, test->fault);
            return false;
        }
        if (test->fault && !strstr(error.text, test->fault)) {
            printf("    seed %u: %s\n    does not say: %s\n", (unsigned)seed, error.text,
                   test->fault);
            return false;
        }
        if (!test->fault && !done) {
            printf("    seed %u: %s\n", (unsigned)seed, error.text);
            return false;
        }
        if (test->judge && !test->judge(out)) {
            printf("    with seed %u\n", (unsigned)seed);
            return false;
        }
    }
    return true;
}

static unsigned passed, failed;
static const char *wanted;

void test_report(const char *name, bool good) {
    printf("%s %s\n", good ? "ok  " : "FAIL", name);
    if (good)
        passed++;
    else
        failed++;
}

bool test_wanted(const char *name) {
    return !wanted || strcmp(wanted, name) == 0;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: test_machine CASES [NAME]\n");
        return 2;
    }
    cases = argv[1];
    wanted = argc > 2 ? argv[2] : NULL;
    in = aligned_alloc(256, IN_WORDS * sizeof *in);
    out = aligned_alloc(256, OUT_WORDS * sizeof *out);
    struct ptx_module *module = NULL;
    const char *file = "";
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (!test_wanted(tests[i].name)) continue;
        if (strcmp(file, tests[i].file) != 0) {
            ptx_module_free(module);
            module = test_module(file = tests[i].file);
        }
        test_report(tests[i].name, test_run(&tests[i], module));
    }
    ptx_module_free(module);
    test_more();
    printf("%u passed, %u failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
