/* device: what the tests of the kernels run on, through the driver API: the stand-in or a GPU.
 *
 * Every failure ends the program with a line that says which call, what and where: a kernel that
 * failed has poisoned its context, and nothing more can be learned. */
#ifndef WICK_TESTS_KERNELS_DEVICE_H
#define WICK_TESTS_KERNELS_DEVICE_H

#include <stddef.h>
#include <stdint.h>

struct cu_module;

void device_open(const char *library);
const char *device_name(void);

/* kernels/<name>.ptx, or another directory's: $KERNELS. Loaded once. */
struct cu_module *device_module(const char *name);

uint64_t device_alloc(size_t bytes);
void device_free(uint64_t address);
void device_put(uint64_t to, const void *from, size_t bytes);
void device_get(void *to, uint64_t from, size_t bytes);

/* Pinned memory that both sides see; the device's address is *address. */
void *device_pinned(size_t bytes, uint64_t *address);
void device_pinned_free(void *memory);

/* Launches and waits. args: the kernel's one struct. */
void device_launch(struct cu_module *module, const char *entry, const uint32_t grid[3],
                   uint32_t threads, uint32_t shared_bytes, const void *args);

#endif
