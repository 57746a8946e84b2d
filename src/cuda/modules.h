/* modules: the kernels, as PTX text inside the program (kernels/abi.h says what is in which). */
#ifndef WICK_CUDA_MODULES_H
#define WICK_CUDA_MODULES_H

#include <stdbool.h>
#include <stddef.h>

struct module_text {
    const char *name; /* "matmul_q8" */
    const char *text; /* ends with a zero byte, which bytes does not count */
    size_t bytes;
};

/* False in a program whose section .ptx was removed (images/image.sh does that without a driver):
 * then nothing below may be called. */
bool modules_present(void);

/* The index-th module in order of names; name is NULL past the last. */
struct module_text module_at(size_t index);

/* By name; text is NULL if there is none. */
struct module_text module_find(const char *name);

#endif
