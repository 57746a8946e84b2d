/* What this machine's GPU can do at best: the bandwidth of a copy and of reading, and the rates of
 * mma.sync, with kernels of our own (rates.ptx).
 *
 *     KERNELS=tests/gpu rates LIBRARY [BLOCKS ROUNDS PRODUCTS]
 *
 * Prints one line of JSON. ROUNDS: of copying, 16 KB a block each; PRODUCTS: rounds of 8 products a
 * warp. What counts is the shortest of several launches, taken from here to their end: they last
 * milliseconds. A copy's bytes are those read and those written. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/kernels/device.h"

enum {
    THREADS = 256,
    WARPS = THREADS / 32,
    BLOCKS = 4096,         /* many times what runs at once, so that no processor waits for long */
    ROUND_BYTES = 16384,   /* of a block: 4 times 16 for each thread */
    ROUNDS = 32,           /* 2 GB in all, far more than a cache */
    PRODUCTS = 4096,       /* 4 to 9 * 10^12 operations */
    PRODUCTS_AT_ONCE = 8,  /* a warp and round */
    F16_OPERATIONS = 4096, /* of m16n8k16: 2 * 16 * 8 * 16 */
    S8_OPERATIONS = 8192,  /* of m16n8k32 */
    LAUNCHES = 8
};

struct arguments {
    uint64_t from, to;
    uint32_t count;
};

/* Work done a second, when a launch does `work`. */
static double rate_measure(const char *entry, uint32_t blocks, const struct arguments *arguments,
                           double work) {
    const uint32_t grid[3] = {blocks, 1, 1};
    double best = 0;
    for (int i = 0; i < LAUNCHES; i++) {
        uint64_t start_ns = clock_ns();
        device_launch(device_module("rates"), entry, grid, THREADS, 0, arguments);
        double rate = work / ((double)(clock_ns() - start_ns) * 1e-9);
        if (rate > best) best = rate;
    }
    return best;
}

/* Fills a buffer with words that are no zeros. */
static void buffer_fill(uint64_t at, uint64_t bytes) {
    static uint32_t words[1 << 18];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        words[i] = x = x * 1664525u + 1013904223u;
    for (uint64_t done = 0; done < bytes; done += sizeof words)
        device_put(at + done, words, bytes - done < sizeof words ? bytes - done : sizeof words);
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 5) {
        fprintf(stderr, "usage: rates LIBRARY [BLOCKS ROUNDS PRODUCTS]\n");
        return 2;
    }
    uint32_t blocks = argc == 5 ? (uint32_t)strtoul(argv[2], NULL, 10) : BLOCKS;
    uint32_t rounds = argc == 5 ? (uint32_t)strtoul(argv[3], NULL, 10) : ROUNDS;
    uint32_t products = argc == 5 ? (uint32_t)strtoul(argv[4], NULL, 10) : PRODUCTS;
    if (blocks == 0 || rounds == 0 || products == 0) return 2;
    device_open(argv[1]);
    uint64_t bytes = (uint64_t)blocks * ROUND_BYTES * rounds;
    struct arguments move = {device_alloc(bytes), device_alloc(bytes), rounds};
    buffer_fill(move.from, bytes);
    double copy = rate_measure("copy", blocks, &move, 2.0 * (double)bytes);
    double read = rate_measure("read", blocks, &move, (double)bytes);
    struct arguments multiply = {move.from, move.to, products};
    double all = (double)products * PRODUCTS_AT_ONCE * blocks * WARPS;
    double f16 = rate_measure("multiply_f16", blocks, &multiply, all * F16_OPERATIONS);
    double s8 = rate_measure("multiply_s8", blocks, &multiply, all * S8_OPERATIONS);
    printf("{\"device\":\"%s\",\"copy_bytes_per_s\":%.4g,\"read_bytes_per_s\":%.4g,"
           "\"f16_operations_per_s\":%.4g,\"s8_operations_per_s\":%.4g}\n",
           device_name(), copy, read, f16, s8);
    return 0;
}
