#define GPU_KIND GPU_S4_16_MIN
#include "matmul.cuh"
