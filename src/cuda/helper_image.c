#include "cuda/helper_image.h"

/* The directory comes from -Wa,-I in cuda.mk. */
__asm__(".section .rodata.helper_image, \"a\"\n"
        ".balign 16\n"
        ".globl helper_image\n"
        ".globl helper_image_end\n"
        "helper_image:\n"
        "    .incbin \"helper.elf\"\n"
        "helper_image_end:\n"
        ".previous\n");
