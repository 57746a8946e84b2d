/* pin: is the file the one that was meant? sha256=HEX says which one that is.
 *
 * A file counts from its first byte to its last; of a disk, which is larger than the file that was
 * written to it, what a GGUF file can have been: all up to the end of the last tensor, with or
 * without the padding behind it. */
#ifndef WICK_ENGINE_PIN_H
#define WICK_ENGINE_PIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "gguf/gguf.h"
#include "secret/digest.h"

struct pin {
    const char *wanted; /* NULL: nothing is computed; "show": nothing is wanted */
    const uint8_t *file;
    uint64_t end;  /* where the file ends, padding included */
    uint64_t bare; /* without it; end, where that is known */
    struct digest digest;
    char hex[DIGEST_HEX + 1];      /* "": not known (yet) */
    char bare_hex[DIGEST_HEX + 1]; /* of what is before `bare` */
};

/* wanted: config->sha256. INVALID_REQUEST if it is neither a digest, "show" nor NULL. */
bool pin_check(const char *wanted, struct fault *fault);

/* All of `pin` is set; gguf has been parsed and its bytes stay mapped. */
void pin_begin(struct pin *pin, const char *wanted, const struct gguf *gguf, const uint8_t *file,
               bool disk);

enum pin_status { PIN_PENDING, PIN_DONE, PIN_FAILED };

/* Computes until done or until the deadline, which is overrun by less than a millisecond where a
 * disk has the bytes at hand. PIN_FAILED: it is another file, MODEL_LOAD_FAILED. */
enum pin_status pin_advance(struct pin *pin, uint64_t deadline_ns, uint32_t *percent,
                            struct fault *fault);

#endif
