/* fault: an error that belongs to the world (a bad file, a bad request, a small machine).
 *
 * Our own bugs are not faults: they end in wick_assert (panic.h).
 * The codes are the protocol's: each has one stable word and one stable number (docs/PROTOCOL.md).
 */
#ifndef WICK_BASE_FAULT_H
#define WICK_BASE_FAULT_H

#include <stdbool.h>

enum fault_code {
    FAULT_NONE,
    FAULT_BAD_LINE,               /* 400: the line is not a frame of this protocol */
    FAULT_LOGIN_REFUSED,          /* 401: the key is wrong */
    FAULT_BAD_MAC,                /* 402: the line's MAC is wrong */
    FAULT_FORBIDDEN,              /* 403: an observer may not */
    FAULT_NOT_KEPT,               /* 404: nothing is kept of that job */
    FAULT_UNKNOWN_VERB,           /* 405 */
    FAULT_TAG_IN_USE,             /* 409: the client already runs a job with this tag */
    FAULT_PROMPT_TOO_LONG,        /* 413: prompt + max_tokens over the context */
    FAULT_LINE_TOO_LONG,          /* 414 */
    FAULT_INVALID_REQUEST,        /* 422: a field is missing, unknown or out of its range */
    FAULT_CANCELLED,              /* 499 */
    FAULT_INTERNAL,               /* 500 */
    FAULT_BUSY,                   /* 503: no slot and no room in the queue */
    FAULT_NOT_READY,              /* 504: still loading */
    FAULT_SHUTTING_DOWN,          /* 505 */
    FAULT_INFERENCE_TIMEOUT,      /* 508 */
    FAULT_INSUFFICIENT_RESOURCES, /* 510, at boot */
    FAULT_INSUFFICIENT_VRAM,      /* 511, at boot */
    FAULT_VRAM_OOM,               /* 512 */
    FAULT_CUDA_ERROR,             /* 513 */
    FAULT_MODEL_LOAD_FAILED,      /* 520, at boot: names file, offset and reason */
    FAULT_WORKER_UNHEALTHY,       /* 530 */
    FAULT_CODES
};

struct fault_kind {
    const char *word; /* stable, for programs: "INVALID_REQUEST" */
    int number;       /* stable: 422 */
    bool retriable;   /* the same request may succeed later */
    const char *meaning;
};

enum { FAULT_TEXT_BYTES = 320 };

/* What went wrong, where, why, and what to do; one line of text, no trailing newline. */
struct fault {
    enum fault_code code;
    char text[FAULT_TEXT_BYTES];
};

/* Never NULL for a code below FAULT_CODES. */
const struct fault_kind *fault_kind(enum fault_code code);

/* Fills *fault (text is cut, never overrun) and returns false, so that `return fault_set(...)`
 * reads well. */
bool fault_set(struct fault *fault, enum fault_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
