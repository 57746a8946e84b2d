#define GPU_KIND GPU_S8_16
#include "matmul.cuh"
