/* gpu: the driver brought up, the GPUs it has, and the one that was chosen. */
#ifndef WICK_CUDA_GPU_H
#define WICK_CUDA_GPU_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/config.h"
#include "base/fault.h"
#include "cuda/driver_api.h"
#include "cuda/foreign.h"
#include "cuda/gpu_thread.h"

enum { GPU_LINE_BYTES_MAX = 160 };

struct gpu_driver {
    bool up; /* the driver thread runs and cuInit went well */
    struct foreign foreign;
    struct cuda_api api;
    struct gpu_list list; /* .version and the devices */
    struct gpu_open opened;
    bool posted; /* a call is with the driver thread */
    uint64_t posted_ns;
    uint32_t patience_ms; /* for one call of loading */
};

/* Brings the driver up and lists its devices. The fault (CUDA_ERROR) says which step failed.
 * Nothing is forked and nothing mapped where libcuda.so.1 is not found. *driver must stay where it
 * is. */
bool gpu_driver_open(struct gpu_driver *driver, const char *cuda_path, struct fault *fault);

/* Makes the device of config->device current, and asks how much of its memory is free. The fault
 * is INVALID_REQUEST (no such device) or CUDA_ERROR (too old, or in use by another). */
bool gpu_device_open(struct gpu_driver *driver, const struct config *config, struct fault *fault);

/* The one that was opened. */
const struct gpu_device *gpu_device(const struct gpu_driver *driver);

/* "0 NVIDIA H200 pci=0000:3b:00.0 vram_bytes=150754820096 compute=9.0 driver=12.4" */
void gpu_device_line(const struct gpu_driver *driver, uint32_t index,
                     char line[GPU_LINE_BYTES_MAX]);

/* Which device `text` names: its number, or its PCI address with or without the domain. -1: none.
 * Pure. */
int gpu_device_find(const struct gpu_list *list, const char *text);

/* Posts one call and waits for it; the fault is that of the driver's death or of the call. For the
 * start only. */
bool gpu_run(struct gpu_driver *driver, foreign_call *call, struct gpu_call *context,
             struct fault *fault);

/* Posts a call, once, and waits for it until the deadline: call again, with the same, while it is
 * PENDING. For loading: a call that takes longer than patience_ms condemns the driver. */
enum backend_status gpu_go(struct gpu_driver *driver, foreign_call *call, struct gpu_call *context,
                           uint64_t deadline_ns, struct fault *fault);

/* What a call that returned an error said. */
bool gpu_call_fault(const struct gpu_call *call, struct fault *fault);
bool gpu_death_fault(struct gpu_driver *driver, struct fault *fault);

#endif
