#define GPU_KIND GPU_S4_16
#include "matmul.cuh"
