/* gguf: the bytes of a file -> key-values and a tensor table.
 *
 * Pure: works on (bytes, length), opens nothing, allocates nothing, keeps pointers into the bytes.
 * Every string here is (pointer, length) into the file and is NOT terminated.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little
 * endian. */
#ifndef WICK_GGUF_GGUF_H
#define WICK_GGUF_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "gguf/quant.h"

/* Caps that hold before any loop runs. The largest Llama files have about 40 key-values and 1200
 * tensors. */
enum {
    GGUF_KV_MAX = 1024,
    GGUF_TENSORS_MAX = 8192,
    GGUF_DIMS_MAX = 4,
    GGUF_KEY_MAX = (1 << 16) - 1, /* bytes of a key, as the format says */
    GGUF_NAME_MAX = 64,           /* bytes of a tensor name, as in ggml */
    GGUF_ALIGNMENT_MIN = 8,       /* bytes; the format asks for a multiple of 8 */
    GGUF_ALIGNMENT_MAX = 1 << 20, /* bytes */
    GGUF_ARRAY_MAX = 1 << 24,     /* elements */
    GGUF_SHOWN_MAX = 64           /* bytes of a name that an error message repeats */
};

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};

struct gguf_string {
    const char *text; /* not terminated; NULL means absent */
    size_t length;
};

struct gguf_kv {
    struct gguf_string key;
    enum gguf_type type;
    enum gguf_type element; /* of an array */
    uint64_t count;         /* elements of an array, else 1 */
    const uint8_t *data; /* first value; a string's data is its u64 length; all inside the file */
    uint64_t data_bytes;
    uint64_t offset; /* of the key in the file, for error messages */
};

struct gguf_tensor {
    struct gguf_string name;
    uint32_t n_dims;
    uint64_t dims[GGUF_DIMS_MAX]; /* innermost first; 1 beyond n_dims */
    enum quant_type type;         /* one that we can run */
    const uint8_t *data;          /* at data_offset; `bytes` bytes of it are inside the file */
    uint64_t bytes;
    uint64_t data_offset; /* absolute, in the file */
    uint64_t offset;      /* of this tensor's entry in the header, for error messages */
};

/* About 1 MB: make it static or take it from a scratch mapping, never the stack. */
struct gguf {
    uint32_t version;
    uint64_t alignment;
    uint64_t header_bytes; /* where tensor data starts; the file's length when it has no tensors */
    uint64_t file_bytes;
    uint32_t n_kv;
    uint32_t n_tensors;
    struct gguf_kv kv[GGUF_KV_MAX];
    struct gguf_tensor tensor[GGUF_TENSORS_MAX];
    uint32_t kv_order[GGUF_KV_MAX];       /* key-values by key */
    uint32_t order[GGUF_TENSORS_MAX];     /* tensors by name */
    uint32_t by_offset[GGUF_TENSORS_MAX]; /* tensors by their place in the file */
};

/* Parses and checks everything the format itself promises: magic, version, byte order, caps, every
 * length against the bytes that remain, types, no duplicate key or tensor name, block divisibility,
 * alignment, offset + size inside `length`, no overlap of tensors. A split file, a big-endian file,
 * GGUF version 1, a tensor of a type we cannot run and a file that is no GGUF at all are named as
 * such. On failure the fault is MODEL_LOAD_FAILED and its text reads "offset 0x1a4: reason". Takes
 * O(length + n log n) on any input. A file without tensors (a vocabulary) is fine. */
bool gguf_parse(struct gguf *gguf, const uint8_t *bytes, uint64_t length, struct fault *fault);

/* NULL if there is none. `key` is a terminated string. */
const struct gguf_kv *gguf_find(const struct gguf *gguf, const char *key);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name);

/* Typed reads. An absent key leaves *out as it is and returns true; a key of a wrong type, or a
 * value that does not fit, is a fault that names key and offset. Any integer type of the file is
 * accepted for u32. */
bool gguf_get_u32(const struct gguf *gguf, const char *key, uint32_t *out, struct fault *fault);
bool gguf_get_f32(const struct gguf *gguf, const char *key, float *out, struct fault *fault);
bool gguf_get_bool(const struct gguf *gguf, const char *key, bool *out, struct fault *fault);
bool gguf_get_string(const struct gguf *gguf, const char *key, struct gguf_string *out,
                     struct fault *fault);
/* The array of that key; its element type must be `element`. Absent: *out = NULL and true. */
bool gguf_get_array(const struct gguf *gguf, const char *key, enum gguf_type element,
                    const struct gguf_kv **out, struct fault *fault);

/* Walks an array of strings: start with *cursor = 0; false at the end. */
bool gguf_next_string(const struct gguf_kv *array, uint64_t *cursor, struct gguf_string *out);

const char *gguf_type_name(enum gguf_type type); /* "u32"; of an unknown type "?" */
bool gguf_string_is(struct gguf_string string, const char *text);

/* A name from a file as a message may repeat it: '?' for what is not printable ASCII, "..." at the
 * end of what was cut. Used as gguf_show(name).text inside one call. */
struct gguf_shown {
    char text[GGUF_SHOWN_MAX + 4];
};
struct gguf_shown gguf_show(struct gguf_string string);

#endif
