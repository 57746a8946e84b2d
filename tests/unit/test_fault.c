#include <criterion/criterion.h>
#include <string.h>

#include "base/fault.h"

Test(fault, every_code_has_a_word_a_number_and_a_meaning_of_its_own) {
    for (int a = 0; a < FAULT_CODES; a++) {
        const struct fault_kind *kind = fault_kind((enum fault_code)a);
        cr_assert_not_null(kind->word);
        cr_assert_not_null(kind->meaning);
        cr_assert_eq(strspn(kind->word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), strlen(kind->word));
        for (int b = 0; b < a; b++) {
            const struct fault_kind *other = fault_kind((enum fault_code)b);
            cr_assert_str_neq(kind->word, other->word);
            cr_assert_neq(kind->number, other->number);
        }
    }
}

/* The numbers and the retriable flag are the protocol's: a change here breaks clients. */
Test(fault, numbers_are_the_documented_ones) {
    static const struct {
        enum fault_code code;
        const char *word;
        int number;
        bool retriable;
    } want[] = {
        {FAULT_BAD_LINE, "BAD_LINE", 400, false},
        {FAULT_LOGIN_REFUSED, "LOGIN_REFUSED", 401, false},
        {FAULT_BAD_MAC, "BAD_MAC", 402, false},
        {FAULT_FORBIDDEN, "FORBIDDEN", 403, false},
        {FAULT_NOT_KEPT, "NOT_KEPT", 404, false},
        {FAULT_UNKNOWN_VERB, "UNKNOWN_VERB", 405, false},
        {FAULT_TAG_IN_USE, "TAG_IN_USE", 409, false},
        {FAULT_PROMPT_TOO_LONG, "PROMPT_TOO_LONG", 413, false},
        {FAULT_LINE_TOO_LONG, "LINE_TOO_LONG", 414, false},
        {FAULT_INVALID_REQUEST, "INVALID_REQUEST", 422, false},
        {FAULT_CANCELLED, "CANCELLED", 499, false},
        {FAULT_INTERNAL, "INTERNAL", 500, true},
        {FAULT_BUSY, "BUSY", 503, true},
        {FAULT_NOT_READY, "NOT_READY", 504, true},
        {FAULT_SHUTTING_DOWN, "SHUTTING_DOWN", 505, true},
        {FAULT_INFERENCE_TIMEOUT, "INFERENCE_TIMEOUT", 508, true},
        {FAULT_INSUFFICIENT_RESOURCES, "INSUFFICIENT_RESOURCES", 510, true},
        {FAULT_INSUFFICIENT_VRAM, "INSUFFICIENT_VRAM", 511, true},
        {FAULT_VRAM_OOM, "VRAM_OOM", 512, true},
        {FAULT_CUDA_ERROR, "CUDA_ERROR", 513, true},
        {FAULT_MODEL_LOAD_FAILED, "MODEL_LOAD_FAILED", 520, false},
        {FAULT_WORKER_UNHEALTHY, "WORKER_UNHEALTHY", 530, false},
    };
    cr_assert_eq(sizeof want / sizeof want[0], FAULT_CODES - 1);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        const struct fault_kind *kind = fault_kind(want[i].code);
        cr_assert_str_eq(kind->word, want[i].word);
        cr_assert_eq(kind->number, want[i].number, "%s", kind->word);
        cr_assert_eq(kind->retriable, want[i].retriable, "%s", kind->word);
    }
}

Test(fault, set_returns_false_and_cuts_long_text) {
    struct fault fault;
    memset(&fault, 'x', sizeof fault);
    cr_assert_not(fault_set(&fault, FAULT_BUSY, "%0500d", 7));
    cr_assert_eq(fault.code, FAULT_BUSY);
    cr_assert_eq(strlen(fault.text), FAULT_TEXT_BYTES - 1);
}
