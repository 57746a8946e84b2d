#include "boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/build_id.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/privilege.h"
#include "base/text_file.h"
#include "boot/consoles.h"
#include "boot/counter.h"
#include "boot/crash.h"
#include "boot/disk.h"
#include "boot/duties.h"
#include "boot/modules.h"
#include "boot/nodes.h"

bool boot_is_ours(void) {
    return getpid() == 1 && access("/proc/self", F_OK) != 0;
}

/* Something failed and the boot goes on: for the log and for HEALTH. */
static void boot_note(struct boot *boot, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void boot_note(struct boot *boot, const char *format, ...) {
    char text[HOST_NOTICE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_event(LOG_WARN, "boot", "%s", text);
    size_t used = strlen(boot->notice);
    snprintf(boot->notice + used, sizeof boot->notice - used, "%s%s", used > 0 ? "; " : "", text);
}

void boot_complain(struct host *host, const char *what) {
    boot_note((struct boot *)host, "%s", what);
}

/* --- the steps, in order -------------------------------------------------------------------- */

static void file_systems_mount(struct boot *boot) {
    static const struct {
        const char *type, *path;
        unsigned long flags;
        const char *options;
    } systems[] = {
        {"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
        {"devtmpfs", "/dev", MS_NOSUID, "mode=0755"},
        /* A GPU driver wants these three. */
        {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
        {"tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"},
        {"tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"},
    };
    for (size_t i = 0; i < sizeof systems / sizeof *systems; i++) {
        mkdir(systems[i].path, 0755); /* is there, mostly */
        int status = mount(systems[i].type, systems[i].path, systems[i].type, systems[i].flags,
                           systems[i].options);
        if (status != 0 && errno != EBUSY) { /* busy: the kernel has mounted it */
            boot_note(boot, "mount %s: %s", systems[i].path, strerror(errno));
        }
    }
}

/* The kernel hands over its console as stdin and stdout: nothing of ours may get there by accident.
 */
static void console_leave(void) {
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2 && null >= 0; fd++) dup2(null, fd);
    if (null > 2) close(null);
}

static void log_to_kernel(struct boot *boot) {
    /* Or the kernel drops all but ten lines in five seconds. */
    sysfs_write("/proc/sys/kernel/printk_devkmsg", "on\n");
    int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        boot_note(boot, "/dev/kmsg: %s", strerror(errno));
        return;
    }
    log_open_kernel(fd, LOG_INFO);
    log_event(LOG_INFO, "boot", "build=%s", build_id());
}

static bool command_line_read(struct boot *boot, struct config *config, struct fault *fault) {
    long n = text_file_read("/proc/cmdline", boot->cmdline, sizeof boot->cmdline);
    if (n < 0) {
        return fault_set(fault, FAULT_INVALID_REQUEST, "/proc/cmdline: %s", strerror(errno));
    }
    bool fine = config_from_cmdline(config, CONFIG_SERVE, boot->cmdline, fault);
    if (!fine) log_event(LOG_ERROR, "boot", "%s", fault->text);
    if (log_is_kernel()) log_open_kernel(log_fd(), (enum log_level)config->log_level);
    return fine;
}

/* Where nobody has said what shall follow a panic, it is a restart: the kernel would stand still
 * for ever. */
static void panic_choose(const struct config *config) {
    static const char path[] = "/proc/sys/kernel/panic";
    char text[16];
    crash_watch(config->on_fault == CONFIG_FAULT_REBOOTS);
    if (text_file_read(path, text, sizeof text) > 0 && strcmp(text, "0") == 0)
        sysfs_write(path, "10");
}

static void boots_count(struct boot *boot, const struct config *config) {
    const char *reason;
    int failures = counter_begin(config->boot_count, &reason);
    boot->counted = failures >= 0;
    if (!boot->counted) log_event(LOG_INFO, "boot", "failed boots are not counted: %s", reason);
    if (failures > 0) log_event(LOG_WARN, "boot", "failed_before=%d", failures);
    boot->safe = failures >= COUNTER_FAILURES_MAX;
}

static void module_failed(void *context, const char *path, const char *reason) {
    boot_note(context, "module %s: %s", path, reason);
}

static void modules_start(struct boot *boot) {
    unsigned n = modules_load(module_failed, boot);
    log_event(LOG_INFO, "boot", "modules=%u", n);
}

static void node_failed(void *context, const char *path, const char *reason) {
    boot_note(context, "device %s: %s", path, reason);
}

static void nodes_start(struct boot *boot) {
    unsigned n = nodes_make(node_failed, boot);
    if (n > 0) log_event(LOG_INFO, "boot", "nodes=%u", n);
}

static void watchdog_start(struct boot *boot, const struct config *config) {
    if (config->watchdog_s == 0) return;
    if (watchdog_open(&boot->watchdog, config->watchdog_s)) {
        log_event(LOG_INFO, "boot", "watchdog=%u", boot->watchdog.seconds);
    } else {
        boot_note(boot, "watchdog=%u: /dev/watchdog: %s", config->watchdog_s, strerror(errno));
    }
}

/* Blocked before any thread starts, so that all threads inherit it. */
static void children_watch(struct boot *boot) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    boot->children = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (boot->children < 0) boot_note(boot, "signalfd: %s", strerror(errno));
}

static void network_start(struct boot *boot, const struct config *config) {
    struct ip_plan plan;
    struct fault fault;
    if (!ip_plan_parse(config->ip, &plan, &fault)) boot_note(boot, "%s", fault.text);
    net_start(&boot->net, &plan, patience_for(config->wait_ms, &boot->watchdog));
}

static void wire_left_out(void *context, const char *spec, const char *reason) {
    boot_note(context, "%s: %s", spec, reason);
}

static void wires_choose(struct boot *boot, struct config *config) {
    consoles_choose(config, patience_for(config->wait_ms, &boot->watchdog), wire_left_out, boot);
}

static bool model_find(struct boot *boot, struct config *config, struct fault *fault) {
    const char *model = config->model != NULL ? config->model : "auto";
    struct patience patience = patience_for(config->wait_ms, &boot->watchdog);
    if (!disk_find(model, patience, boot->model, fault)) return false;
    config->model = boot->model;
    return true;
}

static bool safe_mode(struct fault *fault) {
    return fault_set(fault, FAULT_WORKER_UNHEALTHY,
                     "safe mode: %d boots in a row ended before the server was up; LOG may say "
                     "why; REBOOT tries again",
                     COUNTER_FAILURES_MAX);
}

bool boot_start(struct boot *boot, struct config *config, struct fault *fault) {
    boot->started_ns = clock_ns();
    boot->host.ops = &boot_duties;
    boot->children = boot->net.packet = boot->watchdog.fd = -1;

    file_systems_mount(boot);                           /* what everything below reads */
    console_leave();                                    /* stdin, stdout: nowhere */
    log_to_kernel(boot);                                /* from here on LOG has it */
    bool fine = command_line_read(boot, config, fault); /* wick.key=value */
    panic_choose(config);                               /* a bug restarts the machine */
    boots_count(boot, config);                          /* or it was one too many */
    modules_start(boot);                                /* drivers */
    nodes_start(boot);                                  /* what devtmpfs does not make */
    watchdog_start(boot, config);                       /* from here on a hang restarts */
    power_open(&boot->power);                           /* Ctrl-Alt-Del and the button */
    children_watch(boot);                               /* orphans come to us */
    network_start(boot, config);                        /* lo, links, addresses */
    wires_choose(boot, config);                         /* hvc0, or what listen= says */
    watchdog_feed(&boot->watchdog, clock_ns());
    if (boot->safe) return safe_mode(fault);
    return fine && model_find(boot, config, fault); /* the disk with the model */
}

void boot_up(struct boot *boot, bool ready) {
    uint64_t now_ns = clock_ns();
    if (boot->counted && !boot->safe) {
        counter_clear();
        boot->counted = false; /* nothing is left to clear */
    }
    log_event(LOG_INFO, "boot", "up=%s kernel_ms=%llu wick_ms=%llu", ready ? "ready" : "failed",
              (unsigned long long)(boot->started_ns / 1000000),
              (unsigned long long)((now_ns - boot->started_ns) / 1000000));
}

uint64_t boot_privileges(const struct boot *boot) {
    uint64_t kept = PRIVILEGE(CAP_SYS_BOOT) | PRIVILEGE(CAP_SYSLOG);
    if (boot->net.plan.way == IP_DHCP) kept |= PRIVILEGE(CAP_NET_ADMIN);
    return kept;
}

_Noreturn void boot_finish(struct boot *boot, enum power_end end) {
    log_event(LOG_INFO, "boot", "end=%s", end == POWER_OFF ? "off" : "restart");
    if (boot->counted) counter_clear(); /* an end that was asked for is no failure */
    watchdog_close(&boot->watchdog);
    power_finish(end);
}

_Noreturn void boot_abandon(struct boot *boot) {
    enum { READING_MS = 10 * 1000 };
    log_event(LOG_ERROR, "boot", "nothing can run here; restart in %d s", READING_MS / 1000);
    struct patience patience = patience_for(READING_MS, &boot->watchdog);
    while (patience_wait(&patience)) {
    }
    power_finish(POWER_RESTART);
}
