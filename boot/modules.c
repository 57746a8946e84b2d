#include "boot/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/panic.h"
#include "base/text_file.h"

/* Where a name becomes a path. */
static bool module_path(const char *word, size_t length, char path[SYSFS_PATH_BYTES]) {
    bool is_path = memchr(word, '/', length) != NULL;
    bool has_end = length > 3 && memcmp(word + length - 3, ".ko", 3) == 0;
    int n = snprintf(path, SYSFS_PATH_BYTES, "%s%.*s%s", is_path ? "" : MODULES_DIRECTORY "/",
                     (int)length, word, has_end || is_path ? "" : ".ko");
    return n > 0 && n < SYSFS_PATH_BYTES;
}

bool module_line_next(const char **at, struct module_line *line) {
    static const char blanks[] = " \t\r";
    while (**at != '\0') {
        const char *start = *at;
        const char *newline = strchrnul(start, '\n');
        *at = *newline == '\0' ? newline : newline + 1;
        const char *remark = memchr(start, '#', (size_t)(newline - start));
        const char *end = remark == NULL ? newline : remark;
        while (start < end && strchr(blanks, *start) != NULL) start++;
        while (end > start && strchr(blanks, end[-1]) != NULL) end--;
        if (start == end) continue;

        const char *stop = start;
        while (stop < end && strchr(blanks, *stop) == NULL) stop++;
        line->too_long = !module_path(start, (size_t)(stop - start), line->path);
        while (stop < end && strchr(blanks, *stop) != NULL) stop++;
        size_t length = (size_t)(end - stop);
        if (length >= sizeof line->parameters) {
            line->too_long = true;
            length = 0;
        }
        memcpy(line->parameters, stop, length);
        line->parameters[length] = '\0';
        return true;
    }
    return false;
}

/* NULL: loaded. */
static const char *module_load(const struct module_line *line) {
    if (line->too_long) return "its line in " MODULES_LIST " is too long";
    int fd = open(line->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return strerror(errno);
    long status = syscall(SYS_finit_module, fd, line->parameters, 0);
    int error = errno;
    close(fd);
    return status == 0 || error == EEXIST ? NULL : strerror(error);
}

unsigned modules_load(module_complaint *complain, void *context) {
    static char list[MODULES_LIST_BYTES];
    long bytes = text_file_read(MODULES_LIST, list, sizeof list);
    if (bytes < 0 && errno == ENOENT) return 0; /* everything is built in */
    if (bytes < 0) complain(context, MODULES_LIST, strerror(errno));
    if (bytes == MODULES_LIST_BYTES - 1) complain(context, MODULES_LIST, "longer than 8 KB: cut");
    unsigned loaded = 0;
    struct module_line line;
    for (const char *at = list; module_line_next(&at, &line);) {
        const char *reason = module_load(&line);
        if (reason == NULL) {
            loaded++;
        } else {
            complain(context, line.path, reason);
        }
    }
    return loaded;
}
