/* Fuzz entry: a GGUF file as a model. */
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "model/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first panel of a matrix, and a row back out of it. */
static void pack_one(const struct model_tensor *tensor) {
    if (tensor->data == NULL || tensor->rows == 0 || tensor->bytes > 1 << 20) return;
    struct packed_matrix matrix = pack_describe(tensor);
    uint8_t *panels = aligned_alloc(64, matrix.panel_bytes);
    float *row = malloc(tensor->cols * sizeof(float));
    if (panels != NULL && row != NULL) {
        pack_panel(&matrix, 0, panels);
        matrix.panels = panels;
        pack_row_expand(&matrix, 0, row);
    }
    free(row);
    free(panels);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct gguf gguf;
    static struct model model;
    struct fault fault;
    uint8_t *exact = malloc(size + 1);
    if (exact == NULL) return 0;
    memcpy(exact, data, size);
    if (gguf_parse(&gguf, exact, size, &fault) && model_bind(&model, &gguf, &fault)) {
        pack_one(&model.output);
        for (uint32_t i = 0; i < model.geo.n_layers; i++) {
            pack_one(&model.layer[i].q);
            pack_one(&model.layer[i].down);
        }
        double *frequency = malloc(model.geo.rope_dim * sizeof(double));
        if (frequency != NULL) model_rope_frequencies(&model, frequency);
        free(frequency);
    }
    free(exact);
    return 0;
}
