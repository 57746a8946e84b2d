#ifndef WICK_TESTS_PTX_MACHINE_H
#define WICK_TESTS_PTX_MACHINE_H

/* The PTX machine: parses the text nvcc writes and interprets it, warp by warp, with every access
 * checked. It stands where a GPU's driver stands in the tests: no part of it is ever shipped.
 *
 *     memory  = ptx_memory_create();
 *     ptx_memory_add(memory, base, size, "weights", PTX_MEMORY_DEVICE);
 *     module  = ptx_module_parse(text, &error);
 *     ptx_module_attach(module, memory);
 *     kernel  = ptx_kernel_find(module, "add");
 *     ptx_launch(&(struct ptx_launch){.kernel = kernel, .memory = memory, ...}, &error);
 *
 * Device addresses are host addresses: memory that both sides see (pinned) has one pointer.
 *
 * What is checked while a kernel runs, each an error that names kernel, PTX line, opcode, block,
 * thread and address: an access outside every allocation or inside a guard; an access that is not
 * aligned to its width; a read of bytes nobody wrote (device memory, shared, local); shared memory
 * that two threads touch, one of them writing, without a barrier between them; global memory that a
 * thread reads or changes after another one of the launch wrote it, likewise (but not in kernels
 * with atomics or fences, which may order it); ld.global.nc of what the launch has written; a
 * barrier that part of a warp or of a block never reaches; .sync instructions whose named lanes
 * never come; integer division by zero; trap; a launch that exceeds its limit of instructions. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ptx_module;
struct ptx_kernel;
struct ptx_memory;

/* What went wrong, one line, for a person. */
struct ptx_error {
    char text[1024];
};

/* --- memory ----------------------------------------------------------------------------------- */

enum ptx_memory_kind {
    PTX_MEMORY_DEVICE, /* every byte counts as unwritten until a kernel or ptx_memory_mark says so
                        */
    PTX_MEMORY_HOST    /* pinned: the host may write at any time, so every byte counts as written */
};

struct ptx_memory *ptx_memory_create(void);
void ptx_memory_free(struct ptx_memory *memory);

/* Allocations are the caller's bytes; only the shadow is kept here. name (copied) is for error
 * texts. False: it overlaps one that is there. None of these while a launch runs. */
bool ptx_memory_add(struct ptx_memory *memory, void *base, size_t size, const char *name,
                    enum ptx_memory_kind kind);
/* False: no allocation starts there. */
bool ptx_memory_remove(struct ptx_memory *memory, void *base);
/* True: all of [address, address + size) lies in one allocation. base and whole (may be NULL) get
 * that allocation's start and size. */
bool ptx_memory_find(const struct ptx_memory *memory, const void *address, size_t size, void **base,
                     size_t *whole);
/* The host wrote these bytes (written), or spoiled them so that reading them is an error again. */
void ptx_memory_mark(struct ptx_memory *memory, const void *address, size_t size, bool written);
/* Guards: bytes inside an allocation that no kernel may touch, e.g. the gaps of an arena. */
void ptx_memory_guard(struct ptx_memory *memory, const void *address, size_t size, bool guarded);
/* The number of bytes in [address, address + size) that were written, from the first one on. */
size_t ptx_memory_written(const struct ptx_memory *memory, const void *address, size_t size);
/* Device to device copy of what is known about the bytes (the bytes are the caller's to copy). */
void ptx_memory_copy_state(struct ptx_memory *memory, const void *to, const void *from,
                           size_t size);

/* --- modules ---------------------------------------------------------------------------------- */

/* NULL: error says line, opcode or directive and what is unknown about it. The text is not kept. */
struct ptx_module *ptx_module_parse(const char *text, struct ptx_error *error);
void ptx_module_free(struct ptx_module *module);

/* Registers the module's .global and .const variables (they live in the module) so that kernels
 * find them; detach before the module is freed. */
bool ptx_module_attach(struct ptx_module *module, struct ptx_memory *memory);
void ptx_module_detach(struct ptx_module *module, struct ptx_memory *memory);

/* .version as major * 10 + minor (70), .target as a number (80). */
unsigned ptx_module_version(const struct ptx_module *module);
unsigned ptx_module_target(const struct ptx_module *module);

/* A .global or .const variable by name; false: there is none. */
bool ptx_module_global(const struct ptx_module *module, const char *name, void **address,
                       size_t *size);

size_t ptx_module_kernel_count(const struct ptx_module *module);
const struct ptx_kernel *ptx_module_kernel(const struct ptx_module *module, size_t index);
const struct ptx_kernel *ptx_kernel_find(const struct ptx_module *module, const char *name);

struct ptx_param {
    uint32_t offset, size, align; /* in the kernel's parameter space */
};

struct ptx_kernel_facts {
    const char *name;
    const struct ptx_param *params;
    size_t param_count, param_bytes;
    uint32_t shared_bytes; /* static */
    uint32_t local_bytes;  /* a thread's stack */
    uint32_t max_threads;  /* .maxntid or .reqntid multiplied; 0: neither */
    uint32_t required[3];  /* .reqntid; 0: not given */
    uint32_t min_blocks;   /* .minnctapersm; 0: not given */
    uint32_t instruction_count;
};
struct ptx_kernel_facts ptx_kernel_describe(const struct ptx_kernel *kernel);

/* --- launches --------------------------------------------------------------------------------- */

#define PTX_SHARED_BYTES_MAX (227u * 1024) /* a block's, static and dynamic: sm_90's limit */
#define PTX_STEPS_DEFAULT ((uint64_t)1 << 34)

struct ptx_launch {
    const struct ptx_kernel *kernel;
    struct ptx_memory *memory;
    uint32_t grid[3], block[3];
    uint32_t dynamic_shared; /* bytes */
    void *const *params;     /* as cuLaunchKernel's kernelParams: a pointer to each value */

    uint64_t seed;       /* the order of warps and blocks; 0 is a seed like others */
    uint64_t step_limit; /* warp instructions of the whole grid; 0: PTX_STEPS_DEFAULT */
    bool cooperative;    /* every block resident, all of them making progress */
    uint32_t threads;    /* of the host; 0: one per processor */
    bool calm;           /* switch only where a warp must wait: faster, shows fewer races */
    /* Set by anyone, at any time, it ends the launch with an error ("stopped"). May be NULL. */
    const volatile bool *stop;
    /* May be NULL; gets the number of warp instructions executed. */
    uint64_t *steps;
};

bool ptx_launch(const struct ptx_launch *launch, struct ptx_error *error);

#endif
