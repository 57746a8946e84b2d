/* top: what the server is doing, drawn in place again and again. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "call.h"
#include "json.h"
#include "terminal.h"
#include "token/utf8.h"

enum { PAST_MAX = 64, BAR_CELLS = 24, LABEL_COLUMNS = 9 };

/* Another page of the terminal, without a cursor; the first page comes back as it was. */
static const char screen_on[] = "\033[?1049h\033[?25l", screen_off[] = "\033[?25h\033[?1049l";

/* The metrics that are shown, by their names in METRICS. */
struct counts {
    double completed, cancelled, failed, refused, dropped, invalid;
    double tokens_in, tokens_out, tokens_reused;
    double busy_ms, ended, uptime_s, connections;
    double pages_free, pages_cached, pages_used;
};

#define AT(field) offsetof(struct counts, field)

static const struct {
    const char *name;
    size_t offset;
} metrics[] = {
    {"worker_requests_total{outcome=\"completed\"}", AT(completed)},
    {"worker_requests_total{outcome=\"cancelled\"}", AT(cancelled)},
    {"worker_requests_total{outcome=\"failed\"}", AT(failed)},
    {"worker_requests_total{outcome=\"refused\"}", AT(refused)},
    {"worker_requests_total{outcome=\"dropped\"}", AT(dropped)},
    {"worker_requests_total{outcome=\"invalid\"}", AT(invalid)},
    {"worker_tokens_in_total", AT(tokens_in)},
    {"worker_tokens_generated_total", AT(tokens_out)},
    {"worker_tokens_reused_total", AT(tokens_reused)},
    {"worker_inference_duration_ms_sum", AT(busy_ms)},
    {"worker_inference_duration_ms_count", AT(ended)},
    {"worker_uptime_seconds", AT(uptime_s)},
    {"worker_connections", AT(connections)},
    {"worker_kv_pages{state=\"free\"}", AT(pages_free)},
    {"worker_kv_pages{state=\"cached\"}", AT(pages_cached)},
    {"worker_kv_pages{state=\"used\"}", AT(pages_used)},
};

struct top {
    const struct call *call;
    struct session *session;
    struct reply health;
    char health_line[LINK_BUFFER]; /* what health points into */
    struct counts now, before;
    double at_s, elapsed_s; /* of this look; since the last, 0: there was none */
    double past[PAST_MAX];  /* generated tokens a second, the newest last */
    size_t n_past;
    unsigned columns, rows, row;
    bool utf8;
    struct text frame;
};

static double clock_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* --- looking ------------------------------------------------------------------------------------
 */

static void metric_take(struct counts *counts, const char *line) {
    const char *space = strrchr(line, ' ');
    if (!space || *line == '#') return;
    size_t n = (size_t)(space - line);
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        if (strlen(metrics[i].name) == n && memcmp(metrics[i].name, line, n) == 0)
            *(double *)((char *)counts + metrics[i].offset) = strtod(space, NULL);
}

static enum ctl_exit metrics_ask(struct top *top) {
    struct reply reply;
    enum ctl_exit status = session_ask(top->session, "METRICS", &reply);
    while (status == CTL_OK && reply.more) {
        metric_take(&top->now, reply.rest);
        status = session_reply(top->session, 0, SESSION_ANSWER_MS, &reply);
    }
    return status;
}

static enum ctl_exit look(struct top *top) {
    top->before = top->now;
    enum ctl_exit status = metrics_ask(top);
    double at_s = clock_s();
    top->elapsed_s = top->at_s > 0 ? at_s - top->at_s : 0;
    top->at_s = at_s;
    if (status == CTL_OK) status = session_ask(top->session, "HEALTH", &top->health);
    if (status != CTL_OK) return status;
    /* The line lies in the link's buffer, which the next one overwrites. */
    snprintf(top->health_line, sizeof top->health_line, "%s", top->health.rest);
    top->health.rest = top->health_line;
    return reply_split(&top->health) ? CTL_OK : session_lost(top->session);
}

/* Of a counter, a second. */
static double rate(const struct top *top, size_t offset) {
    double now = *(const double *)((const char *)&top->now + offset);
    double before = *(const double *)((const char *)&top->before + offset);
    return top->elapsed_s > 0 && now >= before ? (now - before) / top->elapsed_s : 0;
}

static double field(const struct top *top, const char *name) {
    return strtod(reply_value(&top->health, name, "0"), NULL);
}

/* --- drawing ------------------------------------------------------------------------------------
 */

/* Bytes of `line` that fill no more than `columns`. */
static size_t fitting(const char *line, size_t columns) {
    size_t at = 0, length = strlen(line);
    for (uint32_t c; at < length && columns > 0; columns--)
        at += utf8_decode(line + at, length - at, &c);
    return at;
}

static void line_add(struct top *top, const char *label, const char *line) {
    bool color = top->call->color;
    char head[LABEL_COLUMNS + 1];
    if (top->row + 1 >= top->rows) return; /* the last row stays empty: it might scroll */
    snprintf(head, sizeof head, "%-*s", LABEL_COLUMNS, label);
    size_t room = top->columns > LABEL_COLUMNS ? top->columns - LABEL_COLUMNS - 1 : 0;
    text_add_string(&top->frame, color ? "\033[1m" : "");
    text_add_string(&top->frame, head);
    text_add_string(&top->frame, color ? "\033[0m" : "");
    text_add(&top->frame, line, fitting(line, room));
    text_add_string(&top->frame, "\033[K\r\n");
    top->row++;
}

/* Of `all`, `a` as '#' and `b` as '='. */
static void bar(double a, double b, double all, char out[BAR_CELLS + 3]) {
    double cells_a = all > 0 ? a / all * BAR_CELLS : 0;
    double cells_b = all > 0 ? (a + b) / all * BAR_CELLS : 0;
    out[0] = '[';
    for (int i = 0; i < BAR_CELLS; i++)
        out[1 + i] = i + 0.5 < cells_a ? '#' : i + 0.5 < cells_b ? '=' : '.';
    memcpy(out + 1 + BAR_CELLS, "]", 2);
}

/* The rates of the last looks, as high as they are. */
static void past_draw(const struct top *top, size_t columns, struct text *out) {
    static const char *const blocks[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                         "\u2585", "\u2586", "\u2587", "\u2588"};
    static const char *const plain[] = {" ", ".", ".", ":", "-", "=", "+", "*", "#"};
    double most = 0;
    for (size_t i = 0; i < top->n_past; i++)
        if (top->past[i] > most) most = top->past[i];
    size_t from = top->n_past > columns ? top->n_past - columns : 0;
    for (size_t i = from; i < top->n_past; i++) {
        int level = most > 0 ? (int)(top->past[i] / most * 8 + 0.5) : 0;
        text_add_string(out, top->utf8 ? blocks[level] : plain[level]);
    }
}

static void duration(double seconds, char out[32]) {
    unsigned long s = (unsigned long)seconds, days = s / 86400;
    if (days > 0)
        snprintf(out, 32, "%lu d %02lu:%02lu:%02lu", days, s / 3600 % 24, s / 60 % 60, s % 60);
    else
        snprintf(out, 32, "%02lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
}

static void head_draw(struct top *top) {
    const struct reply *health = &top->health;
    char line[512], up[32];
    duration(top->now.uptime_s, up);
    snprintf(line, sizeof line, "%s (%s, %s) at %s", reply_value(health, "model", "?"),
             reply_value(health, "architecture", "?"), reply_value(health, "quantisation", "?"),
             top->session->address);
    line_add(top, "wick", line);
    snprintf(line, sizeof line, "%s %s, %s", reply_value(health, "backend", "?"),
             reply_value(health, "isa", ""), reply_value(health, "device", ""));
    line_add(top, "on", line);
    const char *percent = reply_value(health, "percent", NULL);
    snprintf(line, sizeof line, "%s%s%s%s, up %s, %.0f connections",
             reply_value(health, "status", "?"), percent ? " " : "", percent ? percent : "",
             percent ? " %" : "", up, top->now.connections);
    line_add(top, "status", line);
    const char *const troubles[] = {"reason", "notice"};
    for (size_t i = 0; i < 2; i++)
        if (reply_find(health, troubles[i]))
            line_add(top, troubles[i], reply_value(health, troubles[i], ""));
}

static void load_draw(struct top *top) {
    char line[512], cells[BAR_CELLS + 3];
    double slots = field(top, "slots"), busy = slots - field(top, "slots_free");
    double queue = field(top, "queue"), queued = field(top, "queued");
    const struct counts *now = &top->now;
    double pages = now->pages_used + now->pages_cached + now->pages_free;
    line_add(top, "", "");
    bar(busy, 0, slots, cells);
    snprintf(line, sizeof line, "%s %.0f of %.0f busy", cells, busy, slots);
    line_add(top, "slots", line);
    bar(queued, 0, queue, cells);
    snprintf(line, sizeof line, "%s %.0f of %.0f waiting", cells, queued, queue);
    line_add(top, "queue", line);
    bar(now->pages_used, now->pages_cached, pages, cells);
    snprintf(line, sizeof line, "%s %.0f used, %.0f cached of %.0f pages", cells, now->pages_used,
             now->pages_cached, pages);
    line_add(top, "KV", line);
}

static void rates_draw(struct top *top) {
    char line[512];
    struct text past = {0};
    line_add(top, "", "");
    size_t room = top->columns > LABEL_COLUMNS + 30 ? top->columns - LABEL_COLUMNS - 30 : 0;
    past_draw(top, room, &past);
    snprintf(line, sizeof line, "%9.1f tokens/s generated  %s", rate(top, AT(tokens_out)),
             past.bytes ? past.bytes : "");
    line_add(top, "decode", line);
    text_free(&past);
    double in = rate(top, AT(tokens_in)), reused = rate(top, AT(tokens_reused));
    snprintf(line, sizeof line, "%9.1f tokens/s in prompts, %.0f %% found in the KV cache", in,
             in > 0 ? 100 * reused / in : 0);
    line_add(top, "prompt", line);
    double jobs = rate(top, AT(ended));
    snprintf(line, sizeof line, "%9.1f a second, %.0f ms each", jobs,
             jobs > 0 ? rate(top, AT(busy_ms)) / jobs : 0);
    line_add(top, "jobs", line);
}

static void totals_draw(struct top *top) {
    char line[512];
    const struct counts *now = &top->now;
    const double mib = 1024 * 1024;
    line_add(top, "", "");
    snprintf(line, sizeof line, "%.0f completed, %.0f cancelled, %.0f failed", now->completed,
             now->cancelled, now->failed);
    line_add(top, "in all", line);
    snprintf(line, sizeof line, "%.0f refused, %.0f dropped, %.0f invalid", now->refused,
             now->dropped, now->invalid);
    line_add(top, "", line);
    snprintf(line, sizeof line, "%.0f in, %.0f of them reused, %.0f out", now->tokens_in,
             now->tokens_reused, now->tokens_out);
    line_add(top, "tokens", line);
    snprintf(line, sizeof line, "%.1f MiB weights, %.1f MiB KV cache, %.1f MiB in all",
             field(top, "weight_bytes") / mib, field(top, "kv_bytes") / mib,
             field(top, "arena_bytes") / mib);
    line_add(top, "memory", line);
}

/* The whole picture, over the last one. */
static void draw(struct top *top, bool screen) {
    text_clear(&top->frame);
    terminal_size(&top->columns, &top->rows);
    if (!screen) top->rows = 1000;
    top->row = 0;
    if (screen) text_add_string(&top->frame, "\033[H");
    head_draw(top);
    load_draw(top);
    rates_draw(top);
    totals_draw(top);
    if (screen) line_add(top, "", "");
    if (screen) line_add(top, "", "q quits");
    if (screen) text_add_string(&top->frame, "\033[J");
}

/* Without a terminal there are no escape sequences. */
static void frame_print(struct top *top) {
    const char *at = top->frame.bytes, *end = at + top->frame.length;
    while (at < end) {
        const char *cut = strstr(at, "\033[K\r\n");
        size_t n = cut ? (size_t)(cut - at) : (size_t)(end - at);
        while (n > 0 && at[n - 1] == ' ') n--;
        printf("%.*s\n", (int)n, at);
        at = cut ? cut + 5 : end;
    }
}

static void json_print(const struct top *top) {
    const struct counts *now = &top->now;
    fputs("{\"status\":", stdout);
    const char *state = reply_value(&top->health, "status", "?");
    json_text(state, strlen(state));
    printf(",\"slots\":%.0f,\"slots_free\":%.0f,\"queue\":%.0f,\"queued\":%.0f",
           field(top, "slots"), field(top, "slots_free"), field(top, "queue"),
           field(top, "queued"));
    printf(",\"kv_pages_used\":%.0f,\"kv_pages_cached\":%.0f,\"kv_pages_free\":%.0f",
           now->pages_used, now->pages_cached, now->pages_free);
    printf(",\"tokens_per_s\":%.3f,\"prompt_tokens_per_s\":%.3f,\"jobs_per_s\":%.3f",
           rate(top, AT(tokens_out)), rate(top, AT(tokens_in)), rate(top, AT(ended)));
    printf(",\"connections\":%.0f,\"uptime_s\":%.3f}\n", now->connections, now->uptime_s);
    fflush(stdout);
}

/* --- again and again ----------------------------------------------------------------------------
 */

/* Until the next look, or 'q', Ctrl-C or the end of the connection. */
static enum ctl_exit pause_for(struct top *top, double seconds, bool keys, bool *quit) {
    double until = clock_s() + seconds;
    for (double left = seconds; left > 0; left = until - clock_s()) {
        char *line, key = 0;
        switch (link_read(&top->session->link, keys ? STDIN_FILENO : -1, (int)(left * 1e3) + 1,
                          &line)) {
        case LINK_INTERRUPT:
            *quit = true;
            return CTL_OK;
        case LINK_CLOSED:
            return session_lost(top->session);
        case LINK_INPUT:
            if (read(STDIN_FILENO, &key, 1) == 0) keys = false;
            *quit = key == 'q' || key == 'Q';
            if (*quit) return CTL_OK;
            break;
        case LINK_LINE:
        case LINK_TIMEOUT:
            break;
        }
    }
    return CTL_OK;
}

static void past_add(struct top *top) {
    if (top->elapsed_s <= 0) return;
    if (top->n_past == PAST_MAX)
        memmove(top->past, top->past + 1, --top->n_past * sizeof top->past[0]);
    top->past[top->n_past++] = rate(top, AT(tokens_out));
}

static enum ctl_exit looks(struct top *top, bool screen) {
    const struct call *call = top->call;
    double interval_s = call->interval_s > 0 ? call->interval_s : 1;
    /* A rate needs two looks: a single one is preceded by one that is not shown. */
    double count = call->count > 0 ? call->count : screen || call->json ? 0 : 1;
    double unseen = screen ? 0 : 1, n = 0;
    bool quit = false;
    enum ctl_exit status = CTL_OK;
    while (!quit && status == CTL_OK) {
        status = look(top);
        if (status != CTL_OK) break;
        past_add(top);
        draw(top, screen);
        if (unseen > 0)
            unseen--;
        else if (n++ >= 0 && call->json)
            json_print(top);
        else if (screen)
            fwrite(top->frame.bytes, 1, top->frame.length, stdout);
        else
            frame_print(top);
        if (fflush(stdout) != 0) status = CTL_LOST;
        if (count > 0 && n >= count) break;
        if (status == CTL_OK) status = pause_for(top, interval_s, screen, &quit);
    }
    return status;
}

enum ctl_exit top_command(struct call *call, struct session *session) {
    static struct top top;
    top.call = call;
    top.session = session;
    top.utf8 = terminal_is_utf8();
    enum ctl_exit status = call_open(call, session, 0);
    if (status != CTL_OK) return status;
    link_catch_interrupt();
    const char *terminal = getenv("TERM");
    bool screen = isatty(STDOUT_FILENO) && !call->json && terminal && strcmp(terminal, "dumb") != 0;
    if (!screen) call->color = false;
    if (screen) terminal_set(TERMINAL_QUIET);
    if (screen) fputs(screen_on, stdout);
    status = looks(&top, screen);
    if (screen) fputs(screen_off, stdout);
    fflush(stdout);
    terminal_set(TERMINAL_AS_IT_WAS);
    /* What was said about it went away with the page. */
    if (screen && status == CTL_LOST && isatty(STDERR_FILENO)) (void)session_lost(session);
    text_free(&top.frame);
    return status;
}
