/* Devices and their primary contexts. */

#include "tests/ptx/standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool device_is(int device) {
    return device >= 0 && device < standin.options.devices;
}

int cuDeviceGetCount(int *count) {
    const int result = standin_enter(CALL_cuDeviceGetCount, NEED_INIT);
    if (result) return result;
    if (count) *count = standin.options.devices;
    pthread_mutex_unlock(&standin.lock);
    return count ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* A device handle is its ordinal. */
int cuDeviceGet(int *device, int ordinal) {
    const int result = standin_enter(CALL_cuDeviceGet, NEED_INIT);
    if (result) return result;
    pthread_mutex_unlock(&standin.lock);
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    if (!device_is(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

static int text_give(char *to, int bytes, const char *text) {
    if (!to || bytes <= 0) return CUDA_ERROR_INVALID_VALUE;
    snprintf(to, (size_t)bytes, "%s", text);
    return CUDA_SUCCESS;
}

int cuDeviceGetName(char *name, int bytes, int device) {
    const int result = standin_enter(CALL_cuDeviceGetName, NEED_INIT);
    if (result) return result;
    pthread_mutex_unlock(&standin.lock);
    if (!device_is(device)) return CUDA_ERROR_INVALID_DEVICE;
    return text_give(name, bytes, "wick PTX machine (test double)");
}

enum { FIRST_BUS = 1 };

int cuDeviceGetPCIBusId(char *id, int bytes, int device) {
    const int result = standin_enter(CALL_cuDeviceGetPCIBusId, NEED_INIT);
    if (result) return result;
    pthread_mutex_unlock(&standin.lock);
    if (!device_is(device)) return CUDA_ERROR_INVALID_DEVICE;
    char text[16]; /* "0000:01:00.0" */
    snprintf(text, sizeof text, "0000:%02x:00.0", (unsigned)(device + FIRST_BUS) & 255);
    return text_give(id, bytes, text);
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    const int result = standin_enter(CALL_cuDeviceTotalMem_v2, NEED_INIT);
    if (result) return result;
    if (bytes) *bytes = standin.options.vram;
    pthread_mutex_unlock(&standin.lock);
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    return device_is(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static int attribute_value(int attribute, int device, int *value) {
    const struct {
        int attribute, value;
    } facts[] = {
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, THREADS_PER_BLOCK},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, SHARED_DEFAULT},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, WARP},
        {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000000},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, standin.options.sms},
        {CU_DEVICE_ATTRIBUTE_INTEGRATED, 0},
        {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 0},
        {CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 0},
        {CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, device + FIRST_BUS},
        {CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, 0},
        {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1000000},
        {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 128},
        {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 4 << 20},
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, THREADS_PER_SM},
        {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
        {CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, 0},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 8},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, SHARED_PER_SM},
        {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, SHARED_OPTIN},
    };
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
        if (facts[i].attribute == attribute) {
            *value = facts[i].value;
            return CUDA_SUCCESS;
        }
    return standin_refuse(CUDA_ERROR_INVALID_VALUE, "device attribute %d is not known here",
                          attribute);
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int result = standin_enter(CALL_cuDeviceGetAttribute, NEED_INIT);
    if (result) return result;
    if (!value)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (!device_is(device))
        result = CUDA_ERROR_INVALID_DEVICE;
    else
        result = attribute_value(attribute, device, value);
    pthread_mutex_unlock(&standin.lock);
    return result;
}

// --- primary contexts --------------------------------------------------------------------------

/* A context that was poisoned stays so, as with a driver: it takes a new process. */
static bool context_start(struct cu_context *context, int device) {
    const struct cu_context before = *context;
    *context = (struct cu_context){
        .device = device, .flags = before.flags, .sticky = before.sticky, .alive = true};
    pthread_mutex_init(&context->memory_lock, NULL);
    context->memory = ptx_memory_create();
    if (pthread_create(&context->thread, NULL, device_main, context) != 0) {
        ptx_memory_free(context->memory);
        context->alive = false;
    }
    return context->alive;
}

/* With the lock; all that was made in the context is invalid from here on. */
static void context_stop(struct cu_context *context) {
    context_wait(context);
    context->alive = false;
    context->stop = true;
    pthread_cond_broadcast(&standin.changed);
    pthread_mutex_unlock(&standin.lock);
    pthread_join(context->thread, NULL);
    pthread_mutex_lock(&standin.lock);
    for (struct handle *h = context->handles; h; h = h->next) {
        if (h->kind != HANDLE_MODULE) continue;
        struct cu_module *module = (struct cu_module *)h;
        ptx_module_detach(module->module, context->memory);
        ptx_module_free(module->module);
    }
    allocations_free(context);
    ptx_memory_free(context->memory);
    context->handles = NULL;
}

int cuDevicePrimaryCtxRetain(struct cu_context **context, int device) {
    int result = standin_enter(CALL_cuDevicePrimaryCtxRetain, NEED_INIT);
    if (result) return result;
    if (!context)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (!device_is(device))
        result = CUDA_ERROR_INVALID_DEVICE;
    if (!result) {
        struct cu_context *primary = &standin.contexts[device];
        if (!primary->alive && !context_start(primary, device)) {
            result = CUDA_ERROR_OUT_OF_MEMORY;
        } else {
            primary->retained++;
            *context = primary;
        }
    }
    pthread_mutex_unlock(&standin.lock);
    return result;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    int result = standin_enter(CALL_cuDevicePrimaryCtxRelease_v2, NEED_INIT);
    if (result) return result;
    if (!device_is(device)) {
        result = CUDA_ERROR_INVALID_DEVICE;
    } else if (!standin.contexts[device].alive) {
        result = standin_refuse(CUDA_ERROR_INVALID_CONTEXT, "released more often than retained");
    } else if (--standin.contexts[device].retained == 0) {
        context_stop(&standin.contexts[device]);
    }
    pthread_mutex_unlock(&standin.lock);
    return result;
}

int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    int result = standin_enter(CALL_cuDevicePrimaryCtxSetFlags_v2, NEED_INIT);
    if (result) return result;
    const unsigned how = flags & 7, known = 7 | CU_CTX_MAP_HOST | 16 /* LMEM_RESIZE_TO_MAX */;
    if (!device_is(device))
        result = CUDA_ERROR_INVALID_DEVICE;
    else if ((flags & ~known) || (how & (how - 1)))
        result = CUDA_ERROR_INVALID_VALUE;
    else
        standin.contexts[device].flags = flags;
    pthread_mutex_unlock(&standin.lock);
    return result;
}

int cuCtxSetCurrent(struct cu_context *context) {
    int result = standin_enter(CALL_cuCtxSetCurrent, NEED_INIT);
    if (result) return result;
    bool known = context == NULL;
    for (int i = 0; i < DEVICES_MAX; i++)
        known |= context == &standin.contexts[i] && context->alive;
    if (known)
        standin_current = context;
    else
        result = standin_refuse(CUDA_ERROR_INVALID_CONTEXT, "%p is no context", (void *)context);
    return standin_leave(result);
}

int cuCtxSynchronize(void) {
    const int result = standin_enter(CALL_cuCtxSynchronize, NEED_CONTEXT | NEED_NO_CAPTURE);
    if (result) return result;
    context_wait(standin_current);
    return standin_leave(CUDA_SUCCESS);
}
