#include "cpu/lanes_avx512.h"

#include "cpu/kernels.inc"
