#include "cuda/gpu_thread.h"

static void text_copy(char out[GPU_ERROR_BYTES], const char *text) {
    size_t n = 0;
    for (; text != NULL && text[n] != '\0' && n + 1 < GPU_ERROR_BYTES; n++) out[n] = text[n];
    out[n] = '\0';
}

int64_t gpu_call_end(struct gpu_call *call, int result, const char *what) {
    call->result = result;
    if (result == CUDA_SUCCESS) return 0;
    const char *name = NULL, *text = NULL;
    call->what = what;
    call->api->cuGetErrorName(result, &name);
    call->api->cuGetErrorString(result, &text);
    text_copy(call->name, name);
    text_copy(call->text, text);
    return result;
}

static int device_read(const struct cuda_api *api, int ordinal, struct gpu_device *device) {
    const struct {
        int attribute;
        int32_t *value;
    } numbers[] = {
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &device->major},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &device->minor},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &device->multiprocessors},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &device->shared_bytes},
    };
    int id = 0;
    int result = api->cuDeviceGet(&id, ordinal);
    if (result == 0) result = api->cuDeviceGetName(device->name, sizeof device->name, id);
    if (result == 0) result = api->cuDeviceGetPCIBusId(device->pci, sizeof device->pci, id);
    if (result == 0) result = api->cuDeviceTotalMem_v2(&device->vram_bytes, id);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && result == 0; i++) {
        result = api->cuDeviceGetAttribute(numbers[i].value, numbers[i].attribute, id);
    }
    return result;
}

int64_t gpu_list_thread(void *context) {
    struct gpu_list *list = context;
    const struct cuda_api *api = list->call.api;
    int result = api->cuInit(0);
    if (result != 0) return gpu_call_end(&list->call, result, "cuInit");
    result = api->cuDeviceGetCount(&list->n);
    if (result != 0) return gpu_call_end(&list->call, result, "cuDeviceGetCount");
    if (list->n > GPU_DEVICES_MAX) list->n = GPU_DEVICES_MAX;
    for (int i = 0; i < list->n && result == 0; i++) {
        result = device_read(api, i, &list->device[i]);
    }
    return gpu_call_end(&list->call, result, "cuDeviceGetAttribute");
}

int64_t gpu_open_thread(void *context) {
    struct gpu_open *open = context;
    const struct cuda_api *api = open->call.api;
    int device = 0;
    int result = api->cuDeviceGet(&device, open->device);
    if (result != 0) return gpu_call_end(&open->call, result, "cuDeviceGet");
    /* Waiting for a copy while loading must not take a processor from those who pack. */
    unsigned flags = CU_CTX_SCHED_BLOCKING_SYNC | CU_CTX_MAP_HOST;
    result = api->cuDevicePrimaryCtxSetFlags_v2(device, flags);
    if (result != 0) return gpu_call_end(&open->call, result, "cuDevicePrimaryCtxSetFlags");
    result = api->cuDevicePrimaryCtxRetain(&open->context, device);
    if (result != 0) return gpu_call_end(&open->call, result, "cuDevicePrimaryCtxRetain");
    result = api->cuCtxSetCurrent(open->context);
    if (result != 0) return gpu_call_end(&open->call, result, "cuCtxSetCurrent");
    result = api->cuStreamCreate(&open->stream, CU_STREAM_NON_BLOCKING);
    if (result != 0) return gpu_call_end(&open->call, result, "cuStreamCreate");
    result = api->cuMemGetInfo_v2(&open->free_bytes, &open->total_bytes);
    return gpu_call_end(&open->call, result, "cuMemGetInfo");
}
