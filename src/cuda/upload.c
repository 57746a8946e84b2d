#include "cuda/upload.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "cuda/repack.h"
#include "model/pack.h"

enum { LAYER_VECTORS = 5, MORE_VECTORS = 2 };

static size_t row_bytes(const struct model_tensor *tensor) {
    const struct quant_info *info = quant_info(tensor->type);
    return (size_t)tensor->cols / info->block_values * info->block_bytes;
}

void upload_carve(struct upload *u, struct layout *layout, const struct backend_limits *limits,
                  struct arena *arena) {
    *u = (struct upload){.layout = layout};
    const struct model *model = layout->model;
    const struct model_layer *layer = model->layer;
    for (uint32_t i = 0; i <= model->geo.n_layers; i++) {
        enum { OF_LAYER = 7, BESIDE = 2 };
        const struct model_tensor *of_layer[OF_LAYER] = {
            &layer[i].q,    &layer[i].k,  &layer[i].v,   &layer[i].attn_out,
            &layer[i].gate, &layer[i].up, &layer[i].down};
        const struct model_tensor *beside[BESIDE] = {&model->output, &model->token_embd};
        bool last = i == model->geo.n_layers;
        size_t n = last ? BESIDE : OF_LAYER;
        for (size_t j = 0; j < n; j++) {
            const struct model_tensor *tensor = last ? beside[j] : of_layer[j];
            size_t raw = PACK_ROWS * row_bytes(tensor), scratch = repack_scratch_bytes(tensor);
            if (raw > u->raw_bytes) u->raw_bytes = raw;
            if (scratch > u->scratch_bytes) u->scratch_bytes = scratch;
        }
    }
    arena_section(arena, "upload");
    u->raw = arena_take(arena, limits->threads * u->raw_bytes, ARENA_ALIGN);
    u->scratch = arena_take(arena, limits->threads * u->scratch_bytes, ARENA_ALIGN);
    u->team = team_carve(limits->threads, limits->cpus, arena);
}

/* --- panels --------------------------------------------------------------------------------- */

static void read_whole(struct upload *u, uint8_t *out, size_t bytes, uint64_t offset) {
    while (bytes > 0) {
        ssize_t n = pread(u->file, out, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            atomic_store(&u->error_offset, offset);
            atomic_store(&u->error, n < 0 ? errno : ENODATA);
            return;
        }
        out += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
}

static void panel_pack(struct upload *u, const struct layout_matrix *matrix, uint32_t panel,
                       uint32_t member, uint8_t *out) {
    uint32_t rope_dim = u->layout->model->geo.rope_dim, first = panel * PACK_ROWS;
    uint32_t left = matrix->tensor->rows - first, n = left < PACK_ROWS ? left : (uint32_t)PACK_ROWS;
    size_t bytes = row_bytes(matrix->tensor);
    uint8_t *raw = u->raw + member * u->raw_bytes;
    const uint8_t *row[PACK_ROWS] = {NULL};
    for (uint32_t i = 0; i < n; i++) row[i] = raw + i * bytes;
    uint64_t offset = matrix->tensor->data_offset;
    if (matrix->turn == 0) read_whole(u, raw, n * bytes, offset + first * bytes);
    for (uint32_t i = 0; matrix->turn != 0 && i < n; i++) {
        uint32_t from = repack_turned_row(first + i, matrix->turn, rope_dim);
        read_whole(u, raw + i * bytes, bytes, offset + from * bytes);
    }
    repack_rows(matrix->tensor, row, u->scratch + member * u->scratch_bytes, out);
}

static void panels_pack(void *context, uint32_t member, uint32_t first, uint32_t count) {
    struct upload *u = context;
    const struct layout_matrix *matrix = u->piece.matrix;
    uint8_t *out = u->layout->upload[u->buffer];
    for (uint32_t i = first; i < first + count; i++)
        panel_pack(u, matrix, u->piece.panel + i, member, out + i * matrix->gpu.panel_bytes);
}

/* --- vectors: small, taken from the mapping --------------------------------------------------- */

static size_t vector_copy(float *out, const struct model_tensor *tensor, uint32_t turn,
                          uint32_t rope_dim) {
    for (uint32_t i = 0; i < tensor->cols; i++) {
        uint32_t from = turn == 0 ? i : repack_turned_row(i, turn, rope_dim);
        memcpy(&out[i], tensor->data + from * sizeof(float), sizeof(float));
    }
    return tensor->cols * sizeof(float);
}

static size_t angles_write(const struct layout *l, double *out) {
    double frequency[MODEL_HEAD_DIM_MAX / 2];
    uint32_t pairs = l->model->geo.rope_dim / 2;
    size_t low = (size_t)GPU_ROPE_LOW * pairs * 2;
    model_rope_frequencies(l->model, frequency);
    repack_angles(frequency, pairs, l->limits.ctx, out, out + low);
    return (low + (size_t)repack_angles_high(l->limits.ctx) * pairs * 2) * sizeof *out;
}

/* Fills the piece and the buffer with the index-th vector; bytes 0: the model has no such one. */
static void vector_pack(struct upload *u, uint32_t index) {
    const struct layout *l = u->layout;
    const struct model *model = l->model;
    void *out = l->upload[u->buffer];
    u->piece = (struct upload_piece){.matrix = NULL};
    if (index >= model->geo.n_layers * LAYER_VECTORS) {
        index -= model->geo.n_layers * LAYER_VECTORS;
        u->piece.to = index == 0 ? l->output_norm : l->angle_low;
        u->piece.bytes =
            index == 0 ? vector_copy(out, &model->output_norm, 0, 0) : angles_write(l, out);
        return;
    }
    const struct layout_layer *layer = &l->layer[index / LAYER_VECTORS];
    const struct model_layer *from = &model->layer[index / LAYER_VECTORS];
    const struct {
        uint64_t to;
        const struct model_tensor *from;
        uint32_t turn;
    } of_layer[LAYER_VECTORS] = {{layer->attn_norm, &from->attn_norm, 0},
                                 {layer->ffn_norm, &from->ffn_norm, 0},
                                 {layer->q_bias, &from->q_bias, layer->q.turn},
                                 {layer->k_bias, &from->k_bias, layer->k.turn},
                                 {layer->v_bias, &from->v_bias, 0}};
    uint32_t which = index % LAYER_VECTORS;
    u->piece.to = of_layer[which].to;
    if (u->piece.to == 0) return;
    u->piece.bytes =
        vector_copy(out, of_layer[which].from, of_layer[which].turn, model->geo.rope_dim);
}

/* --- the way --------------------------------------------------------------------------------- */

/* Begins the next piece. False: there is none. */
static bool piece_choose(struct upload *u) {
    struct layout_matrix *matrix = layout_matrix_at(u->layout, u->matrix);
    if (matrix != NULL) {
        uint64_t fit = u->layout->upload_bytes / matrix->gpu.panel_bytes;
        uint32_t left = matrix->gpu.n_panels - u->next_panel;
        uint32_t n = left < fit ? left : (uint32_t)fit;
        wick_assert(n > 0);
        u->piece = (struct upload_piece){.matrix = matrix,
                                         .panel = u->next_panel,
                                         .n_panels = n,
                                         .to = matrix->gpu.panels +
                                               u->next_panel * matrix->gpu.panel_bytes,
                                         .bytes = n * matrix->gpu.panel_bytes};
        u->next_panel += n;
        if (u->next_panel == matrix->gpu.n_panels) {
            u->next_panel = 0;
            u->matrix++;
        }
        team_open(u->team, panels_pack, u, n, 1);
        return true;
    }
    if (u->vector == u->layout->model->geo.n_layers * LAYER_VECTORS + MORE_VECTORS) return false;
    vector_pack(u, u->vector++);
    return true;
}

static bool read_fault(struct upload *u, struct fault *fault) {
    return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "model file: offset 0x%llx: cannot read: %s",
                     (unsigned long long)atomic_load(&u->error_offset),
                     strerror(atomic_load(&u->error)));
}

/* The copy of the other buffer. */
static enum backend_status copy_go(struct upload *u, uint64_t deadline_ns, struct fault *fault) {
    if (!u->copying) return BACKEND_DONE;
    enum backend_status status =
        gpu_go(u->driver, gpu_upload_thread, &u->copy.call, deadline_ns, fault);
    if (status != BACKEND_PENDING) u->copying = false;
    return status;
}

/* The copy of this one, while the next piece is packed into the other. */
static enum backend_status copy_begin(struct upload *u, struct fault *fault) {
    if (u->piece.bytes == 0) return BACKEND_PENDING;
    u->copy = (struct gpu_upload){.stream = u->driver->opened.stream,
                                  .to = u->piece.to,
                                  .from = u->layout->upload[u->buffer],
                                  .bytes = u->piece.bytes};
    u->bytes_done += u->piece.bytes;
    u->buffer = (u->buffer + 1) % LAYOUT_UPLOADS;
    u->copying = true;
    return copy_go(u, 0, fault) == BACKEND_FAILED ? BACKEND_FAILED : BACKEND_PENDING;
}

static void speed_tell(const struct upload *u) {
    double s = (double)(clock_ns() - u->started_ns) / 1e9, bytes = (double)u->bytes_done;
    log_event(LOG_INFO, "upload", "bytes=%llu s=%.2f GB/s=%.2f", (unsigned long long)u->bytes_done,
              s, bytes / 1e9 / (s > 0 ? s : 1));
}

/* One step of the way. */
static enum backend_status upload_go(struct upload *u, uint64_t deadline_ns, struct fault *fault) {
    enum backend_status status = BACKEND_DONE;
    switch (u->state) {
    case UPLOAD_CHOOSES:
        u->state = piece_choose(u) ? UPLOAD_PACKS : UPLOAD_ENDS;
        break;
    case UPLOAD_PACKS:
        if (u->piece.matrix != NULL && !team_join(u->team, deadline_ns)) return BACKEND_PENDING;
        if (atomic_load(&u->error) != 0) {
            read_fault(u, fault);
            return BACKEND_FAILED;
        }
        u->state = UPLOAD_WAITS;
        break;
    case UPLOAD_WAITS:
        status = copy_go(u, deadline_ns, fault);
        if (status != BACKEND_DONE) return status;
        u->state = UPLOAD_CHOOSES;
        return copy_begin(u, fault);
    case UPLOAD_ENDS:
        return copy_go(u, deadline_ns, fault);
    }
    return BACKEND_PENDING;
}

enum backend_status upload_advance(struct upload *u, uint64_t deadline_ns, uint32_t *percent,
                                   struct fault *fault) {
    if (u->started_ns == 0) {
        u->started_ns = clock_ns();
        u->started = team_start(u->team, fault);
        if (!u->started) return BACKEND_FAILED;
    }
    for (;;) {
        enum backend_status status = upload_go(u, deadline_ns, fault);
        uint64_t total = u->layout->weight_bytes;
        *percent = (uint32_t)(u->bytes_done * 100 / (total > 0 ? total : 1));
        if (status == BACKEND_DONE) speed_tell(u);
        if (status != BACKEND_PENDING || clock_ns() >= deadline_ns) return status;
    }
}

void upload_close(struct upload *u) {
    if (!u->started) return;
    u->started = false;
    if (u->state == UPLOAD_PACKS && u->piece.matrix != NULL)
        while (!team_join(u->team, UINT64_MAX)) {
        }
    team_stop(u->team);
}
