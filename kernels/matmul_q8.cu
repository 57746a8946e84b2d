#define GPU_KIND GPU_Q8
#include "matmul.cuh"
