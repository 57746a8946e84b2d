/* Debian compiles libbearssl.a for glibc with _FORTIFY_SOURCE: what its objects call of glibc and
 * musl has not. A program linked with glibc has its own. */
#include <features.h>
#include <stddef.h>

#ifndef __GLIBC__
#include <string.h>

#include "base/panic.h"

void *__memcpy_chk(void *to, const void *from, size_t n, size_t room);

void *__memcpy_chk(void *to, const void *from, size_t n, size_t room) {
    wick_assert(n <= room);
    return memcpy(to, from, n);
}
#endif
