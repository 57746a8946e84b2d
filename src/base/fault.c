#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/panic.h"

static const struct fault_kind kinds[FAULT_CODES] = {
    [FAULT_NONE] = {"NONE", 0, false, "nothing is wrong"},
    [FAULT_BAD_LINE] = {"BAD_LINE", 400, false, "the line is not a frame of this protocol"},
    [FAULT_LOGIN_REFUSED] = {"LOGIN_REFUSED", 401, false, "a login with the right key is expected"},
    [FAULT_BAD_MAC] = {"BAD_MAC", 402, false, "the line was changed, lost or added on its way"},
    [FAULT_FORBIDDEN] = {"FORBIDDEN", 403, false, "an observer may not do this"},
    [FAULT_NOT_KEPT] = {"NOT_KEPT", 404, false, "nothing is kept of a job of that tag"},
    [FAULT_UNKNOWN_VERB] = {"UNKNOWN_VERB", 405, false, "there is no such verb"},
    [FAULT_TAG_IN_USE] = {"TAG_IN_USE", 409, false, "this client already runs a job of that tag"},
    [FAULT_PROMPT_TOO_LONG] = {"PROMPT_TOO_LONG", 413, false,
                               "prompt and max_tokens do not fit in the context"},
    [FAULT_LINE_TOO_LONG] = {"LINE_TOO_LONG", 414, false, "the line is over the limit"},
    [FAULT_INVALID_REQUEST] = {"INVALID_REQUEST", 422, false,
                               "a field is missing, unknown or out of its range"},
    [FAULT_CANCELLED] = {"CANCELLED", 499, false, "the client stopped the job"},
    [FAULT_INTERNAL] = {"INTERNAL", 500, true, "the engine failed at this job"},
    [FAULT_BUSY] = {"BUSY", 503, true, "no slot is free and the queue is full"},
    [FAULT_NOT_READY] = {"NOT_READY", 504, true, "the model is still loading"},
    [FAULT_SHUTTING_DOWN] = {"SHUTTING_DOWN", 505, true, "no new work is taken"},
    [FAULT_INFERENCE_TIMEOUT] = {"INFERENCE_TIMEOUT", 508, true, "the job's deadline passed"},
    [FAULT_INSUFFICIENT_RESOURCES] = {"INSUFFICIENT_RESOURCES", 510, true,
                                      "this machine has too little memory, threads or files"},
    [FAULT_INSUFFICIENT_VRAM] = {"INSUFFICIENT_VRAM", 511, true,
                                 "the device has too little memory"},
    [FAULT_VRAM_OOM] = {"VRAM_OOM", 512, true, "the device ran out of memory"},
    [FAULT_CUDA_ERROR] = {"CUDA_ERROR", 513, true, "the device or its driver failed"},
    [FAULT_MODEL_LOAD_FAILED] = {"MODEL_LOAD_FAILED", 520, false,
                                 "the model file is broken or not supported"},
    [FAULT_WORKER_UNHEALTHY] = {"WORKER_UNHEALTHY", 530, false,
                                "the backend failed; restart the worker"},
};

const struct fault_kind *fault_kind(enum fault_code code) {
    wick_assert((unsigned)code < FAULT_CODES);
    wick_assert(kinds[code].word != NULL);
    return &kinds[code];
}

bool fault_set(struct fault *fault, enum fault_code code, const char *format, ...) {
    wick_assert(code > FAULT_NONE && code < FAULT_CODES);
    fault->code = code;
    va_list args;
    va_start(args, format);
    int length = vsnprintf(fault->text, sizeof fault->text, format, args);
    va_end(args);
    if (length < 0) fault->text[0] = '\0';
    return false;
}
