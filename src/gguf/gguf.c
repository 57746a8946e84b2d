/* The parser: one pass over the header with a reader that never leaves the bytes it was given.
 *
 *   magic "GGUF" | u32 version | u64 tensors | u64 key-values
 *   key-values:  string key | u32 type | value
 *   tensors:     string name | u32 n | u64 dims[n] | u32 type | u64 offset from the data
 *   padding to the alignment | data
 *
 * A string is a u64 length and that many bytes; an array is u32 type | u64 count | values. */
#include "gguf/gguf.h"

#include <string.h>

#include "base/bytes.h"
#include "base/panic.h"
#include "gguf/gguf_parts.h"

enum {
    GGUF_HEAD_BYTES = 4 + 4 + 8 + 8,
    GGUF_KV_BYTES_MIN = 8 + 1 + 4 + 1,             /* key "x", type, one byte */
    GGUF_TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* name "x", one dim, type, offset */
    GGUF_ALIGNMENT_DEFAULT = 32
};

struct reader {
    const uint8_t *bytes;
    uint64_t length;
    uint64_t at;           /* never beyond length */
    const char *list;      /* what is being read, for messages: "key-value" */
    uint64_t index, count; /* which one of how many, from 0 */
    struct fault *fault;
};

static uint64_t remaining(const struct reader *r) {
    wick_assert(r->at <= r->length);
    return r->length - r->at;
}

/* The next `size` bytes, or NULL and a fault that says in what the file ended. */
static const uint8_t *take(struct reader *r, uint64_t size, const char *what) {
    if (size > remaining(r)) {
        gguf_refuse(r->fault, r->at,
                    "the file ends inside %s of %s %llu of %llu (%llu bytes needed, %llu left): it "
                    "is cut short or broken, fetch it again",
                    what, r->list, (unsigned long long)r->index + 1, (unsigned long long)r->count,
                    (unsigned long long)size, (unsigned long long)remaining(r));
        return NULL;
    }
    const uint8_t *taken = r->bytes + r->at;
    r->at += size;
    return taken;
}

static bool take_u32(struct reader *r, const char *what, uint32_t *out) {
    const uint8_t *p = take(r, 4, what);
    if (p != NULL) *out = bytes_u32(p);
    return p != NULL;
}

static bool take_u64(struct reader *r, const char *what, uint64_t *out) {
    const uint8_t *p = take(r, 8, what);
    if (p != NULL) *out = bytes_u64(p);
    return p != NULL;
}

static bool take_string(struct reader *r, const char *what, struct gguf_string *out) {
    uint64_t length;
    if (!take_u64(r, what, &length)) return false;
    out->text = (const char *)take(r, length, what);
    out->length = length;
    return out->text != NULL;
}

/* Magic, byte order, version, counts. */
static bool head_read(struct reader *r, struct gguf *gguf) {
    if (r->length < 4)
        return gguf_refuse(r->fault, 0, "the file has %llu bytes, too few for a GGUF",
                           (unsigned long long)r->length);
    if (memcmp(r->bytes, "GGUF", 4) != 0)
        return gguf_refuse(r->fault, 0, "not a GGUF: this looks like %s",
                           gguf_foreign_name(r->bytes, r->length));
    if (r->length < GGUF_HEAD_BYTES)
        return gguf_refuse(r->fault, 0,
                           "the file has %llu bytes, a GGUF header has %d: it is cut "
                           "short, fetch it again",
                           (unsigned long long)r->length, GGUF_HEAD_BYTES);
    gguf->version = bytes_u32(r->bytes + 4);
    uint64_t n_tensors = bytes_u64(r->bytes + 8), n_kv = bytes_u64(r->bytes + 16);
    if ((gguf->version & 0xFFFF) == 0 && gguf->version != 0)
        return gguf_refuse(r->fault, 4,
                           "a big-endian GGUF; convert it to little endian "
                           "(gguf-convert-endian)");
    if (gguf->version == 1)
        return gguf_refuse(r->fault, 4,
                           "GGUF version 1; versions 2 and 3 are supported, convert "
                           "the original model again");
    if (gguf->version != 2 && gguf->version != 3)
        return gguf_refuse(r->fault, 4, "GGUF version %u; versions 2 and 3 are supported",
                           gguf->version);
    r->at = GGUF_HEAD_BYTES;
    if (n_tensors > GGUF_TENSORS_MAX)
        return gguf_refuse(r->fault, 8, "the header claims %llu tensors; at most %d are supported",
                           (unsigned long long)n_tensors, GGUF_TENSORS_MAX);
    if (n_kv > GGUF_KV_MAX)
        return gguf_refuse(r->fault, 16,
                           "the header claims %llu key-values; at most %d are supported",
                           (unsigned long long)n_kv, GGUF_KV_MAX);
    uint64_t least = n_kv * GGUF_KV_BYTES_MIN + n_tensors * GGUF_TENSOR_BYTES_MIN;
    if (least > remaining(r))
        return gguf_refuse(r->fault, 8,
                           "%llu key-values and %llu tensors do not fit in the %llu bytes of the "
                           "file: it is cut short or broken, fetch it again",
                           (unsigned long long)n_kv, (unsigned long long)n_tensors,
                           (unsigned long long)r->length);
    gguf->n_tensors = (uint32_t)n_tensors;
    gguf->n_kv = (uint32_t)n_kv;
    return true;
}

static bool bools_check(struct reader *r, const struct gguf_kv *kv) {
    for (uint64_t i = 0; i < kv->data_bytes; i++) {
        if (kv->data[i] > 1)
            return gguf_refuse(r->fault, (uint64_t)(kv->data - r->bytes) + i,
                               "a bool of the key '%s' is %u, neither 0 nor 1",
                               gguf_show(kv->key).text, kv->data[i]);
    }
    return true;
}

/* Walks `count` strings once, so that later walks need not look at the end of the file. A
 * vocabulary has 300 thousand of them: what fits is taken here, what does not is left to
 * take_string. */
static bool strings_read(struct reader *r, uint64_t count) {
    const uint8_t *bytes = r->bytes;
    uint64_t at = r->at, length = r->length, n = 0;
    for (; n < count && length - at >= 8; n++) {
        uint64_t string_length = bytes_u64(bytes + at);
        if (string_length > length - at - 8) break;
        at += 8 + string_length;
    }
    r->at = at;
    struct gguf_string cut;
    return n == count || take_string(r, "a string", &cut);
}

/* kv->count values of one type at the reader. */
static bool values_read(struct reader *r, struct gguf_kv *kv, enum gguf_type type) {
    kv->data = r->bytes + r->at;
    uint64_t start = r->at;
    if (type == GGUF_STRING) {
        if (!strings_read(r, kv->count)) return false;
    } else {
        uint64_t size = gguf_type_bytes(type);
        wick_assert(size > 0 && kv->count <= GGUF_ARRAY_MAX); /* so the product is small */
        if (take(r, kv->count * size, "the value") == NULL) return false;
    }
    kv->data_bytes = r->at - start;
    return type == GGUF_BOOL ? bools_check(r, kv) : true;
}

static bool kv_read(struct reader *r, struct gguf_kv *kv) {
    kv->offset = r->at;
    if (!take_string(r, "the key", &kv->key)) return false;
    if (kv->key.length == 0 || kv->key.length > GGUF_KEY_MAX)
        return gguf_refuse(r->fault, kv->offset, "a key has %llu bytes; 1 to %d are allowed",
                           (unsigned long long)kv->key.length, GGUF_KEY_MAX);
    uint32_t type;
    if (!take_u32(r, "the type", &type)) return false;
    if (type >= GGUF_TYPES)
        return gguf_refuse(r->fault, r->at - 4, "the key '%s' has the unknown value type %u",
                           gguf_show(kv->key).text, type);
    kv->type = (enum gguf_type)type;
    kv->element = kv->type;
    kv->count = 1;
    if (kv->type != GGUF_ARRAY) return values_read(r, kv, kv->type);

    uint32_t element;
    if (!take_u32(r, "the element type", &element)) return false;
    if (element >= GGUF_TYPES)
        return gguf_refuse(r->fault, r->at - 4, "the array '%s' has the unknown element type %u",
                           gguf_show(kv->key).text, element);
    if (element == GGUF_ARRAY)
        return gguf_refuse(r->fault, r->at - 4, "the array '%s' holds arrays; no model needs that",
                           gguf_show(kv->key).text);
    kv->element = (enum gguf_type)element;
    if (!take_u64(r, "the element count", &kv->count)) return false;
    if (kv->count > GGUF_ARRAY_MAX)
        return gguf_refuse(r->fault, r->at - 8,
                           "the array '%s' claims %llu elements; at most %d are supported",
                           gguf_show(kv->key).text, (unsigned long long)kv->count, GGUF_ARRAY_MAX);
    return values_read(r, kv, kv->element);
}

/* What the key-values say about the file itself. */
static bool container_check(struct reader *r, struct gguf *gguf) {
    uint32_t alignment = GGUF_ALIGNMENT_DEFAULT, parts = 1;
    if (!gguf_get_u32(gguf, "general.alignment", &alignment, r->fault) ||
        !gguf_get_u32(gguf, "split.count", &parts, r->fault))
        return false;
    if (alignment < GGUF_ALIGNMENT_MIN || alignment > GGUF_ALIGNMENT_MAX ||
        (alignment & (alignment - 1)) != 0)
        return gguf_refuse(r->fault, gguf_find(gguf, "general.alignment")->offset,
                           "general.alignment is %u; it must be a power of two from %d to %d",
                           alignment, GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX);
    if (parts > 1)
        return gguf_refuse(r->fault, gguf_find(gguf, "split.count")->offset,
                           "one part of a GGUF split into %u; merge it first with llama-gguf-split "
                           "--merge",
                           parts);
    gguf->alignment = alignment;
    return true;
}

/* tensor->bytes from dims and type; nothing here may overflow, whatever the dims claim. */
static bool tensor_measure(struct reader *r, struct gguf_tensor *tensor,
                           const struct quant_info *info) {
    uint64_t values = 1;
    bool fits = true;
    for (uint32_t i = 0; i < tensor->n_dims; i++) {
        if (tensor->dims[i] == 0)
            return gguf_refuse(r->fault, tensor->offset, "dimension %u of the tensor '%s' is 0", i,
                               gguf_show(tensor->name).text);
        fits = fits && checked_mul(values, tensor->dims[i], &values);
    }
    if (tensor->dims[0] % info->block_values != 0)
        return gguf_refuse(r->fault, tensor->offset,
                           "the rows of the tensor '%s' have %llu values, no multiple of the %u "
                           "in a block of %s",
                           gguf_show(tensor->name).text, (unsigned long long)tensor->dims[0],
                           info->block_values, info->name);
    fits = fits && checked_mul(values / info->block_values, info->block_bytes, &tensor->bytes);
    if (!fits || tensor->bytes > r->length)
        return gguf_refuse(r->fault, tensor->offset,
                           "the tensor '%s' claims to be larger than the file (%llu bytes): it is "
                           "cut short or broken, fetch it again",
                           gguf_show(tensor->name).text, (unsigned long long)r->length);
    return true;
}

/* One entry of the table. data_offset is left relative to the data until tensors_place. */
static bool tensor_read(struct reader *r, struct gguf_tensor *tensor) {
    tensor->offset = r->at;
    if (!take_string(r, "the name", &tensor->name)) return false;
    if (tensor->name.length == 0 || tensor->name.length > GGUF_NAME_MAX)
        return gguf_refuse(r->fault, tensor->offset,
                           "a tensor name has %llu bytes; 1 to %d are allowed",
                           (unsigned long long)tensor->name.length, GGUF_NAME_MAX);
    if (!take_u32(r, "the number of dimensions", &tensor->n_dims)) return false;
    if (tensor->n_dims < 1 || tensor->n_dims > GGUF_DIMS_MAX)
        return gguf_refuse(r->fault, r->at - 4,
                           "the tensor '%s' has %u dimensions; 1 to %d are "
                           "supported",
                           gguf_show(tensor->name).text, tensor->n_dims, GGUF_DIMS_MAX);
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) {
        tensor->dims[i] = 1;
        if (i < tensor->n_dims && !take_u64(r, "a dimension", &tensor->dims[i])) return false;
    }
    uint32_t type;
    if (!take_u32(r, "the type", &type) || !take_u64(r, "the offset", &tensor->data_offset))
        return false;
    const struct quant_info *info = quant_info(type);
    if (info == NULL)
        return gguf_refuse(r->fault, r->at - 12, "the tensor '%s' has the unknown type %u",
                           gguf_show(tensor->name).text, type);
    if (info->block_bytes == 0)
        return gguf_refuse(r->fault, r->at - 12,
                           "the tensor '%s' has the type %s, which is not supported; quantise the "
                           "model again, for example to Q8_0 or Q4_K_M",
                           gguf_show(tensor->name).text, info->name);
    tensor->type = (enum quant_type)type;
    return tensor_measure(r, tensor, info);
}

/* Makes every data_offset absolute and proves that the data is inside the file. */
static bool tensors_place(struct reader *r, struct gguf *gguf) {
    uint64_t start = round_up(r->at, gguf->alignment); /* at <= length: no overflow */
    if (start > r->length) start = r->length;
    uint64_t room = r->length - start;
    gguf->header_bytes = start;
    for (uint32_t i = 0; i < gguf->n_tensors; i++) {
        struct gguf_tensor *tensor = &gguf->tensor[i];
        if (tensor->data_offset % gguf->alignment != 0)
            return gguf_refuse(r->fault, tensor->offset,
                               "the data of the tensor '%s' is at 0x%llx, no multiple of the "
                               "alignment %llu",
                               gguf_show(tensor->name).text,
                               (unsigned long long)tensor->data_offset,
                               (unsigned long long)gguf->alignment);
        if (tensor->data_offset > room || tensor->bytes > room - tensor->data_offset)
            return gguf_refuse(r->fault, tensor->offset,
                               "the tensor '%s' (%llu bytes at 0x%llx of the data) ends past the "
                               "end of the file (%llu bytes): it is cut short, fetch it again",
                               gguf_show(tensor->name).text, (unsigned long long)tensor->bytes,
                               (unsigned long long)tensor->data_offset,
                               (unsigned long long)r->length);
        tensor->data_offset += start;
        tensor->data = r->bytes + tensor->data_offset;
    }
    return true;
}

bool gguf_parse(struct gguf *gguf, const uint8_t *bytes, uint64_t length, struct fault *fault) {
    wick_assert(bytes != NULL || length == 0);
    struct reader r = {.bytes = bytes, .length = length, .fault = fault};
    gguf->n_kv = gguf->n_tensors = 0;
    gguf->file_bytes = length;
    if (!head_read(&r, gguf)) return false;
    r.list = "key-value";
    r.count = gguf->n_kv;
    for (r.index = 0; r.index < r.count; r.index++)
        if (!kv_read(&r, &gguf->kv[r.index])) return false;
    if (!gguf_order_keys(gguf, fault) || !container_check(&r, gguf)) return false;
    r.list = "tensor";
    r.count = gguf->n_tensors;
    for (r.index = 0; r.index < r.count; r.index++)
        if (!tensor_read(&r, &gguf->tensor[r.index])) return false;
    return tensors_place(&r, gguf) && gguf_order_tensors(gguf, fault);
}
