/* tile_instructions: AMX's instructions. Written out, because GCC 12's intrinsics neither tell the
 * compiler that memory is read nor what LDTILECFG reads. The argument of a register is its number.
 *
 * tests/tiles has a file of the same name that unit tests of processors without AMX take instead:
 * the same words, computed in software. */
#ifndef WICK_CPU_TILE_INSTRUCTIONS_H
#define WICK_CPU_TILE_INSTRUCTIONS_H

#include <stddef.h>
#include <stdint.h>

/* True: slow, so only who asks for isa=amx by its name gets it. */
enum { TILES_IN_SOFTWARE = 0 };

/* shapes: an object of the 64 bytes that LDTILECFG reads. */
#define TILES_CONFIGURE(shapes) __asm__ volatile("ldtilecfg %0" ::"m"(shapes))
#define TILES_RELEASE() __asm__ volatile("tilerelease" ::: "memory")
#define TILE_ZERO(c) __asm__ volatile("tilezero %%tmm" #c ::: "memory")
#define TILE_LOAD(t, at, stride)                                                                   \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(at), "r"((size_t)(stride)) : "memory")
#define TILE_STORE(t, at, stride)                                                                  \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(at), "r"((size_t)(stride))          \
                     : "memory")
/* C += A B: int8 with int8 or uint8 and int32 sums; bfloat16 with F32 sums. */
#define TILE_INT8(c, a, b)                                                                         \
    __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::: "memory")
#define TILE_INT8_UINT8(c, a, b)                                                                   \
    __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::: "memory")
#define TILE_BF16(c, a, b)                                                                         \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c ::: "memory")

#endif
