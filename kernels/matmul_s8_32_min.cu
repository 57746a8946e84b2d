#define GPU_KIND GPU_S8_32_MIN
#include "matmul.cuh"
