/* build_id: which build this is: the SHA-1 that the linker computed over the program's contents. */
#ifndef WICK_BASE_BUILD_ID_H
#define WICK_BASE_BUILD_ID_H

/* 40 hexadecimal digits, or "dev" for a program that was linked without linker/wick.ld (wick-lab,
 * wickctl, the tests). Main thread only. */
const char *build_id(void);

#endif
