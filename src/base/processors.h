/* processors: a list of processors by their numbers, as cpus= and the kernel write it: "0-3,8". */
#ifndef WICK_BASE_PROCESSORS_H
#define WICK_BASE_PROCESSORS_H

#include <stddef.h>
#include <stdint.h>

enum {
    PROCESSORS_MAX = 64,           /* one for each thread of a team */
    PROCESSORS_NUMBER_LAST = 1023, /* the last one that an affinity mask (cpu_set_t) has */
    PROCESSORS_TEXT_BYTES = 80     /* room for a list as one shows it */
};

struct processors {
    uint32_t n; /* 0: none are listed */
    uint16_t number[PROCESSORS_MAX];
};

/* Numbers and ranges a-b with a < b, between commas; each number once, in any order, which is kept.
 * NULL: fine. Otherwise where in `text` it stops being such a list, and *list stays as it was. */
const char *processors_parse(const char *text, struct processors *list);

/* The same list as text, numbers that follow each other as a range; "..." where `bytes`, at least
 * 32, are too few. */
void processors_show(const struct processors *list, char *out, size_t bytes);

#endif
