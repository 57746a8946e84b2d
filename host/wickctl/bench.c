/* bench: many clients at once, each a connection and a thread of its own, and how long they wait.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "call.h"
#include "show/plot.h"
#include "show/progress.h"
#include "show/quantile.h"

enum {
    BENCH_TAG = 1,
    CLIENTS_MAX = 64, /* connections of a server */
    STEPS_MAX = 16,   /* of a sweep */
    JOBS_A_CLIENT = 8,
    BUSY_PAUSE_MS = 20,
    STACK_BYTES = 1 << 20 /* a reply and a few lines */
};

static const char first_prompt[] = "Once upon a time";

/* What makes answers of equal length; parameters of the command line win. */
static const struct call_param bench_defaults[] = {{"max_tokens", "64"}, {"ignore_eos", "1"}};

struct samples {
    double *value;
    size_t n, room;
};

/* One step of a sweep. */
struct step {
    const struct call *call;
    const char *prompt;
    size_t length;
    unsigned clients, jobs;
    double begun_s;
    atomic_uint next; /* job */
    atomic_uint done;

    pthread_mutex_t lock; /* of what follows */
    struct samples first_ms, gap_ms, job_ms;
    unsigned ended, failed, busy, lost;
    double tokens;
    char trouble[256]; /* the first error */
    double took_s;
};

struct client {
    struct step *step;
    pthread_t thread;
    struct session session;
};

static double clock_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void pause_until(double at_s) {
    double left = at_s - clock_s();
    if (left <= 0) return;
    struct timespec pause = {.tv_sec = (time_t)left, .tv_nsec = (long)((left - floor(left)) * 1e9)};
    nanosleep(&pause, NULL);
}

static void sample_add(struct samples *samples, double value) {
    if (samples->n == samples->room) {
        size_t room = samples->room ? 2 * samples->room : 1024;
        double *larger = realloc(samples->value, room * sizeof *larger);
        if (!larger) return;
        samples->value = larger;
        samples->room = room;
    }
    samples->value[samples->n++] = value;
}

/* --- a client -----------------------------------------------------------------------------------
 */

/* What one job was like. */
struct course {
    double due_s, first_s, last_s;
    struct samples gap_ms;
};

enum job_end { JOB_ENDED, JOB_BUSY, JOB_FAILED, JOB_LOST };

static void trouble_keep(struct step *step, const struct reply *reply) {
    struct text text = {0};
    for (size_t i = 0; i < reply->n_items; i++) {
        const struct reply_item *item = &reply->item[i];
        if (i > 0) text_add_string(&text, " ");
        if (item->name) text_add_string(&text, item->name);
        if (item->name) text_add_string(&text, "=");
        text_add(&text, item->value, item->length);
    }
    pthread_mutex_lock(&step->lock);
    if (!step->trouble[0] && text.bytes)
        snprintf(step->trouble, sizeof step->trouble, "%s", text.bytes);
    pthread_mutex_unlock(&step->lock);
    text_free(&text);
}

/* Lines of the job until its last. */
static enum job_end job_follow(struct client *client, struct course *course, double *tokens) {
    for (;;) {
        struct reply reply;
        if (session_reply(&client->session, BENCH_TAG, -1, &reply) != CTL_OK) return JOB_LOST;
        double now_s = clock_s();
        if (reply.code == 503) return JOB_BUSY;
        if (reply.code == 151 && !reply.more) {
            if (course->first_s == 0)
                course->first_s = now_s;
            else
                sample_add(&course->gap_ms, (now_s - course->last_s) * 1e3);
            course->last_s = now_s;
        }
        if (reply.code < 250 || !reply_split(&reply)) continue;
        if (reply.code >= 400) {
            trouble_keep(client->step, &reply);
            return JOB_FAILED;
        }
        *tokens = strtod(reply_value(&reply, "tokens", "0"), NULL);
        course->last_s = now_s;
        return JOB_ENDED;
    }
}

/* Prompts that begin differently find nothing of each other in the KV cache, nor of those of an
 * earlier bench: the numbers go on with the clock, in milliseconds. */
static size_t prompt_make(const struct step *step, unsigned job, char *out) {
    size_t n = 0;
    unsigned long number = (unsigned long)(step->begun_s * 1e3) + job;
    if (!step->call->same) n = (size_t)sprintf(out, "%06lu. ", number % 1000000);
    memcpy(out + n, step->prompt, step->length);
    return n + step->length;
}

static enum job_end job_run(struct client *client, unsigned job, struct course *course,
                            double *tokens) {
    struct step *step = client->step;
    char *prompt = malloc(step->length + sizeof "000000. ");
    if (!prompt) return JOB_FAILED;
    size_t n = prompt_make(step, job, prompt);
    enum job_end end = JOB_BUSY;
    while (end == JOB_BUSY) {
        enum ctl_exit status = call_send(step->call, &client->session, "GEN", BENCH_TAG, prompt, n);
        end = status == CTL_OK ? job_follow(client, course, tokens) : JOB_LOST;
        if (end != JOB_BUSY) break;
        pthread_mutex_lock(&step->lock);
        step->busy++;
        pthread_mutex_unlock(&step->lock);
        /* A text that was staged for the refused job must go before it is staged again. */
        if (!link_print(&client->session.link, "STOP %d", BENCH_TAG)) end = JOB_LOST;
        pause_until(clock_s() + BUSY_PAUSE_MS * 1e-3);
    }
    free(prompt);
    return end;
}

static void course_keep(struct step *step, const struct course *course, enum job_end end,
                        double tokens) {
    pthread_mutex_lock(&step->lock);
    if (end == JOB_ENDED) {
        step->ended++;
        step->tokens += tokens;
        if (course->first_s > 0)
            sample_add(&step->first_ms, (course->first_s - course->due_s) * 1e3);
        sample_add(&step->job_ms, (course->last_s - course->due_s) * 1e3);
        for (size_t i = 0; i < course->gap_ms.n; i++)
            sample_add(&step->gap_ms, course->gap_ms.value[i]);
    } else {
        step->failed++;
        if (end == JOB_LOST) step->lost++;
    }
    pthread_mutex_unlock(&step->lock);
    atomic_fetch_add(&step->done, 1);
}

static void *client_run(void *context) {
    struct client *client = context;
    struct step *step = client->step;
    double rate = step->call->rate;
    enum job_end end = JOB_ENDED;
    while (end != JOB_LOST) {
        unsigned job = atomic_fetch_add(&step->next, 1);
        if (job >= step->jobs) break;
        struct course course = {.due_s = clock_s()};
        double tokens = 0;
        /* At a rate, a job that begins late has waited since it was due. */
        if (rate > 0) course.due_s = step->begun_s + job / rate;
        pause_until(course.due_s);
        end = job_run(client, job, &course, &tokens);
        course_keep(step, &course, end, tokens);
        free(course.gap_ms.value);
    }
    return NULL;
}

/* --- a step -------------------------------------------------------------------------------------
 */

static void step_watch(const struct step *step, struct progress *progress) {
    while (atomic_load(&step->done) < step->jobs) {
        unsigned lost;
        pthread_mutex_lock((pthread_mutex_t *)&step->lock);
        lost = step->lost;
        pthread_mutex_unlock((pthread_mutex_t *)&step->lock);
        if (lost == step->clients) return;
        progress_tell(progress, atomic_load(&step->done), step->jobs);
        pause_until(clock_s() + 0.05);
    }
}

static enum ctl_exit clients_open(struct step *step, struct client **clients,
                                  const struct session *like) {
    for (unsigned i = 0; i < step->clients; i++) {
        struct client *client = clients[i] = calloc(1, sizeof *client);
        if (!client) return CTL_USAGE;
        client->step = step;
        client->session.link.fd = -1;
        client->session.key = like->key;
        enum ctl_exit status = call_open(step->call, &client->session, 0);
        if (status != CTL_OK) return status;
    }
    return CTL_OK;
}

static enum ctl_exit step_run(struct step *step, const struct session *like) {
    struct client *clients[CLIENTS_MAX] = {0};
    struct progress progress;
    pthread_attr_t attributes;
    char label[64];
    snprintf(label, sizeof label, "%u client%s", step->clients, step->clients == 1 ? "" : "s");
    pthread_mutex_init(&step->lock, NULL);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    enum ctl_exit status = clients_open(step, clients, like);
    unsigned started = 0;
    step->begun_s = clock_s();
    while (status == CTL_OK && started < step->clients)
        if (pthread_create(&clients[started]->thread, &attributes, client_run, clients[started]))
            status = CTL_USAGE;
        else
            started++;
    progress_begin(&progress, label, "jobs");
    if (status == CTL_OK) step_watch(step, &progress);
    for (unsigned i = 0; i < started; i++) pthread_join(clients[i]->thread, NULL);
    progress_end(&progress);
    step->took_s = clock_s() - step->begun_s;
    for (unsigned i = 0; i < step->clients && clients[i]; i++) {
        session_close(&clients[i]->session);
        free(clients[i]);
    }
    pthread_attr_destroy(&attributes);
    quantile_sort(step->first_ms.value, step->first_ms.n);
    quantile_sort(step->gap_ms.value, step->gap_ms.n);
    quantile_sort(step->job_ms.value, step->job_ms.n);
    if (status == CTL_OK && step->lost == step->clients) status = CTL_LOST;
    return status;
}

/* --- telling ------------------------------------------------------------------------------------
 */

static double of(const struct samples *samples, double share) {
    return quantile_of(samples->value, samples->n, share);
}

static void table_head(void) {
    printf("%30s %-27s %s\n", "", "first token, ms", "gap of tokens, ms");
    printf("%7s %5s %7s %7s %6s %6s %6s %7s %6s %6s %6s\n", "clients", "jobs", "jobs/s", "tok/s",
           "p50", "p90", "p99", "max", "p50", "p99", "max");
}

static void table_row(const struct step *step) {
    printf("%7u %5u %7.1f %7.1f %6.1f %6.1f %6.1f %7.1f %6.2f %6.2f %6.2f\n", step->clients,
           step->ended, step->ended / step->took_s, step->tokens / step->took_s,
           of(&step->first_ms, 0.5), of(&step->first_ms, 0.9), of(&step->first_ms, 0.99),
           of(&step->first_ms, 1), of(&step->gap_ms, 0.5), of(&step->gap_ms, 0.99),
           of(&step->gap_ms, 1));
    if (step->busy)
        printf("%7s %u times the server was busy, and was asked again\n", "", step->busy);
    if (step->failed) printf("%7s %u failed: %s\n", "", step->failed, step->trouble);
    fflush(stdout);
}

static void json_samples(const char *name, const struct samples *samples) {
    printf(",\"%s\":{\"n\":%zu,\"p50\":%.3f,\"p90\":%.3f,\"p95\":%.3f,\"p99\":%.3f,\"max\":%.3f}",
           name, samples->n, of(samples, 0.5), of(samples, 0.9), of(samples, 0.95),
           of(samples, 0.99), of(samples, 1));
}

static void json_row(const struct step *step) {
    printf("{\"clients\":%u,\"jobs\":%u,\"failed\":%u,\"busy\":%u,\"seconds\":%.3f,\"jobs_per_s\":"
           "%.3f,\"tokens\":%.0f,\"tokens_per_s\":%.3f",
           step->clients, step->ended, step->failed, step->busy, step->took_s,
           step->ended / step->took_s, step->tokens, step->tokens / step->took_s);
    json_samples("first_ms", &step->first_ms);
    json_samples("gap_ms", &step->gap_ms);
    json_samples("job_ms", &step->job_ms);
    puts("}");
    fflush(stdout);
}

/* Tokens a second, first token and gaps over the number of clients. */
static enum ctl_exit sweep_draw(const struct call *call, const struct step *steps, size_t n) {
    double x[STEPS_MAX], rate[STEPS_MAX], first[2][STEPS_MAX], gap[2][STEPS_MAX];
    for (size_t i = 0; i < n; i++) {
        x[i] = steps[i].clients;
        rate[i] = steps[i].tokens / steps[i].took_s;
        for (int k = 0; k < 2; k++) {
            first[k][i] = of(&steps[i].first_ms, k == 0 ? 0.5 : 0.99);
            gap[k][i] = of(&steps[i].gap_ms, k == 0 ? 0.5 : 0.99);
        }
    }
    const struct plot plots[] = {
        {"all clients together", "clients", "tokens/s", x, n, true, {{"tokens/s", rate, false}}, 1},
        {"until the first token",
         "clients",
         "ms",
         x,
         n,
         true,
         {{"median", first[0], false}, {"99th percentile", first[1], false}},
         2},
        {"between two tokens",
         "clients",
         "ms",
         x,
         n,
         true,
         {{"median", gap[0], false}, {"99th percentile", gap[1], false}},
         2},
    };
    if (plot_write(call->svg, plots, sizeof plots / sizeof plots[0])) return CTL_OK;
    fprintf(stderr, "wickctl: cannot write %s: %m\n", call->svg);
    return CTL_USAGE;
}

/* "1,2,4" */
static bool clients_read(const char *list, unsigned *clients, size_t *n) {
    *n = 0;
    for (const char *at = list; *at; at += *at == ',') {
        char *end;
        unsigned long number = strtoul(at, &end, 10);
        bool more = *end == ',' && end[1];
        if (end == at || (*end && !more) || *n == STEPS_MAX) return false;
        if (number < 1 || number > CLIENTS_MAX) return false;
        if (*n > 0 && number <= clients[*n - 1]) return false;
        clients[(*n)++] = (unsigned)number;
        at = end;
    }
    return *n > 0;
}

enum ctl_exit bench_command(struct call *call, struct session *session) {
    static struct step steps[STEPS_MAX];
    unsigned clients[STEPS_MAX];
    size_t n, done = 0, length = strlen(first_prompt);
    const char *prompt = first_prompt;
    enum ctl_exit status = CTL_OK;
    if (!clients_read(call->clients ? call->clients : "1", clients, &n)) {
        fprintf(stderr,
                "wickctl: --clients takes 1 to %d, or up to %d such numbers, rising, with "
                "commas between\n",
                CLIENTS_MAX, STEPS_MAX);
        return CTL_USAGE;
    }
    if (call->text || call->file) status = call_text_read(call, &prompt, &length);
    for (size_t i = 0; i < sizeof bench_defaults / sizeof bench_defaults[0]; i++)
        if (!call_param_get(call, bench_defaults[i].name))
            (void)call_param_set(call, bench_defaults[i].name, bench_defaults[i].value);
    if (status == CTL_OK && !call->json) table_head();
    for (; status == CTL_OK && done < n; done++) {
        struct step *step = &steps[done];
        step->call = call;
        step->prompt = prompt;
        step->length = length;
        step->clients = clients[done];
        step->jobs = call->requests > 0 ? (unsigned)call->requests : JOBS_A_CLIENT * clients[done];
        status = step_run(step, session);
        if (status != CTL_OK) break;
        if (call->json)
            json_row(step);
        else
            table_row(step);
        if (step->failed) status = CTL_SERVER_ERROR;
    }
    if (status == CTL_OK && call->svg) status = sweep_draw(call, steps, done);
    return status;
}
