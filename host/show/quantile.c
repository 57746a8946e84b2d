#include "show/quantile.h"

#include <stdlib.h>

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void quantile_sort(double *values, size_t n) {
    if (n > 0) qsort(values, n, sizeof values[0], compare);
}

double quantile_of(const double *sorted, size_t n, double share) {
    if (n == 0) return 0;
    double place = share * (double)(n - 1);
    size_t below = (size_t)place;
    if (below + 1 >= n) return sorted[n - 1];
    double part = place - (double)below;
    return sorted[below] + part * (sorted[below + 1] - sorted[below]);
}
