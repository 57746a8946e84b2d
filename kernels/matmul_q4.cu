#define GPU_KIND GPU_Q4
#include "matmul.cuh"
