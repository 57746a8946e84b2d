#include "cuda/descriptor.h"

#include <string.h>

#include "base/panic.h"

struct writer {
    const struct layout_batch *room;
    const struct batch *batch;
    struct gpu_step *step;
    struct gpu_row *row;
    struct gpu_tile *tile;
    uint32_t *logits_row, *page;
    uint32_t n_sequences;
};

/* Rows of the sequence that begins at `first`. */
static uint32_t sequence_rows(const struct batch *batch, uint32_t first) {
    const struct batch_row *row = &batch->row[first];
    uint32_t n = 1;
    while (first + n < batch->n_rows && row[n].pages == row->pages &&
           row[n].position == row->position + n) {
        n++;
    }
    return n;
}

static void sequence_write(struct writer *w, uint32_t first, uint32_t n) {
    const struct batch_row *row = &w->batch->row[first];
    wick_assert(w->n_sequences < w->room->sequences);
    uint32_t pages = (row[n - 1].position + KV_PAGE_TOKENS) / KV_PAGE_TOKENS;
    wick_assert(pages <= w->room->pages_per_sequence);
    memcpy(w->page + (size_t)w->n_sequences * w->room->pages_per_sequence, row->pages,
           pages * sizeof *w->page);
    for (uint32_t i = 0; i < n; i++) {
        struct gpu_row *to = &w->row[first + i];
        *to = (struct gpu_row){row[i].token, row[i].position, w->n_sequences, GPU_NONE};
        if (row[i].wants == ROW_NOTHING) continue;
        wick_assert(w->step->n_logits < w->room->logits);
        to->logits = (int32_t)w->step->n_logits;
        w->logits_row[w->step->n_logits++] = first + i;
        if (row[i].wants == ROW_CANDIDATES && row[i].candidates > w->step->top)
            w->step->top = row[i].candidates;
    }
}

/* Full tiles first, so that a row's place in its tile depends on nothing but its sequence. */
static uint32_t tiles_write(struct writer *w, uint32_t first, uint32_t n, bool split,
                            uint32_t n_partial) {
    for (uint32_t done = 0; done < n; done += GPU_TILE_ROWS) {
        uint32_t rows = n - done < GPU_TILE_ROWS ? n - done : (uint32_t)GPU_TILE_ROWS;
        wick_assert(w->step->n_tiles < w->room->tiles);
        w->tile[w->step->n_tiles++] = (struct gpu_tile){first + done, rows, w->n_sequences,
                                                        split ? (int32_t)n_partial : GPU_NONE};
        if (split) n_partial += rows;
    }
    return n_partial;
}

void descriptor_write(const struct layout_batch *room, const struct batch *batch, bool split_all,
                      uint32_t ticket, uint8_t *out) {
    wick_assert(batch->n_rows > 0 && batch->n_rows <= room->rows);
    struct writer w = {.room = room,
                       .batch = batch,
                       .step = (struct gpu_step *)(void *)(out + room->step_at),
                       .row = (struct gpu_row *)(void *)(out + room->row_at),
                       .tile = (struct gpu_tile *)(void *)(out + room->tile_at),
                       .logits_row = (uint32_t *)(void *)(out + room->logits_at),
                       .page = (uint32_t *)(void *)(out + room->page_at)};
    uint32_t n_partial = 0;
    *w.step = (struct gpu_step){.n_rows = batch->n_rows, .ticket = ticket};
    for (uint32_t first = 0, n = 0; first < batch->n_rows; first += n, w.n_sequences++) {
        n = sequence_rows(batch, first);
        sequence_write(&w, first, n);
        n_partial = tiles_write(&w, first, n, split_all || n == 1, n_partial);
    }
    struct gpu_step *after = (struct gpu_step *)(void *)(out + room->after_at);
    *after = (struct gpu_step){.ticket = ticket + 1};
}
