#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "sim.h"

enum {
    FD_FIRST = 4001, /* ours; what is below belongs to the process */
    FDS_MAX = 160,
    RING_BYTES = 16 * 1024,
    BACKLOG = 128,
    /* A fresh socket takes so much at once, whatever comes later: wick counts on that. */
    FRESH_BYTES = 600,
    US = 1000,
    MS = 1000 * US
};

struct ring {
    uint32_t head, used, size;
    char bytes[RING_BYTES];
};

enum socket_kind { SOCKET_FREE, SOCKET_LISTENS, SOCKET_TALKS, SOCKET_TTY, SOCKET_SIGNALS };

struct net_socket {
    enum socket_kind kind;
    enum wire_kind wire;
    uint32_t address;
    bool held;      /* the server has a descriptor */
    bool waits;     /* in a backlog */
    bool peer_here; /* a client has the id */
    bool peer_over; /* the client sends no more */
    bool peer_gone; /* and reads no more */
    bool reset;
    bool told_reset; /* the server has read ECONNRESET */
    bool over;       /* the server sends no more */
    bool torn;
    bool hung; /* tty */
    uint64_t written;
    struct ring in, out; /* to the server, to the client */
};

static struct net_socket sockets[NET_SOCKETS_MAX];
static int fds[FDS_MAX]; /* the socket; -1: free */
static int backlog[2][BACKLOG];
static uint32_t n_backlog[2];
static int listener[2] = {-1, -1};
static int tty = -1;
static uint32_t signals;
static net_turn_hook *turn_hook;
static uint64_t entropy;
static uint32_t most_held;
static uint32_t storm; /* so many calls still answer EAGAIN */

void net_open(void) {
    for (uint32_t i = 0; i < FDS_MAX; i++) fds[i] = -1;
    entropy = dice_u64();
}

void net_on_turn(net_turn_hook *hook) {
    turn_hook = hook;
}

/* --- rings ----------------------------------------------------------------------------------- */

static uint32_t ring_free(const struct ring *ring) {
    return ring->size - ring->used;
}

static uint32_t ring_put(struct ring *ring, const char *bytes, uint32_t n) {
    if (n > ring_free(ring)) n = ring_free(ring);
    for (uint32_t i = 0; i < n; i++)
        ring->bytes[(ring->head + ring->used + i) % RING_BYTES] = bytes[i];
    ring->used += n;
    return n;
}

static uint32_t ring_take(struct ring *ring, char *bytes, uint32_t n) {
    if (n > ring->used) n = ring->used;
    for (uint32_t i = 0; i < n; i++) bytes[i] = ring->bytes[(ring->head + i) % RING_BYTES];
    ring->head = (ring->head + n) % RING_BYTES;
    ring->used -= n;
    return n;
}

static void ring_clear(struct ring *ring) {
    ring->used = 0;
}

/* --- sockets and descriptors ----------------------------------------------------------------- */

static int socket_new(enum socket_kind kind, enum wire_kind wire) {
    for (int i = 0; i < NET_SOCKETS_MAX; i++) {
        struct net_socket *socket = &sockets[i];
        if (socket->kind != SOCKET_FREE) continue;
        uint32_t in = dice_between(1200, RING_BYTES), out = dice_between(1200, RING_BYTES);
        socket->kind = kind;
        socket->wire = wire;
        socket->held = socket->waits = socket->peer_here = socket->peer_over = socket->peer_gone =
            false;
        socket->reset = socket->told_reset = socket->over = socket->torn = socket->hung = false;
        socket->written = 0;
        socket->in.head = socket->in.used = socket->out.head = socket->out.used = 0;
        socket->in.size = in;
        socket->out.size = out;
        return i;
    }
    return -1;
}

/* The lowest that is free, as the kernel does it. */
static int fd_new(int id) {
    for (int i = 0; i < FDS_MAX; i++) {
        if (fds[i] >= 0) continue;
        fds[i] = id;
        sockets[id].held = true;
        return FD_FIRST + i;
    }
    errno = EMFILE;
    return -1;
}

static bool is_ours(int fd) {
    return fd >= FD_FIRST && fd < FD_FIRST + FDS_MAX;
}

static struct net_socket *socket_of(int fd) {
    int id = fds[fd - FD_FIRST];
    sim_require(id >= 0, "descriptor %d is used after it was closed", fd);
    return &sockets[id];
}

static void socket_settle(struct net_socket *socket) {
    if (!socket->held && !socket->waits && !socket->peer_here) socket->kind = SOCKET_FREE;
}

static uint32_t held_of(enum socket_kind kind) {
    uint32_t n = 0;
    for (int i = 0; i < FDS_MAX; i++) n += fds[i] >= 0 && sockets[fds[i]].kind == kind;
    return n;
}

uint32_t net_held(void) {
    return held_of(SOCKET_TALKS);
}

uint32_t net_most_held(void) {
    return most_held;
}

/* --- the clients' side ----------------------------------------------------------------------- */

int net_connect(enum wire_kind kind, uint32_t address) {
    if (kind == WIRE_TTY) {
        sockets[tty].peer_here = true;
        return tty;
    }
    if (listener[kind] < 0 || n_backlog[kind] == BACKLOG) return -1;
    int id = socket_new(SOCKET_TALKS, kind);
    if (id < 0) return -1;
    sockets[id].peer_here = true;
    sockets[id].address = address;
    sockets[id].waits = true;
    backlog[kind][n_backlog[kind]++] = id;
    return id;
}

uint32_t net_send(int id, const char *bytes, uint32_t n) {
    struct net_socket *socket = &sockets[id];
    if (socket->reset || socket->peer_over || socket->hung) return 0;
    if (socket->over && !socket->held) { /* nobody is there to take it: a reset comes back */
        socket->reset = true;
        return 0;
    }
    return ring_put(&socket->in, bytes, n);
}

uint32_t net_receive(int id, char *bytes, uint32_t n) {
    return ring_take(&sockets[id].out, bytes, n);
}

bool net_is_over(int id) {
    const struct net_socket *socket = &sockets[id];
    return socket->out.used == 0 && (socket->over || socket->reset);
}

bool net_is_torn(int id) {
    return sockets[id].torn;
}

bool net_is_held(int id) {
    return sockets[id].held;
}

void net_half_close(int id) {
    sockets[id].peer_over = true;
}

static void backlog_remove(int id) {
    for (int kind = 0; kind < 2; kind++) {
        for (uint32_t i = 0; i < n_backlog[kind]; i++) {
            if (backlog[kind][i] != id) continue;
            n_backlog[kind]--;
            sockets[id].waits = false;
            memmove(&backlog[kind][i], &backlog[kind][i + 1],
                    (n_backlog[kind] - i) * sizeof backlog[kind][0]);
            return;
        }
    }
}

void net_close(int id) {
    struct net_socket *socket = &sockets[id];
    socket->peer_here = false;
    socket->peer_over = socket->peer_gone = true;
    if (socket->out.used > 0) socket->reset = true; /* closed over unread bytes */
    ring_clear(&socket->out);
    socket_settle(socket);
}

void net_reset(int id) {
    struct net_socket *socket = &sockets[id];
    sim_count(COUNT_RESETS);
    socket->reset = true;
    ring_clear(&socket->in);
    net_close(id);
}

void net_hang_up(int id) {
    struct net_socket *socket = &sockets[id];
    sim_count(COUNT_HANG_UPS);
    socket->hung = true;
    ring_clear(&socket->in);
    ring_clear(&socket->out);
}

void net_pick_up(int id) {
    sockets[id].hung = false;
}

void net_signal(void) {
    signals++;
}

/* --- the server's side ----------------------------------------------------------------------- */

int __real_socket(int domain, int type, int protocol);
int __real_close(int fd);
int __real_open(const char *path, int flags, ...);
ssize_t __real_read(int fd, void *bytes, size_t n);
ssize_t __real_write(int fd, const void *bytes, size_t n);

int __wrap_socket(int domain, int type, int protocol) {
    (void)type, (void)protocol;
    enum wire_kind kind = domain == AF_UNIX ? WIRE_UNIX : WIRE_TCP;
    int id = socket_new(SOCKET_LISTENS, kind);
    return fd_new(id);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length) {
    (void)fd, (void)address, (void)length;
    return 0;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length) {
    (void)fd, (void)address, (void)length;
    errno = ECONNREFUSED;
    return -1;
}

int __wrap_listen(int fd, int n) {
    (void)n;
    struct net_socket *socket = socket_of(fd);
    listener[socket->wire] = (int)(socket - sockets);
    return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length) {
    (void)fd;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(7411)};
    memcpy(address, &in, sizeof in);
    *length = sizeof in;
    return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
    (void)level, (void)name, (void)value, (void)length;
    (void)socket_of(fd);
    return 0;
}

int __wrap_open(const char *path, int flags) {
    if (strcmp(path, NET_TTY_PATH) != 0) return __real_open(path, flags);
    tty = socket_new(SOCKET_TTY, WIRE_TTY);
    return fd_new(tty);
}

int __wrap_tcgetattr(int fd, struct termios *mode) {
    (void)fd;
    memset(mode, 0, sizeof *mode);
    return 0;
}

int __wrap_tcsetattr(int fd, int when, const struct termios *mode) {
    (void)fd, (void)when, (void)mode;
    return 0;
}

int __wrap_signalfd(int fd, const sigset_t *set, int flags) {
    (void)fd, (void)set, (void)flags;
    return fd_new(socket_new(SOCKET_SIGNALS, WIRE_STDIO));
}

int __wrap_sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    (void)how, (void)set, (void)old;
    return 0;
}

ssize_t __wrap_getrandom(void *bytes, size_t n, unsigned flags) {
    (void)flags;
    for (size_t i = 0; i < n; i++) ((uint8_t *)bytes)[i] = (uint8_t)(entropy >> i % 8 * 8);
    return (ssize_t)n;
}

uint64_t __wrap_clock_ns(void) {
    sim.now_ns += 300;
    return sim.now_ns;
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    static const int faults[] = {EMFILE, ENFILE, ECONNABORTED, EINTR, ENOBUFS};
    (void)flags;
    struct net_socket *wire = socket_of(fd);
    sim_require(wire->kind == SOCKET_LISTENS, "accept of a descriptor that does not listen");
    if (n_backlog[wire->wire] == 0) {
        errno = EAGAIN;
        return -1;
    }
    if (dice_fault(20)) {
        sim_count(COUNT_ACCEPT_FAULTS);
        errno = faults[dice_below(sizeof faults / sizeof *faults)];
        return -1;
    }
    int id = backlog[wire->wire][0];
    int connection = fd_new(id);
    if (connection < 0) return -1;
    backlog_remove(id);
    uint32_t held = held_of(SOCKET_TALKS) + held_of(SOCKET_TTY);
    if (held > most_held) most_held = held;
    if (wire->wire == WIRE_TCP) {
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(0x0A000001 + sockets[id].address)};
        memcpy(address, &in, sizeof in);
        *length = sizeof in;
    }
    return connection;
}

static ssize_t fail(int error) {
    if (error == EAGAIN) sim_count(COUNT_EAGAINS);
    if (error == EINTR) sim_count(COUNT_EINTRS);
    errno = error;
    return -1;
}

/* Now and then a long row of calls has nothing to give or to take, whatever poll has said. */
static bool storm_blows(void) {
    enum { STORM_ONE_IN = 3000, STORM_CALLS_MAX = 120 };
    if (sim.season != SEASON_STORM) storm = 0;
    if (dice_fault(STORM_ONE_IN)) {
        storm = dice_between(20, STORM_CALLS_MAX);
        sim_count(COUNT_STORMS);
        sim_note("--- a storm of EAGAIN, %u calls", storm);
    }
    if (storm == 0) return false;
    storm--;
    return true;
}

static ssize_t signal_read(void *bytes, size_t n) {
    struct signalfd_siginfo info = {.ssi_signo = SIGTERM};
    if (signals == 0) return fail(EAGAIN);
    sim_require(n == sizeof info, "a signal is read in %zu bytes", n);
    signals = 0; /* those that wait together are one */
    memcpy(bytes, &info, sizeof info);
    return (ssize_t)n;
}

ssize_t __wrap_read(int fd, void *bytes, size_t n) {
    if (!is_ours(fd)) return __real_read(fd, bytes, n);
    struct net_socket *socket = socket_of(fd);
    if (socket->kind == SOCKET_SIGNALS) return signal_read(bytes, n);
    sim_require(socket->kind != SOCKET_LISTENS && n > 0, "a read that makes no sense");
    if (socket->hung) return dice_one_in(2) ? 0 : fail(EIO);
    if (socket->reset && !socket->told_reset) {
        socket->told_reset = true;
        ring_clear(&socket->in);
        return fail(ECONNRESET);
    }
    if (socket->reset) return 0;
    if (storm_blows() || dice_fault(40)) return fail(EAGAIN);
    if (dice_fault(40)) return fail(EINTR);
    if (socket->in.used == 0) return socket->peer_over ? 0 : fail(EAGAIN);
    uint32_t most = n < RING_BYTES ? (uint32_t)n : RING_BYTES;
    if (dice_fault(4)) {
        most = dice_between(1, most);
        sim_count(COUNT_SHORT_READS);
    }
    return (ssize_t)ring_take(&socket->in, bytes, most);
}

static ssize_t log_write(const void *bytes, size_t n) {
    sim_note("log: %.*s", (int)n - 1, (const char *)bytes);
    if (sim.season != SEASON_STORM || !dice_one_in(10)) return (ssize_t)n;
    sim_count(COUNT_LOG_FAULTS);
    return fail(dice_one_in(2) ? ENOSPC : EAGAIN);
}

ssize_t __wrap_write(int fd, const void *bytes, size_t n) {
    if (fd == NET_LOG_FD) return log_write(bytes, n);
    if (!is_ours(fd)) return __real_write(fd, bytes, n);
    struct net_socket *socket = socket_of(fd);
    sim_require(socket->kind == SOCKET_TALKS || socket->kind == SOCKET_TTY, "a write to nobody");
    sim_require(!socket->over, "a write after the end of the connection");
    if (socket->hung) return fail(EIO);
    if (socket->reset) return fail(socket->told_reset ? EPIPE : ECONNRESET);
    if (socket->peer_gone && socket->wire == WIRE_UNIX) return fail(EPIPE);
    if (socket->peer_gone) { /* taken, and answered with a reset */
        socket->reset = true;
        return (ssize_t)n;
    }
    uint32_t most = n < RING_BYTES ? (uint32_t)n : RING_BYTES;
    if (socket->written >= FRESH_BYTES) {
        if (storm_blows() || dice_fault(20)) return fail(EAGAIN);
        if (dice_fault(40)) return fail(EINTR);
        if (dice_fault(5)) most = dice_between(1, most);
    }
    uint32_t taken = ring_put(&socket->out, bytes, most);
    if (taken == 0) return fail(EAGAIN);
    if (taken < n) sim_count(COUNT_SHORT_WRITES);
    socket->written += taken;
    sim_digest(bytes, taken);
    return (ssize_t)taken;
}

int __wrap_shutdown(int fd, int how) {
    struct net_socket *socket = socket_of(fd);
    sim_require(how == SHUT_WR && socket->kind == SOCKET_TALKS, "a shutdown that makes no sense");
    socket->over = true;
    return 0;
}

int __wrap_close(int fd) {
    if (!is_ours(fd)) return __real_close(fd);
    struct net_socket *socket = socket_of(fd);
    fds[fd - FD_FIRST] = -1;
    socket->held = false;
    if (socket->kind == SOCKET_LISTENS && listener[socket->wire] == (int)(socket - sockets)) {
        listener[socket->wire] = -1;
        for (uint32_t i = 0; i < n_backlog[socket->wire]; i++) {
            struct net_socket *waits = &sockets[backlog[socket->wire][i]];
            waits->over = waits->reset = waits->torn = true;
            waits->waits = false;
            socket_settle(waits);
        }
        n_backlog[socket->wire] = 0;
    }
    if (socket->kind == SOCKET_TALKS && socket->in.used > 0) {
        socket->torn = socket->reset = true;
        ring_clear(&socket->out);
    }
    socket->over = true;
    socket_settle(socket);
    return 0;
}

/* --- poll ------------------------------------------------------------------------------------ */

static short talk_events(const struct net_socket *socket) {
    short events = 0;
    if (socket->hung) return POLLHUP | POLLIN;
    if (socket->reset) return POLLIN | POLLOUT | POLLERR | POLLHUP;
    if (socket->in.used > 0 || socket->peer_over) events |= POLLIN;
    if (ring_free(&socket->out) >= socket->out.size / 3) events |= POLLOUT;
    if (socket->peer_over && socket->over) events |= POLLHUP;
    if (socket->peer_gone && socket->wire == WIRE_UNIX) events |= POLLHUP;
    return events;
}

static short events_of(const struct net_socket *socket) {
    switch (socket->kind) {
    case SOCKET_SIGNALS:
        return signals > 0 ? POLLIN : 0;
    case SOCKET_LISTENS:
        return n_backlog[socket->wire] > 0 ? POLLIN : 0;
    case SOCKET_TALKS:
    case SOCKET_TTY:
        return talk_events(socket);
    case SOCKET_FREE:
        break;
    }
    sim_fail("a poll of nothing");
}

static int poll_fill(struct pollfd *polled, nfds_t n) {
    int ready = 0;
    for (nfds_t i = 0; i < n; i++) {
        polled[i].revents = 0;
        if (polled[i].fd < 0) continue;
        const struct net_socket *socket = socket_of(polled[i].fd);
        short events = events_of(socket);
        if (dice_fault(400)) events |= POLLIN | POLLOUT; /* a wake-up for nothing */
        polled[i].revents = events & (short)(polled[i].events | POLLERR | POLLHUP);
        ready += polled[i].revents != 0;
    }
    return ready;
}

bool net_has_news(void) {
    if (signals > 0 || n_backlog[0] + n_backlog[1] > 0) return true;
    for (int i = 0; i < NET_SOCKETS_MAX; i++) {
        if (sockets[i].kind == SOCKET_TALKS && sockets[i].held && sockets[i].in.used > 0)
            return true;
    }
    return false;
}

/* While nothing happens time goes on: in the storm by bits, and now and then by a leap. */
static void time_pass(uint64_t until_ns, bool moves) {
    uint64_t step_ns = dice_between(20, 5000) * (uint64_t)US;
    if (dice_fault(100)) {
        step_ns = dice_between(100, 10000) * (uint64_t)MS;
        sim_count(COUNT_TIME_JUMPS);
    }
    if (!moves && sim.season != SEASON_STORM && until_ns != UINT64_MAX) step_ns = UINT64_MAX;
    uint64_t left_ns = until_ns - sim.now_ns;
    sim.now_ns = step_ns < left_ns ? sim.now_ns + step_ns : until_ns;
}

int __wrap_poll(struct pollfd *polled, nfds_t n, int timeout_ms) {
    uint64_t until_ns = timeout_ms < 0 ? UINT64_MAX : sim.now_ns + (uint64_t)timeout_ms * MS;
    sim.turn++;
    sim_count(COUNT_TURNS);
    sim.now_ns += dice_between(1, 50) * (uint64_t)US;
    turn_hook(timeout_ms != 0);
    if (dice_fault(100)) return (int)fail(EINTR);
    for (;;) {
        int ready = poll_fill(polled, n);
        if (ready > 0 || timeout_ms == 0 || sim.now_ns >= until_ns) return ready;
        bool moves = turn_hook(true);
        ready = poll_fill(polled, n);
        if (ready > 0) return ready;
        bool stirs = moves || timeout_ms > 0 || signals > 0 || sim.season == SEASON_CALM;
        sim_require(stirs, "the server sleeps for ever");
        time_pass(until_ns, moves);
    }
}
