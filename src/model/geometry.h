/* geometry: the numbers of a network, read from a GGUF's metadata and checked one by one.
 *
 * Private to src/model. */
#ifndef WICK_MODEL_GEOMETRY_H
#define WICK_MODEL_GEOMETRY_H

#include <stdbool.h>

#include "base/fault.h"
#include "gguf/gguf.h"
#include "model/model.h"

/* May the attention projections have biases? All three or none. */
enum bias_rule { BIAS_MAY, BIAS_MUST };

/* One entry makes an architecture known. */
struct architecture {
    const char *name; /* general.architecture, and the prefix of its keys */
    enum rope_pairs rope_pairs;
    enum bias_rule bias;
};

/* The architecture of the file, or NULL and a fault that names it and those there are. */
const struct architecture *architecture_find(const struct gguf *gguf, struct fault *fault);

/* Fills everything that metadata decides. vocab, qkv_bias, tied and quantisation are left to
 * model_bind, which sees the tensors. */
bool geometry_read(struct model_geometry *geo, const struct architecture *architecture,
                   const struct gguf *gguf, struct fault *fault);

#endif
