/* A static musl program with the driver thread in it, for tests/foreign/run.py.
 *
 *     rig DIR TIMEOUT_MS STEP...
 *
 * The steps are done in order, and each says one line. DIR is cuda_path ("-": none). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/filter.h"
#include "base/sandbox.h"
#include "cuda/driver_api.h"
#include "cuda/foreign.h"

static struct foreign foreign;
static atomic_int stop;
static atomic_int ticks;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text - 1, format, arguments);
    va_end(arguments);
    text[n++] = '\n';
    if (write(STDOUT_FILENO, text, (size_t)n) != n) _exit(9);
}

struct toy_call {
    long (*function)(long);
    long argument;
};

/* On the driver thread: rig.c is compiled without a stack protector. */
static int64_t toy_run(void *context) {
    const struct toy_call *call = context;
    return call->function(call->argument);
}

static enum foreign_status call(const char *name, long argument, int64_t *result) {
    struct toy_call job = {.argument = argument};
    *(void **)(void *)&job.function = foreign_symbol(&foreign, name);
    if (job.function == NULL) {
        say("no %s", name);
        exit(1);
    }
    return foreign_run(&foreign, toy_run, &job, result);
}

/* --- steps ---------------------------------------------------------------------------------- */

static void step_start(const char *directory, uint32_t timeout_ms) {
    const struct foreign_config config = {
        .cuda_path = strcmp(directory, "-") == 0 ? NULL : directory, .timeout_ms = timeout_ms};
    struct fault fault;
    if (foreign_start(&foreign, &config, &fault)) {
        say("started");
        return;
    }
    say("failed: %s", fault.text);
    exit(1);
}

/* NAME=NUMBER */
static void step_call(const char *text) {
    char name[64];
    const char *equals = strchr(text, '=');
    snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
    int64_t result = 0;
    uint64_t start = clock_ns();
    switch (call(name, strtol(equals + 1, NULL, 0), &result)) {
    case FOREIGN_DONE:
        say("%s: %lld", name, (long long)result);
        break;
    default:
        say("%s: dead: %s", name, foreign_death(&foreign));
        say("took %llu ms", (unsigned long long)(clock_ns() - start) / 1000000);
        break;
    }
}

/* Jobs that take 5 ms: the answer must wake us, not the next look at the thread. */
static void step_naps(void) {
    int64_t result = 0;
    uint64_t start = clock_ns();
    for (int i = 0; i < 10; i++) call("toy_nap", 5000, &result);
    uint64_t took_ms = (clock_ns() - start) / 1000000;
    say(took_ms < 350 ? "woken" : "woken late: %llu ms", (unsigned long long)took_ms);
}

/* Nothing that is asked of a dead driver may block or crash. */
static void step_dead(void) {
    int64_t result;
    uint64_t start = clock_ns();
    bool refused = !foreign_post(&foreign, toy_run, NULL);
    bool dead = foreign_poll(&foreign, &result) == FOREIGN_DEAD &&
                foreign_wait(&foreign, UINT64_MAX, &result) == FOREIGN_DEAD &&
                foreign_symbol(&foreign, "toy_add") == NULL;
    foreign_stop(&foreign, toy_run, NULL, UINT64_MAX);
    say(refused && dead && clock_ns() - start < 100000000 ? "dead for good" : "not dead");
}

static void *host_churn(void *context) {
    unsigned char *piece[32] = {NULL};
    size_t bytes[32] = {0};
    unsigned seed = (unsigned)(uintptr_t)context;
    while (!atomic_load(&stop)) {
        seed = seed * 1664525 + 1013904223;
        unsigned at = seed >> 8 & 31;
        for (size_t i = 0; i < bytes[at]; i++) {
            if (piece[at][i] != (unsigned char)at) return (void *)1;
        }
        free(piece[at]);
        bytes[at] = seed >> 16 & 0x1fff;
        piece[at] = malloc(bytes[at]);
        if (bytes[at] > 0) memset(piece[at], (int)at, bytes[at]);
    }
    return NULL;
}

static void tick(int signal) {
    (void)signal;
    atomic_fetch_add(&ticks, 1);
}

/* Jobs, with other threads, a heap of our own, a timer and children beside them. */
static void step_stress(long jobs) {
    pthread_t thread[2];
    signal(SIGALRM, tick);
    const struct itimerval often = {{0, 1000}, {0, 1000}};
    const struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (uintptr_t i = 0; i < 2; i++) pthread_create(&thread[i], NULL, host_churn, (void *)i);
    struct toy_call job = {.argument = 0};
    *(void **)(void *)&job.function = foreign_symbol(&foreign, "toy_add");
    long wrong = 0;
    for (long i = 0; i < jobs; i++) {
        int64_t result = 0;
        job.argument = i;
        enum foreign_status status = foreign_run(&foreign, toy_run, &job, &result);
        wrong += status != FOREIGN_DONE || result != i + 1;
        if (i % (jobs / 8) != 0) continue;
        pid_t child = fork();
        if (child == 0) _exit(0);
        waitpid(child, NULL, 0);
    }
    int64_t result = 0;
    wrong += call("toy_heap", 20000, &result) != FOREIGN_DONE || result != 20000;
    setitimer(ITIMER_REAL, &never, NULL);
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++) {
        void *broken;
        pthread_join(thread[i], &broken);
        wrong += broken != NULL;
    }
    say("stress: %ld wrong, %s", wrong, atomic_load(&ticks) > 0 ? "ticks" : "no tick");
}

/* What /proc says of a thread, once it sleeps: one that has just started still sets its mask, and
 * while a signal's handler does that, the signal is blocked. False: there is no such thread. */
static bool status_at_rest(int id, char *text, size_t size) {
    enum { TRIES = 10000 };
    snprintf(text, size, "/proc/self/task/%d/status", id);
    int fd = open(text, O_RDONLY);
    if (fd < 0) return false;
    for (int i = 0; i < TRIES; i++, usleep(1000)) {
        ssize_t n = pread(fd, text, size - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        if (strstr(text, "State:\tS") != NULL) break;
    }
    close(fd);
    return true;
}

/* SigBlk of every thread but the main one. */
static void step_masks(void) {
    for (int id = getpid() + 1; id < getpid() + 1000; id++) {
        char text[4096];
        if (!status_at_rest(id, text, sizeof text)) continue;
        const char *line = strstr(text, "SigBlk:\t");
        if (line != NULL) say("mask %.16s", line + 8);
    }
}

/* As PID 1 does it (boot/duties.c), while the driver waits for a child of its own. */
static void step_reap(void) {
    struct toy_call job = {.argument = 7};
    *(void **)(void *)&job.function = foreign_symbol(&foreign, "toy_child");
    int64_t result = -1;
    int stolen = 0;
    foreign_post(&foreign, toy_run, &job);
    while (foreign_wait(&foreign, clock_ns() + 1000000, &result) == FOREIGN_PENDING) {
        while (waitpid(-1, NULL, WNOHANG | __WNOTHREAD) > 0) stolen++;
    }
    say("reap: %lld, %d stolen", (long long)result, stolen);
}

static void step_sandbox(void) {
    struct fault fault;
    say(sandbox_enter(SANDBOX_DRIVER, &fault) ? "sandboxed" : fault.text);
}

/* Clocks only without the kernel, from here on. */
static void step_no_clocks(void) {
    struct filter filter;
    struct fault fault;
    filter_begin(&filter);
    const uint32_t clocks[] = {SYS_clock_gettime, SYS_gettimeofday, SYS_time};
    for (size_t i = 0; i < 3; i++) {
        filter_equal(&filter, clocks[i], 0, 1);
        filter_return(&filter, SECCOMP_RET_ERRNO | EPERM);
    }
    filter_return(&filter, SECCOMP_RET_ALLOW);
    if (!filter_install(&filter, SECCOMP_FILTER_FLAG_TSYNC, &fault)) say("%s", fault.text);
    struct timespec now;
    say(clock_gettime(CLOCK_MONOTONIC, &now) == 0 ? "clocks are free" : "clocks are calls");
}

static struct cuda_api api;

static int64_t api_call(void *context) {
    (void)context;
    return api.cuMemAlloc_v2(NULL, 0);
}

static void step_api(void) {
    struct fault fault;
    int version = 0;
    int64_t result = 0;
    if (!cuda_api_load(&api, &foreign, &version, &fault)) {
        say("api: %s", fault.text);
        return;
    }
    foreign_run(&foreign, api_call, NULL, &result);
    say("api: %d, alloc found %lld", version, (long long)result);
}

static void *thread_map(void *context) {
    mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return context;
}

static void *thread_crash(void *context) {
    *(volatile int *)context = 1;
    return NULL;
}

static pthread_t waiting;
static atomic_int released;

/* A thread that was there before the sandbox, and does something when it is let go. */
static void *thread_wait(void *context) {
    while (!atomic_load(&released)) sched_yield();
    return ((void *(*)(void *))(uintptr_t)context)((void *)8);
}

static void step_alive(void) {
    say("alive");
}

/* Sleeps that the sandbox allows. */
static void step_rest(void) {
    poll(NULL, 0, 50);
}

static void step_map(void) {
    thread_map(NULL);
}

static void step_crash(void) {
    thread_crash((void *)8);
}

static void step_thread_map(void) {
    pthread_create(&waiting, NULL, thread_wait, (void *)(uintptr_t)thread_map);
}

static void step_thread_crash(void) {
    pthread_create(&waiting, NULL, thread_wait, (void *)(uintptr_t)thread_crash);
}

static void step_release(void) {
    atomic_store(&released, 1);
    poll(NULL, 0, 200);
}

static const struct {
    const char *name;
    void (*run)(void);
} steps[] = {
    {"dead", step_dead},
    {"naps", step_naps},
    {"masks", step_masks},
    {"reap", step_reap},
    {"sandbox", step_sandbox},
    {"no-clocks", step_no_clocks},
    {"api", step_api},
    {"alive", step_alive},
    {"rest", step_rest},
    {"map", step_map},
    {"crash", step_crash},
    {"abort", abort},
    {"thread-map", step_thread_map},
    {"thread-crash", step_thread_crash},
    {"release", step_release},
};

static void step(const char *text) {
    if (strncmp(text, "toy_", 4) == 0) {
        step_call(text);
        return;
    }
    if (strncmp(text, "stress=", 7) == 0) {
        step_stress(strtol(text + 7, NULL, 0));
        return;
    }
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (strcmp(text, steps[i].name) != 0) continue;
        steps[i].run();
        return;
    }
    say("no step %s", text);
    exit(2);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "start") == 0)
            step_start(argv[1], (uint32_t)atoi(argv[2]));
        else
            step(argv[i]);
    }
    foreign_stop(&foreign, NULL, NULL, clock_ns() + 1000000000);
    return 0;
}
