/* link: the client's end of a wire: opens an address, sends lines, receives lines, hears Ctrl-C.
 *
 * Addresses: tcp:HOST:PORT  tcp:[V6]:PORT  unix:PATH  tty:/dev/NAME[,BAUD]
 * One link a process: the Ctrl-C pipe is the process's own. */
#ifndef WICKCTL_LINK_H
#define WICKCTL_LINK_H

#include <stdbool.h>
#include <stddef.h>

#include "cable.h"
#include "secret/seal.h"

enum {
    LINK_BUFFER = 1 << 17, /* far above the longest line a server sends */
    LINK_ERROR_BYTES = 600,
    LINK_CONNECT_MS = 5000, /* a host that does not answer at all */
    LINK_TTY_BAUD = 115200  /* when the address names none */
};

struct link {
    int fd;
    bool tty;            /* no connection to lose, noise possible */
    long baud;           /* of a tty */
    struct seal seal;    /* trailers, once they are agreed */
    struct cable *cable; /* makes good what is lost; NULL: nothing is */
    bool forged;         /* a MAC was wrong: why the connection is over */
    size_t begin;        /* unread bytes are buffer[begin .. end) */
    size_t end;
    char buffer[LINK_BUFFER];
};

enum link_status {
    LINK_LINE, /* *line is a line without its CR LF, valid until the next call */
    LINK_TIMEOUT,
    LINK_CLOSED,    /* end of file or an error: the connection is lost */
    LINK_INTERRUPT, /* Ctrl-C was pressed (after link_catch_interrupt) */
    LINK_INPUT      /* the other descriptor is readable */
};

/* On failure writes one sentence (what, where, why, what to do) to error. */
bool link_open(struct link *link, const char *address, char error[LINK_ERROR_BYTES]);
void link_close(struct link *link);

/* Sends whole lines, `length` bytes, waiting as long as the server makes us. False: connection
 * lost. What the server says meanwhile is taken into the buffer, so that neither side can wait for
 * the other. */
bool link_send(struct link *link, const char *bytes, size_t length);

/* From here on what is lost is made good, by REPLAY and by asking again: a CRC is agreed. False: no
 * memory. */
bool link_repair(struct link *link);

/* Formats one line and sends it with its LF. */
bool link_print(struct link *link, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Next line. timeout_ms < 0 waits for ever. `other` is a descriptor to watch too, or -1. Bytes of a
 * last line without LF are lost with the connection. */
enum link_status link_read(struct link *link, int other, int timeout_ms, char **line);

/* From here on Ctrl-C is reported by link_read, once for each press. */
void link_catch_interrupt(void);
/* Ctrl-C kills again, as usual. */
void link_release_interrupt(void);

#endif
