#pragma once

// The tensor and asynchronous instructions of the PTX machine: mma.sync, ldmatrix, movmatrix and
// cp.async, for one warp at a time. The machine decodes operands, checks addresses and knows who
// may touch what; here is only what the instructions compute.
//
// A register operand is a row of tensor_lanes 32-bit values, lane 0 first: d[2][5] is lane 5's copy
// of the third register of the vector operand d. A destination may be the same row as a source
// (mma writes d after it has read a, b and c). All 32 lanes must be active: these instructions are
// .sync.aligned, and the machine refuses a diverged warp before it comes here.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { tensor_lanes = 32 };

// --- mma.sync ----------------------------------------------------------------------------------

enum tensor_type {
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_TF32,
    TENSOR_F32,
    TENSOR_S8,
    TENSOR_U8,
    TENSOR_S32,
};

enum { tensor_registers_max = 4 }; // of one operand of any mma below

// D (m x n) = A (m x k) * B (k x n) + C (m x n); m is 16 and n is 8 in all of them.
struct tensor_mma {
    int k;                                                  // 4, 8, 16 or 32
    enum tensor_type d, a, b, c;                            // element types
    bool saturate;                                          // .satfinite: clamp an S32 result
    int d_registers, a_registers, b_registers, c_registers; // 32-bit registers of a lane
};

// Reads an opcode such as "mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32". False: not
// an mma that we know; the machine says so with its line.
bool tensor_mma_parse(const char *opcode, struct tensor_mma *mma);

// The rows of each operand in their order within the braces; how many: d_registers and so on.
//
// Integers: products and sums are exact; the result wraps, or clamps with .satfinite.
// Floating point: the ISA leaves the order open ("at least single precision", truncation allowed).
// We take what has been measured on compute capability 8.0, because it is the least exact of those
// we run on: k is cut into blocks of 8 (F16, BF16) or 4 (TF32), in ascending order; in a block the
// exact products and the accumulator are aligned to the largest of their exponents, each is cut
// towards zero after 24 bits below it, the sum is exact, and the result is cut towards zero to F32
// (rounded to nearest even for an F16 accumulator).
// Newer GPUs take larger blocks and keep more bits: between a GPU and this, or between two GPUs,
// sums whose terms are not exact differ in the last bits.
void tensor_mma_run(const struct tensor_mma *mma, uint32_t *const d[], const uint32_t *const a[],
                    const uint32_t *const b[], const uint32_t *const c[]);

// --- ldmatrix and movmatrix --------------------------------------------------------------------

enum { tensor_row_bytes = 16 }; // a row of an 8 x 8 matrix of 16-bit elements

// ldmatrix.sync.aligned.m8n8.xN{.trans}.shared.b16: matrices is N: 1, 2 or 4. rows[i] is what the
// machine read at the address in lane i, i < 8 * matrices (a multiple of 16); the addresses in the
// other lanes are not looked at. d[j] receives matrix j.
void tensor_ldmatrix(int matrices, bool transposed, const uint8_t rows[][tensor_row_bytes],
                     uint32_t *const d[]);

// movmatrix.sync.aligned.m8n8.trans.b16
void tensor_movmatrix(uint32_t *d, const uint32_t *a);

// --- cp.async ----------------------------------------------------------------------------------

// One copy under way. The bytes are read when the instruction is issued and written when a wait
// says that they have landed; in between the machine holds the target for poisoned, and at landing
// it can compare the source with data: a source that changed meanwhile is a race.
struct tensor_copy {
    uint64_t source; // global address, as in the instruction
    uint32_t target; // shared address, as in the instruction
    uint32_t group;  // which of the lane's groups, from 0
    uint8_t lane;    // 0 .. 31
    uint8_t bytes;   // written to target: 4, 8 or 16
    uint8_t read;    // read from source: at most bytes; the rest of data is zero
    uint8_t data[16];
};

// The copies of one warp, in the order of issue. Zeroed is empty; tensor_async_clear frees it.
struct tensor_async {
    struct tensor_copy *copies;
    size_t count, room;
    uint32_t groups[tensor_lanes]; // committed so far; the open group has this number
};

// cp.async: files a copy of one lane in its open group. data: `read` bytes, or nothing if that is
// 0.
void tensor_async_copy(struct tensor_async *async, int lane, uint64_t source, uint32_t target,
                       int bytes, int read, const uint8_t *data);

// cp.async.commit_group, for the lanes in the mask. A group may be empty.
void tensor_async_commit(struct tensor_async *async, uint32_t lanes);

// Called for every copy that lands, in the order of issue.
typedef void tensor_land(void *context, const struct tensor_copy *copy);

// cp.async.wait_group: lands all committed groups of these lanes but the `pending` newest.
void tensor_async_wait(struct tensor_async *async, uint32_t lanes, uint32_t pending,
                       tensor_land *land, void *context);

// cp.async.wait_all: lands everything of these lanes, committed or not.
void tensor_async_wait_all(struct tensor_async *async, uint32_t lanes, tensor_land *land,
                           void *context);

// Copies of these lanes still under way: at a lane's exit the machine may ask.
size_t tensor_async_pending(const struct tensor_async *async, uint32_t lanes);

void tensor_async_clear(struct tensor_async *async);
