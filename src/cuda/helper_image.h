/* helper_image: the bytes of the helper (src/cuda/helper), an ELF file in our constants. */
#ifndef WICK_CUDA_HELPER_IMAGE_H
#define WICK_CUDA_HELPER_IMAGE_H

#include <stdint.h>

extern const uint8_t helper_image[];
extern const uint8_t helper_image_end[];

#endif
