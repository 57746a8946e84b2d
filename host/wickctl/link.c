#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* A signal handler reaches the main loop through this pipe; nothing else can be a parameter. */
static int interrupt_pipe[2] = {-1, -1};

static bool fail(char error[LINK_ERROR_BYTES], const char *address, const char *why,
                 const char *todo) {
    snprintf(error, LINK_ERROR_BYTES, "cannot connect to %s: %s; %s", address, why, todo);
    return false;
}

/* Nobody listens there. */
static bool fail_to_reach(char error[LINK_ERROR_BYTES], const char *address, int problem) {
    char todo[LINK_ERROR_BYTES / 2];
    snprintf(todo, sizeof todo, "is wick running? start it with: wick model=FILE.gguf listen=%s",
             address);
    return fail(error, address, strerror(problem), todo);
}

static bool connect_in_time(int fd, const struct sockaddr *to, socklen_t length) {
    if (connect(fd, to, length) == 0) return true;
    if (errno != EINPROGRESS) return false;
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int ready;
    do ready = poll(&wait, 1, LINK_CONNECT_MS);
    while (ready < 0 && errno == EINTR);
    if (ready == 0) errno = ETIMEDOUT;
    if (ready <= 0) return false;
    int problem = 0;
    socklen_t size = sizeof problem;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) != 0) return false;
    errno = problem;
    return problem == 0;
}

static bool open_tcp(struct link *link, const char *address, char error[LINK_ERROR_BYTES]) {
    char host[256];
    const char *colon = strrchr(address, ':');
    const char *begin = address + strlen("tcp:");
    size_t length = colon && colon >= begin ? (size_t)(colon - begin) : 0;
    if (length >= 2 && begin[0] == '[' && begin[length - 1] == ']') begin++, length -= 2;
    if (length == 0 || length >= sizeof host || colon[1] == 0)
        return fail(error, address, "not of the form tcp:HOST:PORT", "try tcp:127.0.0.1:7411");
    memcpy(host, begin, length);
    host[length] = 0;

    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    struct addrinfo *list = NULL;
    int status = getaddrinfo(host, colon + 1, &hints, &list);
    if (status != 0)
        return fail(error, address, gai_strerror(status), "check the host's name and the port");
    int problem = 0;
    for (struct addrinfo *a = list; a && link->fd < 0; a = a->ai_next) {
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && connect_in_time(fd, a->ai_addr, a->ai_addrlen)) {
            link->fd = fd;
            break;
        }
        problem = errno;
        if (fd >= 0) close(fd);
    }
    freeaddrinfo(list);
    if (link->fd < 0) return fail_to_reach(error, address, problem);
    int on = 1;
    (void)setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return true;
}

static bool open_unix(struct link *link, const char *address, char error[LINK_ERROR_BYTES]) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = address + strlen("unix:");
    if (!*path || strlen(path) >= sizeof to.sun_path)
        return fail(error, address,
                    "a path of 1 to 107 bytes must follow unix:", "try unix:/run/wick.sock");
    memcpy(to.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || !connect_in_time(fd, (struct sockaddr *)&to, sizeof to)) {
        int problem = errno;
        if (fd >= 0) close(fd);
        return fail_to_reach(error, address, problem);
    }
    link->fd = fd;
    return true;
}

static bool baud_find(long baud, speed_t *speed) {
    static const struct {
        long baud;
        speed_t speed;
    } speeds[] = {
        {9600, B9600},       {19200, B19200},     {38400, B38400},     {57600, B57600},
        {115200, B115200},   {230400, B230400},   {460800, B460800},   {921600, B921600},
        {1000000, B1000000}, {1500000, B1500000}, {2000000, B2000000}, {3000000, B3000000},
        {4000000, B4000000},
    };
    for (size_t i = 0; i < sizeof speeds / sizeof speeds[0]; i++)
        if (speeds[i].baud == baud) {
            *speed = speeds[i].speed;
            return true;
        }
    return false;
}

static bool open_tty(struct link *link, const char *address, char error[LINK_ERROR_BYTES]) {
    char path[256];
    const char *begin = address + strlen("tty:");
    const char *comma = strchr(begin, ',');
    size_t length = comma ? (size_t)(comma - begin) : strlen(begin);
    if (length == 0 || length >= sizeof path)
        return fail(error, address, "not of the form tty:/dev/NAME[,BAUD]",
                    "try tty:/dev/ttyUSB0,115200");
    memcpy(path, begin, length);
    path[length] = 0;
    speed_t speed = B115200;
    link->baud = comma ? strtol(comma + 1, NULL, 10) : LINK_TTY_BAUD;
    if (comma && !baud_find(link->baud, &speed))
        return fail(error, address, "no such baud rate", "try 9600, 115200, 921600 or 4000000");

    int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return fail(error, address, strerror(errno), "check the device and its permissions");
    struct termios raw;
    if (tcgetattr(fd, &raw) != 0) {
        close(fd);
        return fail(error, address, "not a terminal device", "use tcp: or unix: for sockets");
    }
    raw.c_iflag = IGNBRK | IGNPAR;
    raw.c_oflag = 0;
    raw.c_lflag = 0;
    raw.c_cflag = CS8 | CREAD | CLOCAL;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    (void)cfsetispeed(&raw, speed);
    (void)cfsetospeed(&raw, speed);
    if (tcsetattr(fd, TCSANOW, &raw) != 0) {
        int problem = errno;
        close(fd);
        return fail(error, address, strerror(problem), "the device refuses these settings");
    }
    link->fd = fd;
    link->tty = true;
    return true;
}

bool link_open(struct link *link, const char *address, char error[LINK_ERROR_BYTES]) {
    link->fd = -1;
    link->tty = false;
    link->begin = link->end = 0;
    link->seal.kind = SEAL_NONE;
    link->cable = NULL;
    signal(SIGPIPE, SIG_IGN); /* a write to a closed connection is an answer, not the end */
    if (strncmp(address, "tcp:", 4) == 0) return open_tcp(link, address, error);
    if (strncmp(address, "unix:", 5) == 0) return open_unix(link, address, error);
    if (strncmp(address, "tty:", 4) == 0) return open_tty(link, address, error);
    return fail(error, address, "unknown kind of address",
                "use tcp:HOST:PORT, unix:PATH or tty:/dev/NAME[,BAUD]");
}

void link_close(struct link *link) {
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
}

/* Takes what has arrived, as far as there is room. False: the connection is over. */
static bool take(struct link *link) {
    if (link->begin > 0) {
        memmove(link->buffer, link->buffer + link->begin, link->end - link->begin);
        link->end -= link->begin;
        link->begin = 0;
    }
    if (link->end == sizeof link->buffer) return true;
    ssize_t got = read(link->fd, link->buffer + link->end, sizeof link->buffer - link->end);
    if (got > 0) {
        link->end += (size_t)got;
        return true;
    }
    return got < 0 && (errno == EAGAIN || errno == EINTR);
}

static bool bytes_send(struct link *link, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t put = write(link->fd, bytes, length);
        if (put > 0) {
            bytes += put;
            length -= (size_t)put;
            continue;
        }
        if (put < 0 && errno != EAGAIN && errno != EINTR) return false;
        bool room = link->end - link->begin < sizeof link->buffer;
        struct pollfd wait = {.fd = link->fd, .events = (short)(POLLOUT | (room ? POLLIN : 0))};
        if (poll(&wait, 1, -1) < 0 && errno != EINTR) return false;
        if ((wait.revents & POLLIN) && !take(link)) return false;
        if (wait.revents & (POLLERR | POLLNVAL)) return false;
    }
    return true;
}

/* One line, with its trailer. */
static bool line_send(void *context, const char *bytes, size_t n) {
    struct link *link = context;
    char line[2048 + SEAL_TRAILER_MAX];
    if (n >= 2048) return false; /* no caller of ours sends such */
    memcpy(line, bytes, n);
    n += seal_write(&link->seal, bytes, n, line + n);
    line[n++] = '\n';
    return bytes_send(link, line, n);
}

bool link_send(struct link *link, const char *bytes, size_t length) {
    if (link->seal.kind == SEAL_NONE) return bytes_send(link, bytes, length);
    while (length > 0) {
        const char *lf = memchr(bytes, '\n', length);
        if (!lf) return false;
        size_t n = (size_t)(lf - bytes);
        bool sent = link->cable ? cable_send(link->cable, bytes, n) : line_send(link, bytes, n);
        if (!sent) return false;
        bytes += n + 1;
        length -= n + 1;
    }
    return true;
}

bool link_repair(struct link *link) {
    /* A line there and one back at the tty's speed, 10 bits a byte, and time to compute. */
    enum { LINE_BITS = 2 * 1024 * 10, COMPUTE_MS = 300 };
    int patience_ms = COMPUTE_MS + (int)(1000L * LINE_BITS / link->baud);
    link->cable = cable_new(line_send, link, patience_ms);
    return link->cable != NULL;
}

bool link_print(struct link *link, const char *format, ...) {
    char line[2048];
    va_list list;
    va_start(list, format);
    int length = vsnprintf(line, sizeof line - 1, format, list);
    va_end(list);
    if (length < 0 || (size_t)length >= sizeof line - 1) return false;
    line[length] = '\n';
    return link_send(link, line, (size_t)length + 1);
}

/* A whole line out of the buffer; a line longer than the buffer is handed out in pieces. */
static char *line_cut(struct link *link) {
    char *from = link->buffer + link->begin;
    size_t have = link->end - link->begin;
    char *lf = have ? memchr(from, '\n', have) : NULL;
    size_t length = lf ? (size_t)(lf - from) : have;
    if (!lf && have < sizeof link->buffer) return NULL;
    link->begin += lf ? length + 1 : length;
    if (!lf) length--; /* room for the terminator */
    if (length > 0 && from[length - 1] == '\r') length--;
    from[length] = 0;
    return from;
}

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

/* Takes the trailer off. False: the line is not what was sent. */
static bool line_check(struct link *link, char *line) {
    size_t n = strlen(line);
    bool good = seal_check(&link->seal, line, &n);
    if (good) line[n] = 0;
    if (!good && link->seal.kind == SEAL_MAC) link->forged = true;
    return good;
}

enum link_status link_read(struct link *link, int other, int timeout_ms, char **line) {
    long deadline = timeout_ms < 0 ? 0 : now_ms() + timeout_ms;
    bool closed = false;
    for (;;) {
        char press;
        if (interrupt_pipe[0] >= 0 && read(interrupt_pipe[0], &press, 1) == 1)
            return LINK_INTERRUPT;
        while ((*line = link->cable ? cable_next(link->cable) : NULL) == NULL) {
            bool good = false;
            if (!(*line = line_cut(link)) || ((good = line_check(link, *line)) && !link->cable))
                break;
            if (link->seal.kind == SEAL_MAC) return LINK_CLOSED;
            if (link->cable && good) cable_take(link->cable, *line, link->seal.lost);
            if (link->cable && !good) cable_damage(link->cable);
        }
        if (*line) return LINK_LINE;
        if (closed) return LINK_CLOSED;
        int left = -1;
        if (timeout_ms >= 0) {
            long rest = deadline - now_ms();
            left = rest > 0 ? (int)rest : 0;
        }
        int tick = link->cable ? cable_tick(link->cable) : -1;
        bool ticks = tick >= 0 && (left < 0 || tick < left);
        struct pollfd wait[3] = {{.fd = link->fd, .events = POLLIN},
                                 {.fd = interrupt_pipe[0], .events = POLLIN},
                                 {.fd = other, .events = POLLIN}};
        int ready = poll(wait, 3, ticks ? tick : left);
        if (ready < 0 && errno != EINTR) return LINK_CLOSED;
        if (ready == 0 && ticks) continue;
        if (ready == 0) return LINK_TIMEOUT;
        if (ready < 0) continue;
        if (wait[0].revents && !take(link)) closed = true;
        if (wait[2].revents && !wait[0].revents && !wait[1].revents) return LINK_INPUT;
    }
}

static void on_interrupt(int signal_number) {
    (void)signal_number;
    int saved = errno;
    ssize_t put = write(interrupt_pipe[1], "!", 1);
    (void)put;
    errno = saved;
}

void link_catch_interrupt(void) {
    if (interrupt_pipe[0] < 0 && pipe2(interrupt_pipe, O_NONBLOCK | O_CLOEXEC) != 0) return;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void link_release_interrupt(void) {
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}
