#include "lab/gpus.h"

#include <stdio.h>

#include "base/clock.h"
#include "cuda/gpu.h"
#include "lab/session.h"

enum { STOP_NS = 1000 * 1000 * 1000 };

int gpus_run(const struct config *config) {
    static struct gpu_driver driver; /* its threads stay with it */
    struct fault fault;
    if (!gpu_driver_open(&driver, config->cuda_path, &fault)) return session_fail(&fault);
    for (uint32_t i = 0; i < (uint32_t)driver.list.n; i++) {
        char line[GPU_LINE_BYTES_MAX];
        gpu_device_line(&driver, i, line);
        puts(line);
    }
    foreign_stop(&driver.foreign, NULL, NULL, clock_ns() + STOP_NS);
    return 0;
}
