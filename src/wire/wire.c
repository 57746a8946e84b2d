#include "wire/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "base/panic.h"

enum {
    LISTEN_BACKLOG = 128, /* twice the connections we serve */
    /* What the kernel may keep for a client that does not read; more would only hide it from us. */
    SEND_BUFFER_BYTES = 64 * 1024,
    ADDRESS_BYTES = INET6_ADDRSTRLEN
};

static bool wire_fail(const char *spec, const char *what, struct fault *fault) {
    return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "listen=%s: %s: %s", spec, what,
                     strerror(errno));
}

/* "ADDR:PORT" or "[ADDR]:PORT", numeric. */
static bool address_parse(const char *text, struct sockaddr_storage *address, socklen_t *length) {
    char host[ADDRESS_BYTES];
    bool six = text[0] == '[';
    const char *start = six ? text + 1 : text;
    const char *end = six ? strchr(start, ']') : strrchr(start, ':');
    if (end == NULL || (size_t)(end - start) >= sizeof host) return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    if (six && *++end != ':') return false;
    const char *digits = end + 1;
    size_t n = strlen(digits);
    if (n == 0 || n > 5 || strspn(digits, "0123456789") != n) return false;
    unsigned long port = strtoul(digits, NULL, 10);
    if (port > UINT16_MAX) return false;

    memset(address, 0, sizeof *address);
    if (six) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *length = sizeof *in6;
        return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)address;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    *length = sizeof *in;
    return inet_pton(AF_INET, host, &in->sin_addr) == 1;
}

/* The address in use, with the port that was found when 0 was asked for. */
static void tcp_name(struct wire *wire) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    if (getsockname(wire->fd, (struct sockaddr *)&address, &length) != 0) return;
    char host[ADDRESS_BYTES];
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(wire->name, sizeof wire->name, "tcp:[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(wire->name, sizeof wire->name, "tcp:%s:%u", host, ntohs(in->sin_port));
    }
}

static bool tcp_open(struct wire *wire, const char *spec, const char *text, struct fault *fault) {
    struct sockaddr_storage address;
    socklen_t length;
    if (!address_parse(text, &address, &length)) {
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "listen=%s: not tcp:ADDR:PORT with a numeric address; an IPv6 address "
                         "stands in brackets",
                         spec);
    }
    wire->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (wire->fd < 0) return wire_fail(spec, "socket", fault);
    int on = 1;
    setsockopt(wire->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(wire->fd, (struct sockaddr *)&address, length) != 0) {
        return wire_fail(spec, "bind", fault);
    }
    if (listen(wire->fd, LISTEN_BACKLOG) != 0) return wire_fail(spec, "listen", fault);
    tcp_name(wire);
    return true;
}

/* A socket file that nobody listens on is left over from a server that is gone. */
static bool unix_clear(const char *spec, const struct sockaddr_un *address, struct fault *fault) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return wire_fail(spec, "socket", fault);
    int status = connect(fd, (const struct sockaddr *)address, sizeof *address);
    int reason = errno;
    close(fd);
    if (status == 0) {
        return fault_set(fault, FAULT_INVALID_REQUEST, "listen=%s: another server listens there",
                         spec);
    }
    struct stat file;
    bool is_socket = lstat(address->sun_path, &file) == 0 && S_ISSOCK(file.st_mode);
    if (reason == ECONNREFUSED && is_socket) unlink(address->sun_path);
    return true;
}

static bool unix_open(struct wire *wire, const char *spec, const char *path, struct fault *fault) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path) {
        return fault_set(fault, FAULT_INVALID_REQUEST, "listen=%s: a path has 1 to %zu bytes", spec,
                         sizeof address.sun_path - 1);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (!unix_clear(spec, &address, fault)) return false;
    wire->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (wire->fd < 0) return wire_fail(spec, "socket", fault);
    if (bind(wire->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        return wire_fail(spec, "bind", fault);
    }
    if (listen(wire->fd, LISTEN_BACKLOG) != 0) return wire_fail(spec, "listen", fault);
    return true;
}

/* Speeds that termios has a name for. */
static const struct {
    uint32_t baud;
    speed_t speed;
} speeds[] = {{1200, B1200},       {2400, B2400},       {4800, B4800},       {9600, B9600},
              {19200, B19200},     {38400, B38400},     {57600, B57600},     {115200, B115200},
              {230400, B230400},   {460800, B460800},   {500000, B500000},   {921600, B921600},
              {1000000, B1000000}, {1500000, B1500000}, {2000000, B2000000}, {3000000, B3000000},
              {4000000, B4000000}};

static bool speed_find(const char *baud, speed_t *speed) {
    for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++) {
        char text[16];
        snprintf(text, sizeof text, "%u", speeds[i].baud);
        if (strcmp(text, baud) == 0) {
            *speed = speeds[i].speed;
            return true;
        }
    }
    return false;
}

/* Raw, 8N1, no flow control, modem lines ignored: every byte arrives as it was sent, and none is
 * made up by the driver. */
static bool tty_raw(int fd, const char *baud) {
    struct termios mode;
    if (tcgetattr(fd, &mode) != 0) return false;
    cfmakeraw(&mode);
    mode.c_cflag |= CLOCAL | CREAD;
    mode.c_cflag &= ~(tcflag_t)(CSTOPB | CRTSCTS | HUPCL);
    mode.c_iflag |= IGNBRK;
    mode.c_iflag &= ~(tcflag_t)(IXON | IXOFF | IXANY);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    speed_t speed;
    if (baud != NULL && speed_find(baud, &speed)) {
        cfsetispeed(&mode, speed);
        cfsetospeed(&mode, speed);
    }
    return tcsetattr(fd, TCSANOW, &mode) == 0;
}

static bool tty_open(struct wire *wire, const char *spec, const char *text, struct fault *fault) {
    char path[WIRE_NAME_BYTES];
    const char *comma = strrchr(text, ',');
    const char *baud = comma == NULL ? NULL : comma + 1;
    size_t length = comma == NULL ? strlen(text) : (size_t)(comma - text);
    speed_t speed;
    if (length == 0 || length >= sizeof path || (baud != NULL && !speed_find(baud, &speed))) {
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "listen=%s: not tty:/dev/NAME or tty:/dev/NAME,BAUD with a common speed "
                         "like 115200",
                         spec);
    }
    memcpy(path, text, length);
    path[length] = '\0';
    wire->fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (wire->fd < 0) return wire_fail(spec, "open", fault);
    if (!tty_raw(wire->fd, baud)) return wire_fail(spec, "setting the terminal", fault);
    return true;
}

static void blocking_set(int fd, bool blocking) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return;
    fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static bool stdio_open(struct wire *wire, const char *spec, struct fault *fault) {
    if (fcntl(STDIN_FILENO, F_GETFD) < 0 || fcntl(STDOUT_FILENO, F_GETFD) < 0) {
        return wire_fail(spec, "stdin and stdout", fault);
    }
    wire->fd = STDIN_FILENO;
    blocking_set(STDIN_FILENO, false);
    blocking_set(STDOUT_FILENO, false);
    return true;
}

/* What follows `prefix` in text, or NULL. */
static const char *after(const char *text, const char *prefix) {
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

static bool kind_open(struct wire *wire, const char *spec, struct fault *fault) {
    const char *rest;
    if ((rest = after(spec, "tcp:")) != NULL) {
        wire->kind = WIRE_TCP;
        return tcp_open(wire, spec, rest, fault);
    }
    if ((rest = after(spec, "unix:")) != NULL) {
        wire->kind = WIRE_UNIX;
        return unix_open(wire, spec, rest, fault);
    }
    if ((rest = after(spec, "tty:")) != NULL) {
        wire->kind = WIRE_TTY;
        return tty_open(wire, spec, rest, fault);
    }
    if (strcmp(spec, "stdio") == 0) {
        wire->kind = WIRE_STDIO;
        return stdio_open(wire, spec, fault);
    }
    return fault_set(fault, FAULT_INVALID_REQUEST,
                     "listen=%s: no such wire; there are tcp:ADDR:PORT, unix:PATH, "
                     "tty:/dev/NAME,BAUD and stdio",
                     spec);
}

bool wire_open(struct wire *wire, const char *spec, struct fault *fault) {
    *wire = (struct wire){.fd = -1};
    snprintf(wire->name, sizeof wire->name, "%s", spec);
    if (kind_open(wire, spec, fault)) return true;
    if (wire->fd >= 0) close(wire->fd);
    wire->fd = -1;
    return false;
}

/* 127.0.0.0/8 and ::1 stay on this machine. */
bool wire_is_exposed(const char *spec) {
    static const uint8_t loopback[16] = {[15] = 1};
    struct sockaddr_storage address;
    socklen_t length;
    const char *text = after(spec, "tcp:");
    if (text == NULL || !address_parse(text, &address, &length)) return false;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        return ntohl(in->sin_addr.s_addr) >> 24 != 127;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
    return memcmp(&in6->sin6_addr, loopback, sizeof loopback) != 0;
}

static void peer_read(const struct sockaddr_storage *from, struct address *peer) {
    memset(peer, 0, sizeof *peer);
    if (from->ss_family == AF_INET) {
        peer->bytes[10] = peer->bytes[11] = 0xFF;
        memcpy(peer->bytes + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
    } else if (from->ss_family == AF_INET6) {
        memcpy(peer->bytes, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
    }
}

int wire_accept(const struct wire *wire, struct address *peer) {
    wick_assert(wire->kind == WIRE_TCP || wire->kind == WIRE_UNIX);
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof from;
    int fd = accept4(wire->fd, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return fd;
    peer_read(&from, peer);
    int bytes = SEND_BUFFER_BYTES;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (wire->kind != WIRE_TCP) return fd;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* A peer that vanished without a word is noticed in the end. */
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    return fd;
}

void wire_shutdown(int fd) {
    shutdown(fd, SHUT_WR);
}

void wire_close(enum wire_kind kind, int fd) {
    if (kind == WIRE_STDIO) {
        blocking_set(fd, true);
    } else {
        close(fd);
    }
}
