/* What nvcc makes of ordinary code; compiled.ptx is remade by
 *     nvcc -arch=compute_80 -ptx tests/ptx/cases/compiled.cu -o tests/ptx/cases/compiled.ptx
 * and a .version of 7.0 in it.
 * test_machine_more.c says what must come out. */

#include <assert.h>
#include <cuda_fp16.h>
#include <stdint.h>

extern "C" __global__ void mathematics(const uint32_t *in, float *out, uint32_t n) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = ((float)in[i] - 256) / 64;
    uint32_t h = i * 2654435761u;
    out[0 * n + i] = expf(x);
    out[1 * n + i] = sinf(x * 1000);
    out[2 * n + i] = cosf(x * 100000);
    out[3 * n + i] = logf(fabsf(x) + 1e-3f);
    out[4 * n + i] = powf(fabsf(x) + 0.5f, 2.3f);
    out[5 * n + i] = tanhf(x);
    out[6 * n + i] = erff(x);
    out[7 * n + i] = rsqrtf(fabsf(x) + 1e-4f);
    out[8 * n + i] = x / 3.7f;
    out[9 * n + i] = cbrtf(x);
    out[10 * n + i] = (float)(h / 1000u % 997u);
    out[11 * n + i] = (float)((int32_t)h / 7 % 1000);
    out[12 * n + i] = (float)(uint32_t)((((uint64_t)i << 33) + 12345) / 1000003);
    out[13 * n + i] = (float)__popc(i) + (float)__clz((int)(i + 1)) * 100;
    double d = x;
    out[14 * n + i] = (float)(fma(d, d, 0.25) - 3 * d);
    out[15 * n + i] = (float)(int8_t)(i * 37);
}

__device__ __noinline__ uint32_t block_sum(uint32_t value, uint32_t *space) {
    for (int by = 16; by; by /= 2) value += __shfl_down_sync(0xFFFFFFFF, value, by);
    if (threadIdx.x % 32 == 0) space[threadIdx.x / 32] = value;
    __syncthreads();
    if (threadIdx.x >= 32) return 0;
    value = threadIdx.x < blockDim.x / 32 ? space[threadIdx.x] : 0;
    return __reduce_add_sync(0xFFFFFFFF, value);
}

extern "C" __global__ void together(const uint32_t *in, uint32_t *out, uint32_t n) {
    __shared__ uint32_t space[32], histogram[16];
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x < 16) histogram[threadIdx.x] = 0;
    uint32_t value = i < n ? in[i] : 0;
    uint32_t sum = block_sum(value, space);
    if (threadIdx.x == 0) atomicAdd(out, sum);
    if (i < n) atomicAdd(&histogram[value % 16], 1);
    __syncthreads();
    if (threadIdx.x < 16) atomicAdd(out + 1 + threadIdx.x, histogram[threadIdx.x]);
}

extern "C" __global__ void sort(const uint32_t *in, uint32_t *out, uint32_t n) {
    __shared__ uint32_t words[256];
    uint32_t t = threadIdx.x;
    words[t] = in[t];
    __syncthreads();
    for (uint32_t size = 2; size <= n; size *= 2)
        for (uint32_t by = size / 2; by; by /= 2) {
            uint32_t other = t ^ by;
            if (other > t) {
                uint32_t a = words[t], b = words[other];
                if ((a > b) == ((t & size) == 0)) {
                    words[t] = b;
                    words[other] = a;
                }
            }
            __syncthreads();
        }
    out[t] = words[t];
}

/* 128-bit arithmetic, which carries; comparisons of halves; permutations of bytes. */
extern "C" __global__ void words(const uint32_t *in, uint32_t *out, uint32_t n) {
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    uint64_t a = (in[i] + 1) * 0x9E3779B97F4A7C15u, b = (in[i] + 3) * 0xC2B2AE3D27D4EB4Fu;
    unsigned __int128 wide = (unsigned __int128)a * b + a;
    wide -= ((unsigned __int128)b << 64) + a * 3;
    for (int k = 0; k < 4; k++) out[k * n + i] = (uint32_t)(wide >> 32 * k);
    out[4 * n + i] = (uint32_t)(((__int128)(int64_t)a * (int64_t)b) >> 96);
    __half2 p = __halves2half2(__ushort_as_half((uint16_t)a), __ushort_as_half((uint16_t)b));
    __half2 q = __halves2half2(__ushort_as_half((uint16_t)b), __ushort_as_half((uint16_t)(a >> 16)));
    out[5 * n + i] = __hlt2_mask(p, q);
    out[6 * n + i] = __hgeu2_mask(p, q);
    __half2 numbers = __hne2(p, q);
    out[7 * n + i] = *(uint32_t *)&numbers;
    out[8 * n + i] = __hlt(__low2half(p), __low2half(q)) + 2 * __hbgt2(p, q);
    out[9 * n + i] = __byte_perm((uint32_t)a, (uint32_t)b, (uint32_t)(b >> 32));
    out[10 * n + i] = __funnelshift_l((uint32_t)a, (uint32_t)b, i);
}

extern "C" __global__ void asserts(const uint32_t *in, uint32_t *out, uint32_t n) {
    assert(in[threadIdx.x] != 17);
    out[threadIdx.x] = 1;
}
