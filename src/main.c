/* wick: inference firmware. main() is the boot sequence, one call a step. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/build_id.h"
#include "base/config.h"
#include "base/log.h"
#include "base/privilege.h"
#include "base/sandbox.h"
#include "boot/boot.h"
#include "engine/engine.h"
#include "engine/plan.h"
#include "wire/server.h"

enum { EXIT_FINE = 0, EXIT_FAULT = 1, EXIT_USAGE = 2, EXIT_AGAIN = 3 };

/* Everything that lives as long as the process. */
struct wick {
    struct config config;
    struct gpu_driver gpu;
    struct engine engine;
    struct server server;
    struct arena arena;
    struct boot boot; /* PID 1 only */
};

static void say(const char *text) {
    ssize_t written = write(STDOUT_FILENO, text, strlen(text));
    (void)written; /* nothing to do about a closed stdout */
}

static int give_up(const struct fault *fault) {
    const struct fault_kind *kind = fault_kind(fault->code);
    log_event(LOG_ERROR, "failed", "code=%d %s: %s", kind->number, kind->word, fault->text);
    return fault->code == FAULT_INVALID_REQUEST ? EXIT_USAGE : EXIT_FAULT;
}

/* --help and --version. */
static int answer(char asked) {
    if (asked == 'V') {
        say("wick proto=1 build=");
        say(build_id());
        say("\n");
        return EXIT_FINE;
    }
    say("wick: serves a GGUF model over a line protocol (docs/PROTOCOL.md)\n\n"
        "usage: wick model=FILE.gguf [key=value ...]\n\n");
    config_help(STDOUT_FILENO, CONFIG_SERVE);
    return EXIT_FINE;
}

/* Everything that needs memory, in the order in which it lies in the arena. */
static bool carve(struct wick *wick, struct arena *arena, struct fault *fault) {
    if (!engine_carve(&wick->engine, arena, fault)) return false;
    server_carve(&wick->server, &wick->config, &wick->engine, arena);
    return true;
}

/* Measures, tells, and checks the plan; then takes the one mapping and carves it. */
static bool plan_and_carve(struct wick *wick, struct fault *fault) {
    char line[PLAN_LINE_BYTES];
    arena_measure(&wick->arena);
    if (!carve(wick, &wick->arena, fault)) return false;
    size_t bytes = wick->arena.used;
    for (size_t i = 0; plan_line(&wick->arena, &wick->engine, i, line) != NULL; i++)
        log_event(LOG_INFO, "plan", "%s", line);
    return engine_fits(&wick->engine, bytes, server_measure, fault) &&
           arena_map(&wick->arena, bytes, fault) && carve(wick, &wick->arena, fault);
}

static bool prepare(struct wick *wick, struct fault *fault) {
    wick->engine.gpu = &wick->gpu;
    return engine_map(&wick->engine, &wick->config, fault) && plan_and_carve(wick, fault);
}

/* From here on nothing is asked of the kernel but what serving needs, and what a driver needs: that
 * one opens files whenever it likes. */
static bool confine(struct wick *wick, uint32_t role, struct fault *fault) {
    if (!sandbox_supported()) return true;
    bool driver = foreign_started(&wick->gpu.foreign);
    bool init = role == SANDBOX_INIT;
    uint64_t kept = init ? boot_privileges(&wick->boot) : 0;
    if (driver) role |= SANDBOX_DRIVER;
    return (driver || privilege_hide_files(fault)) && privilege_keep(kept, fault) &&
           sandbox_enter(role, fault);
}

/* A plain process: what fails ends it. */
static int serve(struct wick *wick) {
    struct fault fault;
    if (!prepare(wick, &fault)) return give_up(&fault);
    if (!server_open(&wick->server, &fault)) return give_up(&fault);
    switch (server_load(&wick->server, &fault)) {
    case SERVER_FAILED:
        server_close(&wick->server);
        return give_up(&fault);
    case SERVER_STOPPED:
        server_close(&wick->server);
        return EXIT_FINE;
    case SERVER_READY:
        break;
    }
    arena_seal(&wick->arena);
    if (!confine(wick, SANDBOX_PROCESS, &fault)) return give_up(&fault);
    server_run(&wick->server);
    server_close(&wick->server);
    engine_close(&wick->engine);
    return wick->server.reboot ? EXIT_AGAIN : EXIT_FINE;
}

/* In place of a model: memory for a server that tells why there is none. */
static bool prepare_blank(struct wick *wick, struct fault *fault) {
    wick->engine.backend = NULL; /* carved at most; no thread has started */
    engine_close(&wick->engine);
    wick->config.slots = 1;
    wick->config.queue = 0;
    engine_blank(&wick->engine, &wick->config);
    arena_measure(&wick->arena);
    server_carve(&wick->server, &wick->config, &wick->engine, &wick->arena);
    size_t bytes = wick->arena.used;
    log_event(LOG_INFO, "plan", "no model: arena_bytes=%zu", bytes);
    if (!arena_map(&wick->arena, bytes, fault)) return false;
    server_carve(&wick->server, &wick->config, &wick->engine, &wick->arena);
    return true;
}

/* PID 1: whatever fails, the machine answers on its wires until it is told to end. */
static _Noreturn void serve_machine(struct wick *wick) {
    struct boot *boot = &wick->boot;
    struct server *server = &wick->server;
    struct fault fault;
    struct fault worse;
    bool fine = boot_start(boot, &wick->config, &fault) && prepare(wick, &fault);
    if (!fine) give_up(&fault);
    bool carved = fine || prepare_blank(wick, &worse);
    if (carved) server->host = &boot->host;
    if (carved && !fine) server_fail(server, &fault);
    if (!carved || !server_open(server, &worse)) {
        give_up(&worse);
        boot_abandon(boot);
    }
    enum server_result result = fine ? server_load(server, &fault) : SERVER_FAILED;
    if (fine && result == SERVER_FAILED) give_up(&fault);
    if (result != SERVER_STOPPED) {
        boot_up(boot, result == SERVER_READY);
        arena_seal(&wick->arena);
        if (!confine(wick, SANDBOX_INIT, &worse)) {
            boot->host.ops->complain(&boot->host, worse.text);
        }
        server_run(server);
    }
    server_close(server);
    boot_finish(boot, server->reboot ? POWER_RESTART : POWER_OFF);
}

/* on_gpu_fault=restart: a driver has one life in a process, so a second process serves, and this
 * one waits for its end and starts it anew where a GPU has failed. Returns in the one that serves.
 */
static void supervise(void) {
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &before);
    for (;;) {
        pid_t parent = getpid(), child = fork();
        if (child <= 0) { /* -1: nobody waits, so a restart is an end */
            prctl(PR_SET_PDEATHSIG, child == 0 ? SIGTERM : 0);
            if (child == 0 && getppid() != parent) _exit(EXIT_FAULT);
            sigprocmask(SIG_SETMASK, &before, NULL);
            return;
        }
        int status = 0, number = 0;
        while (waitpid(child, &status, WNOHANG) != child) {
            if (sigwait(&set, &number) == 0 && number != SIGCHLD) kill(child, number);
        }
        if (!WIFEXITED(status)) _exit(128 + WTERMSIG(status)); /* as a shell tells it */
        if (WEXITSTATUS(status) != EXIT_AGAIN) _exit(WEXITSTATUS(status));
        log_event(LOG_WARN, "restart", "a GPU has failed: starting anew");
        sleep(1);
    }
}

int main(int argc, char **argv) {
    static struct wick wick; /* about 4 MB: not for the stack */
    struct fault fault;
    char asked = 0;
    config_defaults(&wick.config, CONFIG_SERVE);
    if (boot_is_ours()) serve_machine(&wick);
    if (!config_from_argv(&wick.config, CONFIG_SERVE, argc - 1, argv + 1, &asked, &fault)) {
        give_up(&fault);
        return EXIT_USAGE;
    }
    if (asked != 0) return answer(asked);
    signal(SIGPIPE, SIG_IGN); /* whoever reads the log may go before we do */
    log_open(STDERR_FILENO, (enum log_level)wick.config.log_level);
    if (wick.config.on_gpu_fault == CONFIG_GPU_FAULT_RESTARTS) supervise();
    return serve(&wick);
}
