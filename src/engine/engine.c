#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bus.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "base/text_file.h"
#include "cpu/cpu.h"
#include "cuda/cuda.h"

enum {
    ENGINE_CTX_DEFAULT = 4096, /* when the model allows more and nobody asked */
    ENGINE_LOGITS_MIN = 16     /* rows of a step that may want logits: SCORE's speed */
};

static uint32_t engine_min(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Bytes of a file or of a disk; false: it is neither. */
static bool engine_file_size(int fd, uint64_t *bytes, bool *disk) {
    struct stat st;
    if (fstat(fd, &st) != 0) return false;
    *disk = S_ISBLK(st.st_mode);
    *bytes = (uint64_t)st.st_size;
    if (S_ISREG(st.st_mode)) return true;
    off_t end = *disk ? lseek(fd, 0, SEEK_END) : -1;
    *bytes = end < 0 ? 0 : (uint64_t)end;
    return end >= 0;
}

static bool engine_map_file(struct engine *engine, const char *path, struct fault *fault) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: cannot open: %s", path,
                         strerror(errno));
    uint64_t bytes = 0;
    void *map = MAP_FAILED;
    bool mappable = engine_file_size(fd, &bytes, &engine->disk);
    if (mappable && bytes > 0) map = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    int error = errno;
    engine->fd = fd;
    if (map == MAP_FAILED) close(fd);
    if (!mappable)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: neither a regular file nor a disk",
                         path);
    if (bytes == 0)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: offset 0x0: the file is empty", path);
    if (map == MAP_FAILED)
        return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "%s: cannot map %llu bytes: %s", path,
                         (unsigned long long)bytes, strerror(error));
    madvise(map, bytes, MADV_WILLNEED); /* a hint */
    bus_watch(map, bytes, path);
    engine->file = map;
    engine->file_bytes = bytes;
    return true;
}

/* Puts the file's name in front of what the parser or the binder found. */
static bool engine_blame(const char *path, struct fault *fault) {
    char reason[FAULT_TEXT_BYTES];
    snprintf(reason, sizeof reason, "%s", fault->text);
    return fault_set(fault, fault->code, "%s: %s", path, reason);
}

static uint32_t engine_pages_for(uint32_t ctx) {
    return (ctx + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
}

/* ctx, slots and pages from the configuration and the model. */
static bool engine_choose(struct engine *engine, struct fault *fault) {
    const struct config *config = engine->config;
    uint32_t trained = engine->model.geo.ctx_train;
    engine->slots = config->slots;
    engine->ctx = config->ctx != 0 ? config->ctx : engine_min(trained, ENGINE_CTX_DEFAULT);
    if (engine->ctx > trained)
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "ctx=%u is more than the %u tokens this model was trained for",
                         engine->ctx, trained);
    engine->n_pages = engine->slots * engine_pages_for(engine->ctx);
    if (config->kv_tokens == 0) return true;
    uint64_t pages = config->kv_tokens / KV_PAGE_TOKENS;
    if (pages < engine_pages_for(engine->ctx))
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         "kv_tokens=%llu holds less than one sequence of ctx=%u",
                         (unsigned long long)config->kv_tokens, engine->ctx);
    if (pages < engine->n_pages) engine->n_pages = (uint32_t)pages;
    return true;
}

/* --- which backend --- */

/* backend=auto: the GPU if it can be opened and the plan fits it; otherwise *fault says why not. */
static bool engine_tries_cuda(struct engine *engine, struct fault *fault) {
    const struct config *config = engine->config;
    struct arena measure;
    if (config->weights == CONFIG_WEIGHTS_MAPPED)
        return fault_set(fault, FAULT_INVALID_REQUEST, "weights=mapped is of the CPU");
    if (engine->gpu == NULL || strcmp(config->isa, "auto") != 0)
        return fault_set(fault, FAULT_INVALID_REQUEST,
                         engine->gpu == NULL ? "a plan brings no GPU up" : "isa= is of the CPU");
    if (!cuda_check(config, &engine->model, fault) || !cuda_open(engine->gpu, config, fault))
        return false;
    engine->cuda = true;
    arena_measure(&measure);
    return engine_carve(engine, &measure, fault) && engine_fits(engine, 0, NULL, fault);
}

static bool engine_choose_backend(struct engine *engine, struct fault *fault) {
    const struct config *config = engine->config;
    struct fault why;
    bool automatic = strcmp(config->backend, "auto") == 0;
    if (automatic) {
        engine->cuda = engine_tries_cuda(engine, &why);
    } else if (strcmp(config->backend, "cuda") == 0) {
        engine->cuda = true;
        if (config->weights == CONFIG_WEIGHTS_MAPPED)
            return fault_set(fault, FAULT_INVALID_REQUEST,
                             "weights=mapped is of the CPU: a GPU needs them in its own memory");
        if (!cuda_check(config, &engine->model, fault)) return false;
        if (engine->gpu != NULL && !cuda_open(engine->gpu, config, fault)) return false;
    }
    if (!engine->cuda) {
        engine->mapped =
            config->weights == CONFIG_WEIGHTS_MAPPED && strcmp(config->isa, "exact") != 0;
        close(engine->fd);
        if (automatic) log_event(LOG_INFO, "backend", "cpu, not cuda: %s", why.text);
        return true;
    }
    if (engine->gpu == NULL) return true;
    char line[GPU_LINE_BYTES_MAX];
    gpu_device_line(engine->gpu, (uint32_t)engine->gpu->opened.device, line);
    log_event(LOG_INFO, "backend", "cuda: %s", line);
    return true;
}

bool engine_map(struct engine *engine, const struct config *config, struct fault *fault) {
    wick_assert(engine->file == NULL);
    engine->config = config;
    if (config->model == NULL)
        return fault_set(fault, FAULT_INVALID_REQUEST, "no model given: model=FILE.gguf");
    if (!cpu_check(config->isa, fault) || !pin_check(config->sha256, fault) ||
        !cpu_choose(&config->cpus, config->threads, &engine->cpus, fault))
        return false;
    if (!engine_map_file(engine, config->model, fault)) return false;
    if (!gguf_parse(&engine->gguf, engine->file, engine->file_bytes, fault) ||
        !model_bind(&engine->model, &engine->gguf, fault))
        return engine_blame(config->model, fault);
    pin_begin(&engine->pin, config->sha256, &engine->gguf, engine->file, engine->disk);
    return engine_choose(engine, fault) && engine_choose_backend(engine, fault);
}

void engine_blank(struct engine *engine, const struct config *config) {
    static struct backend nothing = {.info = {.name = "none", .isa = "none", .device = ""}};
    memset(engine, 0, sizeof *engine);
    engine->config = config;
    engine->ctx = KV_PAGE_TOKENS;
    engine->slots = config->slots;
    engine->n_pages = config->slots;
    engine->rows_max = engine->logits_max = config->slots;
    engine->vocab.kind_name = "none";
    snprintf(engine->model.geo.architecture, sizeof engine->model.geo.architecture, "none");
    snprintf(engine->model.geo.quantisation, sizeof engine->model.geo.quantisation, "none");
    engine->backend = &nothing;
}

bool engine_carve(struct engine *engine, struct arena *arena, struct fault *fault) {
    const struct config *config = engine->config;
    arena_section(arena, "vocabulary");
    if (!vocab_carve(&engine->vocab, &engine->gguf, arena, fault))
        return engine_blame(config->model, fault);
    vocab_scratch_carve(&engine->scratch, &engine->vocab, ENGINE_TEXT_MAX, arena);
    uint32_t logits = engine->slots > ENGINE_LOGITS_MIN ? engine->slots : ENGINE_LOGITS_MIN;
    engine->rows_max = engine_min(config->chunk + engine->slots, BATCH_ROWS_MAX);
    engine->logits_max = engine->taps ? engine->rows_max : engine_min(logits, engine->rows_max);
    struct backend_limits limits = {
        .n_pages = engine->n_pages,
        .ctx = engine->ctx,
        .rows_max = engine->rows_max,
        .logits_max = engine->logits_max,
        .threads = engine->cpus.n,
        .cpus = &engine->cpus,
        .kv_type = config->kv_type,
        .sequences = engine->slots,
        .vocab = engine->vocab.n_tokens,
        .mapped = engine->mapped,
        .taps = engine->taps,
    };
    engine->candidates = engine->cuda ? CUDA_CANDIDATES : 0;
    arena_measure(&engine->vram);
    arena_measure(&engine->pinned);
    if (!engine->cuda) {
        engine->backend = cpu_carve(config->isa, &engine->model, &limits, arena);
        return true;
    }
    struct cuda_setup setup = {.driver = engine->gpu, .config = config, .file = engine->fd};
    engine->backend =
        cuda_carve(&setup, &engine->model, &limits, arena, &engine->vram, &engine->pinned);
    return true;
}

/* --- does it fit? --- */

/* Bytes that are available without swapping: MemAvailable of /proc/meminfo; 0 if unknown. */
static uint64_t engine_memory_available(void) {
    char text[4096];
    if (text_file_read("/proc/meminfo", text, sizeof text) <= 0) return 0;
    const char *line = strstr(text, "MemAvailable:");
    return line != NULL ? strtoull(line + strlen("MemAvailable:"), NULL, 10) * 1024 : 0;
}

/* Bytes that an engine needs, or may use. */
struct engine_room {
    uint64_t memory, vram;
};

static bool engine_room_holds(struct engine_room room, struct engine_room need) {
    return need.memory <= room.memory && need.vram <= room.vram;
}

static struct engine_room engine_room_at(struct engine *engine, uint32_t ctx, uint32_t slots,
                                         engine_rest *rest) {
    struct arena measure;
    struct fault ignored;
    engine->ctx = ctx;
    engine->slots = slots;
    engine->n_pages = slots * engine_pages_for(ctx);
    arena_measure(&measure);
    if (!engine_carve(engine, &measure, &ignored)) return (struct engine_room){UINT64_MAX, 0};
    if (rest != NULL) rest(engine, &measure);
    return (struct engine_room){measure.used + engine->pinned.used, engine->vram.used};
}

/* The largest ctx (a multiple of a KV page) with which `slots` sequences fit; 0: none. */
static uint32_t engine_largest_ctx(struct engine *engine, uint32_t ctx, uint32_t slots,
                                   engine_rest *rest, struct engine_room room) {
    uint32_t low = 0, high = engine_pages_for(ctx);
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (engine_room_holds(room, engine_room_at(engine, middle * KV_PAGE_TOKENS, slots, rest)))
            low = middle;
        else
            high = middle - 1;
    }
    return low * KV_PAGE_TOKENS;
}

/* What there is; what is not known is without limit. */
static struct engine_room engine_room_available(const struct engine *engine) {
    struct engine_room room = {engine->config->memory, UINT64_MAX};
    if (room.memory == 0) room.memory = engine_memory_available();
    if (room.memory == 0) room.memory = UINT64_MAX;
    if (!engine->cuda) return room;
    if (engine->gpu != NULL)
        room.vram = cuda_vram_available(engine->gpu, engine->config);
    else if (engine->config->vram != 0)
        room.vram = engine->config->vram;
    return room;
}

uint64_t engine_saved(const struct engine *engine) {
    static struct engine trial;
    trial = *engine;
    trial.mapped = false;
    uint64_t packed = engine_room_at(&trial, engine->ctx, engine->slots, NULL).memory;
    trial.mapped = true;
    return packed - engine_room_at(&trial, engine->ctx, engine->slots, NULL).memory;
}

/* What would fit, as the end of a sentence; `trial` is an engine to try with. */
static void engine_advise(struct engine *trial, engine_rest *rest, struct engine_room room,
                          char *out, size_t bytes) {
    const uint32_t ctx = trial->ctx, slots = trial->slots;
    const bool packs = !trial->cuda && !trial->mapped && strcmp(trial->config->isa, "exact") != 0;
    size_t used = 0;
    out[0] = '\0';
    for (int mapped = 0; mapped <= packs; mapped++) {
        trial->mapped |= mapped;
        uint32_t n = slots, fits = 0;
        while (n > 0 && (fits = engine_largest_ctx(trial, ctx, n, rest, room)) == 0) n--;
        if (n == 0) continue;
        used += (size_t)snprintf(out + used, bytes - used, "%s%sctx=%u slots=%u",
                                 used > 0 ? ", or " : "", mapped ? "weights=mapped " : "",
                                 engine_min(fits, ctx), n);
    }
    snprintf(out + used, bytes - used, "%s",
             used > 0 ? " would fit" : "no ctx and slots would fit, a smaller model would");
}

bool engine_fits(const struct engine *engine, uint64_t bytes, engine_rest *rest,
                 struct fault *fault) {
    struct engine_room room = engine_room_available(engine);
    struct engine_room need = {bytes + engine->pinned.used, engine->vram.used};
    if (engine_room_holds(room, need)) return true;
    bool vram = need.vram > room.vram;
    enum fault_code code = vram ? FAULT_INSUFFICIENT_VRAM : FAULT_INSUFFICIENT_RESOURCES;
    unsigned long long required = vram ? need.vram : need.memory;
    unsigned long long available = vram ? room.vram : room.memory;
    const char *what = vram ? "GPU memory" : "memory";
    static struct engine trial; /* too big for a stack; boot is single-threaded */
    trial = *engine;
    char advice[160];
    engine_advise(&trial, rest, room, advice, sizeof advice);
    return fault_set(fault, code, "%s: required %llu bytes, available %llu bytes; %s", what,
                     required, available, advice);
}

/* --- loading --- */

enum { STAGE_DIGEST, STAGE_VOCAB, STAGE_WEIGHTS, STAGE_WARM_UP, STAGE_DONE };

/* What the first step of a lazy backend does besides is done before READY. */
static void engine_begin_warm_up(struct engine *engine) {
    if (!engine->backend->info.lazy) return;
    int32_t bos = engine->vocab.bos;
    engine->warm_up.n_rows = 1;
    engine->warm_up.row[0] = (struct batch_row){
        .token = bos >= 0 ? bos : 0, .pages = &engine->warm_up_page, .wants = ROW_LOGITS};
    engine->backend->ops->begin(engine->backend, &engine->warm_up);
}

static void engine_unmap(struct engine *engine) {
    if (engine->file == NULL) return;
    bus_forget(engine->file);
    munmap((void *)(uintptr_t)engine->file, engine->file_bytes);
    if (engine->cuda) close(engine->fd);
    engine->file = NULL;
}

/* Packs, and every few milliseconds drops the pages of the file that were read for it: they are the
 * page cache's, and wick holds one copy of the weights. Who needs one again finds it there. */
static enum backend_status engine_load_weights(struct engine *engine, uint64_t deadline_ns,
                                               uint32_t *percent, struct fault *fault) {
    enum { PACK_NS = 5 * 1000 * 1000 };
    const uint64_t now_ns = clock_ns();
    if (now_ns >= engine->drop_ns) {
        engine->drop_ns = now_ns + PACK_NS;
        if (!engine->mapped)
            madvise((void *)(uintptr_t)engine->file, engine->file_bytes, MADV_DONTNEED);
    }
    const uint64_t end_ns = deadline_ns < engine->drop_ns ? deadline_ns : engine->drop_ns;
    return engine->backend->ops->load(engine->backend, end_ns, percent, fault);
}

/* One pass over the file, where a digest is asked for; the rest of loading is another one. */
static enum backend_status engine_load_digest(struct engine *engine, uint64_t deadline_ns,
                                              uint32_t *percent, struct fault *fault) {
    uint32_t part = 0;
    enum pin_status status = pin_advance(&engine->pin, deadline_ns, &part, fault);
    *percent = part / 2;
    if (status == PIN_FAILED) engine_blame(engine->config->model, fault);
    if (status == PIN_FAILED) return BACKEND_FAILED;
    return status == PIN_DONE ? BACKEND_DONE : BACKEND_PENDING;
}

static enum engine_status engine_load_stage(struct engine *engine, uint64_t deadline_ns,
                                            uint32_t *percent, struct fault *fault) {
    struct backend *backend = engine->backend;
    enum backend_status status = BACKEND_DONE;
    switch (engine->stage) {
    case STAGE_DIGEST:
        status = engine_load_digest(engine, deadline_ns, percent, fault);
        break;
    case STAGE_VOCAB:
        if (vocab_fill(&engine->vocab, &engine->gguf, fault)) break;
        engine_blame(engine->config->model, fault);
        return ENGINE_FAILED;
    case STAGE_WEIGHTS:
        status = engine_load_weights(engine, deadline_ns, percent, fault);
        if (engine->pin.wanted != NULL) *percent = 50 + *percent / 2;
        if (status == BACKEND_DONE) engine_begin_warm_up(engine);
        break;
    default:
        *percent = 100;
        if (backend->info.lazy) status = backend->ops->advance(backend, deadline_ns, fault);
        if (status == BACKEND_DONE && !engine->mapped) engine_unmap(engine);
        break;
    }
    if (status == BACKEND_FAILED) return ENGINE_FAILED;
    if (status == BACKEND_DONE) engine->stage++;
    return engine->stage == STAGE_DONE ? ENGINE_READY : ENGINE_LOADING;
}

enum engine_status engine_load(struct engine *engine, uint64_t deadline_ns, uint32_t *percent,
                               struct fault *fault) {
    wick_assert(engine->stage < STAGE_DONE);
    for (;;) {
        enum engine_status status = engine_load_stage(engine, deadline_ns, percent, fault);
        if (status != ENGINE_LOADING || clock_ns() >= deadline_ns) return status;
    }
}

void engine_close(struct engine *engine) {
    if (engine->backend != NULL) engine->backend->ops->close(engine->backend);
    if (engine->stage != STAGE_DONE) engine_unmap(engine); /* a server may not unmap any more */
}
