#define GPU_KIND GPU_S4_32_MIN
#include "matmul.cuh"
