#include "cpu/exact_kv.h"

#include <math.h>
#include <string.h>

#include "base/bytes.h"
#include "base/config.h"
#include "base/panic.h"
#include "gguf/quant.h"

enum {
    Q8_VALUES = 32, /* of a block; the last one of a head may be short */
    Q8_BLOCK_BYTES = sizeof(uint16_t) + Q8_VALUES
};

size_t exact_kv_bytes(uint32_t kv_type, uint32_t head_dim) {
    switch (kv_type) {
    case CONFIG_KV_F32:
        return head_dim * sizeof(float);
    case CONFIG_KV_F16:
        return head_dim * sizeof(uint16_t);
    case CONFIG_KV_Q8_0:
        return round_up(head_dim, Q8_VALUES) / Q8_VALUES * Q8_BLOCK_BYTES;
    }
    panic_at(__FILE__, __LINE__, "kv_type");
}

static void q8_write(const double *values, uint32_t n, uint8_t *block) {
    float max = 0.0F;
    for (uint32_t i = 0; i < n; i++) max = fmaxf(max, fabsf((float)values[i]));
    float scale = max / 127.0F;
    float inverse = scale > 0.0F ? 1.0F / scale : 0.0F;
    uint16_t half = quant_f32_to_f16(scale);
    memcpy(block, &half, sizeof half);
    for (uint32_t i = 0; i < Q8_VALUES; i++) {
        float rounded = i < n ? roundf((float)values[i] * inverse) : 0.0F;
        block[sizeof half + i] = (uint8_t)(int8_t)rounded;
    }
}

static void q8_read(const uint8_t *block, uint32_t n, double *values) {
    double scale = (double)quant_f16_to_f32(bytes_u16(block));
    for (uint32_t i = 0; i < n; i++)
        values[i] = scale * (double)(int8_t)block[sizeof(uint16_t) + i];
}

void exact_kv_write(uint32_t kv_type, uint32_t head_dim, const double *values, uint8_t *stored) {
    if (kv_type == CONFIG_KV_Q8_0) {
        for (uint32_t at = 0; at < head_dim; at += Q8_VALUES, stored += Q8_BLOCK_BYTES)
            q8_write(values + at, head_dim - at < Q8_VALUES ? head_dim - at : Q8_VALUES, stored);
        return;
    }
    for (uint32_t i = 0; i < head_dim; i++) {
        float value = (float)values[i];
        uint16_t half = quant_f32_to_f16(value);
        if (kv_type == CONFIG_KV_F32)
            memcpy(stored + i * sizeof value, &value, sizeof value);
        else
            memcpy(stored + i * sizeof half, &half, sizeof half);
    }
}

void exact_kv_read(uint32_t kv_type, uint32_t head_dim, const uint8_t *stored, double *values) {
    if (kv_type == CONFIG_KV_Q8_0) {
        for (uint32_t at = 0; at < head_dim; at += Q8_VALUES, stored += Q8_BLOCK_BYTES)
            q8_read(stored, head_dim - at < Q8_VALUES ? head_dim - at : Q8_VALUES, values + at);
        return;
    }
    for (uint32_t i = 0; i < head_dim; i++) {
        if (kv_type == CONFIG_KV_F32) {
            float value;
            memcpy(&value, stored + i * sizeof value, sizeof value);
            values[i] = (double)value;
        } else {
            values[i] = (double)quant_f16_to_f32(bytes_u16(stored + i * sizeof(uint16_t)));
        }
    }
}
