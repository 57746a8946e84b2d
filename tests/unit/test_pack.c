#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "block_rig.h"
#include "model/pack.h"

enum { ROWS = 37, COLS = 512 };

static struct model_tensor tensor_make(enum quant_type type, uint32_t rows, uint32_t cols,
                                       uint64_t *state) {
    const struct quant_info *info = quant_info(type);
    struct model_tensor t = {.type = type, .rows = rows, .cols = cols};
    t.bytes = (uint64_t)rows * cols / info->block_values * info->block_bytes;
    uint8_t *data = malloc(t.bytes);
    block_rig_fill(type, data, (size_t)rows * cols, state);
    t.data = data;
    return t;
}

static struct packed_matrix matrix_make(const struct model_tensor *t) {
    struct packed_matrix m = pack_describe(t);
    uint8_t *panels = aligned_alloc(64, pack_matrix_bytes(&m));
    memset(panels, 0xA5, pack_matrix_bytes(&m));
    for (uint32_t p = 0; p < m.n_panels; p++) pack_panel(&m, p, panels + p * m.panel_bytes);
    m.panels = panels;
    return m;
}

Test(pack, every_type_unpacks_to_the_bits_that_expand_gives) {
    uint64_t state = 1;
    for (size_t i = 0; i < block_rig_n_types; i++) {
        enum quant_type type = block_rig_types[i];
        const struct quant_info *info = quant_info(type);
        struct model_tensor t = tensor_make(type, ROWS, COLS, &state);
        struct packed_matrix m = matrix_make(&t);
        size_t row_bytes = (size_t)COLS / info->block_values * info->block_bytes;
        for (uint32_t row = 0; row < ROWS; row++) {
            float wanted[COLS], got[COLS];
            quant_expand(type, t.data + row * row_bytes, wanted, COLS);
            pack_row_expand(&m, row, got);
            cr_assert_eq(memcmp(wanted, got, sizeof wanted), 0, "%s row %u", info->name, row);
        }
    }
}

Test(pack, panels_are_whole_cache_lines) {
    uint64_t state = 2;
    for (size_t i = 0; i < block_rig_n_types; i++) {
        struct model_tensor t = tensor_make(block_rig_types[i], 16, 256, &state);
        cr_assert_eq(pack_describe(&t).panel_bytes % 64, 0);
    }
}

Test(pack, panels_are_as_small_as_the_file) {
    uint64_t state = 6;
    for (size_t i = 0; i < block_rig_n_types; i++) {
        struct model_tensor t = tensor_make(block_rig_types[i], 16, 2048, &state);
        size_t panel = pack_describe(&t).panel_bytes;
        cr_assert_leq(panel, t.bytes + t.bytes / 5, "%s: %zu bytes, in the file %zu",
                      quant_info(t.type)->name, panel, (size_t)t.bytes);
    }
}

Test(pack, rows_beyond_the_matrix_are_zero) {
    uint64_t state = 3;
    struct model_tensor t = tensor_make(QUANT_Q8_0, 17, 64, &state);
    struct packed_matrix m = matrix_make(&t);
    m.rows = 32; /* look at the padding of the second panel */
    float got[64];
    for (uint32_t row = 17; row < 32; row++) {
        pack_row_expand(&m, row, got);
        for (int k = 0; k < 64; k++) cr_assert_eq(got[k], 0);
    }
}

Test(pack, float_columns_need_not_fill_a_block) {
    uint64_t state = 4;
    struct model_tensor t = tensor_make(QUANT_F32, 20, 43, &state);
    struct packed_matrix m = matrix_make(&t);
    cr_assert_eq(m.panel_bytes, 64 * 16 * 4);
    float got[43];
    pack_row_expand(&m, 19, got);
    cr_assert_eq(memcmp(got, t.data + 19 * 43 * 4, sizeof got), 0);
}

Test(pack, an_odd_count_of_blocks_is_padded_with_zeros) {
    uint64_t state = 5;
    struct model_tensor t = tensor_make(QUANT_Q4_0, 16, 96, &state);
    struct packed_matrix m = matrix_make(&t);
    cr_assert_eq(m.panel_bytes, 2 * 576);
    const uint8_t *last = m.panels + 576;
    for (int i = 32; i < 64; i++) cr_assert_eq(last[i], 0, "scale of the block that is not there");
}
