#include "cuda/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

/* Statuses of the child. Others are those of a library that ended it. */
enum { CHILD_FINE = 0, CHILD_FAILED = 90 };

enum { SAID_BYTES = 512, NS_PER_MS = 1000000 };

static _Noreturn void child_run(preflight_try *attempt, void *context, uint32_t timeout_ms,
                                int said, struct fault *fault) {
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &alarms, NULL);
    alarm(timeout_ms / 1000 + 2); /* should the parent be gone */
    dup2(said, STDERR_FILENO);
    _exit(attempt(context, fault) ? CHILD_FINE : CHILD_FAILED);
}

/* Reads what the child says until it ends or the deadline has passed; keeps the end of it. */
static bool child_hear(int from, uint64_t deadline_ns, char *said) {
    size_t n = 0;
    for (;;) {
        uint64_t now = clock_ns();
        if (now >= deadline_ns) return false;
        struct pollfd ready = {.fd = from, .events = POLLIN};
        int status = poll(&ready, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1);
        if (status <= 0) continue;
        if (n == SAID_BYTES - 1) { /* keep the second half */
            memmove(said, said + n / 2, n - n / 2);
            n -= n / 2;
        }
        ssize_t got = read(from, said + n, SAID_BYTES - 1 - n);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return true;
        n += (size_t)got;
        said[n] = '\0';
    }
}

/* The last line, without its newline; "" where there is none. */
static const char *line_last(char *text) {
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '\n') text[--n] = '\0';
    const char *newline = strrchr(text, '\n');
    return newline == NULL ? text : newline + 1;
}

static bool child_judge(int status, bool in_time, uint32_t timeout_ms, const char *line,
                        const struct fault *told, struct fault *fault) {
    const char *dash = line[0] == '\0' ? "" : "; it said: ";
    if (!in_time) {
        return fault_set(fault, FAULT_CUDA_ERROR, "trying the driver in a child: %s in %u ms%s%s",
                         "no answer", timeout_ms, dash, line);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_FINE) return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_FAILED) {
        return fault_set(fault, told->code, "%s%s%s", told->text, dash, line);
    }
    return fault_set(fault, FAULT_CUDA_ERROR,
                     "trying the driver in a child: it ended with %s %d%s%s",
                     WIFSIGNALED(status) ? "signal" : "status",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), dash, line);
}

bool preflight(preflight_try *attempt, void *context, uint32_t timeout_ms, struct fault *fault) {
    int ends[2] = {-1, -1};
    struct fault *told =
        mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = -1;
    if (told != MAP_FAILED && pipe2(ends, O_CLOEXEC) == 0) child = fork();
    if (child == 0) child_run(attempt, context, timeout_ms, ends[1], told);
    bool fine = false;
    if (child < 0) {
        fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "trying the driver in a child: %s",
                  strerror(errno));
    } else {
        char said[SAID_BYTES] = "";
        int status = 0;
        close(ends[1]);
        ends[1] = -1;
        bool in_time = child_hear(ends[0], clock_ns() + (uint64_t)timeout_ms * NS_PER_MS, said);
        if (!in_time) kill(child, SIGKILL);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        fine = child_judge(status, in_time, timeout_ms, line_last(said), told, fault);
    }
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) close(ends[i]);
    }
    if (told != MAP_FAILED) munmap(told, sizeof *told);
    return fine;
}
