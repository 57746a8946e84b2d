#include "base/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/panic.h"

long text_file_read(const char *path, char *text, size_t size) {
    wick_assert(size > 0);
    text[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -1;
    size_t length = 0;
    ssize_t n = 1;
    while (n > 0 && length < size - 1) {
        n = read(fd, text + length, size - 1 - length);
        if (n > 0) length += (size_t)n;
    }
    int error = errno;
    close(fd);
    errno = error;
    if (length > 0 && text[length - 1] == '\n') length--;
    text[length] = '\0';
    return n < 0 && length == 0 ? -1 : (long)length;
}
