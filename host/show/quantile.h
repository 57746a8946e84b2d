/* quantile: what share of many numbers lies below. */
#ifndef SHOW_QUANTILE_H
#define SHOW_QUANTILE_H

#include <stddef.h>

/* Sorts them, the smallest first. */
void quantile_sort(double *values, size_t n);

/* The value below which `share` (0..1) of n sorted values lie, between two of them where the place
 * is between: linear interpolation at share * (n - 1). 0 where there are none. */
double quantile_of(const double *sorted, size_t n, double share);

#endif
