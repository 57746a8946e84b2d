/* host: the machine around the server, when wick is all that runs on it (boot/). A plain process
 * has none.
 *
 * The main loop waits for the host's descriptors together with its own and tells the host of every
 * turn that it has finished; the host says what the machine wants, and never blocks. */
#ifndef WICK_WIRE_HOST_H
#define WICK_WIRE_HOST_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

enum { HOST_POLL_MAX = 8, HOST_NOTICE_BYTES = 256, HOST_LOG_BYTES = 16 * 1024 };

enum host_wish { HOST_CONTENT, HOST_SHUTDOWN };

struct host {
    const struct host_ops *ops;
};

struct host_ops {
    /* Writes what it waits for to polled (at most HOST_POLL_MAX), returns how many. *next_ns: when
     * serve must be called without being asked; UINT64_MAX: never. */
    uint32_t (*poll)(struct host *host, struct pollfd *polled, uint64_t now_ns, uint64_t *next_ns);
    /* After poll(2), every turn. */
    enum host_wish (*serve)(struct host *host, const struct pollfd *polled, uint32_t n,
                            uint64_t now_ns);
    /* A turn is over, and what it had to do made progress. */
    void (*progress)(struct host *host, uint64_t now_ns);
    /* The end of the machine's log, whole lines, at most `size` bytes; returns how many. */
    size_t (*log)(struct host *host, char *text, size_t size);
    /* What is not as it was asked for, though the server runs; "": nothing. */
    void (*notice)(struct host *host, char text[HOST_NOTICE_BYTES]);
    /* Something failed, a wire for instance, and the server goes on without it. */
    void (*complain)(struct host *host, const char *what);
};

#endif
