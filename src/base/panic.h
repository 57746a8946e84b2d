/* panic: the end of a process that found a bug of its own. Asserts stay on in production. */
#ifndef WICK_BASE_PANIC_H
#define WICK_BASE_PANIC_H

/* Writes "file:line: what" to the log descriptor and ends the process with SIGABRT, or as the hook
 * does it. Never allocates. */
_Noreturn void panic_at(const char *file, int line, const char *what);

/* What ends the process in place of SIGABRT, which PID 1 does not notice; set once at boot, before
 * any thread starts. */
typedef void panic_hook(void);
void panic_hook_set(panic_hook *hook);

/* Does so; returns where there is no hook. */
void panic_hook_run(void);

/* A condition that only a bug of ours can break. */
#define wick_assert(condition)                                                                     \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0)) panic_at(__FILE__, __LINE__, #condition);           \
    } while (0)

#endif
