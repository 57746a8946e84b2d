/* peak: how fast a processor's matrix units multiply: the roofline of prompts. */
#ifndef WICK_LAB_PEAK_H
#define WICK_LAB_PEAK_H

#include "cpu/kernels.h"

struct peak {
    const char *name;
    /* Multiplies and adds for a while on the calling thread, in registers; the operations done, two
     * a product. */
    double (*run)(void);
};

/* What the backend's products are made of; NULL: not known. Call it after isa_choose has asked for
 * tiles. */
const struct peak *peak_of(const char *isa, enum input_form form);

#endif
