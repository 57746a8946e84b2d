/* Streams, events, and the thread on which a device works. */

#include "tests/ptx/standin.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

// --- streams -----------------------------------------------------------------------------------

bool stream_find(struct cu_context *context, struct cu_stream *handle, struct cu_stream **stream) {
    *stream = handle ? handle : &context->null_stream;
    if (!handle || handle_is(context, handle, HANDLE_STREAM)) return true;
    standin_refuse(CUDA_ERROR_INVALID_HANDLE, "%p is no stream", (void *)handle);
    return false;
}

bool stream_is_idle(const struct cu_stream *stream) {
    return !stream->first;
}

void stream_wait(struct cu_context *context, struct cu_stream *stream) {
    while (!stream_is_idle(stream) && !context->sticky)
        pthread_cond_wait(&standin.changed, &standin.lock);
}

struct cu_stream *stream_next(const struct cu_context *context, const struct cu_stream *stream) {
    struct handle *h = stream == &context->null_stream ? context->handles : stream->handle.next;
    while (h && h->kind != HANDLE_STREAM) h = h->next;
    return (struct cu_stream *)h;
}

static bool context_is_idle(const struct cu_context *context) {
    const struct cu_stream *stream = &context->null_stream;
    while (stream && stream_is_idle(stream)) stream = stream_next(context, stream);
    return !stream;
}

void context_wait(struct cu_context *context) {
    while (!context_is_idle(context) && !context->sticky)
        pthread_cond_wait(&standin.changed, &standin.lock);
}

int operation_submit(struct cu_context *context, struct cu_stream *stream,
                     const struct operation *operation) {
    if (stream->capture != CAPTURE_NONE) return capture_add(stream, operation);
    if (stream == &context->null_stream) {
        const int result = capture_check(context);
        if (result) return result;
    }
    struct operation *copy = standin_zeroed(sizeof *copy);
    *copy = *operation;
    copy->next = NULL;
    copy->sequence = ++context->sequence;
    *(stream->first ? &stream->last->next : &stream->first) = copy;
    stream->last = copy;
    pthread_cond_broadcast(&standin.changed);
    return CUDA_SUCCESS;
}

int cuStreamCreate(struct cu_stream **stream, unsigned flags) {
    const int result = standin_enter(CALL_cuStreamCreate, NEED_CONTEXT);
    if (result) return result;
    if (!stream || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING))
        return standin_leave(CUDA_ERROR_INVALID_VALUE);
    *stream = standin_zeroed(sizeof **stream);
    (*stream)->flags = flags;
    handle_add(standin_current, &(*stream)->handle, HANDLE_STREAM);
    return standin_leave(CUDA_SUCCESS);
}

int cuStreamDestroy_v2(struct cu_stream *handle) {
    const int result = standin_enter(CALL_cuStreamDestroy_v2, NEED_CONTEXT);
    if (result) return result;
    struct cu_stream *stream;
    if (!handle || !stream_find(standin_current, handle, &stream))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    if (stream->capture != CAPTURE_NONE)
        return standin_leave(standin_refuse(CUDA_ERROR_INVALID_VALUE,
                                            "a stream is destroyed that is being captured"));
    stream_wait(standin_current, stream);
    handle_drop(standin_current, &stream->handle);
    return standin_leave(CUDA_SUCCESS);
}

/* Neither query nor wait is allowed on a stream that is captured; the capture is spoiled. */
static int stream_enter(enum standin_call call, struct cu_stream *handle,
                        struct cu_stream **stream) {
    int result = standin_enter(call, NEED_CONTEXT);
    if (result) return result;
    if (!stream_find(standin_current, handle, stream)) {
        result = CUDA_ERROR_INVALID_HANDLE;
    } else if ((*stream)->capture != CAPTURE_NONE) {
        (*stream)->capture = CAPTURE_INVALID;
        result = standin_refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                                "%s on a stream that is captured", standin_call_name(call));
    }
    return result ? standin_leave(result) : CUDA_SUCCESS;
}

int cuStreamSynchronize(struct cu_stream *handle) {
    struct cu_stream *stream;
    const int result = stream_enter(CALL_cuStreamSynchronize, handle, &stream);
    if (result) return result;
    stream_wait(standin_current, stream);
    return standin_leave(CUDA_SUCCESS);
}

int cuStreamQuery(struct cu_stream *handle) {
    struct cu_stream *stream;
    const int result = stream_enter(CALL_cuStreamQuery, handle, &stream);
    if (result) return result;
    return standin_leave(stream_is_idle(stream) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

// --- events ------------------------------------------------------------------------------------

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int cuEventCreate(struct cu_event **event, unsigned flags) {
    const int result = standin_enter(CALL_cuEventCreate, NEED_CONTEXT);
    if (result) return result;
    if (!event || (flags & ~(unsigned)(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING)))
        return standin_leave(CUDA_ERROR_INVALID_VALUE);
    *event = standin_zeroed(sizeof **event);
    (*event)->flags = flags;
    handle_add(standin_current, &(*event)->handle, HANDLE_EVENT);
    return standin_leave(CUDA_SUCCESS);
}

static int event_enter(enum standin_call call, struct cu_event *event) {
    const int result = standin_enter(call, NEED_CONTEXT);
    if (result) return result;
    if (!handle_is(standin_current, event, HANDLE_EVENT))
        return standin_leave(standin_refuse(CUDA_ERROR_INVALID_HANDLE, "%s: %p is no event",
                                            standin_call_name(call), (void *)event));
    return CUDA_SUCCESS;
}

enum { CUDA_ERROR_CAPTURED_EVENT = 907 };

int cuEventRecord(struct cu_event *event, struct cu_stream *handle) {
    int result = event_enter(CALL_cuEventRecord, event);
    if (result) return result;
    struct cu_stream *stream;
    if (!stream_find(standin_current, handle, &stream))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    event->captured = stream->capture == CAPTURE_ACTIVE;
    if (event->captured) return standin_leave(CUDA_SUCCESS);
    const struct operation record = {.kind = OPERATION_EVENT, .event = event};
    event->recorded++;
    result = operation_submit(standin_current, stream, &record);
    if (result) event->recorded--;
    return standin_leave(result);
}

int cuEventQuery(struct cu_event *event) {
    const int result = event_enter(CALL_cuEventQuery, event);
    if (result) return result;
    if (event->captured) return standin_leave(CUDA_ERROR_CAPTURED_EVENT);
    return standin_leave(event->reached == event->recorded ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
}

int cuEventSynchronize(struct cu_event *event) {
    const int result = event_enter(CALL_cuEventSynchronize, event);
    if (result) return result;
    if (event->captured) return standin_leave(CUDA_ERROR_CAPTURED_EVENT);
    const uint64_t awaited = event->recorded;
    while (event->reached < awaited && !standin_current->sticky)
        pthread_cond_wait(&standin.changed, &standin.lock);
    return standin_leave(CUDA_SUCCESS);
}

int cuEventElapsedTime(float *ms, struct cu_event *start, struct cu_event *end) {
    const int result = event_enter(CALL_cuEventElapsedTime, start);
    if (result) return result;
    if (!handle_is(standin_current, end, HANDLE_EVENT) || !start->recorded || !end->recorded ||
        ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    if (!ms) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    if (start->reached < start->recorded || end->reached < end->recorded)
        return standin_leave(CUDA_ERROR_NOT_READY);
    *ms = (float)((double)(int64_t)(end->reached_ns - start->reached_ns) / 1e6);
    return standin_leave(CUDA_SUCCESS);
}

int cuEventDestroy_v2(struct cu_event *event) {
    const int result = event_enter(CALL_cuEventDestroy_v2, event);
    if (result) return result;
    handle_drop(standin_current, &event->handle);
    return standin_leave(CUDA_SUCCESS);
}

// --- the device's thread -----------------------------------------------------------------------

/* The machine has one text for all its findings; these are the numbers a GPU would give. */
static int finding_result(const char *text) {
    static const struct {
        const char *words;
        int result;
    } findings[] = {
        {"misaligned", CUDA_ERROR_MISALIGNED_ADDRESS},
        {"exceeds its limit", CUDA_ERROR_LAUNCH_TIMEOUT},
        {", trap, block", CUDA_ERROR_LAUNCH_FAILED},
    };
    for (size_t i = 0; i < sizeof findings / sizeof *findings; i++)
        if (strstr(text, findings[i].words)) return findings[i].result;
    return CUDA_ERROR_ILLEGAL_ADDRESS;
}

static int kernel_run(struct cu_context *context, const struct operation *o) {
    const struct cu_function *function = o->function;
    const struct standin_options *options = &standin.options;
    const int fault = standin_fault(CALL_KERNEL);
    if (fault) return fault;
    if (options->latency_us) {
        const struct timespec time = {.tv_sec = (time_t)(options->latency_us / 1000000),
                                      .tv_nsec = (long)(options->latency_us % 1000000 * 1000)};
        nanosleep(&time, NULL);
    }
    void **params = standin_zeroed((function->facts.param_count + 1) * sizeof *params);
    for (size_t i = 0; i < function->facts.param_count; i++)
        params[i] = o->values + function->facts.params[i].offset;
    struct ptx_launch launch = {
        .kernel = function->kernel,
        .memory = context->memory,
        .grid = {o->grid[0], o->grid[1], o->grid[2]},
        .block = {o->block[0], o->block[1], o->block[2]},
        .dynamic_shared = o->dynamic_shared,
        .params = params,
        .seed = options->seed + o->sequence,
        .step_limit = options->steps,
        .cooperative = o->cooperative,
        .threads = options->threads,
        .calm = options->calm,
        .stop = &context->stop,
    };
    struct ptx_error error = {{0}};
    const bool ran = ptx_launch(&launch, &error);
    free(params);
    if (ran) return CUDA_SUCCESS;
    const int result = finding_result(error.text);
    return standin_refuse(result, "kernel %s: %s", function->facts.name, error.text);
}

static int operation_run(struct cu_context *context, const struct operation *o) {
    switch (o->kind) {
    case OPERATION_KERNEL:
        return kernel_run(context, o);
    case OPERATION_COPY:
        memory_copy(context, o);
        return CUDA_SUCCESS;
    case OPERATION_FILL:
        memory_fill(context, o);
        return CUDA_SUCCESS;
    case OPERATION_EVENT:
        return CUDA_SUCCESS; /* operation_finish */
    case OPERATION_GRAPH:
        for (struct operation *node = o->exec->first; node; node = node->next) {
            struct operation one = *node;
            one.sequence = o->sequence;
            const int result = operation_run(context, &one);
            if (result) return result;
        }
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_UNKNOWN;
}

/* The null stream waits for every stream that is not NON_BLOCKING, and they wait for it. */
static bool may_start(const struct cu_context *context, const struct cu_stream *stream) {
    if (!stream->first) return false;
    const uint64_t mine = stream->first->sequence;
    const struct operation *null_first = context->null_stream.first;
    if (stream != &context->null_stream)
        return (stream->flags & CU_STREAM_NON_BLOCKING) || !null_first ||
               null_first->sequence > mine;
    for (const struct cu_stream *other = stream_next(context, stream); other;
         other = stream_next(context, other))
        if (!(other->flags & CU_STREAM_NON_BLOCKING) && other->first &&
            other->first->sequence < mine)
            return false;
    return true;
}

/* One of the streams that may go on, by lot: streams that nothing ties together run in any order.
 */
static struct cu_stream *stream_choose(struct cu_context *context, uint64_t *state) {
    struct cu_stream *chosen = NULL;
    uint64_t ready = 0;
    for (struct cu_stream *s = &context->null_stream; s; s = stream_next(context, s)) {
        if (!may_start(context, s)) continue;
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        if ((*state >> 33) % ++ready == 0) chosen = s;
    }
    return chosen;
}

/* With the lock: the first operation of the stream is done. */
static void operation_finish(struct cu_context *context, struct cu_stream *stream, int result) {
    struct operation *o = stream->first;
    if (result && !context->sticky) context->sticky = result;
    if (o->kind == OPERATION_EVENT) {
        o->event->reached++;
        o->event->reached_ns = now_ns();
    }
    stream->first = o->next;
    if (o->kind == OPERATION_KERNEL) free(o->values);
    free(o);
    pthread_cond_broadcast(&standin.changed);
}

void *device_main(void *argument) {
    struct cu_context *context = argument;
    uint64_t state = standin.options.seed;
    pthread_mutex_lock(&standin.lock);
    while (!context->stop) {
        struct cu_stream *stream = stream_choose(context, &state);
        if (!stream) {
            pthread_cond_wait(&standin.changed, &standin.lock);
            continue;
        }
        struct operation *operation = stream->first;
        const bool poisoned = context->sticky != CUDA_SUCCESS;
        pthread_mutex_unlock(&standin.lock);
        int result = CUDA_SUCCESS;
        if (!poisoned) {
            pthread_mutex_lock(&context->memory_lock);
            result = operation_run(context, operation);
            pthread_mutex_unlock(&context->memory_lock);
        }
        pthread_mutex_lock(&standin.lock);
        operation_finish(context, stream, result);
    }
    pthread_mutex_unlock(&standin.lock);
    return NULL;
}
