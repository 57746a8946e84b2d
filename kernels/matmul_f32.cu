#define GPU_KIND GPU_F32
#include "matmul.cuh"
