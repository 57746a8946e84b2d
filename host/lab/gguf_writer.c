#include "lab/gguf_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/panic.h"

/* A tool of the workstation may end when memory does. */
static void part_add(struct gguf_writer_part *part, const void *bytes, size_t length) {
    if (length > part->room - part->length) {
        size_t room = 2 * part->room + length + 4096;
        part->bytes = realloc(part->bytes, room);
        wick_assert(part->bytes != NULL);
        part->room = room;
    }
    if (length > 0) memcpy(part->bytes + part->length, bytes, length);
    part->length += length;
}

static void part_add_u32(struct gguf_writer_part *part, uint32_t value) {
    part_add(part, &value, sizeof value);
}

static void part_add_u64(struct gguf_writer_part *part, uint64_t value) {
    part_add(part, &value, sizeof value);
}

static void part_add_string(struct gguf_writer_part *part, const char *text) {
    size_t length = strlen(text);
    part_add_u64(part, length);
    part_add(part, text, length);
}

static void key_add(struct gguf_writer *writer, const char *key, enum gguf_type type) {
    part_add_string(&writer->kvs, key);
    part_add_u32(&writer->kvs, (uint32_t)type);
    writer->n_kv++;
}

void gguf_writer_begin(struct gguf_writer *writer) {
    *writer = (struct gguf_writer){.fd = -1};
}

void gguf_writer_u32(struct gguf_writer *writer, const char *key, uint32_t value) {
    key_add(writer, key, GGUF_U32);
    part_add_u32(&writer->kvs, value);
}

void gguf_writer_f32(struct gguf_writer *writer, const char *key, float value) {
    key_add(writer, key, GGUF_F32);
    part_add(&writer->kvs, &value, sizeof value);
}

void gguf_writer_string(struct gguf_writer *writer, const char *key, const char *value) {
    key_add(writer, key, GGUF_STRING);
    part_add_string(&writer->kvs, value);
}

void gguf_writer_copy(struct gguf_writer *writer, const struct gguf_kv *kv) {
    /* From the length of the key to the end of the value the bytes of a file are in one piece. */
    const uint8_t *start = (const uint8_t *)kv->key.text - 8;
    part_add(&writer->kvs, start, (size_t)(kv->data - start) + kv->data_bytes);
    writer->n_kv++;
}

uint64_t gguf_writer_tensor(struct gguf_writer *writer, const char *name, enum quant_type type,
                            uint64_t cols, uint64_t rows) {
    const struct quant_info *info = quant_info((uint32_t)type);
    wick_assert(info != NULL && info->block_bytes > 0);
    wick_assert(cols % info->block_values == 0 && strlen(name) <= GGUF_NAME_MAX);
    part_add_string(&writer->tensors, name);
    part_add_u32(&writer->tensors, rows == 0 ? 1 : 2);
    part_add_u64(&writer->tensors, cols);
    if (rows != 0) part_add_u64(&writer->tensors, rows);
    part_add_u32(&writer->tensors, (uint32_t)type);
    part_add_u64(&writer->tensors, writer->data_bytes);
    writer->n_tensors++;
    uint64_t bytes = cols / info->block_values * info->block_bytes * (rows == 0 ? 1 : rows);
    writer->data_bytes += round_up(bytes, GGUF_WRITER_ALIGNMENT);
    return bytes;
}

static bool bytes_write(struct gguf_writer *writer, const uint8_t *bytes, size_t length,
                        struct fault *fault) {
    while (length > 0) {
        ssize_t n = write(writer->fd, bytes, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "%s: write: %s", writer->path,
                             strerror(errno));
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

bool gguf_writer_open(struct gguf_writer *writer, const char *path, struct fault *fault) {
    writer->path = path;
    writer->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (writer->fd < 0)
        return fault_set(fault, FAULT_INVALID_REQUEST, "%s: %s", path, strerror(errno));
    struct gguf_writer_part head = {0};
    part_add(&head, "GGUF", 4);
    part_add_u32(&head, 3);
    part_add_u64(&head, writer->n_tensors);
    part_add_u64(&head, writer->n_kv);
    part_add(&head, writer->kvs.bytes, writer->kvs.length);
    part_add(&head, writer->tensors.bytes, writer->tensors.length);
    static const uint8_t zeros[GGUF_WRITER_ALIGNMENT];
    part_add(&head, zeros, round_up(head.length, GGUF_WRITER_ALIGNMENT) - head.length);
    bool written = bytes_write(writer, head.bytes, head.length, fault);
    free(head.bytes);
    return written;
}

bool gguf_writer_data(struct gguf_writer *writer, const uint8_t *bytes, size_t length,
                      struct fault *fault) {
    wick_assert(length <= writer->data_bytes - writer->data_written);
    writer->data_written += length;
    return bytes_write(writer, bytes, length, fault);
}

bool gguf_writer_pad(struct gguf_writer *writer, struct fault *fault) {
    static const uint8_t zeros[GGUF_WRITER_ALIGNMENT];
    uint64_t padded = round_up(writer->data_written, GGUF_WRITER_ALIGNMENT);
    return gguf_writer_data(writer, zeros, padded - writer->data_written, fault);
}

/* A half-written file must not be taken for a model; a device or a pipe is not ours to remove. */
static void file_remove(const char *path) {
    struct stat st;
    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode)) unlink(path);
}

static void writer_free(struct gguf_writer *writer) {
    free(writer->kvs.bytes);
    free(writer->tensors.bytes);
    writer->kvs = writer->tensors = (struct gguf_writer_part){0};
    writer->fd = -1;
}

bool gguf_writer_close(struct gguf_writer *writer, struct fault *fault) {
    wick_assert(writer->data_written == writer->data_bytes);
    if (close(writer->fd) != 0) {
        fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "%s: close: %s", writer->path,
                  strerror(errno));
        file_remove(writer->path);
        writer_free(writer);
        return false;
    }
    writer_free(writer);
    return true;
}

void gguf_writer_abandon(struct gguf_writer *writer) {
    if (writer->fd >= 0) {
        close(writer->fd);
        file_remove(writer->path);
    }
    writer_free(writer);
}
