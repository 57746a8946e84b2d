/* The helper: the program that glibc's loader is told to start on the driver thread. It needs
 * nothing but four functions, and hands them to whoever started it.
 *
 * Built without glibc's headers and linked against libraries that exist for the link only
 * (stub.c), so that the references carry no symbol version: dlopen lies in libc.so.6 from glibc
 * 2.34 on and in libdl.so.2 before. */
#include <stdint.h>

#include "cuda/helper/handover.h"

extern void *dlopen(const char *path, int flags);
extern void *dlsym(void *library, const char *name);
extern int dlclose(void *library);
extern char *dlerror(void);

/* rsp points at argc, as at the start of every program. */
__asm__(".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call helper_main\n"
        "    hlt\n");

__attribute__((visibility("hidden"), used)) void helper_main(const uint64_t *block) {
    const struct foreign_functions functions = {dlopen, dlsym, dlclose, dlerror};
    const uint64_t *word = block + 1 + block[0] + 1; /* argc, argv, NULL */
    while (*word != 0) word++;                       /* environment */
    for (word++; word[0] != 0; word += 2) {
        if (word[0] != HANDOVER_AUX_TYPE) continue;
        const struct handover *to = (const struct handover *)(uintptr_t)word[1];
        to->receive(to->context, &functions);
    }
}
