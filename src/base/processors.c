#include "base/processors.h"

#include <stdbool.h>
#include <stdio.h>

#include "base/panic.h"

/* A number without sign or blanks; NULL: there is none here, or it is too large. */
static const char *number_parse(const char *p, uint32_t *out) {
    const char *begin = p;
    *out = 0;
    for (; *p >= '0' && *p <= '9'; p++) {
        *out = *out * 10 + (uint32_t)(*p - '0');
        if (*out > PROCESSORS_NUMBER_LAST) return NULL;
    }
    return p == begin ? NULL : p;
}

static bool list_add(struct processors *list, uint32_t number) {
    if (list->n == PROCESSORS_MAX) return false;
    for (uint32_t i = 0; i < list->n; i++)
        if (list->number[i] == number) return false;
    list->number[list->n++] = (uint16_t)number;
    return true;
}

const char *processors_parse(const char *text, struct processors *list) {
    struct processors read = {0};
    for (const char *item = text;; item++) {
        uint32_t first, last;
        const char *end = number_parse(item, &first);
        if (end == NULL) return item;
        last = first;
        if (*end == '-') {
            item = end + 1;
            end = number_parse(item, &last);
            if (end == NULL || last <= first) return item;
        }
        for (uint32_t number = first; number <= last; number++)
            if (!list_add(&read, number)) return item;
        if (*end != ',' && *end != '\0') return end;
        item = end;
        if (*end == '\0') break;
    }
    *list = read;
    return NULL;
}

void processors_show(const struct processors *list, char *out, size_t bytes) {
    enum { ITEM_BYTES = sizeof ",1023-1023" };
    static const char more[] = "...";
    wick_assert(bytes >= 32);
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < list->n;) {
        uint32_t first = i++;
        while (i < list->n && list->number[i] == list->number[i - 1] + 1) i++;
        const char *comma = first > 0 ? "," : "";
        if (used + ITEM_BYTES + sizeof more > bytes) {
            snprintf(out + used, bytes - used, "%s%s", comma, more);
            return;
        }
        int length = snprintf(out + used, bytes - used, i - first == 1 ? "%s%u" : "%s%u-%u", comma,
                              list->number[first], list->number[i - 1]);
        used += (size_t)length;
    }
}
