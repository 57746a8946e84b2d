#include "device.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cuda/driver_api.h"

enum { MODULES_MAX = 64, SHARED_WITHOUT_ASKING = 48 * 1024 };

static struct {
#define DEVICE_CALL(name, version, parameters) int(*name) parameters;
    struct {
        CUDA_CALLS(DEVICE_CALL)
    } call;
    struct cu_stream *stream;
    char name[128], about[300]; /* of the device; of the launch */
    struct {
        char name[64];
        struct cu_module *module;
    } module[MODULES_MAX];
    size_t n_modules;
} device;

static void device_want(int result, const char *what) {
    if (result == CUDA_SUCCESS) return;
    const char *name = "?";
    if (device.call.cuGetErrorName != NULL) device.call.cuGetErrorName(result, &name);
    printf("FAIL %s: %s is %d (%s)\n", device.about, what, result, name);
    exit(1);
}

#define CALL(name, ...) device_want(device.call.name(__VA_ARGS__), #name)

void device_open(const char *path) {
    snprintf(device.about, sizeof device.about, "%s", path);
    void *library = dlopen(path, RTLD_NOW);
    if (library == NULL) {
        printf("FAIL %s\n", dlerror());
        exit(1);
    }
#define DEVICE_LOOK(name, version, parameters)                                                     \
    *(void **)&device.call.name = dlsym(library, #name);                                           \
    device_want(device.call.name == NULL ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS, #name);
    CUDA_CALLS(DEVICE_LOOK)
    int ordinal;
    struct cu_context *context;
    CALL(cuInit, 0);
    CALL(cuDeviceGet, &ordinal, 0);
    CALL(cuDeviceGetName, device.name, (int)sizeof device.name, ordinal);
    CALL(cuDevicePrimaryCtxRetain, &context, ordinal);
    CALL(cuCtxSetCurrent, context);
    CALL(cuStreamCreate, &device.stream, CU_STREAM_NON_BLOCKING);
}

const char *device_name(void) {
    return device.name;
}

static char *device_text(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat facts;
    if (fd < 0 || fstat(fd, &facts) != 0) {
        printf("FAIL %s is missing\n", path);
        exit(1);
    }
    char *text = calloc((size_t)facts.st_size + 1, 1);
    if (text == NULL || read(fd, text, (size_t)facts.st_size) != facts.st_size) abort();
    close(fd);
    return text;
}

struct cu_module *device_module(const char *name) {
    for (size_t i = 0; i < device.n_modules; i++)
        if (strcmp(device.module[i].name, name) == 0) return device.module[i].module;
    if (device.n_modules == MODULES_MAX) abort();
    const char *directory = getenv("KERNELS");
    char path[256], log[4096] = "";
    snprintf(path, sizeof path, "%s/%s.ptx", directory != NULL ? directory : "kernels", name);
    char *text = device_text(path);
    int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    struct cu_module *module;
    int result = device.call.cuModuleLoadDataEx(&module, text, 2, options, values);
    snprintf(device.about, sizeof device.about, "%s", path);
    if (result != CUDA_SUCCESS) printf("%s\n", log);
    device_want(result, "cuModuleLoadDataEx");
    free(text);
    device.module[device.n_modules].module = module;
    snprintf(device.module[device.n_modules++].name, 64, "%s", name);
    return module;
}

uint64_t device_alloc(size_t bytes) {
    uint64_t address;
    CALL(cuMemAlloc_v2, &address, bytes);
    return address;
}

void device_free(uint64_t address) {
    CALL(cuMemFree_v2, address);
}

void device_put(uint64_t to, const void *from, size_t bytes) {
    CALL(cuMemcpyHtoD_v2, to, from, bytes);
}

void device_get(void *to, uint64_t from, size_t bytes) {
    CALL(cuMemcpyDtoH_v2, to, from, bytes);
}

void *device_pinned(size_t bytes, uint64_t *address) {
    void *memory;
    CALL(cuMemHostAlloc, &memory, bytes, CU_MEMHOSTALLOC_DEVICEMAP);
    CALL(cuMemHostGetDevicePointer_v2, address, memory, 0);
    return memory;
}

void device_pinned_free(void *memory) {
    CALL(cuMemFreeHost, memory);
}

void device_launch(struct cu_module *module, const char *entry, const uint32_t grid[3],
                   uint32_t threads, uint32_t shared_bytes, const void *args) {
    struct cu_function *function;
    snprintf(device.about, sizeof device.about, "%s (%u, %u, %u) x %u, %u bytes shared", entry,
             grid[0], grid[1], grid[2], threads, shared_bytes);
    CALL(cuModuleGetFunction, &function, module, entry);
    if (shared_bytes > SHARED_WITHOUT_ASKING)
        CALL(cuFuncSetAttribute, function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
             (int)shared_bytes);
    void *parameters[] = {(void *)(uintptr_t)args};
    CALL(cuLaunchKernel, function, grid[0], grid[1], grid[2], threads, 1, 1, shared_bytes,
         device.stream, parameters, NULL);
    CALL(cuStreamSynchronize, device.stream);
}
