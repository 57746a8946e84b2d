/* Fuzz entry: any bytes as a GGUF file. What parses is looked through as a caller would. */
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"
#include "gguf/quant.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { EXPAND_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct gguf gguf;
    static float values[EXPAND_MAX];
    struct fault fault;
    uint8_t *exact = malloc(size + 1); /* so that one byte too far is seen */
    if (exact == NULL) return 0;
    memcpy(exact, data, size);
    if (gguf_parse(&gguf, exact, size, &fault))
        for (uint32_t i = 0; i < gguf.n_tensors; i++) {
            const struct gguf_tensor *tensor = &gguf.tensor[i];
            const struct quant_info *info = quant_info(tensor->type);
            uint64_t n = tensor->bytes / info->block_bytes * info->block_values;
            if (n <= EXPAND_MAX) quant_expand(tensor->type, exact + tensor->data_offset, values, n);
        }
    free(exact);
    return 0;
}
