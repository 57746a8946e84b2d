#include "cuda/cuda.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "cuda/cuda_state.h"
#include "cuda/modules.h"
#include "cuda/repack.h"

enum {
    /* Of the free memory, for what the driver takes later: code, graphs, a reserve. */
    VRAM_RESERVE_MAX = 256 << 20,
    VRAM_RESERVE_PART = 16,
    CLOSE_NS = 1000 * 1000 * 1000,
    NAME_BYTES = 32,
    PATIENCE = 10 /* times hang_ms: code is made for the device while loading */
};

_Static_assert((int)CUDA_CANDIDATES == (int)GPU_TOP_MAX, "as many as the kernels give");
_Static_assert(sizeof(struct gpu_matmul) <= GPU_ARGUMENTS_BYTES, "the largest argument");

bool cuda_check(const struct config *config, const struct model *model, struct fault *fault) {
    return layout_check(model, config->kv_type, fault);
}

bool cuda_open(struct gpu_driver *driver, const struct config *config, struct fault *fault) {
    if (!modules_present())
        return fault_set(fault, FAULT_CUDA_ERROR,
                         "this program comes without GPU kernels (an image made without a driver "
                         "leaves them out); make image NVIDIA=DIR has both");
    if (!driver->up && !gpu_driver_open(driver, config->cuda_path, fault)) return false;
    return gpu_device_open(driver, config, fault);
}

uint64_t cuda_vram_available(const struct gpu_driver *driver, const struct config *config) {
    uint64_t free = driver->opened.free_bytes, reserve = free / VRAM_RESERVE_PART;
    free -= reserve < VRAM_RESERVE_MAX ? reserve : (uint64_t)VRAM_RESERVE_MAX;
    return config->vram != 0 && config->vram < free ? config->vram : free;
}

/* --- carving -------------------------------------------------------------------------------- */

static void cuda_describe(struct cuda *c) {
    struct backend_info *info = &c->backend.info;
    const struct backend_limits *limits = &c->layout.limits;
    snprintf(info->name, sizeof info->name, "cuda");
    info->lazy = true; /* a driver may bring kernels to the device at their first launch */
    snprintf(info->isa, sizeof info->isa, "none");
    if (c->driver != NULL && c->driver->up) {
        const struct gpu_device *device = gpu_device(c->driver);
        snprintf(info->isa, sizeof info->isa, "sm_%d%d", device->major, device->minor);
        snprintf(info->device, sizeof info->device, "%.47s %s", device->name, device->pci);
    }
    info->n_pages = limits->n_pages;
    info->rows_max = limits->rows_max;
    info->logits_max = limits->logits_max;
    info->candidates = CUDA_CANDIDATES;
    info->vocab = c->layout.model->geo.vocab;
    info->weight_bytes = c->layout.weight_bytes;
    info->kv_bytes = c->layout.kv_bytes;
    info->vram_bytes = c->vram_bytes;
}

static void classes_make(struct cuda *c) {
    const struct backend_limits *limits = &c->layout.limits;
    for (uint32_t rows = 1;; rows *= 2) {
        wick_assert(c->n_classes < CUDA_CLASSES_MAX);
        if (rows > limits->rows_max) rows = limits->rows_max;
        c->class[c->n_classes++].room = layout_batch_of(limits, rows);
        if (rows == limits->rows_max) return;
    }
}

static const struct backend_ops cuda_ops;

struct backend *cuda_carve(const struct cuda_setup *setup, const struct model *model,
                           const struct backend_limits *limits, struct arena *arena,
                           struct arena *vram, struct arena *pinned) {
    static struct cuda measured; /* big; boot is single-threaded */
    arena_section(arena, "GPU launches");
    struct cuda *placed = arena_take(arena, sizeof *placed, ARENA_ALIGN);
    struct cuda *c = placed != NULL ? placed : &measured;
    *c = (struct cuda){
        .backend.ops = &cuda_ops, .driver = setup->driver, .hang_ms = setup->config->hang_ms};
    arena_measure(vram);
    arena_measure(pinned);
    layout_carve(&c->layout, model, limits, arena, vram, pinned);
    launches_carve(&c->launches, model->geo.n_layers, arena);
    upload_carve(&c->upload, &c->layout, limits, arena);
    c->upload.driver = setup->driver;
    c->upload.file = setup->file;
    c->vram_bytes = vram->used;
    c->pinned_bytes = pinned->used;
    cuda_describe(c);
    if (placed == NULL) return NULL;
    setup->driver->patience_ms = PATIENCE * c->hang_ms;
    classes_make(c);
    return &c->backend;
}

/* --- loading -------------------------------------------------------------------------------- */

/* Lays the plan over what the driver gave. */
static void memory_place(struct cuda *c) {
    struct arena vram, pinned;
    arena_lay(&vram, c->memory.vram, c->vram_bytes);
    arena_lay(&pinned, (uint64_t)(uintptr_t)c->memory.pinned, c->pinned_bytes);
    layout_place(&c->layout, &vram, &pinned);
    uint64_t apart = c->memory.pinned_gpu - (uint64_t)(uintptr_t)c->memory.pinned;
    c->pinned.flag = (uint64_t)(uintptr_t)c->layout.flag + apart;
    c->pinned.choice = (uint64_t)(uintptr_t)c->layout.choice + apart;
    *c->layout.flag = 0;
}

/* The functions of a module, in the order of enum gpu_entry. */
static void module_want(struct cuda *c, const char *name, uint32_t first, uint32_t step, uint32_t n,
                        const char *const entry[]) {
    struct module_text text = module_find(name);
    wick_assert(text.text != NULL && n <= GPU_MODULE_ENTRIES);
    c->module = (struct gpu_module){.ptx = text.text, .n = n};
    for (uint32_t i = 0; i < n; i++) {
        c->module.entry[i].name = entry[i];
        c->module.entry[i].function = &c->function[first + i * step];
    }
}

static bool kind_is_used(struct cuda *c, uint32_t kind) {
    const struct layout_matrix *matrix;
    for (uint32_t i = 0; (matrix = layout_matrix_at(&c->layout, i)) != NULL; i++)
        if (matrix->kind == kind && matrix != &c->layout.token_embd) return true;
    return false;
}

/* Chooses module c->index, or a later one if the model does not need that. False: no more. */
static bool module_choose(struct cuda *c) {
    static const char *const step[] = {"embed", "prepare", "top_slice", "top_merge", "finish"};
    static const char *const attention[] = {"kv_store", "attend_few", "attend_combine",
                                            "attend_many"};
    static const char *const matmul[] = {"matmul_few", "matmul_many"};
    const struct gpu_kv *kv = &c->layout.kv;
    char name[NAME_BYTES];
    if (c->index == 0) {
        module_want(c, "step", GPU_ENTRY_EMBED, 1, 5, step);
        return true;
    }
    if (c->index == 1) {
        snprintf(name, sizeof name, "attention_%s_%u", kv->type == GPU_KV_F16 ? "f16" : "q8",
                 gpu_attend_width(kv->type, kv->head_dim));
        module_want(c, name, GPU_ENTRY_KV_STORE, 1, 4, attention);
        return true;
    }
    while (c->index < 2 + GPU_KINDS && !kind_is_used(c, c->index - 2)) c->index++;
    if (c->index == 2 + GPU_KINDS) return false;
    uint32_t kind = c->index - 2;
    snprintf(name, sizeof name, "matmul_%s", repack_kind_name(kind));
    module_want(c, name, GPU_ENTRY_FEW + kind, GPU_KINDS, kind == GPU_F32 ? 1 : 2, matmul);
    return true;
}

/* Writes the launches of class c->index for capture. False: no more. */
static bool class_choose(struct cuda *c) {
    if (c->index == c->n_classes) return false;
    const struct gpu_device *device = gpu_device(c->driver);
    const struct layout_batch *room = &c->class[c->index].room;
    launches_write(&c->launches, &c->layout, &c->pinned, room->rows,
                   (uint32_t)device->shared_bytes);
    c->capture = (struct gpu_capture){.stream = c->driver->opened.stream,
                                      .function = c->function,
                                      .multiprocessors = (uint32_t)device->multiprocessors,
                                      .batch = c->layout.batch,
                                      .batch_host = c->layout.batch_host,
                                      .batch_bytes = room->bytes,
                                      .launches = &c->launches};
    return true;
}

enum { STAGE_MEMORY, STAGE_CLEAR, STAGE_MODULES, STAGE_GRAPHS, STAGE_WEIGHTS, STAGE_DONE };

static enum backend_status modules_load(struct cuda *c, uint64_t deadline_ns, struct fault *fault) {
    if (!c->driver->posted && !module_choose(c)) return BACKEND_DONE;
    enum backend_status status =
        gpu_go(c->driver, gpu_module_thread, &c->module.call, deadline_ns, fault);
    if (status == BACKEND_FAILED && c->module.log[0] != '\0')
        log_event(LOG_ERROR, "ptx", "%.*s", GPU_LOG_BYTES, c->module.log);
    if (status == BACKEND_DONE) c->index++;
    return status == BACKEND_DONE ? BACKEND_PENDING : status;
}

static enum backend_status graphs_make(struct cuda *c, uint64_t deadline_ns, struct fault *fault) {
    if (!c->driver->posted && !class_choose(c)) return BACKEND_DONE;
    enum backend_status status =
        gpu_go(c->driver, gpu_capture_thread, &c->capture.call, deadline_ns, fault);
    if (status == BACKEND_DONE) c->class[c->index++].exec = c->capture.exec;
    return status == BACKEND_DONE ? BACKEND_PENDING : status;
}

static enum backend_status stage_go(struct cuda *c, uint64_t deadline_ns, uint32_t *percent,
                                    struct fault *fault) {
    enum backend_status status;
    struct cu_stream *stream = c->driver->opened.stream;
    switch (c->stage) {
    case STAGE_MEMORY:
        c->memory.vram_bytes = c->vram_bytes;
        c->memory.pinned_bytes = c->pinned_bytes;
        status = gpu_go(c->driver, gpu_memory_thread, &c->memory.call, deadline_ns, fault);
        if (status == BACKEND_DONE) memory_place(c);
        return status;
    case STAGE_CLEAR:
        if (!c->driver->posted)
            c->clear = (struct gpu_clear){
                .stream = stream, .at = c->layout.kv_at, .bytes = c->layout.kv_bytes};
        return gpu_go(c->driver, gpu_clear_thread, &c->clear.call, deadline_ns, fault);
    case STAGE_MODULES:
        return modules_load(c, deadline_ns, fault);
    case STAGE_GRAPHS:
        return graphs_make(c, deadline_ns, fault);
    default:
        status = upload_advance(&c->upload, deadline_ns, percent, fault);
        if (status == BACKEND_DONE) upload_close(&c->upload);
        return status;
    }
}

static enum backend_status cuda_load(struct backend *backend, uint64_t deadline_ns,
                                     uint32_t *percent, struct fault *fault) {
    struct cuda *c = (struct cuda *)backend;
    for (;;) {
        enum backend_status status = stage_go(c, deadline_ns, percent, fault);
        if (status == BACKEND_FAILED) return status;
        if (status == BACKEND_DONE) {
            c->stage++;
            c->index = 0;
        }
        if (c->stage == STAGE_DONE) return BACKEND_DONE;
        if (clock_ns() >= deadline_ns) return BACKEND_PENDING;
    }
}

static void cuda_close(struct backend *backend) {
    struct cuda *c = (struct cuda *)backend;
    struct gpu_close last = {.call.api = &c->driver->api,
                             .device = c->driver->opened.device,
                             .vram = c->memory.vram,
                             .pinned = c->memory.pinned};
    if (!c->driver->up) return;
    c->driver->up = false;
    upload_close(&c->upload);
    /* What hangs would only hang again. */
    bool fine = !c->failed && c->stage > STAGE_MEMORY;
    foreign_stop(&c->driver->foreign, fine ? gpu_close_thread : NULL, &last, clock_ns() + CLOSE_NS);
}

static const struct backend_ops cuda_ops = {
    .load = cuda_load,
    .begin = cuda_begin,
    .advance = cuda_advance,
    .logits = cuda_logits,
    .candidates = cuda_candidates,
    .abort = cuda_abort,
    .look = cuda_look,
    .close = cuda_close,
};
