#include "tests/ptx/lanes.h"

#include <string.h>

const struct lanes_operation *lanes_find(const char *name) {
    const struct lanes_operation *tables[] = {lanes_integer, lanes_bits, lanes_float, lanes_half};
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (const struct lanes_operation *o = tables[t]; o->name; o++)
            if (strcmp(o->name, name) == 0) return o;
    return NULL;
}

const struct lanes_comparison *lanes_compare_find(const char *name) {
    const struct lanes_comparison *tables[] = {lanes_compare_integer, lanes_compare_float,
                                               lanes_compare_half};
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (const struct lanes_comparison *c = tables[t]; c->name; c++)
            if (strcmp(c->name, name) == 0) return c;
    return NULL;
}
