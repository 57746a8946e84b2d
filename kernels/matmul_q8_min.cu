#define GPU_KIND GPU_Q8_MIN
#include "matmul.cuh"
