#ifndef WICK_TESTS_PTX_TEST_MACHINE_H
#define WICK_TESTS_PTX_TEST_MACHINE_H

/* Between the halves of test_machine: the table of launches and what does not fit into it. */

#include <stdbool.h>

struct ptx_module;

/* A file of tests/ptx/cases, without .ptx. The caller frees it. Neither returns if it fails. */
char *test_text_read(const char *name);
struct ptx_module *test_module(const char *name);

bool test_wanted(const char *name);
void test_report(const char *name, bool good);

/* Parsing, memory, launches that are compared, compiled code (test_machine_more.c). */
void test_more(void);

#endif
