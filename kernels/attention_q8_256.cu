#define ATTEND_TYPE GPU_KV_Q8_0
#define ATTEND_WIDTH 256
#include "attention.cuh"
