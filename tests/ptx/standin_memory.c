/* Device and pinned memory, copies and fills. */

#include "tests/ptx/standin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PAGE = 4096,
    /* What the driver promises and no more: code that counts on 512 is found out. */
    DEVICE_ALIGNMENT = 256,
    CONTEXT_BYTES = 64 << 20 /* a context takes some memory for itself */
};

// --- allocations -------------------------------------------------------------------------------

struct allocation *allocation_find(const struct cu_context *context, const void *address,
                                   size_t bytes) {
    const uintptr_t at = (uintptr_t)address;
    for (struct allocation *a = context->allocations; a; a = a->next) {
        const uintptr_t base = (uintptr_t)a->address;
        if (at >= base && at - base <= a->bytes && bytes <= a->bytes - (at - base)) return a;
    }
    return NULL;
}

/* Pages of zeros that cost nothing until they are touched, between two that cannot be. Without the
 * lock. */
static struct allocation *allocation_make(struct cu_context *context, size_t bytes,
                                          enum ptx_memory_kind kind) {
    const size_t offset = kind == PTX_MEMORY_DEVICE ? DEVICE_ALIGNMENT : 0;
    const size_t inner = (offset + bytes + PAGE - 1) / PAGE * PAGE;
    uint8_t *map =
        mmap(NULL, inner + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return NULL;
    if (mprotect(map + PAGE, inner, PROT_READ | PROT_WRITE) != 0) {
        munmap(map, inner + 2 * PAGE);
        return NULL;
    }
    struct allocation *allocation = standin_zeroed(sizeof *allocation);
    *allocation = (struct allocation){.address = map + PAGE + offset,
                                      .bytes = bytes,
                                      .map = map,
                                      .map_bytes = inner + 2 * PAGE,
                                      .kind = kind};
    pthread_mutex_lock(&context->memory_lock);
    const bool added =
        ptx_memory_add(context->memory, allocation->address, bytes,
                       kind == PTX_MEMORY_DEVICE ? "cuMemAlloc" : "cuMemHostAlloc", kind);
    pthread_mutex_unlock(&context->memory_lock);
    if (!added) abort();
    return allocation;
}

static void allocation_free(struct allocation *allocation) {
    munmap(allocation->map, allocation->map_bytes);
    free(allocation);
}

void allocations_free(struct cu_context *context) {
    while (context->allocations) {
        struct allocation *allocation = context->allocations;
        context->allocations = allocation->next;
        ptx_memory_remove(context->memory, allocation->address);
        allocation_free(allocation);
    }
    context->device_bytes = 0;
}

/* Called with the lock, which it gives up for a while. */
static struct allocation *allocation_add(struct cu_context *context, size_t bytes,
                                         enum ptx_memory_kind kind) {
    if (kind == PTX_MEMORY_DEVICE) context->device_bytes += bytes;
    pthread_mutex_unlock(&standin.lock);
    struct allocation *allocation = allocation_make(context, bytes, kind);
    pthread_mutex_lock(&standin.lock);
    if (allocation) {
        allocation->next = context->allocations;
        context->allocations = allocation;
    } else if (kind == PTX_MEMORY_DEVICE) {
        context->device_bytes -= bytes;
    }
    return allocation;
}

/* Frees what starts there, after all work that may use it. */
static int allocation_remove(struct cu_context *context, const void *address,
                             enum ptx_memory_kind kind) {
    context_wait(context);
    struct allocation **at = &context->allocations;
    while (*at && ((*at)->address != address || (*at)->kind != kind)) at = &(*at)->next;
    struct allocation *allocation = *at;
    if (!allocation)
        return standin_refuse(CUDA_ERROR_INVALID_VALUE, "free of %p, where no allocation starts",
                              address);
    *at = allocation->next;
    if (kind == PTX_MEMORY_DEVICE) context->device_bytes -= allocation->bytes;
    pthread_mutex_unlock(&standin.lock);
    pthread_mutex_lock(&context->memory_lock);
    ptx_memory_remove(context->memory, allocation->address);
    pthread_mutex_unlock(&context->memory_lock);
    allocation_free(allocation);
    pthread_mutex_lock(&standin.lock);
    return CUDA_SUCCESS;
}

static uint64_t device_bytes_free(const struct cu_context *context) {
    const uint64_t used = context->device_bytes + CONTEXT_BYTES;
    return used < standin.options.vram ? standin.options.vram - used : 0;
}

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    const int result = standin_enter(CALL_cuMemGetInfo_v2, NEED_CONTEXT);
    if (result) return result;
    if (!free_bytes || !total) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    *free_bytes = device_bytes_free(standin_current);
    *total = standin.options.vram;
    return standin_leave(CUDA_SUCCESS);
}

int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    const int result = standin_enter(CALL_cuMemAlloc_v2, NEED_CONTEXT | NEED_NO_CAPTURE);
    if (result) return result;
    if (!address || bytes == 0) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    if (bytes > device_bytes_free(standin_current)) return standin_leave(CUDA_ERROR_OUT_OF_MEMORY);
    const struct allocation *a = allocation_add(standin_current, bytes, PTX_MEMORY_DEVICE);
    if (a) *address = (uintptr_t)a->address;
    return standin_leave(a ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

int cuMemFree_v2(uint64_t address) {
    const int result = standin_enter(CALL_cuMemFree_v2, NEED_CONTEXT | NEED_NO_CAPTURE);
    if (result) return result;
    if (address == 0) return standin_leave(CUDA_SUCCESS);
    return standin_leave(
        allocation_remove(standin_current, (void *)(uintptr_t)address, PTX_MEMORY_DEVICE));
}

int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
    const int result = standin_enter(CALL_cuMemHostAlloc, NEED_CONTEXT | NEED_NO_CAPTURE);
    if (result) return result;
    const unsigned known =
        CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
    if (!memory || bytes == 0 || (flags & ~known)) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    const struct allocation *a = allocation_add(standin_current, bytes, PTX_MEMORY_HOST);
    if (a) *memory = a->address;
    return standin_leave(a ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

int cuMemFreeHost(void *memory) {
    const int result = standin_enter(CALL_cuMemFreeHost, NEED_CONTEXT | NEED_NO_CAPTURE);
    if (result) return result;
    return standin_leave(allocation_remove(standin_current, memory, PTX_MEMORY_HOST));
}

int cuMemHostGetDevicePointer_v2(uint64_t *address, void *memory, unsigned flags) {
    const int result = standin_enter(CALL_cuMemHostGetDevicePointer_v2, NEED_CONTEXT);
    if (result) return result;
    const struct allocation *a = allocation_find(standin_current, memory, 1);
    if (!address || flags || !a || a->kind != PTX_MEMORY_HOST)
        return standin_leave(
            standin_refuse(CUDA_ERROR_INVALID_VALUE, "%p is not pinned memory", memory));
    *address = (uintptr_t)memory;
    return standin_leave(CUDA_SUCCESS);
}

// --- on the device's thread --------------------------------------------------------------------

/* Bytes that nobody wrote come to the host as poison, and stay unwritten in a copy on the device.
 */
void memory_copy(struct cu_context *context, const struct operation *o) {
    memmove(o->to, o->from, o->bytes);
    if (o->to_device && o->from_device) {
        ptx_memory_copy_state(context->memory, o->to, o->from, o->bytes);
    } else if (o->to_device) {
        ptx_memory_mark(context->memory, o->to, o->bytes, true);
        return;
    }
    for (size_t done = 0; o->from_device && !o->to_device && done < o->bytes;) {
        const uint8_t *from = (const uint8_t *)o->from + done;
        done += ptx_memory_written(context->memory, from, o->bytes - done);
        if (done < o->bytes) ((uint8_t *)o->to)[done++] = POISON_BYTE;
    }
}

void memory_fill(struct cu_context *context, const struct operation *o) {
    memset(o->to, o->fill, o->bytes);
    ptx_memory_mark(context->memory, o->to, o->bytes, true);
}

// --- copies and fills --------------------------------------------------------------------------

enum direction { TO_DEVICE, TO_HOST, ON_DEVICE };

static bool is_device(const struct cu_context *context, const void *address, size_t bytes) {
    const struct allocation *a = allocation_find(context, address, bytes);
    return a && a->kind == PTX_MEMORY_DEVICE;
}

static bool is_pinned(const struct cu_context *context, const void *address, size_t bytes) {
    const struct allocation *a = allocation_find(context, address, bytes);
    return a && a->kind == PTX_MEMORY_HOST;
}

/* With the lock; gives it back. */
static int copy_submit(void *to, const void *from, size_t bytes, enum direction direction,
                       struct cu_stream *handle, bool wait) {
    struct cu_context *context = standin_current;
    struct cu_stream *stream;
    if (!stream_find(context, handle, &stream)) return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    if (bytes == 0) return standin_leave(CUDA_SUCCESS);
    const void *host = direction == TO_DEVICE ? from : to;
    const void *device = direction == TO_DEVICE ? to : from;
    if (!is_device(context, device, bytes) ||
        (direction == ON_DEVICE && !is_device(context, to, bytes)))
        return standin_leave(standin_refuse(CUDA_ERROR_INVALID_VALUE,
                                            "copy of %zu bytes at %p, not in one allocation", bytes,
                                            device));
    if (direction != ON_DEVICE && (!host || allocation_find(context, host, 0) != NULL) &&
        !is_pinned(context, host, bytes))
        return standin_leave(
            standin_refuse(CUDA_ERROR_INVALID_VALUE,
                           "copy of %zu host bytes at %p: device memory, or past the "
                           "end of pinned memory",
                           bytes, host));
    if (direction != ON_DEVICE && !wait && !is_pinned(context, host, bytes))
        return standin_leave(standin_refuse(CUDA_ERROR_INVALID_VALUE,
                                            "asynchronous copy of %zu host bytes at %p, not pinned",
                                            bytes, host));
    const struct operation copy = {.kind = OPERATION_COPY,
                                   .to = to,
                                   .from = from,
                                   .bytes = bytes,
                                   .to_device = direction != TO_HOST,
                                   .from_device = direction != TO_DEVICE};
    const int result = operation_submit(context, stream, &copy);
    if (!result && wait) stream_wait(context, stream);
    return standin_leave(result);
}

static void *at(uint64_t address) {
    return (void *)(uintptr_t)address;
}

int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    const int result = standin_enter(CALL_cuMemcpyHtoD_v2, NEED_CONTEXT | NEED_NO_CAPTURE);
    return result ? result : copy_submit(at(to), from, bytes, TO_DEVICE, NULL, true);
}

int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    const int result = standin_enter(CALL_cuMemcpyDtoH_v2, NEED_CONTEXT | NEED_NO_CAPTURE);
    return result ? result : copy_submit(to, at(from), bytes, TO_HOST, NULL, true);
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, struct cu_stream *stream) {
    const int result = standin_enter(CALL_cuMemcpyHtoDAsync_v2, NEED_CONTEXT);
    return result ? result : copy_submit(at(to), from, bytes, TO_DEVICE, stream, false);
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, struct cu_stream *stream) {
    const int result = standin_enter(CALL_cuMemcpyDtoHAsync_v2, NEED_CONTEXT);
    return result ? result : copy_submit(to, at(from), bytes, TO_HOST, stream, false);
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, struct cu_stream *stream) {
    const int result = standin_enter(CALL_cuMemcpyDtoDAsync_v2, NEED_CONTEXT);
    return result ? result : copy_submit(at(to), at(from), bytes, ON_DEVICE, stream, false);
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, struct cu_stream *handle) {
    const int result = standin_enter(CALL_cuMemsetD8Async, NEED_CONTEXT);
    if (result) return result;
    struct cu_stream *stream;
    if (!stream_find(standin_current, handle, &stream))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    if (bytes == 0) return standin_leave(CUDA_SUCCESS);
    if (!allocation_find(standin_current, at(to), bytes))
        return standin_leave(standin_refuse(CUDA_ERROR_INVALID_VALUE,
                                            "fill of %zu bytes at %p, not in one allocation", bytes,
                                            at(to)));
    const struct operation fill = {
        .kind = OPERATION_FILL, .to = at(to), .fill = value, .bytes = bytes};
    return standin_leave(operation_submit(standin_current, stream, &fill));
}
