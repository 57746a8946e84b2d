#include "engine/pin.h"

#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"

/* Between two looks at the clock: 0.3 ms at 200 MB/s. */
enum { PIN_PIECE_BYTES = 64 * 1024 };

bool pin_check(const char *wanted, struct fault *fault) {
    if (wanted == NULL || strcmp(wanted, "show") == 0 || digest_valid(wanted)) return true;
    return fault_set(fault, FAULT_INVALID_REQUEST,
                     "sha256='%.80s': want %d hex digits, as sha256sum FILE writes them, or show",
                     wanted, DIGEST_HEX);
}

void pin_begin(struct pin *pin, const char *wanted, const struct gguf *gguf, const uint8_t *file,
               bool disk) {
    *pin = (struct pin){.wanted = wanted, .file = file, .end = gguf->file_bytes};
    digest_begin(&pin->digest);
    uint64_t last = gguf->header_bytes;
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        uint64_t end = gguf->tensor[i].data_offset + gguf->tensor[i].bytes;
        if (end > last) last = end;
    }
    uint64_t padded = round_up(last, gguf->alignment);
    if (disk && padded < pin->end) pin->end = padded;
    pin->bare = disk ? last : pin->end;
}

static enum pin_status pin_judge(struct pin *pin, struct fault *fault) {
    digest_tell(&pin->digest, pin->hex);
    if (strcmp(pin->wanted, "show") == 0 || digest_equal(pin->hex, pin->wanted)) return PIN_DONE;
    if (digest_equal(pin->bare_hex, pin->wanted)) {
        memcpy(pin->hex, pin->bare_hex, sizeof pin->hex);
        return PIN_DONE;
    }
    fault_set(fault, FAULT_MODEL_LOAD_FAILED, "not the file that sha256= means: its digest is %s",
              pin->hex);
    return PIN_FAILED;
}

enum pin_status pin_advance(struct pin *pin, uint64_t deadline_ns, uint32_t *percent,
                            struct fault *fault) {
    if (pin->wanted == NULL) return PIN_DONE;
    do {
        uint64_t done = pin->digest.done;
        uint64_t left = (done < pin->bare ? pin->bare : pin->end) - done;
        digest_add(&pin->digest, pin->file + done, left < PIN_PIECE_BYTES ? left : PIN_PIECE_BYTES);
        if (pin->digest.done == pin->bare) digest_tell(&pin->digest, pin->bare_hex);
        *percent = (uint32_t)(pin->digest.done * 100 / pin->end);
        if (pin->digest.done == pin->end) return pin_judge(pin, fault);
    } while (clock_ns() < deadline_ns);
    return PIN_PENDING;
}
