#define ATTEND_TYPE GPU_KV_F16
#define ATTEND_WIDTH 64
#include "attention.cuh"
