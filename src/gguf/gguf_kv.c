/* Looking things up in a parsed GGUF, and reading key-values as the type that the caller needs. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "gguf/gguf_parts.h"

struct type_fact {
    const char *name;
    uint8_t bytes; /* 0: the length varies */
};

static const struct type_fact type_facts[GGUF_TYPES] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(enum gguf_type type) {
    return (unsigned)type < GGUF_TYPES ? type_facts[type].name : "?";
}

uint64_t gguf_type_bytes(enum gguf_type type) {
    return (unsigned)type < GGUF_TYPES ? type_facts[type].bytes : 0;
}

bool gguf_string_is(struct gguf_string string, const char *text) {
    size_t length = strlen(text);
    return string.text != NULL && string.length == length && memcmp(string.text, text, length) == 0;
}

struct gguf_shown gguf_show(struct gguf_string string) {
    struct gguf_shown shown;
    size_t n = string.length < GGUF_SHOWN_MAX ? string.length : GGUF_SHOWN_MAX;
    for (size_t i = 0; i < n; i++) {
        char c = string.text[i];
        shown.text[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    memcpy(shown.text + n, "...", 4);
    if (n == string.length) shown.text[n] = '\0';
    return shown;
}

bool gguf_refuse(struct fault *fault, uint64_t offset, const char *format, ...) {
    char reason[FAULT_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    wick_assert(length > 0);
    return fault_set(fault, FAULT_MODEL_LOAD_FAILED, "offset 0x%llx: %s",
                     (unsigned long long)offset, reason);
}

const struct gguf_kv *gguf_find(const struct gguf *gguf, const char *key) {
    struct gguf_string wanted = {key, strlen(key)};
    uint32_t low = 0, high = gguf->n_kv; /* the key is in kv_order[low, high) */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct gguf_kv *kv = &gguf->kv[gguf->kv_order[middle]];
        int sign = gguf_string_compare(wanted, kv->key);
        if (sign == 0) return kv;
        if (sign < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name) {
    struct gguf_string wanted = {name, strlen(name)};
    uint32_t low = 0, high = gguf->n_tensors;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct gguf_tensor *tensor = &gguf->tensor[gguf->order[middle]];
        int sign = gguf_string_compare(wanted, tensor->name);
        if (sign == 0) return tensor;
        if (sign < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static bool wrong_type(const struct gguf_kv *kv, const char *wanted, struct fault *fault) {
    bool array = kv->type == GGUF_ARRAY;
    return gguf_refuse(fault, kv->offset, "the key '%s' is %s%s; it must be %s",
                       gguf_show(kv->key).text, array ? "an array of " : "of type ",
                       gguf_type_name(array ? kv->element : kv->type), wanted);
}

/* The value of an integer key. Negative values and other types: false. */
static bool unsigned_value(const struct gguf_kv *kv, uint64_t *out) {
    int64_t value = 0;
    switch (kv->type) {
    case GGUF_U8:
        *out = kv->data[0];
        return true;
    case GGUF_U16:
        *out = bytes_u16(kv->data);
        return true;
    case GGUF_U32:
        *out = bytes_u32(kv->data);
        return true;
    case GGUF_U64:
        *out = bytes_u64(kv->data);
        return true;
    case GGUF_I8:
        value = kv->data[0] - (kv->data[0] > 127 ? 256 : 0);
        break;
    case GGUF_I16:
        value = (int16_t)bytes_u16(kv->data);
        break;
    case GGUF_I32:
        value = (int32_t)bytes_u32(kv->data);
        break;
    case GGUF_I64:
        value = (int64_t)bytes_u64(kv->data);
        break;
    default:
        return false;
    }
    *out = (uint64_t)value;
    return value >= 0;
}

bool gguf_get_u32(const struct gguf *gguf, const char *key, uint32_t *out, struct fault *fault) {
    const struct gguf_kv *kv = gguf_find(gguf, key);
    if (kv == NULL) return true;
    bool integer = kv->type <= GGUF_I32 || kv->type == GGUF_U64 || kv->type == GGUF_I64;
    if (!integer) return wrong_type(kv, "an integer", fault);
    uint64_t value;
    if (!unsigned_value(kv, &value) || value > UINT32_MAX)
        return gguf_refuse(fault, kv->offset, "the key '%s' must be 0 to 4294967295",
                           gguf_show(kv->key).text);
    *out = (uint32_t)value;
    return true;
}

bool gguf_get_f32(const struct gguf *gguf, const char *key, float *out, struct fault *fault) {
    const struct gguf_kv *kv = gguf_find(gguf, key);
    if (kv == NULL) return true;
    if (kv->type == GGUF_F32) {
        memcpy(out, kv->data, sizeof *out);
    } else if (kv->type == GGUF_F64) {
        double value;
        memcpy(&value, kv->data, sizeof value);
        *out = (float)value;
    } else {
        return wrong_type(kv, "f32 or f64", fault);
    }
    return true;
}

bool gguf_get_bool(const struct gguf *gguf, const char *key, bool *out, struct fault *fault) {
    const struct gguf_kv *kv = gguf_find(gguf, key);
    if (kv == NULL) return true;
    if (kv->type != GGUF_BOOL) return wrong_type(kv, "bool", fault);
    wick_assert(kv->data[0] <= 1); /* gguf_parse checked */
    *out = kv->data[0] == 1;
    return true;
}

bool gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *out,
                     struct fault *fault) {
    const struct gguf_kv *kv = gguf_find(gguf, key);
    if (kv == NULL) return true;
    if (kv->type != GGUF_STRING) return wrong_type(kv, "a string", fault);
    *out = (struct gguf_string){(const char *)kv->data + 8, kv->data_bytes - 8};
    return true;
}

bool gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_type element,
                    const struct gguf_kv **out, struct fault *fault) {
    *out = NULL;
    const struct gguf_kv *kv = gguf_find(gguf, key);
    if (kv == NULL) return true;
    if (kv->type != GGUF_ARRAY || kv->element != element) {
        char wanted[32];
        snprintf(wanted, sizeof wanted, "an array of %s", gguf_type_name(element));
        return wrong_type(kv, wanted, fault);
    }
    *out = kv;
    return true;
}

bool gguf_next_string(const struct gguf_kv *array, uint64_t *cursor, struct gguf_string *out) {
    wick_assert(array->type == GGUF_ARRAY && array->element == GGUF_STRING);
    if (*cursor == array->data_bytes) return false;
    /* gguf_parse walked these lengths once and found them inside the file. */
    wick_assert(*cursor < array->data_bytes && array->data_bytes - *cursor >= 8);
    const uint8_t *string = array->data + *cursor;
    uint64_t length = bytes_u64(string);
    wick_assert(length <= array->data_bytes - *cursor - 8);
    *out = (struct gguf_string){(const char *)string + 8, length};
    *cursor += 8 + length;
    return true;
}
