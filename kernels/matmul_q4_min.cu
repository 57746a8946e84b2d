#define GPU_KIND GPU_Q4_MIN
#include "matmul.cuh"
