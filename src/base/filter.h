/* filter: a seccomp program, put together call by call.
 *
 * A filter may tell apart whose code asks the kernel: ours lies between two addresses that the
 * linker has fixed, and everything else (the loader, glibc, libcuda, the vDSO) lies elsewhere. */
#ifndef WICK_BASE_FILTER_H
#define WICK_BASE_FILTER_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

enum { FILTER_CODE_MAX = 128 };

struct filter {
    struct sock_filter code[FILTER_CODE_MAX];
    uint16_t length;
};

/* Ends the process when the call is not one of x86-64; then loads its number. x32 calls carry bit
 * 30 in their number and so equal no other. */
void filter_begin(struct filter *filter);

/* Loads the low half of an argument, or the number again. */
void filter_load_argument(struct filter *filter, unsigned index);
void filter_load_number(struct filter *filter);

/* Loaded == value: skips `yes` instructions, else `no`. */
void filter_equal(struct filter *filter, uint32_t value, uint32_t yes, uint32_t no);

/* SECCOMP_RET_... */
void filter_return(struct filter *filter, uint32_t action);

/* By whose code the call is made: skips `ours` instructions, else `theirs`. The number is not
 * loaded any more. */
void filter_origin(struct filter *filter, uint32_t ours, uint32_t theirs);

/* Puts the filter on top of those of this thread, with SECCOMP_FILTER_FLAG_TSYNC of all threads.
 * Threads that are started later inherit it. There is no way back. */
bool filter_install(const struct filter *filter, unsigned long flags, struct fault *fault);

#endif
