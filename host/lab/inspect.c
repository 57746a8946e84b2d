#include "lab/inspect.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "lab/gguf_file.h"
#include "token/utf8.h"

enum {
    INSPECT_ELEMENTS = 4,      /* of an array, in the table */
    INSPECT_TEXT_CHARS = 60,   /* of a string, in the table */
    INSPECT_ELEMENT_CHARS = 20 /* of a string in an array, in the table */
};

/* Control characters and broken UTF-8 would confuse a terminal and are no JSON. */
static void text_print(struct gguf_string string, size_t max_chars, bool json) {
    putchar('"');
    size_t chars = 0;
    for (size_t at = 0; at < string.length; chars++) {
        if (chars == max_chars) {
            printf("\"...");
            return;
        }
        uint32_t code;
        size_t n = utf8_decode(string.text + at, string.length - at, &code);
        if (code == UTF8_BAD && json)
            printf("\\ufffd");
        else if (code == UTF8_BAD)
            printf("\\x%02x", (uint8_t)string.text[at]);
        else if (code == '"' || code == '\\')
            printf("\\%c", (int)code);
        else if (code == '\n')
            printf("\\n");
        else if (code < ' ' || (code >= 0x7F && code < 0xA0))
            printf("\\u%04x", code);
        else
            fwrite(string.text + at, 1, n, stdout);
        at += n;
    }
    putchar('"');
}

/* A finite number; JSON has no others. */
static void real_print(double value, bool json) {
    if (isfinite(value) || !json)
        printf("%.9g", value);
    else
        printf("null");
}

/* One value that is no string. */
static void scalar_print(enum gguf_type type, const uint8_t *p, bool json) {
    float f32;
    double f64;
    switch (type) {
    case GGUF_U8:
        printf("%u", p[0]);
        break;
    case GGUF_I8:
        printf("%d", (int8_t)p[0]);
        break;
    case GGUF_U16:
        printf("%u", bytes_u16(p));
        break;
    case GGUF_I16:
        printf("%d", (int16_t)bytes_u16(p));
        break;
    case GGUF_U32:
        printf("%u", bytes_u32(p));
        break;
    case GGUF_I32:
        printf("%d", (int32_t)bytes_u32(p));
        break;
    case GGUF_U64:
        printf("%llu", (unsigned long long)bytes_u64(p));
        break;
    case GGUF_I64:
        printf("%lld", (long long)bytes_u64(p));
        break;
    case GGUF_BOOL:
        printf(p[0] ? "true" : "false");
        break;
    case GGUF_F32:
        memcpy(&f32, p, sizeof f32);
        real_print((double)f32, json);
        break;
    case GGUF_F64:
        memcpy(&f64, p, sizeof f64);
        real_print(f64, json);
        break;
    default:
        break;
    }
}

/* The first `most` elements, separated by ", ". */
static void elements_print(const struct gguf_kv *kv, uint64_t most, size_t max_chars, bool json) {
    uint64_t n = kv->count < most ? kv->count : most;
    uint64_t cursor = 0, size = n > 0 ? kv->data_bytes / kv->count : 0; /* of all but strings */
    for (uint64_t i = 0; i < n; i++) {
        if (i > 0) printf(", ");
        struct gguf_string string;
        if (kv->element != GGUF_STRING)
            scalar_print(kv->element, kv->data + i * size, json);
        else if (gguf_next_string(kv, &cursor, &string))
            text_print(string, max_chars, json);
    }
}

static struct gguf_string kv_string(const struct gguf_kv *kv) {
    return (struct gguf_string){(const char *)kv->data + 8, kv->data_bytes - 8};
}

/* Sums over the tensors, in all and of each type. */
struct totals {
    uint64_t tensors[QUANT_TYPES], values[QUANT_TYPES], bytes[QUANT_TYPES];
    uint64_t all_values, all_bytes;
};

static uint64_t tensor_values(const struct gguf_tensor *tensor) {
    const struct quant_info *info = quant_info((uint32_t)tensor->type);
    return tensor->bytes / info->block_bytes * info->block_values;
}

static void totals_count(struct totals *totals, const struct gguf *gguf) {
    *totals = (struct totals){0};
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const struct gguf_tensor *tensor = &gguf->tensor[i];
        uint64_t values = tensor_values(tensor);
        totals->tensors[tensor->type]++;
        totals->values[tensor->type] += values;
        totals->bytes[tensor->type] += tensor->bytes;
        totals->all_values += values;
        totals->all_bytes += tensor->bytes;
    }
}

static double bits_per_value(uint64_t bytes, uint64_t values) {
    return values == 0 ? 0 : 8 * (double)bytes / (double)values;
}

static void table_kvs_print(const struct gguf *gguf) {
    int width = 0;
    for (uint32_t i = 0; i < gguf->n_kv; i++) {
        int length = (int)strlen(gguf_show(gguf->kv[i].key).text);
        width = length > width ? length : width;
    }
    for (uint32_t i = 0; i < gguf->n_kv; i++) {
        const struct gguf_kv *kv = &gguf->kv[i];
        char type[32];
        if (kv->type == GGUF_ARRAY)
            snprintf(type, sizeof type, "%s[%llu]", gguf_type_name(kv->element),
                     (unsigned long long)kv->count);
        else
            snprintf(type, sizeof type, "%s", gguf_type_name(kv->type));
        printf("%-*s  %-15s ", width, gguf_show(kv->key).text, type);
        if (kv->type == GGUF_STRING) {
            text_print(kv_string(kv), INSPECT_TEXT_CHARS, false);
        } else if (kv->type == GGUF_ARRAY) {
            elements_print(kv, INSPECT_ELEMENTS, INSPECT_ELEMENT_CHARS, false);
            if (kv->count > INSPECT_ELEMENTS) printf(", ...");
        } else {
            scalar_print(kv->type, kv->data, false);
        }
        putchar('\n');
    }
}

static void shape_format(const struct gguf_tensor *tensor, char *out, size_t room) {
    size_t length = 0;
    for (uint32_t d = 0; d < tensor->n_dims && length < room; d++)
        length += (size_t)snprintf(out + length, room - length, "%s%llu", d > 0 ? " x " : "",
                                   (unsigned long long)tensor->dims[d]);
}

static void table_tensors_print(const struct gguf *gguf) {
    printf("%-32s %-8s %-22s %15s %15s\n", "tensor", "type", "shape", "bytes", "offset");
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const struct gguf_tensor *tensor = &gguf->tensor[i];
        char shape[96] = "";
        shape_format(tensor, shape, sizeof shape);
        printf("%-32s %-8s %-22s %15llu %#15llx\n", gguf_show(tensor->name).text,
               quant_info((uint32_t)tensor->type)->name, shape, (unsigned long long)tensor->bytes,
               (unsigned long long)tensor->data_offset);
    }
}

static void table_totals_print(const struct totals *totals) {
    printf("%-8s %8s %15s %15s %8s\n", "type", "tensors", "weights", "bytes", "bits");
    uint64_t tensors = 0;
    for (uint32_t type = 0; type < QUANT_TYPES; type++) {
        if (totals->tensors[type] == 0) continue;
        tensors += totals->tensors[type];
        printf("%-8s %8llu %15llu %15llu %8.2f\n", quant_info(type)->name,
               (unsigned long long)totals->tensors[type], (unsigned long long)totals->values[type],
               (unsigned long long)totals->bytes[type],
               bits_per_value(totals->bytes[type], totals->values[type]));
    }
    printf("%-8s %8llu %15llu %15llu %8.2f\n", "all", (unsigned long long)tensors,
           (unsigned long long)totals->all_values, (unsigned long long)totals->all_bytes,
           bits_per_value(totals->all_bytes, totals->all_values));
}

static void table_print(const struct gguf_file *file, const struct totals *totals) {
    const struct gguf *gguf = file->gguf;
    printf("%s: GGUF version %u, %llu bytes, alignment %llu, data from %#llx\n", file->path,
           gguf->version, (unsigned long long)file->length, (unsigned long long)gguf->alignment,
           (unsigned long long)gguf->header_bytes);
    printf("\n%u key-values\n", gguf->n_kv);
    table_kvs_print(gguf);
    if (gguf->n_tensors == 0) {
        printf("\nno tensors: a vocabulary\n");
        return;
    }
    printf("\n%u tensors\n", gguf->n_tensors);
    table_tensors_print(gguf);
    putchar('\n');
    table_totals_print(totals);
}

static void json_kvs_print(const struct gguf *gguf) {
    for (uint32_t i = 0; i < gguf->n_kv; i++) {
        const struct gguf_kv *kv = &gguf->kv[i];
        printf("%s\n    ", i > 0 ? "," : "");
        text_print(kv->key, SIZE_MAX, true);
        printf(": ");
        if (kv->type == GGUF_STRING) {
            text_print(kv_string(kv), SIZE_MAX, true);
        } else if (kv->type == GGUF_ARRAY) {
            putchar('[');
            elements_print(kv, UINT64_MAX, SIZE_MAX, true);
            putchar(']');
        } else {
            scalar_print(kv->type, kv->data, true);
        }
    }
}

static void json_tensors_print(const struct gguf *gguf) {
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        const struct gguf_tensor *tensor = &gguf->tensor[i];
        printf("%s\n    {\"name\": ", i > 0 ? "," : "");
        text_print(tensor->name, SIZE_MAX, true);
        printf(", \"type\": \"%s\", \"shape\": [", quant_info((uint32_t)tensor->type)->name);
        for (uint32_t d = 0; d < tensor->n_dims; d++)
            printf("%s%llu", d > 0 ? ", " : "", (unsigned long long)tensor->dims[d]);
        printf("], \"bytes\": %llu, \"offset\": %llu}", (unsigned long long)tensor->bytes,
               (unsigned long long)tensor->data_offset);
    }
}

static void json_print(const struct gguf_file *file, const struct totals *totals) {
    const struct gguf *gguf = file->gguf;
    printf("{\n  \"file\": ");
    text_print((struct gguf_string){file->path, strlen(file->path)}, SIZE_MAX, true);
    printf(",\n  \"bytes\": %llu,\n  \"version\": %u,\n  \"alignment\": %llu,\n"
           "  \"data_offset\": %llu,\n  \"key_values\": {",
           (unsigned long long)file->length, gguf->version, (unsigned long long)gguf->alignment,
           (unsigned long long)gguf->header_bytes);
    json_kvs_print(gguf);
    printf("\n  },\n  \"tensors\": [");
    json_tensors_print(gguf);
    printf("\n  ],\n  \"types\": {");
    const char *separator = "";
    for (uint32_t type = 0; type < QUANT_TYPES; type++) {
        if (totals->tensors[type] == 0) continue;
        printf("%s\n    \"%s\": {\"tensors\": %llu, \"weights\": %llu, \"bytes\": %llu}", separator,
               quant_info(type)->name, (unsigned long long)totals->tensors[type],
               (unsigned long long)totals->values[type], (unsigned long long)totals->bytes[type]);
        separator = ",";
    }
    printf("\n  },\n  \"weights\": %llu,\n  \"weight_bytes\": %llu,\n"
           "  \"bits_per_weight\": %.4f\n}\n",
           (unsigned long long)totals->all_values, (unsigned long long)totals->all_bytes,
           bits_per_value(totals->all_bytes, totals->all_values));
}

int inspect_run(const struct config *config) {
    struct gguf_file file;
    struct fault fault;
    if (config->model == NULL) {
        fprintf(stderr, "wick-lab inspect: model= is missing: the GGUF file to show\n");
        return 1;
    }
    if (!gguf_file_open(&file, config->model, &fault)) {
        fprintf(stderr, "wick-lab inspect: %s\n", fault.text);
        return 1;
    }
    struct totals totals;
    totals_count(&totals, file.gguf);
    if (config->json)
        json_print(&file, &totals);
    else
        table_print(&file, &totals);
    gguf_file_close(&file);
    if (fflush(stdout) != 0) { /* a full disk, a closed pipe */
        perror("wick-lab inspect: stdout");
        return 1;
    }
    return 0;
}
