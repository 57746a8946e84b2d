#include <criterion/criterion.h>
#include <string.h>

#include "engine/pin.h"

/* FIPS 180-4's examples, and the first million of "a". */
Test(digest, is_sha256) {
    struct digest digest;
    char hex[DIGEST_HEX + 1];
    static char many[1000];
    digest_begin(&digest);
    digest_tell(&digest, hex);
    cr_expect_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_add(&digest, "abc", 3);
    digest_tell(&digest, hex);
    cr_expect_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    memset(many, 'a', sizeof many);
    digest_begin(&digest);
    for (int i = 0; i < 1000; i++) digest_add(&digest, many, sizeof many);
    digest_tell(&digest, hex);
    cr_expect_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    cr_expect_eq(digest.done, 1000000u);
}

/* A file of 100 bytes with alignment 32: its last tensor ends at 70, its padding at 96. */
enum { BARE = 70, PADDED = 96, LENGTH = 100 };

static uint8_t file[LENGTH];
static struct gguf gguf; /* about 1 MB */

static void digest_of(size_t n, char hex[DIGEST_HEX + 1]) {
    struct digest digest;
    digest_begin(&digest);
    digest_add(&digest, file, n);
    digest_tell(&digest, hex);
}

static enum pin_status pin_try(const char *wanted, bool disk, struct pin *pin) {
    struct fault fault = {0};
    uint32_t percent = 0;
    for (int i = 0; i < LENGTH; i++) file[i] = (uint8_t)i;
    gguf.file_bytes = LENGTH;
    gguf.header_bytes = 40;
    gguf.alignment = 32;
    gguf.n_tensors = 2; /* in any order */
    gguf.tensor[0] = (struct gguf_tensor){.data_offset = 64, .bytes = BARE - 64};
    gguf.tensor[1] = (struct gguf_tensor){.data_offset = 40, .bytes = 10};
    pin_begin(pin, wanted, &gguf, file, disk);
    enum pin_status status;
    while ((status = pin_advance(pin, 0, &percent, &fault)) == PIN_PENDING) {
    }
    if (status == PIN_DONE && wanted != NULL) cr_expect_eq(percent, 100);
    if (status == PIN_FAILED) cr_expect_eq(fault.code, FAULT_MODEL_LOAD_FAILED);
    return status;
}

Test(pin, a_file_counts_from_its_first_byte_to_its_last) {
    struct pin pin;
    char hex[DIGEST_HEX + 1];
    for (size_t n = BARE; n <= LENGTH; n++) {
        pin_try(NULL, false, &pin);
        digest_of(n, hex);
        cr_expect_eq(pin_try(hex, false, &pin), n == LENGTH ? PIN_DONE : PIN_FAILED, "%zu", n);
    }
    cr_expect_eq(pin_try("show", false, &pin), PIN_DONE);
    cr_expect_str_eq(pin.hex, hex);
    cr_expect_eq(pin_try(NULL, false, &pin), PIN_DONE);
    cr_expect_str_eq(pin.hex, "");
}

Test(pin, of_a_disk_what_is_behind_the_file_does_not_count) {
    struct pin pin;
    char hex[DIGEST_HEX + 1];
    for (size_t n = BARE - 1; n <= LENGTH; n++) {
        bool good = n == BARE || n == PADDED;
        pin_try(NULL, true, &pin);
        digest_of(n, hex);
        cr_expect_eq(pin_try(hex, true, &pin), good ? PIN_DONE : PIN_FAILED, "%zu", n);
        if (good) cr_expect_str_eq(pin.hex, hex);
    }
}

Test(pin, what_is_no_digest_is_refused) {
    struct fault fault;
    char hex[DIGEST_HEX + 2];
    memset(hex, 'A', sizeof hex);
    hex[DIGEST_HEX] = '\0';
    cr_expect(pin_check(hex, &fault) && pin_check("show", &fault) && pin_check(NULL, &fault));
    hex[5] = 'g';
    cr_expect(!pin_check(hex, &fault) && fault.code == FAULT_INVALID_REQUEST);
    cr_expect(!pin_check("", &fault) && !pin_check("abc", &fault));
}
