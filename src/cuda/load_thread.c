#include "cuda/load_thread.h"

int64_t gpu_memory_thread(void *context) {
    struct gpu_memory *memory = context;
    const struct cuda_api *api = memory->call.api;
    int result = api->cuMemAlloc_v2(&memory->vram, memory->vram_bytes);
    if (result != 0) return gpu_call_end(&memory->call, result, "cuMemAlloc");
    result = api->cuMemHostAlloc(&memory->pinned, memory->pinned_bytes, CU_MEMHOSTALLOC_DEVICEMAP);
    if (result != 0) return gpu_call_end(&memory->call, result, "cuMemHostAlloc");
    result = api->cuMemHostGetDevicePointer_v2(&memory->pinned_gpu, memory->pinned, 0);
    return gpu_call_end(&memory->call, result, "cuMemHostGetDevicePointer");
}

int64_t gpu_clear_thread(void *context) {
    struct gpu_clear *clear = context;
    const struct cuda_api *api = clear->call.api;
    int result = api->cuMemsetD8Async(clear->at, 0, clear->bytes, clear->stream);
    if (result == 0) result = api->cuStreamSynchronize(clear->stream);
    return gpu_call_end(&clear->call, result, "cuMemsetD8");
}

int64_t gpu_module_thread(void *context) {
    struct gpu_module *module = context;
    const struct cuda_api *api = module->call.api;
    struct cu_module *loaded = NULL;
    int options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {module->log, (void *)(uintptr_t)sizeof module->log};
    int result = api->cuModuleLoadDataEx(&loaded, module->ptx, 2, options, values);
    if (result != 0) return gpu_call_end(&module->call, result, "cuModuleLoadDataEx");
    for (uint32_t i = 0; i < module->n && result == 0; i++) {
        result = api->cuModuleGetFunction(module->entry[i].function, loaded, module->entry[i].name);
    }
    return gpu_call_end(&module->call, result, "cuModuleGetFunction");
}

int64_t gpu_upload_thread(void *context) {
    struct gpu_upload *upload = context;
    const struct cuda_api *api = upload->call.api;
    int result = api->cuMemcpyHtoDAsync_v2(upload->to, upload->from, upload->bytes, upload->stream);
    if (result == 0) result = api->cuStreamSynchronize(upload->stream);
    return gpu_call_end(&upload->call, result, "cuMemcpyHtoDAsync");
}

/* --- graphs --------------------------------------------------------------------------------- */

/* Shared memory beyond this has to be asked for. */
enum { SHARED_WITHOUT_ASKING = 48 * 1024 };

/* Lets the function have its shared memory, and finds out how many blocks run at once. */
static int launch_prepare(const struct gpu_capture *capture, struct gpu_launch *launch) {
    const struct cuda_api *api = capture->call.api;
    struct cu_function *function = capture->function[launch->entry];
    int result = 0, blocks = 0;
    if (launch->shared > SHARED_WITHOUT_ASKING) {
        int least = 0; /* another launch may have asked for more */
        int attribute = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        result = api->cuFuncGetAttribute(&least, attribute, function);
        if (result == 0 && (uint32_t)least < launch->shared)
            result = api->cuFuncSetAttribute(function, attribute, (int)launch->shared);
    }
    if (result != 0 || launch->share == 0) return result;
    result = api->cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, (int)launch->block,
                                                              launch->shared);
    uint32_t at_once = (uint32_t)(blocks > 0 ? blocks : 1) * capture->multiprocessors;
    launch->grid[0] = launch->share < at_once ? launch->share : at_once;
    return result;
}

static int launch_make(const struct cuda_api *api, const struct gpu_launch *launch,
                       struct cu_function *function, struct cu_stream *stream) {
    void *parameters[] = {launch->arguments};
    return api->cuLaunchKernel(function, launch->grid[0], launch->grid[1], launch->grid[2],
                               launch->block, 1, 1, launch->shared, stream, parameters, NULL);
}

static int launches_capture(const struct gpu_capture *capture, struct cu_graph **graph) {
    const struct cuda_api *api = capture->call.api;
    int result = api->cuStreamBeginCapture_v2(capture->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    if (result != 0) return result;
    result = api->cuMemcpyHtoDAsync_v2(capture->batch, capture->batch_host, capture->batch_bytes,
                                       capture->stream);
    for (uint32_t i = 0; i < capture->launches->n && result == 0; i++) {
        const struct gpu_launch *launch = &capture->launches->launch[i];
        result = launch_make(api, launch, capture->function[launch->entry], capture->stream);
    }
    int end = api->cuStreamEndCapture(capture->stream, graph);
    return result != 0 ? result : end;
}

int64_t gpu_capture_thread(void *context) {
    struct gpu_capture *capture = context;
    const struct cuda_api *api = capture->call.api;
    struct cu_graph *graph = NULL;
    int result = 0;
    for (uint32_t i = 0; i < capture->launches->n && result == 0; i++) {
        result = launch_prepare(capture, &capture->launches->launch[i]);
    }
    if (result != 0) return gpu_call_end(&capture->call, result, "cuFuncSetAttribute");
    result = launches_capture(capture, &graph);
    if (result != 0) return gpu_call_end(&capture->call, result, "cuStreamEndCapture");
    result = api->cuGraphInstantiateWithFlags(&capture->exec, graph, 0);
    if (result != 0) return gpu_call_end(&capture->call, result, "cuGraphInstantiate");
    result = api->cuGraphUpload(capture->exec, capture->stream);
    if (result == 0) result = api->cuGraphDestroy(graph);
    return gpu_call_end(&capture->call, result, "cuGraphUpload");
}

/* --- steps ---------------------------------------------------------------------------------- */

int64_t gpu_step_thread(void *context) {
    struct gpu_run_step *step = context;
    const struct cuda_api *api = step->call.api;
    int result = api->cuGraphLaunch(step->exec, step->stream);
    if (result != 0) return gpu_call_end(&step->call, result, "cuGraphLaunch");
    if (step->n_copies == 0) return 0;
    const struct gpu_copy *copy = &step->copy;
    result = api->cuMemcpyDtoHAsync_v2(copy->to, copy->from, copy->bytes, step->stream);
    if (result != 0) return gpu_call_end(&step->call, result, "cuMemcpyDtoHAsync");
    struct gpu_launch finish = {.grid = {1, 1, 1}, .block = 1, .arguments = &step->arguments};
    result = launch_make(api, &finish, step->finish, step->stream);
    return gpu_call_end(&step->call, result, "cuLaunchKernel");
}

int64_t gpu_query_thread(void *context) {
    struct gpu_query *query = context;
    int result = query->call.api->cuStreamQuery(query->stream);
    query->finished = result == CUDA_SUCCESS;
    if (result == CUDA_ERROR_NOT_READY) result = CUDA_SUCCESS;
    return gpu_call_end(&query->call, result, "the kernels of the step");
}

int64_t gpu_close_thread(void *context) {
    struct gpu_close *close = context;
    const struct cuda_api *api = close->call.api;
    int result = api->cuCtxSynchronize();
    if (result == 0) result = api->cuMemFree_v2(close->vram);
    if (result == 0) result = api->cuMemFreeHost(close->pinned);
    if (result == 0) result = api->cuDevicePrimaryCtxRelease_v2(close->device);
    return gpu_call_end(&close->call, result, "cuDevicePrimaryCtxRelease");
}
