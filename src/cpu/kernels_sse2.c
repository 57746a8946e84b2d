#include "cpu/lanes_sse2.h"

#include "cpu/kernels.inc"
