/* Tests of the stand-in, each in a process of its own: the library is loaded as wick loads it, and
 * every call and every fault is tried. Usage: test_standin LIBRARY [NAME]. */

#include "cuda/driver_api.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void *library;
static struct cuda_api api;

#define WANT(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("    line %d: %s\n", __LINE__, #condition);                                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define WANT_RESULT(result, call)                                                                  \
    do {                                                                                           \
        const int got_ = (call);                                                                   \
        if (got_ != (result)) {                                                                    \
            printf("    line %d: %s is %d, not %s\n", __LINE__, #call, got_, #result);             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define OK(call) WANT_RESULT(CUDA_SUCCESS, call)

// --- kernels -----------------------------------------------------------------------------------

#define HEAD ".version 7.0\n.target sm_80\n.address_size 64\n"

/* data[i] += 1 for every thread i below n */
#define ADD_ONE                                                                                    \
    ".visible .entry add_one(.param .u64 data, .param .u32 n) {\n"                                 \
    "  .reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<4>;\n"                                     \
    "  ld.param.u64 %rd1, [data];\n"                                                               \
    "  ld.param.u32 %r1, [n];\n"                                                                   \
    "  mov.u32 %r2, %ctaid.x;\n"                                                                   \
    "  mov.u32 %r3, %ntid.x;\n"                                                                    \
    "  mov.u32 %r4, %tid.x;\n"                                                                     \
    "  mad.lo.s32 %r5, %r2, %r3, %r4;\n"                                                           \
    "  setp.ge.u32 %p1, %r5, %r1;\n"                                                               \
    "  @%p1 bra DONE;\n"                                                                           \
    "  cvta.to.global.u64 %rd1, %rd1;\n"                                                           \
    "  mul.wide.u32 %rd2, %r5, 4;\n"                                                               \
    "  add.s64 %rd3, %rd1, %rd2;\n"                                                                \
    "  ld.global.u32 %r6, [%rd3];\n"                                                               \
    "  add.s32 %r6, %r6, 1;\n"                                                                     \
    "  st.global.u32 [%rd3], %r6;\n"                                                               \
    "DONE:\n"                                                                                      \
    "  ret;\n"                                                                                     \
    "}\n"

/* waits until *flag is 1, then sets it to 2 */
#define SPIN                                                                                       \
    ".visible .entry spin(.param .u64 flag) {\n"                                                   \
    "  .reg .pred %p<2>; .reg .b32 %r<4>; .reg .b64 %rd<2>;\n"                                     \
    "  ld.param.u64 %rd1, [flag];\n"                                                               \
    "  cvta.to.global.u64 %rd1, %rd1;\n"                                                           \
    "AGAIN:\n"                                                                                     \
    "  ld.volatile.global.u32 %r1, [%rd1];\n"                                                      \
    "  setp.ne.u32 %p1, %r1, 1;\n"                                                                 \
    "  @%p1 bra AGAIN;\n"                                                                          \
    "  mov.u32 %r2, 2;\n"                                                                          \
    "  st.volatile.global.u32 [%rd1], %r2;\n"                                                      \
    "  ret;\n"                                                                                     \
    "}\n"

/* writes one word where it is told to */
#define POKE                                                                                       \
    ".visible .entry poke(.param .u64 where) {\n"                                                  \
    "  .reg .b32 %r<2>; .reg .b64 %rd<2>;\n"                                                       \
    "  ld.param.u64 %rd1, [where];\n"                                                              \
    "  mov.u32 %r1, 7;\n"                                                                          \
    "  st.global.u32 [%rd1], %r1;\n"                                                               \
    "  ret;\n"                                                                                     \
    "}\n"

#define TRAP ".visible .entry trap_at_once(.param .u64 unused) {\n  trap;\n  ret;\n}\n"

static const char kernels[] = HEAD ADD_ONE SPIN POKE TRAP;

// --- what many tests begin with ----------------------------------------------------------------

static struct cu_context *context;
static struct cu_module *module;
static struct cu_function *add_one, *spin, *poke;

static void begin(void) {
    OK(api.cuInit(0));
    OK(api.cuDevicePrimaryCtxRetain(&context, 0));
    OK(api.cuCtxSetCurrent(context));
}

static void begin_with_kernels(void) {
    begin();
    OK(api.cuModuleLoadDataEx(&module, kernels, 0, NULL, NULL));
    OK(api.cuModuleGetFunction(&add_one, module, "add_one"));
    OK(api.cuModuleGetFunction(&spin, module, "spin"));
    OK(api.cuModuleGetFunction(&poke, module, "poke"));
}

static int launch_add(uint64_t data, uint32_t n, struct cu_stream *stream) {
    void *parameters[] = {&data, &n};
    return api.cuLaunchKernel(add_one, (n + 63) / 64, 1, 1, 64, 1, 1, 0, stream, parameters, NULL);
}

static int launch_one(struct cu_function *function, uint64_t address, struct cu_stream *stream) {
    void *parameters[] = {&address};
    return api.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL);
}

static uint64_t words_on_device(uint32_t count, uint32_t value) {
    uint64_t address;
    OK(api.cuMemAlloc_v2(&address, count * sizeof value));
    for (uint32_t i = 0; i < count; i++) OK(api.cuMemcpyHtoD_v2(address + 4 * i, &value, 4));
    return address;
}

static uint32_t word_at(uint64_t address) {
    uint32_t word;
    OK(api.cuMemcpyDtoH_v2(&word, address, sizeof word));
    return word;
}

static uint32_t *pinned_words(uint32_t count) {
    void *words;
    OK(api.cuMemHostAlloc(&words, count * sizeof(uint32_t), CU_MEMHOSTALLOC_DEVICEMAP));
    memset(words, 0, count * sizeof(uint32_t));
    return words;
}

static uint64_t device_pointer(void *pinned) {
    uint64_t address;
    OK(api.cuMemHostGetDevicePointer_v2(&address, pinned, 0));
    return address;
}

// --- versions, devices, contexts ---------------------------------------------------------------

static void proc_address_gives_the_newest_variant_that_a_version_knows(void) {
    cuda_proc_address_v2 *find;
    void *symbol = dlsym(library, "cuGetProcAddress_v2"), *found;
    int status;
    WANT(symbol);
    memcpy(&find, &symbol, sizeof find);
    OK(find("cuMemAlloc", &found, 12000, 0, &status));
    WANT(found == dlsym(library, "cuMemAlloc_v2") && status == 0);
    WANT_RESULT(CUDA_ERROR_NOT_FOUND, find("cuMemAlloc", &found, 3000, 0, &status));
    WANT(!found && status == 2);
    WANT_RESULT(CUDA_ERROR_NOT_FOUND, find("cuMem", &found, 12000, 0, &status));
    WANT(!found && status == 1);
    OK(find("cuGetProcAddress", &found, 12000, 0, NULL));
    WANT(found == symbol);
}

static void the_device_says_that_it_is_a_test_double(void) {
    char text[64];
    int value, device;
    size_t bytes;
    OK(api.cuInit(0));
    OK(api.cuDeviceGetCount(&value));
    WANT(value == 1);
    OK(api.cuDeviceGet(&device, 0));
    WANT_RESULT(CUDA_ERROR_INVALID_DEVICE, api.cuDeviceGet(&value, 1));
    OK(api.cuDeviceGetName(text, sizeof text, device));
    WANT(strcmp(text, "wick PTX machine (test double)") == 0);
    OK(api.cuDeviceGetPCIBusId(text, sizeof text, device));
    WANT(strcmp(text, "0000:01:00.0") == 0);
    OK(api.cuDeviceTotalMem_v2(&bytes, device));
    WANT(bytes == (size_t)2 << 30);
    OK(api.cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
    WANT(value == 8);
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuDeviceGetAttribute(&value, 4711, device));
    OK(api.cuDriverGetVersion(&value));
    WANT(value == 12000);
}

static void the_environment_sets_devices_memory_and_version(void) {
    char text[64];
    int value;
    size_t bytes, total;
    OK(api.cuInit(0));
    OK(api.cuDeviceGetCount(&value));
    WANT(value == 3);
    OK(api.cuDeviceGetPCIBusId(text, sizeof text, 2));
    WANT(strcmp(text, "0000:03:00.0") == 0);
    OK(api.cuDriverGetVersion(&value));
    WANT(value == 11080);
    OK(api.cuDevicePrimaryCtxRetain(&context, 2));
    OK(api.cuCtxSetCurrent(context));
    OK(api.cuMemGetInfo_v2(&bytes, &total));
    WANT(total == 100 << 20 && bytes < total && bytes > total / 4);
}

static void errors_have_names(void) {
    const char *text;
    OK(api.cuGetErrorName(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, &text));
    WANT(strcmp(text, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION") == 0);
    OK(api.cuGetErrorString(CUDA_ERROR_OUT_OF_MEMORY, &text));
    WANT(strcmp(text, "out of memory") == 0);
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuGetErrorName(12345, &text));
}

static void calls_want_an_initialised_driver_and_a_current_context(void) {
    uint64_t address;
    int count;
    WANT_RESULT(CUDA_ERROR_NOT_INITIALIZED, api.cuDeviceGetCount(&count));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuInit(1));
    OK(api.cuInit(0));
    WANT_RESULT(CUDA_ERROR_INVALID_CONTEXT, api.cuMemAlloc_v2(&address, 16));
    WANT_RESULT(CUDA_ERROR_INVALID_CONTEXT, api.cuCtxSetCurrent((struct cu_context *)&address));
}

static void *query_elsewhere(void *result) {
    size_t a, b;
    *(int *)result = api.cuMemGetInfo_v2(&a, &b);
    return NULL;
}

static void a_context_is_current_on_one_thread(void) {
    pthread_t thread;
    int result = 0;
    begin();
    WANT(pthread_create(&thread, NULL, query_elsewhere, &result) == 0);
    pthread_join(thread, NULL);
    WANT(result == CUDA_ERROR_INVALID_CONTEXT);
}

static void a_released_context_is_gone(void) {
    size_t a, b;
    begin_with_kernels();
    (void)words_on_device(4, 1);
    OK(api.cuDevicePrimaryCtxRetain(&context, 0));
    OK(api.cuDevicePrimaryCtxRelease_v2(0));
    OK(api.cuMemGetInfo_v2(&a, &b));
    OK(api.cuDevicePrimaryCtxRelease_v2(0));
    WANT_RESULT(CUDA_ERROR_CONTEXT_IS_DESTROYED, api.cuMemGetInfo_v2(&a, &b));
    WANT_RESULT(CUDA_ERROR_INVALID_CONTEXT, api.cuDevicePrimaryCtxRelease_v2(0));
    OK(api.cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_SPIN));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE,
                api.cuDevicePrimaryCtxSetFlags_v2(0, CU_CTX_SCHED_SPIN | CU_CTX_SCHED_YIELD));
}

// --- memory ------------------------------------------------------------------------------------

static void copies_go_there_and_back(void) {
    begin();
    uint32_t *pinned = pinned_words(8), plain[8];
    uint64_t device, other;
    struct cu_stream *stream;
    OK(api.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(api.cuMemAlloc_v2(&device, 32));
    OK(api.cuMemAlloc_v2(&other, 32));
    for (uint32_t i = 0; i < 8; i++) pinned[i] = 1000 + i;
    OK(api.cuMemcpyHtoDAsync_v2(device, pinned, 32, stream));
    OK(api.cuMemcpyDtoDAsync_v2(other, device, 32, stream));
    OK(api.cuMemsetD8Async(device, 0x11, 32, stream));
    OK(api.cuStreamSynchronize(stream));
    OK(api.cuMemcpyDtoH_v2(plain, other, 32));
    WANT(memcmp(plain, pinned, 32) == 0);
    OK(api.cuMemcpyDtoHAsync_v2(pinned, device, 32, stream));
    OK(api.cuCtxSynchronize());
    WANT(pinned[7] == 0x11111111);
}

static void copies_past_an_allocation_are_refused(void) {
    begin();
    uint64_t device;
    uint32_t plain[32] = {0}, *pinned = pinned_words(8);
    OK(api.cuMemAlloc_v2(&device, 100));
    OK(api.cuMemcpyHtoD_v2(device, plain, 100));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemcpyHtoD_v2(device, plain, 101));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemcpyDtoH_v2(plain, device + 99, 2));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemcpyHtoD_v2((uintptr_t)plain, plain, 4));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemcpyHtoD_v2(device, pinned + 1, 32));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemsetD8Async(device + 1, 0, 100, NULL));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemcpyDtoDAsync_v2(device, device + 64, 64, NULL));
    OK(api.cuMemcpyHtoD_v2(device, plain, 0));
}

static void asynchronous_copies_want_pinned_memory(void) {
    begin();
    uint64_t device;
    uint32_t plain[4] = {0};
    OK(api.cuMemAlloc_v2(&device, 16));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemcpyHtoDAsync_v2(device, plain, 16, NULL));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemcpyDtoHAsync_v2(plain, device, 16, NULL));
    OK(api.cuCtxSynchronize());
}

/* The copy takes its turn behind a kernel; until then the source is the driver's. */
static void a_source_is_read_when_the_copy_runs(void) {
    begin_with_kernels();
    uint32_t *flag = pinned_words(1), *source = pinned_words(1);
    const uint64_t device = words_on_device(1, 0);
    struct cu_stream *stream;
    OK(api.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(launch_one(spin, device_pointer(flag), stream));
    *source = 1;
    OK(api.cuMemcpyHtoDAsync_v2(device, source, 4, stream));
    *source = 2;
    __atomic_store_n(flag, 1, __ATOMIC_SEQ_CST);
    OK(api.cuStreamSynchronize(stream));
    WANT(word_at(device) == 2);
}

static void unwritten_memory_reads_as_poison(void) {
    begin();
    uint64_t device;
    OK(api.cuMemAlloc_v2(&device, 64));
    const uint32_t word = 5;
    OK(api.cuMemcpyHtoD_v2(device + 8, &word, 4));
    WANT(word_at(device) == 0xcbcbcbcb);
    WANT(word_at(device + 8) == 5);
    WANT(word_at(device + 6) == 0x0005cbcb);
}

static void memory_runs_out(void) {
    begin();
    size_t bytes, total;
    uint64_t a, b;
    OK(api.cuMemGetInfo_v2(&bytes, &total));
    WANT_RESULT(CUDA_ERROR_OUT_OF_MEMORY, api.cuMemAlloc_v2(&a, bytes + 1));
    OK(api.cuMemAlloc_v2(&a, bytes));
    WANT(a % 256 == 0);
    WANT_RESULT(CUDA_ERROR_OUT_OF_MEMORY, api.cuMemAlloc_v2(&b, 1));
    OK(api.cuMemFree_v2(a));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemFree_v2(a));
    OK(api.cuMemAlloc_v2(&b, 1));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemAlloc_v2(&a, 0));
    uint32_t *pinned = pinned_words(4);
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemFree_v2((uintptr_t)pinned));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemHostGetDevicePointer_v2(&a, &b, 0));
    OK(api.cuMemFreeHost(pinned));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuMemFreeHost(pinned));
}

static void the_second_allocation_fails_on_demand(void) {
    begin();
    uint64_t a;
    OK(api.cuMemAlloc_v2(&a, 64));
    WANT_RESULT(CUDA_ERROR_OUT_OF_MEMORY, api.cuMemAlloc_v2(&a, 64));
    OK(api.cuMemAlloc_v2(&a, 64));
}

// --- modules and launches ----------------------------------------------------------------------

static void modules_that_cannot_run_are_refused(void) {
    begin();
    char log[256] = "";
    int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)sizeof log};
    WANT_RESULT(CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
                api.cuModuleLoadDataEx(&module,
                                       ".version 8.1\n.target sm_80\n.address_size 64\n" POKE, 2,
                                       options, values));
    WANT(strstr(log, "8.1") && strstr(log, "8.0"));
    WANT_RESULT(CUDA_ERROR_NO_BINARY_FOR_GPU,
                api.cuModuleLoadDataEx(&module,
                                       ".version 7.8\n.target sm_90\n.address_size 64\n" POKE, 2,
                                       options, values));
    WANT_RESULT(CUDA_ERROR_INVALID_PTX,
                api.cuModuleLoadDataEx(&module, HEAD ".visible .entry f() { nonsense; ret; }\n", 2,
                                       options, values));
    WANT(strstr(log, "nonsense"));
    WANT_RESULT(CUDA_ERROR_NO_BINARY_FOR_GPU,
                api.cuModuleLoadDataEx(&module, "\177ELF and so on", 0, NULL, NULL));
    options[1] = 99;
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE,
                api.cuModuleLoadDataEx(&module, kernels, 2, options, values));
    OK(api.cuModuleLoadDataEx(&module, kernels, 0, NULL, NULL));
    WANT_RESULT(CUDA_ERROR_NOT_FOUND, api.cuModuleGetFunction(&poke, module, "pok"));
}

static void functions_have_attributes(void) {
    begin_with_kernels();
    int value;
    OK(api.cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_PTX_VERSION, poke));
    WANT(value == 70);
    OK(api.cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, poke));
    WANT(value == 1024);
    OK(api.cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, poke));
    WANT(value == 0);
    OK(api.cuOccupancyMaxActiveBlocksPerMultiprocessor(&value, poke, 256, 40000));
    WANT(value == 4);
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuFuncGetAttribute(&value, 77, poke));
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE,
                api.cuFuncGetAttribute(&value, 0, (struct cu_function *)module));
}

static void a_kernel_runs(void) {
    begin_with_kernels();
    const uint64_t data = words_on_device(100, 41);
    OK(launch_add(data, 99, NULL));
    OK(api.cuCtxSynchronize());
    WANT(word_at(data) == 42 && word_at(data + 4 * 98) == 42 && word_at(data + 4 * 99) == 41);
    struct {
        uint64_t data;
        uint32_t n;
    } values = {data, 1};
    size_t bytes = 12;
    void *extra[] = {(void *)1, &values, (void *)2, &bytes, NULL};
    OK(api.cuLaunchKernel(add_one, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, extra));
    WANT(word_at(data) == 43);
    bytes = 16;
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE,
                api.cuLaunchKernel(add_one, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, extra));
}

static void launches_beyond_the_limits_are_refused(void) {
    begin_with_kernels();
    const uint64_t data = words_on_device(1, 0);
    uint64_t value = data;
    void *parameters[] = {&value};
#define TRY(result, gx, gy, bx, by, bz, shared)                                                    \
    WANT_RESULT(result,                                                                            \
                api.cuLaunchKernel(poke, gx, gy, 1, bx, by, bz, shared, NULL, parameters, NULL))
    TRY(CUDA_SUCCESS, 1, 1, 1024, 1, 1, 49152);
    TRY(CUDA_ERROR_INVALID_VALUE, 0, 1, 32, 1, 1, 0);
    TRY(CUDA_ERROR_INVALID_VALUE, 1, 65536, 32, 1, 1, 0);
    TRY(CUDA_ERROR_INVALID_VALUE, 1, 1, 1025, 1, 1, 0);
    TRY(CUDA_ERROR_INVALID_VALUE, 1, 1, 64, 17, 1, 0);
    TRY(CUDA_ERROR_INVALID_VALUE, 1, 1, 1, 1, 65, 0);
    TRY(CUDA_ERROR_INVALID_VALUE, 1, 1, 32, 1, 1, 49153);
    const int attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuFuncSetAttribute(poke, attribute, 163 * 1024 + 1));
    OK(api.cuFuncSetAttribute(poke, attribute, 163 * 1024));
    TRY(CUDA_SUCCESS, 1, 1, 32, 1, 1, 163 * 1024);
#undef TRY
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, launch_one((struct cu_function *)module, data, NULL));
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, launch_one(poke, data, (struct cu_stream *)poke));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE,
                api.cuLaunchKernel(poke, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL));
    /* 4 multiprocessors, 32 blocks each */
    OK(api.cuLaunchCooperativeKernel(poke, 128, 1, 1, 32, 1, 1, 0, NULL, parameters));
    WANT_RESULT(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
                api.cuLaunchCooperativeKernel(poke, 129, 1, 1, 32, 1, 1, 0, NULL, parameters));
    OK(api.cuCtxSynchronize());
    WANT(word_at(data) == 7);
}

static void unloaded_and_destroyed_things_are_refused(void) {
    begin_with_kernels();
    const uint64_t data = words_on_device(1, 0);
    struct cu_stream *stream;
    struct cu_event *event;
    OK(api.cuStreamCreate(&stream, CU_STREAM_DEFAULT));
    OK(api.cuEventCreate(&event, CU_EVENT_DEFAULT));
    OK(api.cuEventDestroy_v2(event));
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, api.cuEventRecord(event, stream));
    OK(api.cuStreamDestroy_v2(stream));
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, api.cuStreamSynchronize(stream));
    OK(api.cuModuleUnload(module));
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, launch_one(poke, data, NULL));
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, api.cuModuleUnload(module));
}

// --- streams, events, graphs -------------------------------------------------------------------

static void a_kernel_and_the_host_talk_through_pinned_memory(void) {
    begin_with_kernels();
    uint32_t *flag = pinned_words(1);
    struct cu_stream *stream;
    struct cu_event *event;
    OK(api.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(api.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    OK(api.cuEventQuery(event));
    OK(launch_one(spin, device_pointer(flag), stream));
    OK(api.cuEventRecord(event, stream));
    WANT_RESULT(CUDA_ERROR_NOT_READY, api.cuStreamQuery(stream));
    WANT_RESULT(CUDA_ERROR_NOT_READY, api.cuEventQuery(event));
    __atomic_store_n(flag, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(flag, __ATOMIC_SEQ_CST) != 2) usleep(100);
    OK(api.cuEventSynchronize(event));
    OK(api.cuStreamQuery(stream));
}

/* While a kernel holds the device, work piles up on two streams; without an order between them the
 * copy would see another fill's bytes, once in so many times. */
static void the_null_stream_keeps_order_with_blocking_streams(void) {
    begin_with_kernels();
    uint32_t *flag = pinned_words(1), *seen = pinned_words(1);
    struct cu_stream *blocking, *free_running;
    OK(api.cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    OK(api.cuStreamCreate(&free_running, CU_STREAM_NON_BLOCKING));
    const uint64_t data = words_on_device(1, 0);
    for (uint8_t i = 1; i < 30; i++) {
        __atomic_store_n(flag, 0, __ATOMIC_SEQ_CST);
        OK(launch_one(spin, device_pointer(flag), free_running));
        OK(api.cuMemsetD8Async(data, i, 4, NULL));
        OK(api.cuMemcpyDtoHAsync_v2(seen, data, 4, blocking));
        OK(api.cuMemsetD8Async(data, 0xff, 4, NULL));
        WANT_RESULT(CUDA_ERROR_NOT_READY, api.cuStreamQuery(NULL));
        __atomic_store_n(flag, 1, __ATOMIC_SEQ_CST);
        OK(api.cuCtxSynchronize());
        WANT(*seen == 0x01010101u * i);
    }
}

static void events_measure_time(void) {
    begin_with_kernels();
    const uint64_t data = words_on_device(1, 0);
    struct cu_event *start, *end, *untimed;
    OK(api.cuEventCreate(&start, CU_EVENT_DEFAULT));
    OK(api.cuEventCreate(&end, CU_EVENT_DEFAULT));
    OK(api.cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
    float ms;
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, api.cuEventElapsedTime(&ms, start, end));
    OK(api.cuEventRecord(start, NULL));
    OK(launch_add(data, 1, NULL)); /* late by 30 ms */
    OK(api.cuEventRecord(end, NULL));
    OK(api.cuEventRecord(untimed, NULL));
    WANT_RESULT(CUDA_ERROR_NOT_READY, api.cuEventElapsedTime(&ms, start, end));
    OK(api.cuCtxSynchronize());
    OK(api.cuEventElapsedTime(&ms, start, end));
    WANT(ms >= 30 && ms < 10000);
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, api.cuEventElapsedTime(&ms, start, untimed));
}

static void a_captured_graph_runs_again_and_again(void) {
    begin_with_kernels();
    struct cu_stream *stream;
    struct cu_graph *graph;
    struct cu_graph_exec *exec;
    uint32_t *result = pinned_words(2);
    const uint64_t data = words_on_device(2, 5);
    OK(api.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(api.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(launch_add(data, 2, stream));
    OK(launch_add(data, 1, stream));
    OK(api.cuMemcpyDtoHAsync_v2(result, data, 8, stream));
    OK(api.cuStreamEndCapture(stream, &graph));
    WANT(word_at(data) == 5);
    OK(api.cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(api.cuGraphDestroy(graph));
    OK(api.cuGraphUpload(exec, stream));
    OK(api.cuGraphLaunch(exec, stream));
    OK(api.cuGraphLaunch(exec, stream));
    OK(api.cuStreamSynchronize(stream));
    WANT(result[0] == 9 && result[1] == 7);
    OK(api.cuMemFree_v2(data));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuGraphLaunch(exec, stream));
    OK(api.cuGraphExecDestroy(exec));
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, api.cuGraphLaunch(exec, stream));
    WANT_RESULT(CUDA_ERROR_INVALID_HANDLE, api.cuGraphInstantiateWithFlags(&exec, graph, 0));
}

static void what_does_not_belong_in_a_capture_spoils_it(void) {
    begin_with_kernels();
    struct cu_stream *stream;
    struct cu_graph *graph;
    uint64_t data = words_on_device(1, 5), more;
    OK(api.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    WANT_RESULT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, api.cuStreamBeginCapture_v2(NULL, 0));
    WANT_RESULT(CUDA_ERROR_INVALID_VALUE, api.cuStreamEndCapture(stream, &graph));

    OK(api.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    WANT_RESULT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, api.cuMemAlloc_v2(&more, 16));
    WANT_RESULT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, launch_add(data, 1, stream));
    WANT_RESULT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, api.cuStreamEndCapture(stream, &graph));
    WANT(!graph);

    OK(api.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    WANT_RESULT(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, api.cuStreamSynchronize(stream));
    WANT_RESULT(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, api.cuStreamEndCapture(stream, &graph));

    OK(api.cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    OK(api.cuMemAlloc_v2(&more, 16));
    OK(api.cuStreamEndCapture(stream, &graph));
    OK(launch_add(data, 1, stream));
}

// --- faults ------------------------------------------------------------------------------------

static void a_bad_access_poisons_the_context(void) {
    begin_with_kernels();
    const uint64_t data = words_on_device(1, 1);
    size_t a, b;
    OK(launch_one(poke, data + 4, NULL));
    WANT_RESULT(CUDA_ERROR_ILLEGAL_ADDRESS, api.cuCtxSynchronize());
    WANT_RESULT(CUDA_ERROR_ILLEGAL_ADDRESS, api.cuMemGetInfo_v2(&a, &b));
    WANT_RESULT(CUDA_ERROR_ILLEGAL_ADDRESS, api.cuStreamQuery(NULL));
    WANT_RESULT(CUDA_ERROR_ILLEGAL_ADDRESS, launch_one(poke, data, NULL));
    OK(api.cuDevicePrimaryCtxRelease_v2(0));
    OK(api.cuDevicePrimaryCtxRetain(&context, 0));
    WANT_RESULT(CUDA_ERROR_ILLEGAL_ADDRESS, api.cuMemGetInfo_v2(&a, &b));
}

static void a_misaligned_access_has_its_own_number(void) {
    begin_with_kernels();
    const uint64_t data = words_on_device(2, 1);
    OK(launch_one(poke, data + 2, NULL));
    WANT_RESULT(CUDA_ERROR_MISALIGNED_ADDRESS, api.cuCtxSynchronize());
}

static void a_trap_has_its_own_number(void) {
    struct cu_function *trap;
    begin_with_kernels();
    OK(api.cuModuleGetFunction(&trap, module, "trap_at_once"));
    OK(launch_one(trap, 0, NULL));
    WANT_RESULT(CUDA_ERROR_LAUNCH_FAILED, api.cuCtxSynchronize());
}

static void a_kernel_that_never_ends_meets_its_limit(void) {
    begin_with_kernels();
    OK(launch_one(spin, device_pointer(pinned_words(1)), NULL));
    WANT_RESULT(CUDA_ERROR_LAUNCH_TIMEOUT, api.cuCtxSynchronize());
}

static void the_second_kernel_fails_on_demand(void) {
    begin_with_kernels();
    const uint64_t data = words_on_device(1, 0);
    OK(launch_add(data, 1, NULL));
    OK(api.cuCtxSynchronize());
    OK(launch_add(data, 1, NULL));
    WANT_RESULT(CUDA_ERROR_LAUNCH_FAILED, api.cuCtxSynchronize());
    WANT_RESULT(CUDA_ERROR_LAUNCH_FAILED, launch_add(data, 1, NULL));
}

static void cu_init_fails_on_demand(void) {
    WANT_RESULT(CUDA_ERROR_NOT_INITIALIZED, api.cuInit(0));
    OK(api.cuInit(0));
}

static void without_a_device_cu_init_fails(void) {
    WANT_RESULT(CUDA_ERROR_NO_DEVICE, api.cuInit(0));
}

static void the_kernel_hangs_on_demand(void) {
    begin_with_kernels();
    const uint64_t data = words_on_device(1, 0);
    struct cu_stream *stream;
    OK(api.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(launch_add(data, 1, stream));
    usleep(200000);
    WANT_RESULT(CUDA_ERROR_NOT_READY, api.cuStreamQuery(stream));
}

static void launch_and_wait(void) {
    begin_with_kernels();
    OK(launch_add(words_on_device(1, 0), 1, NULL));
    api.cuCtxSynchronize();
}

static void initialise(void) {
    api.cuInit(0);
}

static void every_call_is_traced(void) {
    char names[256] = "";
    begin();
    const int fd = open(getenv("WICK_PTX_TRACE"), O_RDONLY);
    WANT(fd >= 0 && read(fd, names, sizeof names - 1) > 0);
    WANT(strcmp(names, "cuInit\ncuDevicePrimaryCtxRetain\ncuCtxSetCurrent\n") == 0);
    unlink(getenv("WICK_PTX_TRACE"));
}

// --- the list ----------------------------------------------------------------------------------

/* Ends: how the test's process must end; 0 as it is, n > 0 by exit(n), n < 0 by signal -n. */
static const struct test {
    const char *name;
    void (*run)(void);
    const char *environment; /* NAME=VALUE, separated by blanks; NULL */
    int ends;
} tests[] = {
#define TEST(name)                                                                                 \
    { #name, name, NULL, 0 }
#define TEST_WITH(name, environment)                                                               \
    { #name, name, environment, 0 }
    TEST(proc_address_gives_the_newest_variant_that_a_version_knows),
    TEST(the_device_says_that_it_is_a_test_double),
    TEST_WITH(the_environment_sets_devices_memory_and_version,
              "WICK_PTX_DEVICES=3 WICK_PTX_VRAM=100M WICK_PTX_DRIVER=11080"),
    TEST(errors_have_names),
    TEST(calls_want_an_initialised_driver_and_a_current_context),
    TEST(a_context_is_current_on_one_thread),
    TEST(a_released_context_is_gone),
    TEST(copies_go_there_and_back),
    TEST(copies_past_an_allocation_are_refused),
    TEST(asynchronous_copies_want_pinned_memory),
    TEST(a_source_is_read_when_the_copy_runs),
    TEST(unwritten_memory_reads_as_poison),
    TEST(memory_runs_out),
    TEST_WITH(the_second_allocation_fails_on_demand, "WICK_PTX_FAULT=cuMemAlloc_v2#2=error:2"),
    TEST(modules_that_cannot_run_are_refused),
    TEST(functions_have_attributes),
    TEST(a_kernel_runs),
    TEST(launches_beyond_the_limits_are_refused),
    TEST(unloaded_and_destroyed_things_are_refused),
    TEST(a_kernel_and_the_host_talk_through_pinned_memory),
    TEST(the_null_stream_keeps_order_with_blocking_streams),
    TEST_WITH(events_measure_time, "WICK_PTX_LATENCY=30000"),
    TEST(a_captured_graph_runs_again_and_again),
    TEST(what_does_not_belong_in_a_capture_spoils_it),
    TEST(a_bad_access_poisons_the_context),
    TEST(a_misaligned_access_has_its_own_number),
    TEST(a_trap_has_its_own_number),
    TEST_WITH(a_kernel_that_never_ends_meets_its_limit, "WICK_PTX_STEPS=100000"),
    TEST_WITH(the_second_kernel_fails_on_demand, "WICK_PTX_FAULT=kernel#2=error:719"),
    TEST_WITH(cu_init_fails_on_demand, "WICK_PTX_FAULT=cuInit=error:3"),
    TEST_WITH(without_a_device_cu_init_fails, "WICK_PTX_DEVICES=0"),
    TEST_WITH(the_kernel_hangs_on_demand, "WICK_PTX_FAULT=kernel=hang"),
    TEST_WITH(every_call_is_traced, "WICK_PTX_TRACE=@trace"),
    {"a_kernel_segfaults_on_demand", launch_and_wait, "WICK_PTX_FAULT=kernel=segv", -SIGSEGV},
    {"a_kernel_aborts_on_demand", launch_and_wait, "WICK_PTX_FAULT=kernel=abort", -SIGABRT},
    {"a_kernel_exits_on_demand", launch_and_wait, "WICK_PTX_FAULT=kernel#1=exit:7", 7},
    {"a_call_segfaults_on_demand", initialise, "WICK_PTX_FAULT=cuInit=segv", -SIGSEGV},
    {"a_call_hangs_on_demand", initialise, "WICK_PTX_FAULT=cuInit#*=hang", -SIGALRM},
    {"a_fault_nobody_understands_ends_the_process", initialise, "WICK_PTX_FAULT=cuinit=segv", 125},
    {"a_size_nobody_understands_ends_the_process", initialise, "WICK_PTX_VRAM=2T", 125},
};

static const char *library_path;

static void environment_set(const char *environment) {
    char *copy = strdup(environment ? environment : ""), *rest = NULL;
    for (char *one = strtok_r(copy, " ", &rest); one; one = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(one, '=');
        *value++ = 0;
        char path[64];
        snprintf(path, sizeof path, "/tmp/standin-%d-%s", (int)getpid(), value + 1);
        setenv(one, *value == '@' ? path : value, 1);
    }
    free(copy);
}

static void child(const struct test *test, const char *log) {
    setenv("WICK_PTX_LOG", log, 1);
    environment_set(test->environment);
    alarm(test->ends == -SIGALRM ? 1 : 60);
    library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        printf("    %s\n", dlerror());
        exit(1);
    }
#define LOAD(name, version, parameters)                                                            \
    do {                                                                                           \
        void *symbol = dlsym(library, #name);                                                      \
        WANT(symbol);                                                                              \
        memcpy(&api.name, &symbol, sizeof symbol);                                                 \
    } while (0);
    CUDA_CALLS(LOAD)
    test->run();
    fflush(stdout);
    _exit(0);
}

static bool test_run(const struct test *test) {
    char log[64];
    snprintf(log, sizeof log, "/tmp/standin-%d.log", (int)getpid());
    unlink(log);
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) child(test, log);
    int status;
    waitpid(pid, &status, 0);
    const int ended = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    const bool good = ended == test->ends;
    printf("%s %s\n", good ? "ok  " : "FAIL", test->name);
    if (!good) {
        char text[4096];
        const int fd = open(log, O_RDONLY);
        const ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof text);
        if (fd >= 0) close(fd);
        printf("    ended with %d, not %d\n%.*s", ended, test->ends, (int)length, text);
    }
    unlink(log);
    return good;
}

int main(int argc, char **argv) {
    int passed = 0, failed = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: test_standin LIBRARY [NAME]\n");
        return 2;
    }
    library_path = argv[1];
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (argc > 2 && strcmp(argv[2], tests[i].name)) continue;
        *(test_run(&tests[i]) ? &passed : &failed) += 1;
    }
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
