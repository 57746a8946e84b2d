#include "boot/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/panic.h"

bool sysfs_write(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    size_t length = strlen(text);
    bool written = write(fd, text, length) == (ssize_t)length;
    int error = errno;
    close(fd);
    errno = error;
    return written;
}

bool sysfs_uevent_find(const char *uevent, const char *name, char *value, size_t size) {
    size_t n = strlen(name);
    for (const char *line = uevent; *line != '\0';) {
        const char *end = strchrnul(line, '\n');
        if (strncmp(line, name, n) == 0 && line[n] == '=') {
            const char *start = line + n + 1;
            size_t length = (size_t)(end - start);
            if (length >= size) return false;
            memcpy(value, start, length);
            value[length] = '\0';
            return true;
        }
        line = *end == '\0' ? end : end + 1;
    }
    return false;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

int sysfs_name_compare(const char *a, const char *b) {
    while (*a != '\0' && *b != '\0') {
        if (!is_digit(*a) || !is_digit(*b)) {
            if (*a != *b) return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
            a++;
            b++;
            continue;
        }
        while (*a == '0' && is_digit(a[1])) a++;
        while (*b == '0' && is_digit(b[1])) b++;
        size_t n = strspn(a, "0123456789");
        size_t m = strspn(b, "0123456789");
        int order = n != m ? (n < m ? -1 : 1) : strncmp(a, b, n);
        if (order != 0) return order;
        a += n;
        b += m;
    }
    return *a == *b ? 0 : *a == '\0' ? -1 : 1;
}

/* Keeps the list sorted. */
static void names_insert(struct sysfs_names *names, const char *name) {
    if (names->n == sizeof names->name / sizeof *names->name) return;
    unsigned at = names->n++;
    for (; at > 0 && sysfs_name_compare(name, names->name[at - 1]) < 0; at--)
        memcpy(names->name[at], names->name[at - 1], SYSFS_NAME_BYTES);
    memcpy(names->name[at], name, strlen(name) + 1);
}

bool sysfs_list(const char *path, struct sysfs_names *names) {
    /* What getdents64(2) writes. */
    struct entry {
        uint64_t inode;
        int64_t offset;
        uint16_t bytes;
        uint8_t type;
        char name[];
    };
    _Alignas(struct entry) char buffer[2048];
    names->n = 0;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    long n;
    while ((n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n;) {
            const struct entry *entry = (const struct entry *)(const void *)(buffer + at);
            wick_assert(entry->bytes > 0);
            at += entry->bytes;
            if (entry->name[0] == '.' || strlen(entry->name) >= SYSFS_NAME_BYTES) continue;
            names_insert(names, entry->name);
        }
    }
    close(fd);
    return true;
}
