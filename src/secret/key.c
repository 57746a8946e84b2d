#include "secret/key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/panic.h"

static int digit_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool is_hex(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (digit_value(text[i]) < 0) return false;
    }
    return true;
}

static bool key_from_hex(struct mac_key *key, const char *hex, size_t n) {
    if (n < KEY_HEX_MIN || n > KEY_HEX_MAX || n % 2 != 0 || !is_hex(hex, n)) return false;
    uint8_t bytes[KEY_BYTES_MAX];
    for (size_t i = 0; i < n / 2; i++) {
        bytes[i] = (uint8_t)(16 * digit_value(hex[2 * i]) + digit_value(hex[2 * i + 1]));
    }
    mac_key_set(key, bytes, n / 2);
    mac_wipe(bytes, sizeof bytes);
    return true;
}

static bool fault_length(const char *name, struct fault *fault) {
    return fault_set(fault, FAULT_INVALID_REQUEST,
                     "%s wants %d to %d hex digits (128 bits or more), or a file that holds them "
                     "and nothing else; make one: openssl rand -hex 32 > FILE",
                     name, KEY_HEX_MIN, KEY_HEX_MAX);
}

bool key_read_file(struct mac_key *key, const char *name, const char *path, struct fault *fault) {
    char text[KEY_HEX_MAX + 16]; /* and blanks */
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fault_set(fault, FAULT_INVALID_REQUEST, "%s%s: %s", name, path, strerror(errno));
    }
    ssize_t got = read(fd, text, sizeof text);
    bool open_to_all = fstat(fd, &status) == 0 && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0;
    close(fd);
    size_t n = got > 0 ? (size_t)got : 0;
    size_t start = 0;
    while (n > 0 && strchr(" \t\r\n", text[n - 1]) != NULL) n--;
    while (start < n && strchr(" \t\r\n", text[start]) != NULL) start++;
    bool fine = got < (ssize_t)sizeof text && key_from_hex(key, text + start, n - start);
    mac_wipe(text, sizeof text);
    if (!fine) return fault_length(name, fault);
    if (open_to_all) {
        log_event(LOG_WARN, "key", "%s%s: others may read the file; chmod 600 it", name, path);
    }
    return true;
}

bool key_read_hex(struct mac_key *key, const char *name, const char *digits, struct fault *fault) {
    return key_from_hex(key, digits, strlen(digits)) || fault_length(name, fault);
}

bool key_read(struct mac_key *key, const char *name, const char *given, struct fault *fault) {
    wick_assert(given != NULL);
    size_t n = strlen(given);
    /* A key that is too short is not to be told to the log as a path. */
    bool key_like = is_hex(given, n) && (n >= KEY_HEX_MIN || access(given, F_OK) != 0);
    return key_like ? key_read_hex(key, name, given, fault)
                    : key_read_file(key, name, given, fault);
}
