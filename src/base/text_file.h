/* text_file: small files, as the kernel has them in /proc and /sys, read whole. */
#ifndef WICK_BASE_TEXT_FILE_H
#define WICK_BASE_TEXT_FILE_H

#include <stddef.h>

/* Reads at most size - 1 bytes and ends them with a NUL; a newline at the end is cut. Returns how
 * many there are, -1: errno. */
long text_file_read(const char *path, char *text, size_t size);

#endif
