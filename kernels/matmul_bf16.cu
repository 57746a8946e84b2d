#define GPU_KIND GPU_BF16
#include "matmul.cuh"
