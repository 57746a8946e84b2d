#include "cuda/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/panic.h"

enum { COMPUTE_MAJOR_MIN = 8 }; /* the kernels' PTX is for compute_80 */

bool gpu_call_fault(const struct gpu_call *call, struct fault *fault) {
    bool memory = call->result == CUDA_ERROR_OUT_OF_MEMORY;
    return fault_set(fault, memory ? FAULT_VRAM_OOM : FAULT_CUDA_ERROR, "cuda: %s: %s (%d): %s",
                     call->what, call->name, call->result, call->text);
}

bool gpu_death_fault(struct gpu_driver *driver, struct fault *fault) {
    return fault_set(fault, FAULT_CUDA_ERROR, "cuda: the driver is dead: %s",
                     foreign_death(&driver->foreign));
}

bool gpu_run(struct gpu_driver *driver, foreign_call *call, struct gpu_call *context,
             struct fault *fault) {
    int64_t result = 0;
    context->api = &driver->api;
    if (foreign_run(&driver->foreign, call, context, &result) != FOREIGN_DONE)
        return gpu_death_fault(driver, fault);
    return result == 0 || gpu_call_fault(context, fault);
}

enum backend_status gpu_go(struct gpu_driver *driver, foreign_call *call, struct gpu_call *context,
                           uint64_t deadline_ns, struct fault *fault) {
    struct foreign *foreign = &driver->foreign;
    int64_t result = 0;
    if (!driver->posted) {
        context->api = &driver->api;
        driver->posted = foreign_post(foreign, call, context);
        driver->posted_ns = clock_ns();
    }
    enum foreign_status status =
        driver->posted ? foreign_wait(foreign, deadline_ns, &result) : FOREIGN_DEAD;
    if (status == FOREIGN_PENDING) {
        uint64_t waited_ms = (clock_ns() - driver->posted_ns) / 1000000;
        if (waited_ms <= driver->patience_ms) return BACKEND_PENDING;
        foreign_condemn(foreign, driver->patience_ms);
        status = FOREIGN_DEAD;
    }
    driver->posted = false;
    if (status == FOREIGN_DEAD) gpu_death_fault(driver, fault);
    if (status == FOREIGN_DONE && result != 0) gpu_call_fault(context, fault);
    return status == FOREIGN_DONE && result == 0 ? BACKEND_DONE : BACKEND_FAILED;
}

bool gpu_driver_open(struct gpu_driver *driver, const char *cuda_path, struct fault *fault) {
    wick_assert(!driver->up);
    struct foreign_config config = {.cuda_path = cuda_path};
    int version = 0;
    if (!foreign_start(&driver->foreign, &config, fault) ||
        !cuda_api_load(&driver->api, &driver->foreign, &version, fault))
        return false;
    driver->list.version = version;
    if (!gpu_run(driver, gpu_list_thread, &driver->list.call, fault)) {
        if (driver->foreign.box.dead == 0 && !libraries_device_node())
            fault_set(fault, FAULT_CUDA_ERROR, "cuda: %s: %s (%d), and there is no /dev/nvidiactl",
                      driver->list.call.what, driver->list.call.name, driver->list.call.result);
        return false;
    }
    driver->up = true;
    return true;
}

int gpu_device_find(const struct gpu_list *list, const char *text) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (end != text && *end == '\0') return number < (unsigned long)list->n ? (int)number : -1;
    for (int i = 0; i < list->n; i++) {
        const char *pci = list->device[i].pci, *without_domain = strchr(pci, ':');
        if (strcasecmp(pci, text) == 0) return i;
        if (without_domain != NULL && strcasecmp(without_domain + 1, text) == 0) return i;
    }
    return -1;
}

bool gpu_device_open(struct gpu_driver *driver, const struct config *config, struct fault *fault) {
    wick_assert(driver->up);
    int index = gpu_device_find(&driver->list, config->device);
    if (driver->list.n == 0)
        return fault_set(fault, FAULT_CUDA_ERROR, "cuda: the driver knows of no GPU");
    if (index < 0)
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "device=%.40s: none of the %d GPUs; wick-lab gpus lists them",
                         config->device, driver->list.n);
    driver->opened.device = index;
    const struct gpu_device *device = gpu_device(driver);
    if (device->major < COMPUTE_MAJOR_MIN)
        return fault_set(fault, FAULT_CUDA_ERROR,
                         "cuda: %s has compute capability %d.%d; the kernels need %d.0 (Ampere) "
                         "or newer",
                         device->name, device->major, device->minor, COMPUTE_MAJOR_MIN);
    return gpu_run(driver, gpu_open_thread, &driver->opened.call, fault);
}

const struct gpu_device *gpu_device(const struct gpu_driver *driver) {
    return &driver->list.device[driver->opened.device];
}

void gpu_device_line(const struct gpu_driver *driver, uint32_t index,
                     char line[GPU_LINE_BYTES_MAX]) {
    wick_assert(index < (uint32_t)driver->list.n);
    const struct gpu_device *device = &driver->list.device[index];
    int version = driver->list.version;
    snprintf(line, GPU_LINE_BYTES_MAX,
             "%u %s pci=%s vram_bytes=%zu compute=%d.%d multiprocessors=%d driver=%d.%d", index,
             device->name, device->pci, device->vram_bytes, device->major, device->minor,
             device->multiprocessors, version / 1000, version % 1000 / 10);
}
