/* Stands in for libcuda.so.1 where the driver thread is tested: a glibc library whose functions do
 * what a driver may do, and what it should not. run.py builds it several times, with other macros.
 * Every toy_... takes and returns a number, so that the rig can call it by name. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef TOY_VERSION
#define TOY_VERSION 12020
#endif

int cuDriverGetVersion(int *version) {
    *version = TOY_VERSION;
    return 0;
}

#ifdef TOY_TLS
/* Fixed at load: the loader must have room for it in every thread's block. */
static __attribute__((tls_model("initial-exec"))) _Thread_local unsigned char large[TOY_TLS] = {1};

long toy_tls(long n) {
    large[n] = 7;
    return large[n] + large[0];
}
#endif

#ifdef TOY_MISSING
void function_that_nobody_has(void);
long toy_missing(long n) {
    function_that_nobody_has();
    return n;
}
#endif

#ifdef TOY_LOAD
/* What a constructor does while the library is opened. */
__attribute__((constructor)) static void load(void) {
    TOY_LOAD;
}
#endif

long toy_add(long n) {
    return n + 1;
}

long toy_nap(long us) {
    usleep((useconds_t)us);
    return us;
}

/* --- what may happen ------------------------------------------------------------------------ */

long toy_abort(long n) {
    abort();
    return n;
}

long toy_segv(long n) {
    *(volatile int *)(uintptr_t)n = 1;
    return n;
}

long toy_divide(long n) {
    volatile long zero = 0;
    return n / zero;
}

long toy_jump(long n) {
    ((void (*)(void))(uintptr_t)n)();
    return n;
}

long toy_exit(long n) {
    exit((int)n);
}

long toy_exit_now(long n) {
    _exit((int)n);
}

long toy_leave(long n) {
    syscall(SYS_exit, n);
    return n;
}

long toy_overflow(long n) {
    volatile char frame[65536];
    frame[0] = (char)n;
    frame[sizeof frame - 1] = frame[0];
    return toy_overflow(n + 1) + frame[sizeof frame - 1];
}

long toy_block(long n) {
    for (;;) pause();
    return n;
}

/* As abort() where a library has taken the signal: its own handler jumps nowhere. */
static void ignore(int signal) {
    (void)signal;
}

long toy_handler(long n) {
    signal(SIGSEGV, ignore);
    signal(SIGABRT, SIG_IGN);
    return toy_segv(n);
}

static void *worker_segv(void *context) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    *(volatile int *)context = 1;
    return NULL;
}

static void *worker_exit(void *context) {
    exit((int)(intptr_t)context);
}

static long worker_run(void *(*work)(void *), long n) {
    pthread_t thread;
    void *result;
    if (pthread_create(&thread, NULL, work, (void *)(intptr_t)n) != 0) return -1;
    pthread_join(thread, &result);
    return (long)(intptr_t)result;
}

long toy_segv_worker(long n) {
    return worker_run(worker_segv, n);
}

long toy_exit_worker(long n) {
    return worker_run(worker_exit, n);
}

/* --- what a driver does --------------------------------------------------------------------- */

static void *worker_sleep(void *context) {
    sigset_t all;
    sigfillset(&all);
    if (context != NULL) pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;) pause();
    return NULL;
}

/* Leaves n threads behind. */
long toy_threads(long n) {
    pthread_t thread;
    for (long i = 0; i < n; i++) {
        if (pthread_create(&thread, NULL, worker_sleep, (void *)(intptr_t)(i % 2)) != 0) return i;
    }
    return n;
}

/* Both sides of a mask as glibc's callers see it. */
long toy_mask(long n) {
    sigset_t set;
    sigset_t before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGSEGV);
    if (pthread_sigmask(SIG_UNBLOCK, &set, NULL) != 0) return -1;
    if (pthread_sigmask(SIG_BLOCK, &set, &before) != 0) return -2;
    if (sigismember(&before, SIGUSR1)) return -3;
    if (pthread_sigmask(SIG_SETMASK, NULL, &before) != 0) return -4;
    if (!sigismember(&before, SIGUSR1)) return -5;
    if (sigismember(&before, SIGSEGV)) return -6;
    return pthread_sigmask(99, &set, NULL) == 0 ? -7 : n;
}

/* Memory that keeps what was written to it, from pieces of all sizes. */
static long heap_churn(long n, unsigned seed) {
    enum { PIECES = 64 };
    unsigned char *piece[PIECES] = {NULL};
    size_t bytes[PIECES] = {0};
    for (long i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        unsigned at = seed >> 8 & (PIECES - 1);
        for (size_t k = 0; k < bytes[at]; k++) {
            if (piece[at][k] != (unsigned char)(at + k)) return -1;
        }
        free(piece[at]);
        bytes[at] = seed >> 16 & ((seed & 15) == 0 ? 0xffff : 0x3ff);
        piece[at] = malloc(bytes[at]);
        for (size_t k = 0; k < bytes[at]; k++) piece[at][k] = (unsigned char)(at + k);
    }
    for (unsigned at = 0; at < PIECES; at++) free(piece[at]);
    return n;
}

static void *worker_churn(void *context) {
    return (void *)(intptr_t)heap_churn((long)(intptr_t)context, 77);
}

long toy_heap(long n) {
    pthread_t thread;
    void *other;
    if (pthread_create(&thread, NULL, worker_churn, (void *)(intptr_t)n) != 0) return -2;
    long mine = heap_churn(n, 1);
    pthread_join(thread, &other);
    return mine == n ? (long)(intptr_t)other : mine;
}

/* A break that moves would be shared with the other C library. */
long toy_break(long n) {
    return sbrk(n) == (void *)-1 ? 1 : 0;
}

/* A child of the driver's: 0 to 255 is its status, negative: what went wrong. */
long toy_child(long n) {
    pid_t child = fork();
    if (child < 0) return -1;
    if (child == 0) {
        usleep(20000);
        _exit((int)n);
    }
    usleep(100000); /* a reaper that takes any child has had its chance */
    int status;
    if (waitpid(child, &status, 0) != child) return -2;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status) - 100;
}

/* A program cannot be run; the child says so with 127, as a shell does. */
long toy_program(long n) {
    int status = system("true");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -n;
}

long toy_print(long n) {
    printf("standard output of the driver\n");
    return fflush(stdout) == 0 ? 0 : n;
}

long toy_clock(long n) {
    struct timespec now;
    for (long i = 0; i < n; i++) {
        if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return -1;
    }
    return n;
}

long toy_map(long n) {
    void *memory =
        mmap(NULL, (size_t)n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? -1 : munmap(memory, (size_t)n);
}

/* What the driver sees of the environment: a bit each. */
long toy_environment(long n) {
    const char *loading = getenv("CUDA_MODULE_LOADING");
    const char *mine = getenv("TOY_MINE");
    return (loading != NULL && strcmp(loading, "EAGER") == 0 ? 1 : 0) |
           (mine != NULL && strcmp(mine, "here") == 0 ? 2 : 0) |
           (getenv("LD_PRELOAD") != NULL ? 4 : 0) | (n & 0);
}
