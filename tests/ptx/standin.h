#ifndef WICK_TESTS_PTX_STANDIN_H
#define WICK_TESTS_PTX_STANDIN_H

/* The stand-in for libcuda.so.1: the driver calls that wick makes (cuda/driver_api.h has the list),
 * as a glibc shared object on top of the PTX machine. A test double: its devices say so in their
 * names, and it is stricter than a driver. What a driver lets pass, or crashes on, is an error here
 * with a line in the log: a handle that is none, a copy past an allocation, an asynchronous copy
 * from or to memory that is not pinned, a launch of more threads or shared memory than were asked
 * for, a call during a capture that does not belong there.
 *
 * Nothing runs in the caller: copies, fills and kernels run on one thread of each context, in order
 * within a stream, the streams mixed by the seed. A source is read and a target written then, not
 * when the call was made. Memory that nobody wrote reads back as 0xcb. A kernel that fails, or that
 * the machine finds fault with, poisons its context: every later call returns that error.
 *
 * Environment, read once, at the first call:
 *
 *   WICK_PTX_FAULT    faults on demand, separated by commas: WHERE#N=WHAT, at the Nth time
 *                     (N and '#' may be left out: the first; '*': every time)
 *                     WHERE  a driver call (cuInit, cuMemAlloc_v2, ...): in its caller, before it
 *                            does anything; or `kernel`: on the device's thread, before a kernel,
 *                            each one of a graph counted
 *                     WHAT   error:N   the call returns N; a kernel poisons its context with N
 *                            hang      for ever
 *                            late:MS   milliseconds, then all is well
 *                            segv, abort, exit:N
 *   WICK_PTX_DRIVER   what cuDriverGetVersion says; it sets the newest PTX that is taken: 12000
 *   WICK_PTX_DEVICES  number of devices, 0 to 4: 1
 *   WICK_PTX_VRAM     bytes of each device, K, M or G may follow: 2G
 *   WICK_PTX_SMS      multiprocessors of each device: 4
 *   WICK_PTX_LATENCY  microseconds from a kernel's turn to its start: 0
 *   WICK_PTX_SEED     of the machine's warp scheduler and of the order of streams: 1
 *   WICK_PTX_CALM     1: warps change only where they must wait: faster, shows fewer races
 *   WICK_PTX_THREADS  host threads of the machine, 0 for all processors: 0
 *   WICK_PTX_STEPS    warp instructions that one launch may take: the machine's own limit
 *   WICK_PTX_LOG      file that gets the machine's findings and refusals; else standard error
 *   WICK_PTX_TRACE    file that gets the name of every call
 *
 * A value that is not understood ends the process: a test that asks for nothing must not pass.
 */

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Only what is declared between these is exported. */
#pragma GCC visibility push(default)
#include "cuda/driver_api.h"
#define STANDIN_PROTOTYPE(name, version, parameters) int name parameters;
CUDA_CALLS(STANDIN_PROTOTYPE)
cuda_proc_address cuGetProcAddress;
cuda_proc_address_v2 cuGetProcAddress_v2;
#pragma GCC visibility pop

#include "tests/ptx/machine.h"

/* --- facts of a device (compute capability 8.0) --------------------------------------------- */

enum {
    DEVICES_MAX = 4,
    THREADS_PER_BLOCK = 1024,
    THREADS_PER_SM = 2048,
    BLOCKS_PER_SM = 32,
    WARP = 32,
    REGISTERS_PER_SM = 65536,
    REGISTERS_SUPPOSED = 64, /* of a thread: the machine allocates none */
    SHARED_DEFAULT = 48 * 1024,
    SHARED_OPTIN = 163 * 1024,
    SHARED_PER_SM = 164 * 1024,
    SHARED_RESERVED = 1024, /* of each block, by the system */
    POISON_BYTE = 0xcb
};

/* --- state ---------------------------------------------------------------------------------- */

enum standin_call {
#define STANDIN_CALL(name, version, parameters) CALL_##name,
    CUDA_CALLS(STANDIN_CALL)
#undef STANDIN_CALL
        CALL_KERNEL, /* a kernel on the device's thread */
    CALL_COUNT
};

struct standin_options {
    int driver, devices, sms;
    uint64_t vram, latency_us, seed, steps;
    uint32_t threads;
    bool calm;
};

enum handle_kind {
    HANDLE_MODULE,
    HANDLE_FUNCTION,
    HANDLE_STREAM,
    HANDLE_EVENT,
    HANDLE_GRAPH,
    HANDLE_EXEC
};

/* The head of everything a caller holds a pointer to. What was destroyed leaves its list but is not
 * given back to the heap, so that no new handle has an old one's address. */
struct handle {
    struct handle *next;
    enum handle_kind kind;
};

enum operation_kind {
    OPERATION_KERNEL,
    OPERATION_COPY,
    OPERATION_FILL,
    OPERATION_EVENT,
    OPERATION_GRAPH
};

/* Something for the device's thread. */
struct operation {
    struct operation *next;
    enum operation_kind kind;
    uint64_t sequence; /* of all operations of the context */

    struct cu_function *function; /* KERNEL */
    uint32_t grid[3], block[3], dynamic_shared;
    bool cooperative;
    uint8_t *values; /* of the parameters, at their offsets */

    void *to; /* COPY, FILL */
    const void *from;
    size_t bytes;
    uint8_t fill;
    bool to_device, from_device; /* COPY: else pinned or any other memory of the host */

    struct cu_event *event;     /* EVENT */
    struct cu_graph_exec *exec; /* GRAPH */
};

struct cu_module {
    struct handle handle;
    struct ptx_module *module;
};

struct cu_function {
    struct handle handle;
    struct cu_module *module;
    const struct ptx_kernel *kernel;
    struct ptx_kernel_facts facts;
    uint32_t dynamic_shared_max;
};

enum capture { CAPTURE_NONE, CAPTURE_ACTIVE, CAPTURE_INVALID };

struct cu_stream {
    struct handle handle;
    unsigned flags;
    struct operation *first, *last; /* the first may be running */
    enum capture capture;
    int capture_mode;
    pthread_t capture_thread;
    struct cu_graph *graph; /* that the capture makes */
};

struct cu_event {
    struct handle handle;
    unsigned flags;
    uint64_t recorded, reached; /* how often; equal: it is complete */
    bool captured;
    uint64_t reached_ns;
};

struct cu_graph {
    struct handle handle;
    struct operation *first, *last;
};

struct cu_graph_exec {
    struct handle handle;
    struct operation *first;
};

struct allocation {
    struct allocation *next;
    uint8_t *address;
    size_t bytes;
    void *map; /* with a page that cannot be touched on either side */
    size_t map_bytes;
    enum ptx_memory_kind kind;
};

struct cu_context {
    int device;
    unsigned flags;
    uint32_t retained;
    bool alive;
    int sticky; /* CUDA_SUCCESS, or what every call returns */
    struct handle *handles;
    struct allocation *allocations;
    uint64_t device_bytes; /* allocated */
    struct cu_stream null_stream;
    uint64_t sequence;
    pthread_t thread;
    volatile bool stop;
    /* Held while the thread runs an operation and by whoever changes the memory's books. Never
     * taken with standin.lock held. */
    pthread_mutex_t memory_lock;
    struct ptx_memory *memory;
};

struct standin {
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t changed;
    bool initialised;
    struct standin_options options;
    struct cu_context contexts[DEVICES_MAX];
};

extern struct standin standin;
/* What the calling thread has made current. */
extern _Thread_local struct cu_context *standin_current;

/* --- standin.c ------------------------------------------------------------------------------ */

/* What a call needs before it may begin, beside what the fault table says. */
enum standin_need {
    NEED_NOTHING = 0,
    NEED_INIT = 1,
    NEED_CONTEXT = 3,   /* a current one that is not poisoned */
    NEED_NO_CAPTURE = 4 /* the call is unsafe while a stream is captured */
};

/* Takes the lock. Not CUDA_SUCCESS: the lock is not held, return that. */
int standin_enter(enum standin_call call, int need);
/* Gives the lock back; returns result, or the context's error if it is poisoned by now. */
int standin_leave(int result);
/* A line for the log; returns result. */
__attribute__((format(printf, 2, 3))) int standin_refuse(int result, const char *format, ...);

void handle_add(struct cu_context *context, struct handle *handle, enum handle_kind kind);
bool handle_is(const struct cu_context *context, const void *pointer, enum handle_kind kind);
void handle_drop(struct cu_context *context, struct handle *handle);
void *standin_zeroed(size_t bytes);

/* --- standin_fault.c ------------------------------------------------------------------------ */

/* Reads the environment, once. */
void standin_options_read(struct standin_options *options);
/* What the fault table says about this time: may not return at all. */
int standin_fault(enum standin_call call);
void standin_log(const char *format, va_list arguments);
void standin_trace(enum standin_call call);
const char *standin_call_name(enum standin_call call);

/* --- standin_memory.c ----------------------------------------------------------------------- */

/* The allocation that holds all of these bytes, or NULL. With the lock. */
struct allocation *allocation_find(const struct cu_context *context, const void *address,
                                   size_t bytes);
/* On the device's thread, with the memory lock. */
void memory_copy(struct cu_context *context, const struct operation *operation);
void memory_fill(struct cu_context *context, const struct operation *operation);
/* When the context goes. */
void allocations_free(struct cu_context *context);

/* --- standin_stream.c ----------------------------------------------------------------------- */

/* NULL means the context's null stream; false: no such stream. */
bool stream_find(struct cu_context *context, struct cu_stream *handle, struct cu_stream **stream);
/* Queues a copy of the operation, or adds it to the graph that the stream's capture makes. */
int operation_submit(struct cu_context *context, struct cu_stream *stream,
                     const struct operation *operation);
/* With the lock; gives it up while waiting. Returns early when the context is poisoned. */
void stream_wait(struct cu_context *context, struct cu_stream *stream);
void context_wait(struct cu_context *context);
bool stream_is_idle(const struct cu_stream *stream);
/* The streams of a context, the null stream first; NULL after the last. */
struct cu_stream *stream_next(const struct cu_context *context, const struct cu_stream *stream);
/* The device's thread. */
void *device_main(void *context);

/* --- standin_graph.c ------------------------------------------------------------------------ */

/* CUDA_SUCCESS, or what the call gets that is unsafe while something is captured. */
int capture_check(struct cu_context *context);
int capture_add(struct cu_stream *stream, const struct operation *operation);

/* --- standin_module.c ----------------------------------------------------------------------- */

/* Blocks of a kernel that fit on one multiprocessor. */
int occupancy(const struct cu_function *function, uint32_t threads, size_t dynamic_shared);

#endif
