/* libraries: where the shared objects of the driver lie. */
#ifndef WICK_CUDA_LIBRARIES_H
#define WICK_CUDA_LIBRARIES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/fault.h"

enum { LIBRARY_PATH_BYTES = 512, LIBRARY_LIST_BYTES = 1024 };

struct libraries {
    char loader[LIBRARY_PATH_BYTES]; /* .../ld-linux-x86-64.so.2 */
    char cuda[LIBRARY_PATH_BYTES];   /* .../libcuda.so.1 */
    char path[LIBRARY_LIST_BYTES];   /* LD_LIBRARY_PATH for the driver: where libcuda lies first */
};

/* Looks in the directories of cuda_path (may be NULL; ':' separates), then in the usual places. The
 * fault (CUDA_ERROR) says which file is missing and names every place. */
bool libraries_find(struct libraries *libraries, const char *cuda_path, struct fault *fault);

/* Whether the kernel's side shows itself: /dev/nvidiactl. A hint for the text of a cuInit that
 * failed, nothing more. */
bool libraries_device_node(void);

#endif
