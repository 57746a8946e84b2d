/* The parts of the CUDA backend that touch no device: what lies where, the batch, the launches. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/config.h"
#include "cuda/cuda.h"
#include "cuda/descriptor.h"
#include "cuda/gpu.h"
#include "cuda/launches.h"
#include "cuda/layout.h"
#include "tiny_model.h"

enum { PAGES = 8, CTX = 64, SHARED = 99 * 1024, MEMORY = 64 << 20 };

static const struct backend_limits limits = {.n_pages = PAGES,
                                             .ctx = CTX,
                                             .rows_max = 70,
                                             .logits_max = 16,
                                             .threads = 1,
                                             .kv_type = CONFIG_KV_F16,
                                             .sequences = 4,
                                             .vocab = 64};

static struct tiny_model tiny;
static struct batch batch;
static _Alignas(64) uint8_t descriptor[64 * 1024];

static void model_make(const struct tiny_shape *shape) {
    struct fault fault;
    tiny_init(&tiny, shape);
    cr_assert(tiny_bind(&tiny, &fault), "%s", fault.text);
}

/* --- the batch --------------------------------------------------------------------------------
 */

static uint32_t pages_of[4][CTX / KV_PAGE_TOKENS] = {
    {7, 6, 5, 4}, {3, 2, 1, 0}, {0, 1, 2, 3}, {4, 5, 6, 7}};

static void rows_add(uint32_t sequence, uint32_t position, uint32_t n, enum row_wants last) {
    for (uint32_t i = 0; i < n; i++)
        batch.row[batch.n_rows++] =
            (struct batch_row){.token = (int32_t)(position + i),
                               .position = position + i,
                               .pages = pages_of[sequence],
                               .wants = i + 1 == n ? last : ROW_NOTHING,
                               .candidates = last == ROW_CANDIDATES ? 5 + sequence : 0};
}

static const void *part(uint32_t at) {
    return descriptor + at;
}

Test(cuda, descriptor_holds_each_sequence_in_tiles_with_its_pages) {
    struct layout_batch room = layout_batch_of(&limits, 64);
    batch.n_rows = 0;
    rows_add(0, 20, 1, ROW_CANDIDATES);
    rows_add(1, 3, 40, ROW_NOTHING);
    rows_add(2, 9, 1, ROW_LOGITS);
    memset(descriptor, 0xA5, sizeof descriptor);
    descriptor_write(&room, &batch, false, 10, descriptor);

    const struct gpu_step *step = part(room.step_at), *after = part(room.after_at);
    cr_assert_eq(step->n_rows, 42);
    cr_assert_eq(step->n_logits, 2);
    cr_assert_eq(step->n_tiles, 4);
    cr_assert_eq(step->top, 5);
    cr_assert_eq(step->ticket, 10);
    cr_assert_eq(after->ticket, 11);
    const struct gpu_tile *tile = part(room.tile_at);
    const struct gpu_tile want[] = {
        {0, 1, 0, 0}, {1, 32, 1, GPU_NONE}, {33, 8, 1, GPU_NONE}, {41, 1, 2, 1}};
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_eq(tile[i].first_row, want[i].first_row);
        cr_assert_eq(tile[i].n_rows, want[i].n_rows);
        cr_assert_eq(tile[i].sequence, want[i].sequence);
        cr_assert_eq(tile[i].partial, want[i].partial, "tile %u: %d", i, tile[i].partial);
    }
    const struct gpu_row *row = part(room.row_at);
    const uint32_t *logits = part(room.logits_at), *page = part(room.page_at);
    cr_assert(row[0].logits == 0 && row[41].logits == 1 && row[40].logits == GPU_NONE);
    cr_assert(logits[0] == 0 && logits[1] == 41);
    cr_assert(row[5].token == 7 && row[5].position == 7 && row[5].sequence == 1);
    cr_assert_eq(memcmp(page, pages_of[0], 2 * sizeof *page), 0);
    cr_assert_eq(memcmp(page + room.pages_per_sequence, pages_of[1], 3 * sizeof *page), 0);
}

Test(cuda, descriptor_splits_all_rows_of_a_small_batch) {
    struct layout_batch room = layout_batch_of(&limits, 8);
    batch.n_rows = 0;
    rows_add(3, 0, 5, ROW_LOGITS);
    rows_add(1, 60, 1, ROW_LOGITS);
    descriptor_write(&room, &batch, true, 2, descriptor);
    const struct gpu_step *step = part(room.step_at);
    const struct gpu_tile *tile = part(room.tile_at);
    cr_assert_eq(step->n_tiles, 2);
    cr_assert_eq(step->top, 0);
    cr_assert(tile[0].partial == 0 && tile[0].n_rows == 5 && tile[1].partial == 5);
}

Test(cuda, sequences_that_share_a_page_table_by_chance_are_told_apart_by_position) {
    struct layout_batch room = layout_batch_of(&limits, 8);
    batch.n_rows = 0;
    rows_add(0, 4, 2, ROW_NOTHING);
    rows_add(0, 9, 1, ROW_LOGITS);
    descriptor_write(&room, &batch, true, 2, descriptor);
    cr_assert_eq(((const struct gpu_step *)part(room.step_at))->n_tiles, 2);
}

Test(cuda, every_batch_fits_the_room_of_its_class) {
    for (uint32_t rows = 1; rows <= limits.rows_max; rows++) {
        struct layout_batch room = layout_batch_of(&limits, rows);
        for (uint32_t decoding = 0; decoding < 4 && decoding <= rows; decoding++) {
            batch.n_rows = 0;
            for (uint32_t i = 0; i < decoding; i++) rows_add(i, 30 + i, 1, ROW_CANDIDATES);
            uint32_t rest = rows - decoding < CTX ? rows - decoding : (uint32_t)CTX;
            if (rest > 0) rows_add(3, 0, rest, ROW_LOGITS);
            if (batch.n_rows == 0) continue;
            descriptor_write(&room, &batch, rows <= LAYOUT_SPLIT_ROWS, 2, descriptor);
            cr_assert_leq(((const struct gpu_step *)part(room.step_at))->n_tiles, room.tiles);
        }
    }
}

/* --- memory -----------------------------------------------------------------------------------
 */

struct rig {
    struct arena arena, vram, pinned;
    struct layout layout;
    struct gpu_launches launches;
    void *memory, *pinned_memory;
    size_t vram_bytes, pinned_bytes;
};

static void rig_place(struct rig *rig, const struct backend_limits *of) {
    rig->memory = malloc(MEMORY);
    arena_open(&rig->arena, rig->memory, MEMORY);
    arena_measure(&rig->vram);
    arena_measure(&rig->pinned);
    layout_carve(&rig->layout, &tiny.model, of, &rig->arena, &rig->vram, &rig->pinned);
    launches_carve(&rig->launches, tiny.model.geo.n_layers, &rig->arena);
    rig->vram_bytes = rig->vram.used;
    rig->pinned_bytes = rig->pinned.used;
    rig->pinned_memory = aligned_alloc(4096, round_up(rig->pinned_bytes, 4096));
    arena_lay(&rig->vram, 0x7000000000, rig->vram_bytes);
    arena_lay(&rig->pinned, (uint64_t)(uintptr_t)rig->pinned_memory, rig->pinned_bytes);
    layout_place(&rig->layout, &rig->vram, &rig->pinned);
}

static void rig_close(struct rig *rig) {
    free(rig->memory);
    free(rig->pinned_memory);
}

Test(cuda, layout_takes_exactly_what_it_has_measured) {
    static struct rig rig;
    model_make(&tiny_llama);
    struct backend_limits q8 = limits;
    q8.kv_type = CONFIG_KV_Q8_0;
    const struct backend_limits *all[] = {&limits, &q8};
    for (int i = 0; i < 2; i++) {
        rig_place(&rig, all[i]);
        cr_assert_eq(rig.vram.used, rig.vram_bytes);
        cr_assert_eq(rig.pinned.used, rig.pinned_bytes);
        cr_assert_eq(rig.layout.k.at != 0, i == 1); /* rows on their way to a q8_0 cache */
        rig_close(&rig);
    }
}

Test(cuda, matrices_lie_apart_and_aligned) {
    static struct rig rig;
    model_make(&tiny_llama);
    rig_place(&rig, &limits);
    uint64_t end = 0x7000000000;
    uint32_t n = 0;
    const struct layout_matrix *m;
    for (; (m = layout_matrix_at(&rig.layout, n)) != NULL; n++) {
        cr_assert_eq(m->gpu.panels % LAYOUT_ALIGN, 0);
        cr_assert_geq(m->gpu.panels, end);
        end = m->gpu.panels + m->gpu.n_panels * m->gpu.panel_bytes;
    }
    cr_assert_eq(n, 2 * 7 + 2); /* an output and an embedding of their own */
    cr_assert_leq(end, 0x7000000000 + rig.vram_bytes);
    cr_assert_eq(rig.layout.layer[1].kv - rig.layout.layer[0].kv, rig.layout.kv.page_bytes * PAGES);
    rig_close(&rig);
}

Test(cuda, what_the_kernels_lack_is_refused) {
    struct fault fault;
    model_make(&tiny_llama);
    cr_assert(layout_check(&tiny.model, CONFIG_KV_F16, &fault));
    cr_assert_not(layout_check(&tiny.model, CONFIG_KV_F32, &fault));
    cr_assert_eq(fault.code, FAULT_INVALID_REQUEST);
    tiny.model.layer[1].up.type = QUANT_F16;
    cr_assert_not(layout_check(&tiny.model, CONFIG_KV_F16, &fault));
    cr_assert(strstr(fault.text, "layer 1") != NULL, "%s", fault.text);
    model_make(&tiny_llama);
    tiny.model.geo.head_dim = 260;
    cr_assert_not(layout_check(&tiny.model, CONFIG_KV_F16, &fault));
    tiny.model.geo.head_dim = 30;
    cr_assert_not(layout_check(&tiny.model, CONFIG_KV_F16, &fault));
}

/* --- launches ---------------------------------------------------------------------------------
 */

static uint32_t entries_count(const struct gpu_launches *list, uint32_t entry) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->n; i++) n += list->launch[i].entry == entry;
    return n;
}

Test(cuda, step_is_a_list_of_launches_that_all_have_work) {
    static struct rig rig;
    model_make(&tiny_llama);
    rig_place(&rig, &limits);
    struct launches_pinned pinned = {.flag = 0x1000, .choice = 0x2000};
    for (uint32_t rows = 1; rows <= limits.rows_max; rows = rows * 2 + 1) {
        launches_write(&rig.launches, &rig.layout, &pinned, rows, SHARED);
        const struct gpu_launch *launch = rig.launches.launch;
        uint32_t n = rig.launches.n;
        cr_assert_eq(launch[0].entry, GPU_ENTRY_EMBED);
        cr_assert_eq(launch[n - 1].entry, GPU_ENTRY_FINISH);
        for (uint32_t i = 0; i < n; i++) {
            cr_assert(launch[i].grid[0] * launch[i].grid[1] * launch[i].grid[2] > 0);
            cr_assert(launch[i].block >= 1 && launch[i].block <= 1024);
            cr_assert_leq(launch[i].shared, (uint32_t)SHARED);
        }
        /* F32 weights: q, k, v together, attn_out, gate and up, down; and the head. */
        cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_FEW + GPU_F32), 2 * 4 + 1);
        cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_PREPARE), 2 * 4 + 1);
        cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_ATTEND_FEW), 2);
        cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_ATTEND_MANY),
                     rows <= LAYOUT_SPLIT_ROWS ? 0 : 2);
    }
    rig_close(&rig);
}

/* All matrices of 256 columns and more, in a type that fuses. */
static const struct tiny_shape wide = {"llama", 1, 256, 256, 4, 2, 64, 64, false, true};

static void matrices_retype(enum quant_type type) {
    for (uint32_t i = 0; i < tiny.n_tensors; i++)
        if (tiny.tensor[i].n_dims == 2) tiny.tensor[i].type = type;
}

Test(cuda, one_row_prepares_its_own_input_and_many_rows_share_tiles) {
    static struct rig rig;
    struct fault fault;
    struct launches_pinned pinned = {.flag = 0x1000, .choice = 0x2000};
    tiny_init(&tiny, &wide);
    matrices_retype(QUANT_Q8_0);
    cr_assert(tiny_bind(&tiny, &fault), "%s", fault.text);
    rig_place(&rig, &limits);
    launches_write(&rig.launches, &rig.layout, &pinned, 1, SHARED);
    cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_PREPARE), 0);
    launches_write(&rig.launches, &rig.layout, &pinned, 1, 1024);
    cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_PREPARE), 5); /* no room to fuse */
    launches_write(&rig.launches, &rig.layout, &pinned, 64, SHARED);
    cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_MANY + GPU_Q8), 4);
    cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_FEW + GPU_Q8), 1); /* 16 rows of logits */
    rig_close(&rig);
}

Test(cuda, matrices_of_other_kinds_have_launches_of_their_own) {
    static struct rig rig;
    struct fault fault;
    struct launches_pinned pinned = {.flag = 0x1000, .choice = 0x2000};
    tiny_init(&tiny, &wide);
    matrices_retype(QUANT_Q4_K);
    for (uint32_t i = 0; i < tiny.n_tensors; i++)
        if (strstr(tiny.tensor[i].name, "attn_v") != NULL) tiny.tensor[i].type = QUANT_Q6_K;
    cr_assert(tiny_bind(&tiny, &fault), "%s", fault.text);
    rig_place(&rig, &limits);
    launches_write(&rig.launches, &rig.layout, &pinned, 1, SHARED);
    cr_assert_eq(entries_count(&rig.launches, GPU_ENTRY_FEW + GPU_S8_16), 1);
    for (uint32_t i = 0; i < rig.launches.n; i++) {
        const struct gpu_launch *launch = &rig.launches.launch[i];
        if (launch->entry != GPU_ENTRY_FEW + GPU_S8_16) continue;
        const struct gpu_matmul *product = launch->arguments;
        cr_assert_eq(product->role[0], 2); /* v */
        cr_assert_eq(product->matrix[0].panels, rig.layout.layer[0].v.gpu.panels);
        cr_assert_eq(product->matrix[1].n_panels, 0);
    }
    rig_close(&rig);
}

/* --- devices ----------------------------------------------------------------------------------
 */

Test(cuda, device_is_found_by_number_and_by_address) {
    static struct gpu_list list = {.n = 2};
    snprintf(list.device[0].pci, GPU_PCI_BYTES, "0000:3b:00.0");
    snprintf(list.device[1].pci, GPU_PCI_BYTES, "0001:AF:00.0");
    cr_assert_eq(gpu_device_find(&list, "0"), 0);
    cr_assert_eq(gpu_device_find(&list, "1"), 1);
    cr_assert_eq(gpu_device_find(&list, "2"), -1);
    cr_assert_eq(gpu_device_find(&list, ""), -1);
    cr_assert_eq(gpu_device_find(&list, "-1"), -1);
    cr_assert_eq(gpu_device_find(&list, "0001:af:00.0"), 1);
    cr_assert_eq(gpu_device_find(&list, "3B:00.0"), 0);
    cr_assert_eq(gpu_device_find(&list, "3b:00"), -1);
}
