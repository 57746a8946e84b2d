#define GPU_KIND GPU_F16
#include "matmul.cuh"
