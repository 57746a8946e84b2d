/* Modules, functions, and launches of one kernel. */

#include "tests/ptx/standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- modules -----------------------------------------------------------------------------------

/* The newest PTX a driver takes: CUDA 11.x brought 7.x, 12.x brought 8.x with two exceptions. */
static unsigned ptx_version_newest(int driver) {
    static const struct {
        int driver;
        unsigned ptx;
    } later[] = {{13000, 90}, {12090, 88}, {12080, 87}, {12060, 85}, {12050, 85}};
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (driver >= later[i].driver) return later[i].ptx;
    const unsigned minor = (unsigned)driver % 1000 / 10;
    return driver >= 12000 ? 80 + minor : driver >= 11000 ? 70 + minor : 65;
}

struct jit_options {
    char *error_log;
    size_t error_bytes;
    char *info_log;
    size_t info_bytes;
};

static int options_parse(unsigned count, const int *options, void **values,
                         struct jit_options *out) {
    *out = (struct jit_options){0};
    if (count && (!options || !values)) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++) {
        switch (options[i]) {
        case CU_JIT_ERROR_LOG_BUFFER:
            out->error_log = values[i];
            break;
        case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
            out->error_bytes = (uintptr_t)values[i];
            break;
        case CU_JIT_INFO_LOG_BUFFER:
            out->info_log = values[i];
            break;
        case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
            out->info_bytes = (uintptr_t)values[i];
            break;
        case CU_JIT_MAX_REGISTERS:
        case CU_JIT_OPTIMIZATION_LEVEL:
        case CU_JIT_CACHE_MODE:
            break;
        default:
            return standin_refuse(CUDA_ERROR_INVALID_VALUE, "JIT option %d is not known here",
                                  options[i]);
        }
    }
    if ((out->error_log && !out->error_bytes) || (out->info_log && !out->info_bytes))
        return standin_refuse(CUDA_ERROR_INVALID_VALUE, "a JIT log without its size");
    return CUDA_SUCCESS;
}

/* *module NULL: why is in the text. */
static int image_parse(const char *image, struct ptx_module **module, struct ptx_error *error) {
    *module = NULL;
    if (memcmp(image, "\177ELF", 4) == 0 || memcmp(image, "\x50\xed\x55\xba", 4) == 0) {
        snprintf(error->text, sizeof error->text, "only PTX runs here, and this is machine code");
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    struct ptx_module *parsed = ptx_module_parse(image, error);
    if (!parsed) return CUDA_ERROR_INVALID_PTX;
    const unsigned version = ptx_module_version(parsed), target = ptx_module_target(parsed);
    const unsigned newest = ptx_version_newest(standin.options.driver);
    int result = CUDA_SUCCESS;
    if (version > newest) {
        snprintf(error->text, sizeof error->text, "PTX %u.%u, and driver %d takes up to %u.%u",
                 version / 10, version % 10, standin.options.driver, newest / 10, newest % 10);
        result = CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
    } else if (target > 80) {
        snprintf(error->text, sizeof error->text, "PTX for sm_%u, and this is 8.0", target);
        result = CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    if (result)
        ptx_module_free(parsed);
    else
        *module = parsed;
    return result;
}

int cuModuleLoadDataEx(struct cu_module **module, const void *image, unsigned count, int *options,
                       void **values) {
    int result = standin_enter(CALL_cuModuleLoadDataEx, NEED_CONTEXT | NEED_NO_CAPTURE);
    if (result) return result;
    struct cu_context *context = standin_current;
    struct jit_options jit;
    result =
        module && image ? options_parse(count, options, values, &jit) : CUDA_ERROR_INVALID_VALUE;
    if (result) return standin_leave(result);
    if (jit.info_log) *jit.info_log = 0;
    if (jit.error_log) *jit.error_log = 0;

    struct ptx_module *parsed;
    struct ptx_error error = {{0}};
    result = image_parse(image, &parsed, &error);
    if (result) {
        if (jit.error_log) snprintf(jit.error_log, jit.error_bytes, "%s", error.text);
        return standin_leave(standin_refuse(result, "module: %s", error.text));
    }
    pthread_mutex_unlock(&standin.lock);
    pthread_mutex_lock(&context->memory_lock);
    const bool attached = ptx_module_attach(parsed, context->memory);
    pthread_mutex_unlock(&context->memory_lock);
    pthread_mutex_lock(&standin.lock);
    if (!attached) abort();
    *module = standin_zeroed(sizeof **module);
    (*module)->module = parsed;
    handle_add(context, &(*module)->handle, HANDLE_MODULE);
    return standin_leave(CUDA_SUCCESS);
}

int cuModuleUnload(struct cu_module *module) {
    const int result = standin_enter(CALL_cuModuleUnload, NEED_CONTEXT | NEED_NO_CAPTURE);
    if (result) return result;
    struct cu_context *context = standin_current;
    if (!handle_is(context, module, HANDLE_MODULE)) return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    context_wait(context);
    handle_drop(context, &module->handle);
    for (struct handle *h = context->handles, *next; h; h = next) {
        next = h->next;
        if (h->kind == HANDLE_FUNCTION && ((struct cu_function *)h)->module == module)
            handle_drop(context, h);
    }
    pthread_mutex_unlock(&standin.lock);
    pthread_mutex_lock(&context->memory_lock);
    ptx_module_detach(module->module, context->memory);
    pthread_mutex_unlock(&context->memory_lock);
    /* The module itself stays: a graph may still name its kernels, and is refused by then. */
    pthread_mutex_lock(&standin.lock);
    return standin_leave(CUDA_SUCCESS);
}

// --- functions ---------------------------------------------------------------------------------

/* One handle for a function, however often it is asked for. */
int cuModuleGetFunction(struct cu_function **function, struct cu_module *module, const char *name) {
    const int result = standin_enter(CALL_cuModuleGetFunction, NEED_CONTEXT);
    if (result) return result;
    struct cu_context *context = standin_current;
    if (!function || !name) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    if (!handle_is(context, module, HANDLE_MODULE)) return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    const struct ptx_kernel *kernel = ptx_kernel_find(module->module, name);
    if (!kernel) return standin_leave(CUDA_ERROR_NOT_FOUND);
    for (struct handle *h = context->handles; h; h = h->next)
        if (h->kind == HANDLE_FUNCTION && ((struct cu_function *)h)->kernel == kernel) {
            *function = (struct cu_function *)h;
            return standin_leave(CUDA_SUCCESS);
        }
    *function = standin_zeroed(sizeof **function);
    (*function)->module = module;
    (*function)->kernel = kernel;
    (*function)->facts = ptx_kernel_describe(kernel);
    const uint32_t fixed = (*function)->facts.shared_bytes;
    (*function)->dynamic_shared_max = fixed < SHARED_DEFAULT ? SHARED_DEFAULT - fixed : 0;
    handle_add(context, &(*function)->handle, HANDLE_FUNCTION);
    return standin_leave(CUDA_SUCCESS);
}

static uint32_t threads_most(const struct cu_function *function) {
    return function->facts.max_threads ? function->facts.max_threads : (uint32_t)THREADS_PER_BLOCK;
}

int cuFuncGetAttribute(int *value, int attribute, struct cu_function *function) {
    const int result = standin_enter(CALL_cuFuncGetAttribute, NEED_CONTEXT);
    if (result) return result;
    if (!value) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    if (!handle_is(standin_current, function, HANDLE_FUNCTION))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = (int)threads_most(function);
        break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
        *value = (int)function->facts.shared_bytes;
        break;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
        *value = 0;
        break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
        *value = (int)function->facts.local_bytes;
        break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
        *value = REGISTERS_SUPPOSED;
        break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
        *value = (int)ptx_module_version(function->module->module);
        break;
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
        *value = 80;
        break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = (int)function->dynamic_shared_max;
        break;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        *value = -1;
        break;
    default:
        return standin_leave(CUDA_ERROR_INVALID_VALUE);
    }
    return standin_leave(CUDA_SUCCESS);
}

int cuFuncSetAttribute(struct cu_function *function, int attribute, int value) {
    const int result = standin_enter(CALL_cuFuncSetAttribute, NEED_CONTEXT);
    if (result) return result;
    if (!handle_is(standin_current, function, HANDLE_FUNCTION))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    const uint32_t fixed = function->facts.shared_bytes;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        if (value < 0 || fixed > SHARED_OPTIN || (uint32_t)value > SHARED_OPTIN - fixed)
            return standin_leave(
                standin_refuse(CUDA_ERROR_INVALID_VALUE,
                               "%s: %d bytes of dynamic and %u of static shared memory, of %d",
                               function->facts.name, value, fixed, SHARED_OPTIN));
        function->dynamic_shared_max = (uint32_t)value;
        return standin_leave(CUDA_SUCCESS);
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
        return standin_leave(value >= -1 && value <= 100 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
    default:
        return standin_leave(CUDA_ERROR_INVALID_VALUE);
    }
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

int occupancy(const struct cu_function *function, uint32_t threads, size_t dynamic_shared) {
    if (threads == 0 || threads > threads_most(function)) return 0;
    const size_t shared = function->facts.shared_bytes + dynamic_shared;
    if (shared > SHARED_OPTIN) return 0;
    const size_t warps = (threads + WARP - 1) / WARP;
    size_t blocks = least(BLOCKS_PER_SM, THREADS_PER_SM / WARP / warps);
    blocks = least(blocks, REGISTERS_PER_SM / (warps * WARP * REGISTERS_SUPPOSED));
    return (int)least(blocks, SHARED_PER_SM / (shared + SHARED_RESERVED));
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, struct cu_function *function,
                                                int block_threads, size_t shared_bytes) {
    const int result =
        standin_enter(CALL_cuOccupancyMaxActiveBlocksPerMultiprocessor, NEED_CONTEXT);
    if (result) return result;
    if (!blocks || block_threads <= 0) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    if (!handle_is(standin_current, function, HANDLE_FUNCTION))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    *blocks = occupancy(function, (uint32_t)block_threads, shared_bytes);
    return standin_leave(CUDA_SUCCESS);
}

// --- launches ----------------------------------------------------------------------------------

static int shape_check(const struct operation *o) {
    const struct cu_function *function = o->function;
    const char *name = function->facts.name;
    const uint32_t *g = o->grid, *b = o->block;
    const uint64_t threads = (uint64_t)b[0] * b[1] * b[2];
    if (!g[0] || !g[1] || !g[2] || g[0] > INT32_MAX || g[1] > 65535 || g[2] > 65535)
        return standin_refuse(CUDA_ERROR_INVALID_VALUE, "%s: a grid of %u x %u x %u blocks", name,
                              g[0], g[1], g[2]);
    if (!threads || b[0] > 1024 || b[1] > 1024 || b[2] > 64 || threads > threads_most(function))
        return standin_refuse(CUDA_ERROR_INVALID_VALUE,
                              "%s: a block of %u x %u x %u threads, at most %u", name, b[0], b[1],
                              b[2], threads_most(function));
    const uint32_t *required = function->facts.required;
    if (required[0] && memcmp(required, b, sizeof o->block) != 0)
        return standin_refuse(CUDA_ERROR_INVALID_VALUE, "%s: .reqntid wants other blocks", name);
    if (o->dynamic_shared > function->dynamic_shared_max)
        return standin_refuse(CUDA_ERROR_INVALID_VALUE,
                              "%s: %u bytes of dynamic shared memory, and %u were asked for with "
                              "cuFuncSetAttribute",
                              name, o->dynamic_shared, function->dynamic_shared_max);
    const int blocks = occupancy(function, (uint32_t)threads, o->dynamic_shared);
    if (blocks == 0)
        return standin_refuse(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
                              "%s: no multiprocessor has room for a block of %llu threads", name,
                              (unsigned long long)threads);
    if (o->cooperative &&
        (uint64_t)g[0] * g[1] * g[2] > (uint64_t)blocks * (uint64_t)standin.options.sms)
        return standin_refuse(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
                              "%s: %d blocks fit on each of %d multiprocessors", name, blocks,
                              standin.options.sms);
    return CUDA_SUCCESS;
}

/* Either one pointer to each value, or a buffer with all of them at their offsets. */
static int values_copy(const struct cu_function *function, void **parameters, void **extra,
                       uint8_t **values) {
    enum { END = 0, BUFFER_POINTER = 1, BUFFER_SIZE = 2 };
    const struct ptx_kernel_facts *facts = &function->facts;
    const void *buffer = NULL;
    size_t buffer_bytes = 0;
    if (parameters && extra) return CUDA_ERROR_INVALID_VALUE;
    for (; extra && (uintptr_t)extra[0] != END; extra += 2) {
        if ((uintptr_t)extra[0] == BUFFER_POINTER) buffer = extra[1];
        if ((uintptr_t)extra[0] == BUFFER_SIZE) buffer_bytes = *(size_t *)extra[1];
    }
    if (buffer && buffer_bytes != facts->param_bytes)
        return standin_refuse(CUDA_ERROR_INVALID_VALUE, "%s: %zu bytes of parameters, not %zu",
                              facts->name, buffer_bytes, facts->param_bytes);
    for (size_t i = 0; i < facts->param_count && !buffer; i++)
        if (!parameters || !parameters[i])
            return standin_refuse(CUDA_ERROR_INVALID_VALUE, "%s: no value for parameter %zu of %zu",
                                  facts->name, i, facts->param_count);
    *values = standin_zeroed(facts->param_bytes + 1);
    if (buffer) memcpy(*values, buffer, buffer_bytes);
    for (size_t i = 0; i < facts->param_count && !buffer; i++)
        memcpy(*values + facts->params[i].offset, parameters[i], facts->params[i].size);
    return CUDA_SUCCESS;
}

/* With the lock; gives it back. */
static int launch_submit(struct operation *o, struct cu_stream *handle, void **parameters,
                         void **extra) {
    struct cu_context *context = standin_current;
    struct cu_stream *stream;
    o->kind = OPERATION_KERNEL;
    if (!handle_is(context, o->function, HANDLE_FUNCTION))
        return standin_leave(
            standin_refuse(CUDA_ERROR_INVALID_HANDLE, "%p is no function", (void *)o->function));
    if (!stream_find(context, handle, &stream)) return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    int result = shape_check(o);
    if (!result) result = values_copy(o->function, parameters, extra, &o->values);
    if (result) return standin_leave(result);
    result = operation_submit(context, stream, o);
    if (result) free(o->values);
    return standin_leave(result);
}

int cuLaunchKernel(struct cu_function *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   struct cu_stream *stream, void **parameters, void **extra) {
    const int result = standin_enter(CALL_cuLaunchKernel, NEED_CONTEXT);
    if (result) return result;
    struct operation launch = {.function = function,
                               .grid = {grid_x, grid_y, grid_z},
                               .block = {block_x, block_y, block_z},
                               .dynamic_shared = shared_bytes};
    return launch_submit(&launch, stream, parameters, extra);
}

int cuLaunchCooperativeKernel(struct cu_function *function, unsigned grid_x, unsigned grid_y,
                              unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                              unsigned shared_bytes, struct cu_stream *stream, void **parameters) {
    const int result = standin_enter(CALL_cuLaunchCooperativeKernel, NEED_CONTEXT);
    if (result) return result;
    struct operation launch = {.function = function,
                               .grid = {grid_x, grid_y, grid_z},
                               .block = {block_x, block_y, block_z},
                               .dynamic_shared = shared_bytes,
                               .cooperative = true};
    return launch_submit(&launch, stream, parameters, NULL);
}
