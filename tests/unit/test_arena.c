#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>

#include "base/arena.h"

static uint8_t memory[1 << 16];

/* What a module of the engine would take, over whichever arena it is given. */
static void carve(struct arena *arena, uint8_t *taken[3]) {
    arena_section(arena, "first");
    taken[0] = arena_take(arena, 100, ARENA_ALIGN);
    arena_section(arena, "second");
    taken[1] = arena_take(arena, 5000, ARENA_PAGE);
    arena_section(arena, "first");
    taken[2] = arena_take(arena, 1, 1);
}

Test(arena, measured_plan_equals_what_the_open_arena_uses) {
    struct arena plan;
    struct arena arena;
    struct fault fault;
    uint8_t *taken[3];
    arena_measure(&plan);
    carve(&plan, taken);
    for (int i = 0; i < 3; i++) cr_assert_null(taken[i]);
    cr_assert(arena_map(&arena, plan.used, &fault), "%s", fault.text);
    carve(&arena, taken);
    cr_assert_eq(arena.used, plan.used);
    cr_assert_eq(arena.n_sections, 2);
    size_t sum = 0;
    for (uint32_t i = 0; i < arena.n_sections; i++) {
        cr_assert_eq(arena.section[i].bytes, plan.section[i].bytes);
        sum += arena.section[i].bytes;
    }
    cr_assert_eq(sum, arena.used, "sections must add up to the plan");
    cr_assert_eq(arena.section[0].bytes, 101);
}

Test(arena, mapped_memory_is_zero_aligned_and_apart) {
    struct arena arena;
    struct fault fault;
    cr_assert(arena_map(&arena, 3 << 20, &fault), "%s", fault.text);
    cr_assert_eq((uintptr_t)arena.base % (2 << 20), 0);
    uint8_t *taken[3];
    carve(&arena, taken);
    cr_assert_eq((uintptr_t)taken[0] % ARENA_ALIGN, 0);
    cr_assert_eq((uintptr_t)taken[1] % ARENA_PAGE, 0);
    cr_assert_geq(taken[1], taken[0] + 100);
    cr_assert_geq(taken[2], taken[1] + 5000);
    for (size_t i = 0; i < 5000; i++) cr_assert_eq(taken[1][i], 0);
    arena.base[arena.size - 1] = 1; /* the whole of it is there */
}

Test(arena, memory_of_the_caller_is_zeroed) {
    struct arena arena;
    for (size_t i = 0; i < sizeof memory; i++) memory[i] = 0xAA;
    arena_open(&arena, memory, sizeof memory);
    uint8_t *taken = arena_take(&arena, 64, 64);
    for (size_t i = 0; i < 64; i++) cr_assert_eq(taken[i], 0);
    cr_assert_str_eq(arena.section[0].name, "other");
}

Test(arena, impossible_size_is_a_fault) {
    struct arena arena;
    struct fault fault;
    cr_assert_not(arena_map(&arena, SIZE_MAX - ARENA_PAGE, &fault));
    cr_assert_eq(fault.code, FAULT_INSUFFICIENT_RESOURCES);
    cr_assert_not(arena_map(&arena, (size_t)1 << 60, &fault));
    cr_assert_eq(fault.code, FAULT_INSUFFICIENT_RESOURCES);
}

Test(arena, plan_too_large_to_count_stays_at_the_maximum) {
    struct arena plan;
    arena_measure(&plan);
    arena_take(&plan, SIZE_MAX / 2, 1);
    arena_take(&plan, SIZE_MAX / 2, 1);
    arena_take(&plan, SIZE_MAX / 2, ARENA_ALIGN);
    cr_assert_eq(plan.used, SIZE_MAX);
    arena_take(&plan, 8, ARENA_ALIGN);
    cr_assert_eq(plan.used, SIZE_MAX);
}

Test(arena, sealed_arena_panics_when_taken_from, .signal = SIGABRT) {
    struct arena arena;
    arena_open(&arena, memory, sizeof memory);
    arena_take(&arena, 1, 1);
    arena_seal(&arena);
    arena_take(&arena, 1, 1);
}

Test(arena, taking_more_than_the_plan_panics, .signal = SIGABRT) {
    struct arena arena;
    arena_open(&arena, memory, sizeof memory);
    arena_take(&arena, sizeof memory + 1, 1);
}

Test(arena, the_last_byte_can_be_taken) {
    struct arena arena;
    arena_open(&arena, memory, sizeof memory);
    uint8_t *all = arena_take(&arena, sizeof memory, 1);
    cr_assert_eq(all, memory);
    cr_assert_eq(arena.used, arena.size);
}
