#include "boot/duties.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "boot/boot.h"

/* The host is the first member. */
static struct boot *boot_of(struct host *host) {
    return (struct boot *)host;
}

/* Places in what is polled. */
enum { DUTY_CHILDREN, DUTY_NET, DUTY_BUTTONS };
_Static_assert(DUTY_BUTTONS + POWER_BUTTONS_MAX <= HOST_POLL_MAX, "all duties have a place");

static uint32_t duties_poll(struct host *host, struct pollfd *polled, uint64_t now_ns,
                            uint64_t *next_ns) {
    (void)now_ns;
    const struct boot *boot = boot_of(host);
    polled[DUTY_CHILDREN] = (struct pollfd){.fd = boot->children, .events = POLLIN};
    polled[DUTY_NET] = net_poll(&boot->net, next_ns);
    for (unsigned i = 0; i < boot->power.n_buttons; i++) {
        polled[DUTY_BUTTONS + i] = (struct pollfd){.fd = boot->power.button[i], .events = POLLIN};
    }
    uint64_t hungry_ns = watchdog_next_ns(&boot->watchdog);
    if (hungry_ns < *next_ns) *next_ns = hungry_ns;
    return DUTY_BUTTONS + boot->power.n_buttons;
}

/* Children of this thread only: those of the driver's thread are waited for by the driver. */
static void children_reap(const struct boot *boot) {
    struct signalfd_siginfo info;
    while (read(boot->children, &info, sizeof info) == (ssize_t)sizeof info) {
    }
    while (waitpid(-1, NULL, WNOHANG | __WNOTHREAD) > 0) {
    }
}

static enum host_wish duties_serve(struct host *host, const struct pollfd *polled, uint32_t n,
                                   uint64_t now_ns) {
    struct boot *boot = boot_of(host);
    wick_assert(n == DUTY_BUTTONS + boot->power.n_buttons);
    if (polled[DUTY_CHILDREN].revents != 0) children_reap(boot);
    net_serve(&boot->net, &polled[DUTY_NET], now_ns);
    enum host_wish wish = HOST_CONTENT;
    for (unsigned i = 0; i < boot->power.n_buttons; i++) {
        if (polled[DUTY_BUTTONS + i].revents == 0) continue;
        if (!power_pressed(boot->power.button[i])) continue;
        log_event(LOG_INFO, "power", "button pressed");
        wish = HOST_SHUTDOWN;
    }
    return wish;
}

static void duties_progress(struct host *host, uint64_t now_ns) {
    watchdog_feed(&boot_of(host)->watchdog, now_ns);
}

size_t kernel_log_tidy(char *text, size_t n) {
    size_t in = 0;
    size_t out = 0;
    if (n > 0 && text[0] != '<') {
        const char *newline = memchr(text, '\n', n);
        in = newline == NULL ? n : (size_t)(newline - text) + 1;
    }
    while (in < n) {
        const char *newline = memchr(text + in, '\n', n - in);
        size_t end = newline == NULL ? n : (size_t)(newline - text) + 1;
        const char *close = text[in] == '<' ? memchr(text + in, '>', end - in) : NULL;
        if (close != NULL) in = (size_t)(close - text) + 1;
        memmove(text + out, text + in, end - in);
        out += end - in;
        in = end;
    }
    return out;
}

/* Is it the name of a key's setting that ends before text[end], where the '=' is? */
static bool names_a_key(const char *text, size_t end) {
    static const char prefix[] = "wick.";
    size_t begin = end;
    while (begin > 0 && strchr(" \t\n\"=", text[begin - 1]) == NULL) begin--;
    size_t n = end - begin;
    return n >= sizeof prefix - 1 + 3 && memcmp(text + begin, prefix, sizeof prefix - 1) == 0 &&
           memcmp(text + end - 3, "key", 3) == 0;
}

void kernel_log_mask(char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (text[i] != '=' || !names_a_key(text, i)) continue;
        while (i + 1 < n && strchr(" \t\n", text[i + 1]) == NULL) text[++i] = '*';
    }
}

static size_t duties_log(struct host *host, char *text, size_t size) {
    (void)host;
    enum { READ_ALL = 3 }; /* SYSLOG_ACTION_READ_ALL: the last `size` bytes, left where they are */
    int n = klogctl(READ_ALL, text, (int)size);
    if (n <= 0) return log_tail(text, size);
    size_t tidy = kernel_log_tidy(text, (size_t)n);
    kernel_log_mask(text, tidy);
    return tidy;
}

static void duties_notice(struct host *host, char text[HOST_NOTICE_BYTES]) {
    const struct boot *boot = boot_of(host);
    size_t used = strlen(boot->notice);
    memcpy(text, boot->notice, used + 1);
    if (used + 3 >= HOST_NOTICE_BYTES) return;
    if (used > 0) used += (size_t)snprintf(text + used, 3, "; ");
    net_notice(&boot->net, clock_ns(), text + used, HOST_NOTICE_BYTES - used);
    if (text[used] == '\0') memcpy(text, boot->notice, strlen(boot->notice) + 1);
}

const struct host_ops boot_duties = {.poll = duties_poll,
                                     .serve = duties_serve,
                                     .progress = duties_progress,
                                     .log = duties_log,
                                     .notice = duties_notice,
                                     .complain = boot_complain};
