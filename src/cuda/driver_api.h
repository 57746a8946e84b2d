/* driver_api: the part of the CUDA driver API that wick uses, in declarations of our own.
 *
 * Source of prototypes and numbers: the CUDA Driver API reference manual (11.8 to 12.x). All
 * handles are pointers to things nobody looks into; device addresses are 64-bit numbers; every call
 * returns an int that is 0 when it went well (CUresult). */
#ifndef WICK_CUDA_DRIVER_API_H
#define WICK_CUDA_DRIVER_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "cuda/foreign.h"

/* Results that are told apart; the driver itself has names and texts for all of them. */
enum cuda_result {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_DEINITIALIZED = 4,
    CUDA_ERROR_STUB_LIBRARY = 34,
    CUDA_ERROR_DEVICE_UNAVAILABLE = 46,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
    CUDA_ERROR_ECC_UNCORRECTABLE = 214,
    CUDA_ERROR_INVALID_PTX = 218,
    CUDA_ERROR_JIT_COMPILER_NOT_FOUND = 221,
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_ERROR_LAUNCH_TIMEOUT = 702,
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
    CUDA_ERROR_ASSERT = 710,
    CUDA_ERROR_HARDWARE_STACK_ERROR = 714,
    CUDA_ERROR_ILLEGAL_INSTRUCTION = 715,
    CUDA_ERROR_MISALIGNED_ADDRESS = 716,
    CUDA_ERROR_INVALID_ADDRESS_SPACE = 717,
    CUDA_ERROR_INVALID_PC = 718,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE = 720,
    CUDA_ERROR_NOT_PERMITTED = 800,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_SYSTEM_NOT_READY = 802,
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH = 803,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_UNKNOWN = 999
};

enum cuda_device_attribute {
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK = 8,
    CU_DEVICE_ATTRIBUTE_WARP_SIZE = 10,
    CU_DEVICE_ATTRIBUTE_CLOCK_RATE = 13, /* kHz */
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    CU_DEVICE_ATTRIBUTE_INTEGRATED = 18,
    CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY = 19,
    CU_DEVICE_ATTRIBUTE_COMPUTE_MODE = 20, /* 2: prohibited */
    CU_DEVICE_ATTRIBUTE_ECC_ENABLED = 32,
    CU_DEVICE_ATTRIBUTE_PCI_BUS_ID = 33,
    CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID = 34,
    CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE = 36,       /* kHz */
    CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH = 37, /* bits */
    CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE = 38,
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR = 39,
    CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
    CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID = 50,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR = 81,
    CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH = 95,
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97
};

enum cuda_function_attribute {
    CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0,
    CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES = 1,
    CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES = 2,
    CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3, /* of a thread; not 0: spills */
    CU_FUNC_ATTRIBUTE_NUM_REGS = 4,
    CU_FUNC_ATTRIBUTE_PTX_VERSION = 5,
    CU_FUNC_ATTRIBUTE_BINARY_VERSION = 6,
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8,
    CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT = 9 /* percent */
};

/* Options of cuModuleLoadDataEx; the value is a pointer or a number cast to one. */
enum cuda_jit_option {
    CU_JIT_MAX_REGISTERS = 0,
    CU_JIT_INFO_LOG_BUFFER = 3,
    CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES = 4,
    CU_JIT_ERROR_LOG_BUFFER = 5,
    CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES = 6,
    CU_JIT_OPTIMIZATION_LEVEL = 7,
    CU_JIT_CACHE_MODE = 14 /* 0: none, 1: L1 off (.cg), 2: L1 on (.ca) */
};

enum cuda_flag {
    CU_CTX_SCHED_AUTO = 0,
    CU_CTX_SCHED_SPIN = 1,
    CU_CTX_SCHED_YIELD = 2,
    CU_CTX_SCHED_BLOCKING_SYNC = 4,
    CU_CTX_MAP_HOST = 8,
    CU_STREAM_DEFAULT = 0,
    CU_STREAM_NON_BLOCKING = 1,
    CU_EVENT_DEFAULT = 0,
    CU_EVENT_BLOCKING_SYNC = 1,
    CU_EVENT_DISABLE_TIMING = 2,
    CU_MEMHOSTALLOC_PORTABLE = 1,
    CU_MEMHOSTALLOC_DEVICEMAP = 2,
    CU_MEMHOSTALLOC_WRITECOMBINED = 4,
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0,
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1,
    CU_STREAM_CAPTURE_MODE_RELAXED = 2
};

struct cu_context;
struct cu_module;
struct cu_function;
struct cu_stream;
struct cu_event;
struct cu_graph;
struct cu_graph_exec;

/* Every call, once: X(exported name, CUDA version in which this variant came, parameters). The base
 * name, which cuGetProcAddress takes, is the exported one without _v2. All are needed: they are
 * older than the oldest driver that is served. clang-format would take a parameter for a product.
 */
/* clang-format off */
#define CUDA_CALLS(X)                                                                              \
    X(cuInit, 2000, (unsigned flags))                                                              \
    X(cuDriverGetVersion, 2020, (int *version))                                                    \
    X(cuGetErrorName, 6000, (int result, const char **name))                                       \
    X(cuGetErrorString, 6000, (int result, const char **text))                                     \
    X(cuDeviceGetCount, 2000, (int *count))                                                        \
    X(cuDeviceGet, 2000, (int *device, int ordinal))                                               \
    X(cuDeviceGetName, 2000, (char *name, int bytes, int device))                                  \
    X(cuDeviceGetAttribute, 2000, (int *value, int attribute, int device))                         \
    X(cuDeviceGetPCIBusId, 4010, (char *id, int bytes, int device))                                \
    X(cuDeviceTotalMem_v2, 3020, (size_t *bytes, int device))                                      \
    X(cuDevicePrimaryCtxRetain, 7000, (struct cu_context **context, int device))                   \
    X(cuDevicePrimaryCtxRelease_v2, 11000, (int device))                                           \
    X(cuDevicePrimaryCtxSetFlags_v2, 11000, (int device, unsigned flags))                          \
    X(cuCtxSetCurrent, 4000, (struct cu_context *context))                                         \
    X(cuCtxSynchronize, 2000, (void))                                                              \
    X(cuMemGetInfo_v2, 3020, (size_t *free, size_t *total))                                        \
    X(cuMemAlloc_v2, 3020, (uint64_t *address, size_t bytes))                                      \
    X(cuMemFree_v2, 3020, (uint64_t address))                                                      \
    X(cuMemHostAlloc, 2020, (void **memory, size_t bytes, unsigned flags))                         \
    X(cuMemFreeHost, 2000, (void *memory))                                                         \
    X(cuMemHostGetDevicePointer_v2, 3020, (uint64_t *address, void *memory, unsigned flags))       \
    X(cuMemcpyHtoD_v2, 3020, (uint64_t to, const void *from, size_t bytes))                        \
    X(cuMemcpyDtoH_v2, 3020, (void *to, uint64_t from, size_t bytes))                              \
    X(cuMemcpyHtoDAsync_v2, 3020,                                                                  \
      (uint64_t to, const void *from, size_t bytes, struct cu_stream *stream))                     \
    X(cuMemcpyDtoHAsync_v2, 3020,                                                                  \
      (void *to, uint64_t from, size_t bytes, struct cu_stream *stream))                           \
    X(cuMemcpyDtoDAsync_v2, 3020,                                                                  \
      (uint64_t to, uint64_t from, size_t bytes, struct cu_stream *stream))                        \
    X(cuMemsetD8Async, 3020,                                                                       \
      (uint64_t to, unsigned char value, size_t bytes, struct cu_stream *stream))                  \
    X(cuModuleLoadDataEx, 2010,                                                                    \
      (struct cu_module **module, const void *image, unsigned n_options, int *options,             \
       void **values))                                                                             \
    X(cuModuleUnload, 2000, (struct cu_module *module))                                            \
    X(cuModuleGetFunction, 2000,                                                                   \
      (struct cu_function **function, struct cu_module *module, const char *name))                 \
    X(cuFuncGetAttribute, 2020, (int *value, int attribute, struct cu_function *function))         \
    X(cuFuncSetAttribute, 9000, (struct cu_function *function, int attribute, int value))          \
    X(cuLaunchKernel, 4000,                                                                        \
      (struct cu_function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,            \
       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,                \
       struct cu_stream *stream, void **parameters, void **extra))                                 \
    X(cuLaunchCooperativeKernel, 9000,                                                             \
      (struct cu_function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,            \
       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,                \
       struct cu_stream *stream, void **parameters))                                               \
    X(cuOccupancyMaxActiveBlocksPerMultiprocessor, 6050,                                           \
      (int *blocks, struct cu_function *function, int block_threads, size_t shared_bytes))         \
    X(cuStreamCreate, 2000, (struct cu_stream **stream, unsigned flags))                           \
    X(cuStreamDestroy_v2, 4000, (struct cu_stream *stream))                                        \
    X(cuStreamSynchronize, 2000, (struct cu_stream *stream))                                       \
    X(cuStreamQuery, 2000, (struct cu_stream *stream))                                             \
    X(cuStreamBeginCapture_v2, 10010, (struct cu_stream *stream, int mode))                        \
    X(cuStreamEndCapture, 10000, (struct cu_stream *stream, struct cu_graph **graph))              \
    X(cuGraphInstantiateWithFlags, 11040,                                                          \
      (struct cu_graph_exec **exec, struct cu_graph *graph, unsigned long long flags))             \
    X(cuGraphUpload, 11010, (struct cu_graph_exec *exec, struct cu_stream *stream))                \
    X(cuGraphLaunch, 10000, (struct cu_graph_exec *exec, struct cu_stream *stream))                \
    X(cuGraphExecDestroy, 10000, (struct cu_graph_exec *exec))                                     \
    X(cuGraphDestroy, 10000, (struct cu_graph *graph))                                             \
    X(cuEventCreate, 2000, (struct cu_event **event, unsigned flags))                              \
    X(cuEventRecord, 2000, (struct cu_event *event, struct cu_stream *stream))                     \
    X(cuEventQuery, 2000, (struct cu_event *event))                                                \
    X(cuEventSynchronize, 2000, (struct cu_event *event))                                          \
    X(cuEventElapsedTime, 2000, (float *ms, struct cu_event *start, struct cu_event *end))         \
    X(cuEventDestroy_v2, 4000, (struct cu_event *event))
/* clang-format on */

/* api.cuMemAlloc_v2(...) and so on. Only to be called on the driver thread. */
struct cuda_api {
#define CUDA_FIELD(name, version, parameters)                                                      \
    int(*name) parameters; /* NOLINT(bugprone-macro-parentheses) */
    CUDA_CALLS(CUDA_FIELD)
#undef CUDA_FIELD
};

/* These two are looked up first, by dlsym. Flags 0; the status may be NULL. */
typedef int cuda_proc_address(const char *symbol, void **function, int version, uint64_t flags);
typedef int cuda_proc_address_v2(const char *symbol, void **function, int version, uint64_t flags,
                                 int *status);

/* CUDA 12.0, which driver 525 brought: older ones are refused. 1000 * major + 10 * minor. */
enum { CUDA_VERSION_MIN = 12000 };

/* The context is lost with all that was in it: every later call fails with the same number. Pure.
 */
bool cuda_result_is_sticky(int result);

/* Fills the table on the driver thread and checks the version, which goes to *version. The fault
 * (CUDA_ERROR) names the function that is missing, or both versions. cuInit is the caller's. */
bool cuda_api_load(struct cuda_api *api, struct foreign *f, int *version, struct fault *fault);

#endif
