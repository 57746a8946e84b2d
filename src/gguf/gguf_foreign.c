/* Files that people hand to a GGUF reader by mistake, by their first bytes. */
#include <string.h>

#include "base/bytes.h"
#include "gguf/gguf_parts.h"

struct foreign {
    uint8_t at;     /* where the mark stands */
    uint8_t length; /* of the mark */
    const char *mark;
    const char *name;
};

static const char old_ggml[] = "a model in an old ggml format; convert the original model to GGUF";
static const char zip[] = "a zip archive (a PyTorch checkpoint?); convert the model to GGUF";
static const char page[] = "a web page, not a model; the download went wrong";

static const struct foreign foreigns[] = {
    {0, 4, "FUGG", "a big-endian GGUF; convert it to little endian (gguf-convert-endian)"},
    {0, 4, "lmgg", old_ggml}, /* 'ggml' and its successors, as a little-endian u32 */
    {0, 4, "fmgg", old_ggml},
    {0, 4, "tjgg", old_ggml},
    {0, 4, "algg", old_ggml},
    {0, 4, "nsgg", old_ggml},
    {0, 4, "ggml", old_ggml},
    {0, 4, "ggmf", old_ggml},
    {0, 4, "ggjt", old_ggml},
    {0, 4, "ggla", old_ggml},
    {0, 4, "ggsn", old_ggml},
    {0, 4, "PK\x03\x04", zip},
    {0, 19, "version https://git", "a git-lfs pointer; fetch the model itself with git lfs pull"},
    {8, 2, "{\"", "a safetensors file; convert the model to GGUF"},
    {0, 2, "\x80\x02", "a Python pickle (an old PyTorch checkpoint?); convert the model to GGUF"},
    {0, 2, "\x1f\x8b", "a gzip file; unpack it first"},
    {0, 4, "\x28\xb5\x2f\xfd", "a zstd file; unpack it first"},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "an xz file; unpack it first"},
    {0, 4,
     "\x7f"
     "ELF",
     "an ELF program"},
    {0, 2, "<!", page},
    {0, 5, "<html", page},
    {0, 1, "{", "a JSON text, not a model; the download went wrong"},
    {0, 4, "\0\0\0\0", "a file that starts with zeros; the download is not finished"},
};

const char *gguf_foreign_name(const uint8_t *bytes, uint64_t length) {
    for (size_t i = 0; i < sizeof foreigns / sizeof foreigns[0]; i++) {
        const struct foreign *f = &foreigns[i];
        if (length >= (uint64_t)f->at + f->length && memcmp(bytes + f->at, f->mark, f->length) == 0)
            return f->name;
    }
    return "a file of a kind unknown to this reader";
}
