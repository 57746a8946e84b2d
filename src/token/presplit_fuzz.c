/* Fuzz entry: a text through every pre-split. The pieces must cover it, in order, none empty. */
#include <stdlib.h>

#include "token/presplit.h"
#include "token/unicode.h"
#include "token/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 1 << 14 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint32_t code_point[TEXT_MAX];
    static uint8_t flags[TEXT_MAX];
    size_t n = 0;
    for (size_t at = 0; at < size && n < TEXT_MAX; n++) {
        at += utf8_decode((const char *)data + at, size - at, &code_point[n]);
        flags[n] = unicode_flags(code_point[n]);
    }
    for (const struct presplit_rule *rule = presplit_rules; rule->name != NULL; rule++) {
        struct presplit_cursor cursor;
        size_t begin, end, covered = 0;
        presplit_begin(&cursor, rule, (struct presplit_text){code_point, flags}, n);
        while (presplit_next(&cursor, &begin, &end)) {
            if (begin != covered || end <= begin || end > n) abort();
            covered = end;
        }
        if (covered != n) abort();
    }
    return 0;
}
