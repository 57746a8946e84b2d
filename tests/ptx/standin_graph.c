/* Stream capture and graphs. A graph here is a list: what one stream was given, in order. */

#include "tests/ptx/standin.h"

#include <stdlib.h>
#include <string.h>

// --- capture -----------------------------------------------------------------------------------

/* What is unsafe while something is captured (it may wait, or work outside the capture) is refused
 * and spoils the capture: from any thread in GLOBAL mode, from the capturing one in THREAD_LOCAL.
 */
int capture_check(struct cu_context *context) {
    if (!context || !context->alive) return CUDA_SUCCESS;
    int result = CUDA_SUCCESS;
    for (struct cu_stream *s = &context->null_stream; s; s = stream_next(context, s)) {
        if (s->capture == CAPTURE_NONE || s->capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
            continue;
        if (s->capture_mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL &&
            !pthread_equal(s->capture_thread, pthread_self()))
            continue;
        s->capture = CAPTURE_INVALID;
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return result;
}

static void graph_append(struct cu_graph *graph, const struct operation *operation) {
    struct operation *copy = standin_zeroed(sizeof *copy);
    *copy = *operation;
    copy->next = NULL;
    *(graph->first ? &graph->last->next : &graph->first) = copy;
    graph->last = copy;
}

int capture_add(struct cu_stream *stream, const struct operation *operation) {
    if (stream->capture == CAPTURE_INVALID) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (operation->kind == OPERATION_GRAPH) {
        stream->capture = CAPTURE_INVALID;
        return standin_refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                              "a graph launch within a capture is not known here");
    }
    graph_append(stream->graph, operation);
    return CUDA_SUCCESS;
}

int cuStreamBeginCapture_v2(struct cu_stream *handle, int mode) {
    const int result = standin_enter(CALL_cuStreamBeginCapture_v2, NEED_CONTEXT);
    if (result) return result;
    struct cu_stream *stream;
    if (!stream_find(standin_current, handle, &stream))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    if (!handle)
        return standin_leave(standin_refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                                            "the null stream cannot be captured"));
    if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return standin_leave(CUDA_ERROR_INVALID_VALUE);
    if (stream->capture != CAPTURE_NONE) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    stream->capture = CAPTURE_ACTIVE;
    stream->capture_mode = mode;
    stream->capture_thread = pthread_self();
    stream->graph = standin_zeroed(sizeof *stream->graph);
    return standin_leave(CUDA_SUCCESS);
}

/* By the thread that began it, unless RELAXED. */
int cuStreamEndCapture(struct cu_stream *handle, struct cu_graph **graph) {
    const int result = standin_enter(CALL_cuStreamEndCapture, NEED_CONTEXT);
    if (result) return result;
    struct cu_stream *stream;
    if (!graph) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    *graph = NULL;
    if (!handle || !stream_find(standin_current, handle, &stream))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    if (stream->capture == CAPTURE_NONE)
        return standin_leave(
            standin_refuse(CUDA_ERROR_INVALID_VALUE, "no capture is under way on this stream"));
    enum { STREAM_CAPTURE_WRONG_THREAD = 908 };
    if (stream->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        !pthread_equal(stream->capture_thread, pthread_self()))
        return standin_leave(STREAM_CAPTURE_WRONG_THREAD);
    const bool valid = stream->capture == CAPTURE_ACTIVE;
    stream->capture = CAPTURE_NONE;
    if (!valid) return standin_leave(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    *graph = stream->graph;
    handle_add(standin_current, &(*graph)->handle, HANDLE_GRAPH);
    return standin_leave(CUDA_SUCCESS);
}

// --- graphs ------------------------------------------------------------------------------------

int cuGraphInstantiateWithFlags(struct cu_graph_exec **exec, struct cu_graph *graph,
                                unsigned long long flags) {
    const int result = standin_enter(CALL_cuGraphInstantiateWithFlags, NEED_CONTEXT);
    if (result) return result;
    if (!exec || flags) return standin_leave(CUDA_ERROR_INVALID_VALUE);
    if (!handle_is(standin_current, graph, HANDLE_GRAPH))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    /* Nodes are never given back, so the two may share them. */
    *exec = standin_zeroed(sizeof **exec);
    (*exec)->first = graph->first;
    handle_add(standin_current, &(*exec)->handle, HANDLE_EXEC);
    return standin_leave(CUDA_SUCCESS);
}

/* Functions of modules that are gone, and memory that was freed since the capture. */
static int graph_check(const struct cu_context *context, const struct cu_graph_exec *exec) {
    for (const struct operation *o = exec->first; o; o = o->next) {
        if (o->kind == OPERATION_KERNEL && !handle_is(context, o->function, HANDLE_FUNCTION))
            return standin_refuse(CUDA_ERROR_INVALID_VALUE, "a graph's kernel was unloaded");
        const bool lost_target = (o->to_device || o->kind == OPERATION_FILL) &&
                                 !allocation_find(context, o->to, o->bytes);
        const bool lost_source = o->from_device && !allocation_find(context, o->from, o->bytes);
        if (lost_target || lost_source)
            return standin_refuse(CUDA_ERROR_INVALID_VALUE, "a graph's memory was freed");
    }
    return CUDA_SUCCESS;
}

static int graph_enter(enum standin_call call, struct cu_graph_exec *exec, struct cu_stream *handle,
                       struct cu_stream **stream) {
    int result = standin_enter(call, NEED_CONTEXT);
    if (result) return result;
    if (!handle_is(standin_current, exec, HANDLE_EXEC))
        result = standin_refuse(CUDA_ERROR_INVALID_HANDLE, "%s: %p is no graph that can be run",
                                standin_call_name(call), (void *)exec);
    else if (!stream_find(standin_current, handle, stream))
        result = CUDA_ERROR_INVALID_HANDLE;
    return result ? standin_leave(result) : CUDA_SUCCESS;
}

int cuGraphUpload(struct cu_graph_exec *exec, struct cu_stream *handle) {
    struct cu_stream *stream;
    const int result = graph_enter(CALL_cuGraphUpload, exec, handle, &stream);
    return result ? result : standin_leave(CUDA_SUCCESS);
}

int cuGraphLaunch(struct cu_graph_exec *exec, struct cu_stream *handle) {
    struct cu_stream *stream;
    int result = graph_enter(CALL_cuGraphLaunch, exec, handle, &stream);
    if (result) return result;
    const struct operation launch = {.kind = OPERATION_GRAPH, .exec = exec};
    result = graph_check(standin_current, exec);
    if (!result) result = operation_submit(standin_current, stream, &launch);
    return standin_leave(result);
}

int cuGraphExecDestroy(struct cu_graph_exec *exec) {
    const int result = standin_enter(CALL_cuGraphExecDestroy, NEED_CONTEXT);
    if (result) return result;
    if (!handle_is(standin_current, exec, HANDLE_EXEC))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    handle_drop(standin_current, &exec->handle);
    return standin_leave(CUDA_SUCCESS);
}

int cuGraphDestroy(struct cu_graph *graph) {
    const int result = standin_enter(CALL_cuGraphDestroy, NEED_CONTEXT);
    if (result) return result;
    if (!handle_is(standin_current, graph, HANDLE_GRAPH))
        return standin_leave(CUDA_ERROR_INVALID_HANDLE);
    handle_drop(standin_current, &graph->handle);
    return standin_leave(CUDA_SUCCESS);
}
