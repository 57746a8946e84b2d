// lane.cuh: what a lane or a warp does, in PTX and in arithmetic that no compiler flag changes.
//
// Sums and products that must give the same bits everywhere are written with the _rn functions: the
// compiler never fuses, splits or reorders them.
#ifndef WICK_KERNELS_LANE_CUH
#define WICK_KERNELS_LANE_CUH

#include "abi.h"

#define DEVICE static __device__ __forceinline__

constexpr uint32_t ALL_LANES = 0xFFFFFFFF;
constexpr float FLOAT_MAX = 3.402823466e38f;

// --- copies into shared memory behind the program's back -----------------------------------------

DEVICE uint32_t shared_address(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}
// 16 bytes, past L1: weights are used once.
DEVICE void copy_async(void *shared, const void *global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global))
                 : "memory");
}
DEVICE void copy_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Until at most `pending` of this thread's groups are on their way.
template <int pending> DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// --- tensor cores -------------------------------------------------------------------------------

// Accumulators start at MAGIC: an int32 sum below 2^22 added to these bits is, read as a float,
// MAGIC + sum exactly, so that one subtraction converts it.
constexpr int32_t MAGIC_BITS = 0x4B400000;
constexpr float MAGIC = 12582912.0f; // 1.5 * 2^23

struct integer_sums { // (row g, columns 2 t and 2 t + 1), (row g + 8, the same)
    int32_t at[4];
};
DEVICE float integer_sum(const integer_sums &sums, int i) {
    return __fsub_rn(__int_as_float(sums.at[i]), MAGIC);
}
DEVICE integer_sums mma_k32(const uint32_t a[4], uint32_t b0, uint32_t b1) {
    integer_sums d;
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=r"(d.at[0]), "=r"(d.at[1]), "=r"(d.at[2]), "=r"(d.at[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(MAGIC_BITS));
    return d;
}
DEVICE integer_sums mma_k16(uint32_t a0, uint32_t a1, uint32_t b) {
    integer_sums d;
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%7,%7,%7,%7};"
        : "=r"(d.at[0]), "=r"(d.at[1]), "=r"(d.at[2]), "=r"(d.at[3])
        : "r"(a0), "r"(a1), "r"(b), "r"(MAGIC_BITS));
    return d;
}
template <bool bf16> DEVICE void mma_float(float acc[4], const uint4 &a, uint32_t b0, uint32_t b1) {
    if (bf16)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
            "{%8,%9}, {%0,%1,%2,%3};"
            : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
            : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
            "{%8,%9}, {%0,%1,%2,%3};"
            : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3])
            : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// --- numbers ------------------------------------------------------------------------------------

DEVICE float half_to_float(uint32_t bits) {
    float x;
    asm("{ .reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h; }" : "=f"(x) : "r"(bits));
    return x;
}
DEVICE uint32_t half_from_float(float x) {
    uint32_t bits;
    asm("{ .reg .b16 h; cvt.rn.f16.f32 h, %1; cvt.u32.u16 %0, h; }" : "=r"(bits) : "f"(x));
    return bits;
}
// Round to nearest even; NaN keeps its upper bits.
DEVICE uint32_t bf16_from_float(float x) {
    uint32_t bits = __float_as_uint(x);
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16;
}

// exp(x) = 2^n exp(r), n = round(x / ln 2), exp(r) by its Taylor polynomial of degree 7: the CPU's
// lanes_exp, bit for bit.
DEVICE float exp_exact(float x) {
    float clamped = fminf(fmaxf(x, -87.0f), 88.0f);
    int32_t n = __float2int_rn(__fmul_rn(clamped, 1.44269504088896341f));
    float nf = __int2float_rn(n);
    float r = __fmaf_rn(-nf, 0.693145751953125f, clamped);
    r = __fmaf_rn(-nf, 1.42860682030941723e-6f, r);
    float p = 1.0f / 5040;
    p = __fmaf_rn(p, r, 1.0f / 720);
    p = __fmaf_rn(p, r, 1.0f / 120);
    p = __fmaf_rn(p, r, 1.0f / 24);
    p = __fmaf_rn(p, r, 1.0f / 6);
    p = __fmaf_rn(p, r, 0.5f);
    p = __fmaf_rn(p, r, 1.0f);
    p = __fmaf_rn(p, r, 1.0f);
    float power = __int_as_float((n + 127) << 23);
    return x < -87.0f ? 0.0f : __fmul_rn(p, power);
}

// --- sums over a warp, in one fixed order; every lane gets the result ----------------------------

DEVICE float warp_sum(float x) {
    for (int apart = 16; apart > 0; apart /= 2)
        x = __fadd_rn(x, __shfl_xor_sync(ALL_LANES, x, apart));
    return x;
}
DEVICE float warp_max(float x) {
    for (int apart = 16; apart > 0; apart /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, apart));
    return x;
}

#endif
