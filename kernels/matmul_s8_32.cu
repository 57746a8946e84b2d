#define GPU_KIND GPU_S8_32
#include "matmul.cuh"
