/* What the environment asks of the stand-in: options, faults, log and trace. */

#include "tests/ptx/standin.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const call_names[] = {
#define CALL_NAME(name, version, parameters) #name,
    CUDA_CALLS(CALL_NAME)
#undef CALL_NAME
        "kernel",
};

const char *standin_call_name(enum standin_call call) {
    return call_names[call];
}

// --- options -----------------------------------------------------------------------------------

static int log_fd = STDERR_FILENO, trace_fd = -1;

_Noreturn static void misunderstood(const char *name, const char *value) {
    dprintf(STDERR_FILENO, "stand-in: %s=%s is not understood\n", name, value);
    _exit(125);
}

static uint64_t number_read(const char *name, uint64_t otherwise, uint64_t most) {
    const char *value = getenv(name);
    if (!value) return otherwise;
    char *end;
    errno = 0;
    uint64_t number = strtoull(value, &end, 0);
    static const char units[] = "KMG";
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) {
        number <<= 10 * (unit - units + 1);
        end++;
    }
    if (errno || end == value || *end || *value == '-' || number > most) misunderstood(name, value);
    return number;
}

static int file_open(const char *name, int otherwise) {
    const char *value = getenv(name);
    if (!value) return otherwise;
    const int fd = open(value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) misunderstood(name, value);
    return fd;
}

// --- faults ------------------------------------------------------------------------------------

enum mishap_kind { MISHAP_ERROR, MISHAP_HANG, MISHAP_LATE, MISHAP_SEGV, MISHAP_ABORT, MISHAP_EXIT };

static const struct {
    const char *name;
    enum mishap_kind kind;
    bool has_number;
} mishaps[] = {
    {"error", MISHAP_ERROR, true}, {"hang", MISHAP_HANG, false},   {"late", MISHAP_LATE, true},
    {"segv", MISHAP_SEGV, false},  {"abort", MISHAP_ABORT, false}, {"exit", MISHAP_EXIT, true},
};

enum { MISHAPS_MAX = 32 };

static struct planned_mishap {
    enum standin_call call;
    uint64_t time; /* 1: the first; 0: every time */
    enum mishap_kind kind;
    int number;
} faults[MISHAPS_MAX];
static size_t fault_count;
static _Atomic uint64_t times[CALL_COUNT];

/* WHERE#N=WHAT:NUMBER */
static bool fault_parse(char *text, struct planned_mishap *fault) {
    char *what = strchr(text, '=');
    if (!what) return false;
    *what++ = 0;
    *fault = (struct planned_mishap){.time = 1};
    char *time = strchr(text, '#');
    if (time) {
        *time++ = 0;
        char *end = time;
        fault->time = strcmp(time, "*") ? strtoull(time, &end, 10) : 0;
        if (strcmp(time, "*") && (*end || fault->time == 0)) return false;
    }
    size_t call = 0;
    while (call < CALL_COUNT && strcmp(call_names[call], text)) call++;
    if (call == CALL_COUNT) return false;
    fault->call = (enum standin_call)call;

    char *number = strchr(what, ':');
    if (number) *number++ = 0;
    for (size_t i = 0; i < sizeof mishaps / sizeof *mishaps; i++) {
        if (strcmp(mishaps[i].name, what)) continue;
        if (mishaps[i].has_number != (number != NULL)) return false;
        fault->kind = mishaps[i].kind;
        char *end = NULL;
        if (number) fault->number = (int)strtol(number, &end, 10);
        return !number || (end != number && !*end);
    }
    return false;
}

static void faults_read(void) {
    const char *value = getenv("WICK_PTX_FAULT");
    if (!value) return;
    char *copy = strdup(value), *rest = NULL;
    if (!copy) abort();
    for (char *one = strtok_r(copy, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        if (fault_count == MISHAPS_MAX || !fault_parse(one, &faults[fault_count]))
            misunderstood("WICK_PTX_FAULT", value);
        fault_count++;
    }
    free(copy);
}

static void sleep_ms(int64_t ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR) {
    }
}

int standin_fault(enum standin_call call) {
    volatile uintptr_t nowhere = 64; /* in a page that is never mapped */
    const uint64_t time = 1 + atomic_fetch_add(&times[call], 1);
    for (size_t i = 0; i < fault_count; i++) {
        if (faults[i].call != call || (faults[i].time && faults[i].time != time)) continue;
        switch (faults[i].kind) {
        case MISHAP_ERROR:
            return faults[i].number;
        case MISHAP_HANG:
            for (;;) pause();
        case MISHAP_LATE:
            sleep_ms(faults[i].number);
            break;
        case MISHAP_SEGV:
            *(volatile int *)nowhere = 0;
            break;
        case MISHAP_ABORT:
            abort();
        case MISHAP_EXIT:
            exit(faults[i].number);
        }
    }
    return CUDA_SUCCESS;
}

void standin_options_read(struct standin_options *options) {
    *options = (struct standin_options){
        .driver = (int)number_read("WICK_PTX_DRIVER", 12000, 99990),
        .devices = (int)number_read("WICK_PTX_DEVICES", 1, DEVICES_MAX),
        .sms = (int)number_read("WICK_PTX_SMS", 4, 1024),
        .vram = number_read("WICK_PTX_VRAM", UINT64_C(2) << 30, UINT64_C(1) << 42),
        .latency_us = number_read("WICK_PTX_LATENCY", 0, 1000000000),
        .seed = number_read("WICK_PTX_SEED", 1, UINT64_MAX),
        .steps = number_read("WICK_PTX_STEPS", 0, UINT64_MAX),
        .threads = (uint32_t)number_read("WICK_PTX_THREADS", 0, 1024),
        .calm = number_read("WICK_PTX_CALM", 0, 1) != 0,
    };
    log_fd = file_open("WICK_PTX_LOG", STDERR_FILENO);
    trace_fd = file_open("WICK_PTX_TRACE", -1);
    faults_read();
}

// --- log and trace -----------------------------------------------------------------------------

/* One write a line, so that lines of several threads do not mix. */
void standin_log(const char *format, va_list arguments) {
    char line[2048];
    const int head = snprintf(line, sizeof line, "stand-in: ");
    int length = vsnprintf(line + head, sizeof line - (size_t)head - 1, format, arguments);
    length = length < 0 ? 0 : length;
    size_t end = (size_t)(head + length);
    if (end > sizeof line - 2) end = sizeof line - 2;
    line[end++] = '\n';
    if (write(log_fd, line, end) < 0) return;
}

void standin_trace(enum standin_call call) {
    if (trace_fd < 0) return;
    char line[96];
    const int length = snprintf(line, sizeof line, "%s\n", call_names[call]);
    if (write(trace_fd, line, (size_t)length) < 0) return;
}
