#include "cuda/repack.h"

#include <math.h>
#include <string.h>

#include "base/panic.h"

uint32_t repack_kind_of(enum quant_type type) {
    static const uint8_t kinds[PACK_KINDS] = {[PACK_F32] = GPU_F32,
                                              [PACK_F16] = GPU_F16,
                                              [PACK_BF16] = GPU_BF16,
                                              [PACK_Q8] = GPU_Q8,
                                              [PACK_Q5] = GPU_Q8,
                                              [PACK_Q5_MIN] = GPU_Q8_MIN,
                                              [PACK_Q4] = GPU_Q4,
                                              [PACK_Q4_MIN] = GPU_Q4_MIN,
                                              [PACK_IQ4] = GPU_Q8,
                                              [PACK_IS4_32] = GPU_S8_32,
                                              [PACK_S6_16] = GPU_S8_16,
                                              [PACK_S5_32_MIN] = GPU_S8_32_MIN,
                                              [PACK_S4_32_MIN] = GPU_S4_32_MIN,
                                              [PACK_S3_16] = GPU_S4_16,
                                              [PACK_S2_16_MIN] = GPU_S4_16_MIN};
    return kinds[pack_kind_of(type)];
}

const char *repack_kind_name(uint32_t kind) {
    static const char names[GPU_KINDS][12] = {
        "f32",   "f16",       "bf16",      "q8",    "q8_min", "q4",       "q4_min",
        "s8_32", "s8_32_min", "s4_32_min", "s8_16", "s4_16",  "s4_16_min"};
    wick_assert(kind < GPU_KINDS);
    return names[kind];
}

/* Words of four columns: line by line, what lane 4 g + t loads. `from`: a block of 32 columns, in
 * which the CPU has word (column group c, row r) at 64 c + 4 r. */
static void repack_block_8(const uint8_t *from, uint8_t *line) {
    for (uint32_t g = 0; g < 8; g++)
        for (uint32_t t = 0; t < 4; t++) {
            uint8_t *lane = line + 16 * (4 * g + t);
            memcpy(lane, from + 64 * t + 4 * g, 4);
            memcpy(lane + 4, from + 64 * t + 4 * (g + 8), 4);
            memcpy(lane + 8, from + 64 * (t + 4) + 4 * g, 4);
            memcpy(lane + 12, from + 64 * (t + 4) + 4 * (g + 8), 4);
        }
}

/* half: 0 or 1, which 8 bytes of a lane. */
static void repack_block_4(const uint8_t *from, uint32_t half, uint8_t *line) {
    for (uint32_t g = 0; g < 8; g++)
        for (uint32_t t = 0; t < 4; t++) {
            uint8_t *lane = line + 16 * (4 * g + t) + 8 * half;
            memcpy(lane, from + 64 * t + 4 * g, 4);
            memcpy(lane + 4, from + 64 * t + 4 * (g + 8), 4);
        }
}

/* 16 columns of 16 rows of two bytes. */
static void repack_line_16(enum pack_kind kind, const uint8_t *from, uint8_t *line) {
    for (uint32_t k = 0; k < 16; k++)
        for (uint32_t r = 0; r < PACK_ROWS; r++)
            memcpy(line + 16 * (4 * (r % 8) + k / 2 % 4) + 8 * (k / 8) + 4 * (r / 8) + 2 * (k % 2),
                   from + 2 * pack_float_element(kind, k, r), 2);
}

static void repack_float(enum pack_kind kind, const struct gpu_kind_info *info, uint32_t cols,
                         const uint8_t *from, uint8_t *out) {
    uint32_t value_bytes = info->bits / 8u, line_columns = info->unit_columns / 4u;
    uint32_t line_bytes = line_columns * PACK_ROWS * value_bytes;
    uint32_t packed = (cols + PACK_BLOCK - 1) / PACK_BLOCK * PACK_BLOCK; /* that the CPU has */
    for (uint32_t k = 0; k < packed; k += line_columns, from += line_bytes, out += line_bytes) {
        if (info->bits == 32)
            memcpy(out, from, line_bytes);
        else
            repack_line_16(kind, from, out);
    }
}

/* Scales of rows g and g + 8, two bytes each, side by side. */
static void repack_pair_16(const uint8_t *from, uint32_t g, uint8_t *to) {
    memcpy(to, from + 2 * g, 2);
    memcpy(to + 2, from + 2 * (g + 8), 2);
}

/* Where block `block` of a row of panels of the CPU lies. */
struct repack_source {
    const uint8_t *unit;   /* of the CPU */
    const uint8_t *values; /* of the block */
    uint32_t at;           /* of the block in its unit */
};
static struct repack_source repack_source_of(const struct pack_format *format, const uint8_t *panel,
                                             uint32_t block) {
    uint32_t blocks = format->unit_columns / PACK_BLOCK, bytes = pack_block_bytes(format);
    struct repack_source s = {.unit = panel + (size_t)(block / blocks) * format->unit_bytes,
                              .at = block % blocks};
    s.values = s.unit + format->values_offset + s.at * bytes;
    return s;
}

/* d (and m) of block `b` of a flat unit of the device. */
static void repack_flat_head(const struct gpu_kind_info *info, const struct repack_source *from,
                             uint32_t b, uint8_t *head) {
    for (uint32_t g = 0; g < 8; g++) {
        uint8_t *to = head + 128 * (b / 4) + 16 * g + 4 * (b % 4);
        repack_pair_16(from->unit + 32 * from->at, g, to);
        if (info->has_min)
            repack_pair_16(from->unit + 64 + 32 * from->at, g, to + info->unit_columns);
    }
}

/* Everything about block `b` in the head of a super unit; d and m are written once a block. */
static void repack_super_head(const struct gpu_kind_info *info, const struct repack_source *from,
                              uint32_t b, uint8_t *head) {
    uint32_t subs = 32u / info->sub, unit_subs = info->unit_columns / info->sub;
    uint32_t cpu_subs = 256u / info->sub;
    for (uint32_t g = 0; g < 8; g++) {
        repack_pair_16(from->unit, g, head + 8 * g);
        repack_pair_16(from->unit + 32, g, head + 8 * g + 4);
        for (uint32_t i = 0; i < subs; i++) {
            uint32_t s = subs * b + i, cpu = subs * from->at + i;
            uint8_t *to =
                head + 64 + (unit_subs <= 4 ? 8 * g + 2 * s : 128 * (s / 8) + 16 * g + 2 * (s % 8));
            const uint8_t *scale = from->unit + 64 + PACK_ROWS * cpu, *min = scale;
            min += PACK_ROWS * cpu_subs;
            to[0] = scale[g], to[1] = scale[g + 8];
            if (!info->has_min) continue;
            to[16 * unit_subs] = min[g], to[16 * unit_subs + 1] = min[g + 8];
        }
    }
}

/* A block of values with as many bits as the device has for them, in `room`. */
static const uint8_t *repack_widen(const struct pack_format *format, uint32_t bits,
                                   const uint8_t *values, int8_t room[16 * PACK_BLOCK]) {
    uint8_t *nibbles = (uint8_t *)room;
    pack_block_widen(format, values, room);
    for (uint32_t i = 0; bits == 4 && i < 8 * PACK_BLOCK; i++)
        nibbles[i] =
            (uint8_t)((room[i] + format->zero) | (room[i + 8 * PACK_BLOCK] + format->zero) << 4);
    return nibbles;
}

static void repack_quantised(const struct pack_format *format, const struct gpu_kind_info *info,
                             uint32_t cols, const uint8_t *panel, uint8_t *out) {
    uint32_t unit_blocks = info->unit_columns / PACK_BLOCK;
    for (uint32_t block = 0; block < cols / PACK_BLOCK; block++) {
        uint8_t *unit = out + (size_t)(block / unit_blocks) * info->unit_bytes;
        uint32_t b = block % unit_blocks;
        struct repack_source from = repack_source_of(format, panel, block);
        int8_t room[16 * PACK_BLOCK];
        if (format->bits != info->bits)
            from.values = repack_widen(format, info->bits, from.values, room);
        if (info->bits == 8)
            repack_block_8(from.values, unit + GPU_LINE_BYTES * b);
        else
            repack_block_4(from.values, b % 2, unit + GPU_LINE_BYTES * (b / 2));
        if (info->super)
            repack_super_head(info, &from, b, unit + GPU_VALUES_BYTES);
        else
            repack_flat_head(info, &from, b, unit + GPU_VALUES_BYTES);
    }
}

/* A CPU panel (pack_panel) -> a panel of the device, gpu_panel_bytes() long. */
static void repack_panel(const struct packed_matrix *from, const uint8_t *cpu_panel, uint8_t *out) {
    const uint32_t kind = repack_kind_of(from->tensor->type);
    const struct gpu_kind_info info = gpu_kind_info(kind);
    memset(out, 0, gpu_panel_bytes(kind, from->cols));
    if (info.sub == 0)
        repack_float(from->kind, &info, from->cols, cpu_panel, out);
    else
        repack_quantised(pack_format(from->kind), &info, from->cols, cpu_panel, out);
}

static size_t repack_row_bytes(const struct model_tensor *tensor) {
    const struct quant_info *info = quant_info(tensor->type);
    return (size_t)tensor->cols / info->block_values * info->block_bytes;
}

size_t repack_scratch_bytes(const struct model_tensor *tensor) {
    return PACK_ROWS * repack_row_bytes(tensor) + pack_describe(tensor).panel_bytes;
}

void repack_rows(const struct model_tensor *tensor, const uint8_t *const row[PACK_ROWS],
                 uint8_t *scratch, uint8_t *out) {
    size_t row_bytes = repack_row_bytes(tensor);
    uint8_t *cpu_panel = scratch, *rows = scratch + pack_describe(tensor).panel_bytes;
    struct model_tensor sixteen = {.data = row[0], .type = tensor->type, .cols = tensor->cols};
    bool scattered = false;
    for (uint32_t r = 0; r < PACK_ROWS && row[r] != NULL; r++, sixteen.rows++)
        if (row[r] != row[0] + r * row_bytes) scattered = true;
    wick_assert(sixteen.rows > 0);
    if (scattered) {
        for (uint32_t r = 0; r < sixteen.rows; r++) memcpy(rows + r * row_bytes, row[r], row_bytes);
        sixteen.data = rows;
    }
    struct packed_matrix matrix = pack_describe(&sixteen);
    pack_panel(&matrix, 0, cpu_panel);
    repack_panel(&matrix, cpu_panel, out);
}

uint32_t repack_turned_row(uint32_t row, uint32_t head_dim, uint32_t rope_dim) {
    uint32_t head = row - row % head_dim, d = row % head_dim;
    return d < rope_dim ? head + d / 2 + d % 2 * (rope_dim / 2) : row;
}

static void repack_angle(double angle, double *out) {
    out[0] = cos(angle);
    out[1] = sin(angle);
}

void repack_angles(const double *frequency, uint32_t pairs, uint32_t ctx, double *low,
                   double *high) {
    for (uint32_t i = 0; i < pairs; i++) {
        for (uint32_t p = 0; p < GPU_ROPE_LOW; p++)
            repack_angle(p * frequency[i], low + 2 * ((size_t)p * pairs + i));
        for (uint32_t p = 0; p < repack_angles_high(ctx); p++)
            repack_angle((double)p * GPU_ROPE_LOW * frequency[i],
                         high + 2 * ((size_t)p * pairs + i));
    }
}
