#define ATTEND_TYPE GPU_KV_F16
#define ATTEND_WIDTH 128
#include "attention.cuh"
