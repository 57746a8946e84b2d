#include "cpu/lanes_avx2.h"

#include "cpu/kernels.inc"
