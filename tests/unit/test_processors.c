#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/processors.h"
#include "cpu/cpu.h"

static struct processors list;

static const char *shown(const char *text) {
    static char out[PROCESSORS_TEXT_BYTES];
    const char *wrong = processors_parse(text, &list);
    if (wrong != NULL) return "refused";
    processors_show(&list, out, sizeof out);
    return out;
}

Test(processors, a_list_is_numbers_and_ranges_in_the_order_given) {
    cr_assert_str_eq(shown("0-3,8"), "0-3,8");
    cr_assert_eq(list.n, 5);
    cr_assert_eq(list.number[4], 8);
    cr_assert_str_eq(shown("8,0,1,2"), "8,0-2");
    cr_assert_str_eq(shown("1,0"), "1,0");
    cr_assert_str_eq(shown("007"), "7");
    cr_assert_str_eq(shown("1023"), "1023");
    cr_assert_str_eq(shown("0-63"), "0-63");
    cr_assert_eq(list.n, PROCESSORS_MAX);
}

Test(processors, what_is_no_list_is_refused_at_its_place) {
    static const struct {
        const char *text;
        size_t place;
    } bad[] = {{"", 0},      {",", 0},      {"1,", 2},
               {"1,,2", 2},  {"-1", 0},     {"1-", 2},
               {"3-1", 2},   {"3-3", 2},    {"1-2-3", 3},
               {"0 1", 1},   {"a", 0},      {"0x1", 1},
               {"1024", 0},  {"0-1024", 2}, {"1,1", 2},
               {"0-3,2", 4}, {"0-64", 2},   {"18446744073709551616", 0},
               {"+1", 0},    {"1;2", 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct processors before = {.n = 1, .number = {7}}, after = before;
        const char *wrong = processors_parse(bad[i].text, &after);
        cr_assert_eq(wrong, bad[i].text + bad[i].place, "'%s' at %td", bad[i].text,
                     wrong == NULL ? -1 : wrong - bad[i].text);
        cr_assert_eq(memcmp(&before, &after, sizeof before), 0, "'%s'", bad[i].text);
    }
}

Test(processors, a_list_that_is_too_long_to_show_is_cut_at_a_number) {
    for (uint32_t i = 0; i < PROCESSORS_MAX; i++) list.number[i] = (uint16_t)(1000 - 2 * i);
    list.n = PROCESSORS_MAX;
    char out[32 + 1] = "";
    processors_show(&list, out, 32);
    cr_assert_str_eq(out, "1000,998,996,994,992,...");
}

Test(processors, a_list_of_the_affinity_mask_is_chosen_in_its_order) {
    cpu_set_t mask;
    struct fault fault;
    struct processors none = {0}, all, chosen;
    cr_assert_eq(sched_getaffinity(0, sizeof mask, &mask), 0);
    cr_assert(cpu_choose(&none, 0, &all, &fault));
    for (uint32_t i = 0; i < all.n; i++) cr_assert(CPU_ISSET(all.number[i], &mask));
    struct processors one = {.n = 1, .number = {all.number[all.n - 1]}};
    cr_assert(cpu_choose(&one, 0, &chosen, &fault));
    cr_assert(chosen.n == 1 && chosen.number[0] == one.number[0]);
    cr_assert(cpu_choose(&none, 5, &chosen, &fault), "more threads than processors share them");
    cr_assert_eq(chosen.n, 5);
    cr_assert_not(cpu_choose(&one, 2, &chosen, &fault));
    cr_assert_not_null(strstr(fault.text, "threads=2"), "%s", fault.text);
}

Test(processors, one_that_this_process_may_not_run_on_is_named) {
    cpu_set_t mask;
    struct fault fault;
    cr_assert_eq(sched_getaffinity(0, sizeof mask, &mask), 0);
    uint16_t absent = PROCESSORS_NUMBER_LAST;
    while (absent > 0 && CPU_ISSET(absent, &mask)) absent--;
    struct processors listed = {.n = 1, .number = {absent}}, chosen;
    cr_assert_not(cpu_choose(&listed, 0, &chosen, &fault));
    char want[64];
    snprintf(want, sizeof want, "processor %u is not there", absent);
    cr_assert_not_null(strstr(fault.text, want), "%s", fault.text);
    cr_assert_eq(fault.code, FAULT_INVALID_REQUEST);
}
