/* gguf_writer: writes a GGUF, version 3: first everything that the header says, then the tensors'
 * bytes in the order in which they were declared.
 *
 *   gguf_writer_begin, key-values and tensors in any order, gguf_writer_open,
 *   gguf_writer_data ... (each tensor in full), gguf_writer_close */
#ifndef WICK_LAB_GGUF_WRITER_H
#define WICK_LAB_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "gguf/gguf.h"

enum { GGUF_WRITER_ALIGNMENT = 32 }; /* the format's default */

struct gguf_writer_part {
    uint8_t *bytes;
    size_t length, room;
};

struct gguf_writer {
    struct gguf_writer_part kvs, tensors; /* the two lists of the header, as they will be written */
    uint64_t n_kv, n_tensors;
    uint64_t data_bytes; /* of all tensors, padding included */
    const char *path;
    int fd;
    uint64_t data_written;
};

void gguf_writer_begin(struct gguf_writer *writer);

void gguf_writer_u32(struct gguf_writer *writer, const char *key, uint32_t value);
void gguf_writer_f32(struct gguf_writer *writer, const char *key, float value);
void gguf_writer_string(struct gguf_writer *writer, const char *key, const char *value);
/* A key-value of another file, byte for byte. */
void gguf_writer_copy(struct gguf_writer *writer, const struct gguf_kv *kv);

/* Declares a tensor of (rows, cols), a vector when rows is 0; returns its bytes. cols must be a
 * multiple of the type's block. */
uint64_t gguf_writer_tensor(struct gguf_writer *writer, const char *name, enum quant_type type,
                            uint64_t cols, uint64_t rows);

/* Creates the file and writes the header. Faults name the path. */
bool gguf_writer_open(struct gguf_writer *writer, const char *path, struct fault *fault);
/* The next bytes of the tensor data. */
bool gguf_writer_data(struct gguf_writer *writer, const uint8_t *bytes, size_t length,
                      struct fault *fault);
/* After the last byte of each tensor: pads to the alignment. */
bool gguf_writer_pad(struct gguf_writer *writer, struct fault *fault);
/* Ends the file, which must have all its data by now; false if the disk refuses it. */
bool gguf_writer_close(struct gguf_writer *writer, struct fault *fault);
/* Instead of close, when something failed: removes the file, frees what there is. */
void gguf_writer_abandon(struct gguf_writer *writer);

#endif
