/* Launches: what the driver would refuse is refused, then the grid runs. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/ptx/worker.h"

#define BLOCK_THREADS_MAX 1024u

static bool refuse(const struct ptx_launch *launch, struct ptx_error *error, const char *format,
                   ...) __attribute__((format(printf, 3, 4)));

static bool refuse(const struct ptx_launch *launch, struct ptx_error *error, const char *format,
                   ...) {
    int n = snprintf(error->text, sizeof error->text,
                     "kernel %s: ", launch->kernel ? launch->kernel->facts.name : "(none)");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text + n, sizeof error->text - (size_t)n, format, arguments);
    va_end(arguments);
    return false;
}

static bool launch_check(const struct ptx_launch *l, struct ptx_error *error) {
    if (!l->kernel) return refuse(l, error, "there is no kernel");
    const struct ptx_kernel_facts *f = &l->kernel->facts;
    uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    if (!l->grid[0] || !l->grid[1] || !l->grid[2] || l->grid[1] > 65535 || l->grid[2] > 65535 ||
        l->grid[0] > INT32_MAX)
        return refuse(l, error, "a grid of %u x %u x %u blocks", l->grid[0], l->grid[1],
                      l->grid[2]);
    if (threads == 0 || threads > BLOCK_THREADS_MAX || l->block[2] > 64)
        return refuse(l, error, "a block of %u x %u x %u threads", l->block[0], l->block[1],
                      l->block[2]);
    if (f->max_threads && threads > f->max_threads)
        return refuse(l, error, "a block of %u threads, the kernel allows %u", (unsigned)threads,
                      f->max_threads);
    if (f->required[0] && memcmp(f->required, l->block, sizeof f->required) != 0)
        return refuse(l, error, "a block of %u x %u x %u threads, the kernel requires %u x %u x %u",
                      l->block[0], l->block[1], l->block[2], f->required[0], f->required[1],
                      f->required[2]);
    if ((uint64_t)f->shared_bytes + l->dynamic_shared > PTX_SHARED_BYTES_MAX)
        return refuse(l, error, "%u + %u bytes of shared memory, at most %u", f->shared_bytes,
                      l->dynamic_shared, PTX_SHARED_BYTES_MAX);
    if (!l->params && f->param_count) return refuse(l, error, "no parameters");
    for (size_t i = 0; i < f->param_count; i++)
        if (!l->params[i]) return refuse(l, error, "parameter %zu is missing", i);
    return true;
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Blocks run in the order first, first + stride, ... : every one once. */
static void launch_order(struct grid *grid) {
    struct random random = {.state = grid->launch->seed};
    uint64_t count = grid->block_count;
    uint32_t range = count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
    grid->block_first = random_below(&random, range);
    grid->block_stride = count > 2 ? 1 + random_below(&random, range - 1) : 1;
    while (common_divisor(grid->block_stride, count) != 1)
        grid->block_stride = grid->block_stride % count + 1;
}

bool ptx_launch(const struct ptx_launch *launch, struct ptx_error *error) {
    error->text[0] = 0;
    if (!launch_check(launch, error)) return false;
    const struct ptx_kernel *k = launch->kernel;
    uint8_t params[4096 + 256];
    if (k->facts.param_bytes > 4096) return refuse(launch, error, "too many parameters");
    for (size_t i = 0; i < k->facts.param_count; i++)
        memcpy(params + k->facts.params[i].offset, launch->params[i], k->facts.params[i].size);
    uint32_t threads = launch->block[0] * launch->block[1] * launch->block[2];
    struct grid grid = {
        .launch = launch,
        .kernel = k,
        .params = params,
        .number = __atomic_add_fetch(&launch->memory->launches, 1, __ATOMIC_RELAXED),
        .shared_bytes = k->facts.shared_bytes + launch->dynamic_shared,
        .static_bytes = k->facts.shared_bytes,
        .thread_count = threads,
        .warp_count = (threads + LANES - 1) / LANES,
        .block_count = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2],
        .step_limit = launch->step_limit ? launch->step_limit : PTX_STEPS_DEFAULT,
        .error = error};
    launch_order(&grid);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t workers =
        launch->threads ? launch->threads : (uint32_t)(processors > 0 ? processors : 1);
    bool done = grid_run(&grid, workers);
    if (launch->steps) *launch->steps = grid.steps;
    return done;
}
