/* kernel_call: a system call for code that runs without a C library: the result is the kernel's
 * own, a negative number for an error, and no errno is written (it lies in thread-local storage,
 * and on the driver's threads that is glibc's). */
#ifndef WICK_CUDA_KERNEL_CALL_H
#define WICK_CUDA_KERNEL_CALL_H

#include <stdint.h>

static inline long kernel_call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    long result;
    register uint64_t fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return result;
}

/* A pointer as an argument. */
static inline uint64_t kernel_pointer(const volatile void *pointer) {
    return (uint64_t)(uintptr_t)pointer;
}

#endif
