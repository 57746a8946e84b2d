/* upload: the weights from the file to the device.
 *
 *   pread -> pack_panel -> repack -> pinned buffer -> cuMemcpyHtoDAsync
 *
 * A team of threads reads and packs the panels of one buffer while the driver copies the other.
 * The file is read, not its mapping: faulting pages in one by one is slower, and a disk that fails
 * is an error here and not a signal. */
#ifndef WICK_CUDA_UPLOAD_H
#define WICK_CUDA_UPLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "base/arena.h"
#include "cpu/team.h"
#include "cuda/gpu.h"
#include "cuda/layout.h"
#include "cuda/load_thread.h"

/* What goes in one copy: some panels of a matrix, or a vector. */
struct upload_piece {
    const struct layout_matrix *matrix; /* NULL: a vector */
    uint32_t panel, n_panels;
    uint64_t to;
    size_t bytes;
};

struct upload {
    struct layout *layout;
    struct gpu_driver *driver;
    struct team *team;
    int file;
    uint8_t *raw, *scratch; /* (threads, raw_bytes), (threads, scratch_bytes) */
    size_t raw_bytes, scratch_bytes;

    uint32_t matrix, vector, next_panel; /* what comes next */
    struct upload_piece piece;           /* being packed */
    enum { UPLOAD_CHOOSES, UPLOAD_PACKS, UPLOAD_WAITS, UPLOAD_ENDS } state;
    uint32_t buffer; /* that is packed into */
    bool copying;    /* the other one: the driver has been told, or is to be */
    struct gpu_upload copy;
    uint64_t bytes_done, started_ns;
    bool started;      /* the team */
    _Atomic int error; /* errno of a read */
    _Atomic uint64_t error_offset;
};

/* Measures or takes: team and scratch. */
void upload_carve(struct upload *upload, struct layout *layout, const struct backend_limits *limits,
                  struct arena *arena);

/* Works until all is on the device or the deadline has passed. file: of the model; open until DONE.
 */
enum backend_status upload_advance(struct upload *upload, uint64_t deadline_ns, uint32_t *percent,
                                   struct fault *fault);

/* Ends the team, wherever loading stands. */
void upload_close(struct upload *upload);

#endif
