/* The stand-in's entrance: what every call passes through, handles, versions and errors. */

#include "tests/ptx/standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct standin standin = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
};
_Thread_local struct cu_context *standin_current;

static void options_read_once(void) {
    standin_options_read(&standin.options);
}

int standin_enter(enum standin_call call, int need) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, options_read_once);
    standin_trace(call);
    const int fault = standin_fault(call);
    if (fault) return fault;

    pthread_mutex_lock(&standin.lock);
    int result = CUDA_SUCCESS;
    struct cu_context *context = standin_current;
    if ((need & NEED_INIT) && !standin.initialised)
        result = CUDA_ERROR_NOT_INITIALIZED;
    else if ((need & NEED_CONTEXT) == NEED_CONTEXT && !context)
        result = standin_refuse(CUDA_ERROR_INVALID_CONTEXT, "no context is current on this thread");
    else if ((need & NEED_CONTEXT) == NEED_CONTEXT && !context->alive)
        result = standin_refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "its context is destroyed");
    else if ((need & NEED_CONTEXT) == NEED_CONTEXT && context->sticky)
        result = context->sticky;
    else if (need & NEED_NO_CAPTURE)
        result = capture_check(context);
    if (result) {
        if (result != CUDA_SUCCESS && !(context && context->sticky))
            standin_refuse(result, "%s returned %d", standin_call_name(call), result);
        pthread_mutex_unlock(&standin.lock);
    }
    return result;
}

int standin_leave(int result) {
    const struct cu_context *context = standin_current;
    if (context && context->alive && context->sticky) result = context->sticky;
    pthread_mutex_unlock(&standin.lock);
    return result;
}

int standin_refuse(int result, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    standin_log(format, arguments);
    va_end(arguments);
    return result;
}

void *standin_zeroed(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (!memory) abort();
    return memory;
}

// --- handles -----------------------------------------------------------------------------------

void handle_add(struct cu_context *context, struct handle *handle, enum handle_kind kind) {
    handle->kind = kind;
    handle->next = context->handles;
    context->handles = handle;
}

bool handle_is(const struct cu_context *context, const void *pointer, enum handle_kind kind) {
    for (const struct handle *h = context->handles; h; h = h->next)
        if (h == pointer && h->kind == kind) return true;
    return false;
}

void handle_drop(struct cu_context *context, struct handle *handle) {
    for (struct handle **at = &context->handles; *at; at = &(*at)->next)
        if (*at == handle) {
            *at = handle->next;
            return;
        }
}

// --- initialisation, versions, names -----------------------------------------------------------

int cuInit(unsigned flags) {
    int result = standin_enter(CALL_cuInit, NEED_NOTHING);
    if (result) return result;
    if (flags != 0)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (standin.options.devices == 0)
        result = CUDA_ERROR_NO_DEVICE;
    else
        standin.initialised = true;
    return standin_leave(result);
}

int cuDriverGetVersion(int *version) {
    const int result = standin_enter(CALL_cuDriverGetVersion, NEED_NOTHING);
    if (result) return result;
    if (version) *version = standin.options.driver;
    pthread_mutex_unlock(&standin.lock);
    return version ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

#define ERROR_NAMES(X)                                                                             \
    X(CUDA_SUCCESS, "no error")                                                                    \
    X(CUDA_ERROR_INVALID_VALUE, "invalid argument")                                                \
    X(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                                   \
    X(CUDA_ERROR_NOT_INITIALIZED, "initialization error")                                          \
    X(CUDA_ERROR_DEINITIALIZED, "driver shutting down")                                            \
    X(CUDA_ERROR_STUB_LIBRARY, "stub library")                                                     \
    X(CUDA_ERROR_DEVICE_UNAVAILABLE, "device busy or unavailable")                                 \
    X(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                                  \
    X(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                                         \
    X(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")                                  \
    X(CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                                        \
    X(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image for this device")                             \
    X(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered")                         \
    X(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed")                                      \
    X(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, "PTX JIT compiler library not found")                     \
    X(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the PTX is newer than this driver")                     \
    X(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                                        \
    X(CUDA_ERROR_NOT_FOUND, "named symbol not found")                                              \
    X(CUDA_ERROR_NOT_READY, "device not ready")                                                    \
    X(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")                      \
    X(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")               \
    X(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated")                        \
    X(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed")                                     \
    X(CUDA_ERROR_ASSERT, "device-side assert triggered")                                           \
    X(CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error")                                     \
    X(CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered")                    \
    X(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address")                                         \
    X(CUDA_ERROR_INVALID_ADDRESS_SPACE, "operation not supported on this address space")           \
    X(CUDA_ERROR_INVALID_PC, "invalid program counter")                                            \
    X(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure")                                      \
    X(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch")            \
    X(CUDA_ERROR_NOT_PERMITTED, "operation not permitted")                                         \
    X(CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                                         \
    X(CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized")                                   \
    X(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, "driver and kernel module differ")                        \
    X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "not permitted while a stream is captured")           \
    X(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "the capture failed before this call")                \
    X(CUDA_ERROR_UNKNOWN, "unknown error")

static bool error_text(int result, const char **name, const char **text) {
    static const struct {
        int result;
        const char *name, *text;
    } errors[] = {
#define ERROR_ROW(code, words) {code, #code, words},
        ERROR_NAMES(ERROR_ROW)
#undef ERROR_ROW
    };
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].result == result) {
            *name = errors[i].name;
            *text = errors[i].text;
            return true;
        }
    *name = *text = NULL;
    return false;
}

int cuGetErrorName(int code, const char **name) {
    const int result = standin_enter(CALL_cuGetErrorName, NEED_NOTHING);
    if (result) return result;
    const char *text;
    const bool known = name && error_text(code, name, &text);
    pthread_mutex_unlock(&standin.lock);
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

int cuGetErrorString(int code, const char **text) {
    const int result = standin_enter(CALL_cuGetErrorString, NEED_NOTHING);
    if (result) return result;
    const char *name;
    const bool known = text && error_text(code, &name, text);
    pthread_mutex_unlock(&standin.lock);
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// --- cuGetProcAddress --------------------------------------------------------------------------

typedef void any_function(void);

static const struct {
    const char *name;
    int version;
    any_function *function;
} calls[] = {
#define CALL_ROW(name, version, parameters) {#name, version, (any_function *)name},
    CUDA_CALLS(CALL_ROW)
#undef CALL_ROW
        {"cuGetProcAddress", 11030, (any_function *)cuGetProcAddress},
    {"cuGetProcAddress_v2", 12000, (any_function *)cuGetProcAddress_v2},
};

enum proc_status { PROC_FOUND, PROC_UNKNOWN, PROC_TOO_NEW };

/* The symbol is a base name: cuMemAlloc, whose newest variant that the version knows is wanted. */
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                        int *status) {
    if (!symbol || !function || flags > 2) return CUDA_ERROR_INVALID_VALUE;
    const size_t length = strlen(symbol);
    int found = PROC_UNKNOWN, newest = 0;
    *function = NULL;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const char *rest = calls[i].name + length;
        if (strncmp(calls[i].name, symbol, length) || (*rest && strncmp(rest, "_v", 2))) continue;
        if (calls[i].version > version) {
            if (found == PROC_UNKNOWN) found = PROC_TOO_NEW;
        } else if (calls[i].version >= newest) {
            newest = calls[i].version;
            found = PROC_FOUND;
            memcpy(function, &calls[i].function, sizeof *function);
        }
    }
    if (status) *status = found;
    return found == PROC_FOUND ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}
