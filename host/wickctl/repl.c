/* repl: for people: a line in, its continuation out. */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "call.h"

enum {
    REPL_WAIT_MS = 30000, /* for the server to come up and the model to load */
    REPL_POLL_MS = 100,
    REPL_LINE_BYTES = 8192
};

static const char first_prompt[] = "Once upon a time";

/* What reads well with a small model; parameters of the command line win. */
static const struct call_param repl_defaults[] = {
    {"temperature", "0.8"}, {"top_p", "0.9"}, {"repetition_penalty", "1.1"}, {"max_tokens", "120"}};

static const char repl_help[] =
    "  TEXT              writes on from TEXT\n"
    "  /set KEY=VALUE    sets a parameter, e.g. /set temperature=0.2; without a value: unsets it\n"
    "  /params           shows the parameters\n"
    "  /health /info     asks the server\n"
    "  /help             this\n"
    "  /quit             ends, as Ctrl-D does\n"
    "  Ctrl-C            stops a text that is being written\n";

struct repl {
    struct call *call;
    struct session *session;
    bool person; /* stdin is a terminal */
    char line[REPL_LINE_BYTES];
    size_t held; /* bytes read of stdin and not yet used */
    char input[REPL_LINE_BYTES];
    char settings[4 * REPL_LINE_BYTES]; /* what /set was given; parameters point into it */
    size_t settings_bytes;
};

/* Waits until the model is loaded; shows how far that is. */
static enum ctl_exit ready_wait(struct repl *repl, struct reply *health) {
    bool shown = false;
    for (int waited = 0;; waited += REPL_POLL_MS) {
        enum ctl_exit status = health_ask(repl->session, health);
        if (status != CTL_OK) return status;
        const char *state = reply_value(health, "status", "?");
        bool loading = strcmp(state, "loading") == 0;
        if (shown) fprintf(stderr, "\r\033[K");
        if (!loading && (strcmp(state, "ready") == 0 || strcmp(state, "busy") == 0)) return CTL_OK;
        if (!loading || waited >= REPL_WAIT_MS) {
            fprintf(stderr, "wickctl: %s is %s, not ready%s\n", repl->session->address, state,
                    loading ? " after 30 s; try again later" : "");
            return CTL_SERVER_ERROR;
        }
        shown = isatty(STDERR_FILENO);
        if (shown) fprintf(stderr, "loading %s %%", reply_value(health, "percent", "0"));
        char *line;
        enum link_status waiting = link_read(&repl->session->link, -1, REPL_POLL_MS, &line);
        if (waiting == LINK_INTERRUPT) return CTL_CANCELLED;
        if (waiting == LINK_CLOSED) return session_lost(repl->session);
    }
}

static void welcome_print(const struct repl *repl, const struct reply *health) {
    printf("%s (%s, %s, %s tokens of context) at %s, computed by %s %s\n",
           reply_value(health, "model", "?"), reply_value(health, "architecture", "?"),
           reply_value(health, "quantisation", "?"), reply_value(health, "ctx", "?"),
           repl->session->address, reply_value(health, "backend", "?"),
           reply_value(health, "isa", ""));
    puts("Write how a text begins and it is continued; /help shows what else there is.");
}

/* Takes a line out of what was read of stdin. */
static bool line_take(struct repl *repl, bool last) {
    char *lf = memchr(repl->input, '\n', repl->held);
    size_t n = lf ? (size_t)(lf - repl->input) : repl->held;
    if (!lf && repl->held < sizeof repl->input && !(last && n > 0)) return false;
    memcpy(repl->line, repl->input, n < sizeof repl->line ? n : sizeof repl->line - 1);
    repl->line[n < sizeof repl->line ? n : sizeof repl->line - 1] = 0;
    size_t used = lf ? n + 1 : n;
    memmove(repl->input, repl->input + used, repl->held - used);
    repl->held -= used;
    return true;
}

enum line_status { LINE_GIVEN, LINE_END, LINE_INTERRUPT, LINE_LOST };

static enum line_status line_read(struct repl *repl) {
    for (;;) {
        if (line_take(repl, false)) return LINE_GIVEN;
        char *reply;
        switch (link_read(&repl->session->link, STDIN_FILENO, -1, &reply)) {
        case LINK_INTERRUPT:
            return LINE_INTERRUPT;
        case LINK_CLOSED:
            return LINE_LOST;
        case LINK_INPUT:
            break;
        default:
            continue; /* news of the server's that nobody asked for */
        }
        ssize_t got = read(STDIN_FILENO, repl->input + repl->held, sizeof repl->input - repl->held);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return line_take(repl, true) ? LINE_GIVEN : LINE_END;
        repl->held += (size_t)got;
    }
}

/* "/set temperature=0.2" */
static void set_do(struct repl *repl, const char *setting) {
    const char *equals = strchr(setting, '=');
    if (!equals || equals == setting) {
        puts("/set needs KEY=VALUE, as in /set temperature=0.2");
        return;
    }
    size_t bytes = strlen(setting) + 1;
    if (bytes > sizeof repl->settings - repl->settings_bytes) {
        puts("too many settings; start again");
        return;
    }
    char *copy = memcpy(repl->settings + repl->settings_bytes, setting, bytes);
    repl->settings_bytes += bytes;
    copy[equals - setting] = 0;
    if (!call_param_set(repl->call, copy, copy + (equals - setting) + 1))
        puts("too many parameters");
}

static void params_show(const struct repl *repl) {
    for (size_t i = 0; i < repl->call->n_params; i++)
        printf("%s=%s\n", repl->call->param[i].name, repl->call->param[i].value);
}

static enum ctl_exit info_show(struct repl *repl) {
    struct reply reply;
    enum ctl_exit status = session_ask(repl->session, "INFO", &reply);
    while (status == CTL_OK && reply.more) {
        puts(reply.rest);
        status = session_reply(repl->session, 0, SESSION_ANSWER_MS, &reply);
    }
    return status;
}

/* A line that begins with '/'. *quit: the user wants to go. */
static enum ctl_exit slash_do(struct repl *repl, bool *quit) {
    struct reply reply;
    const char *line = repl->line;
    enum ctl_exit status = CTL_OK;
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) {
        *quit = true;
    } else if (strcmp(line, "/help") == 0) {
        fputs(repl_help, stdout);
    } else if (strcmp(line, "/params") == 0) {
        params_show(repl);
    } else if (strncmp(line, "/set ", 5) == 0) {
        set_do(repl, line + 5 + strspn(line + 5, " "));
    } else if (strcmp(line, "/health") == 0) {
        status = health_ask(repl->session, &reply);
        if (status == CTL_OK) health_print(&reply);
    } else if (strcmp(line, "/info") == 0) {
        status = info_show(repl);
    } else {
        printf("no command %s; /help shows what there is\n", line);
    }
    return status;
}

static enum ctl_exit generate(struct repl *repl, const char *prompt) {
    if (repl->call->color) fputs("\033[1m", stdout);
    fputs(repl->call->json ? "" : prompt, stdout);
    if (repl->call->color) fputs("\033[0m", stdout);
    fflush(stdout);
    enum ctl_exit status = gen_stream(repl->call, repl->session, prompt, strlen(prompt), false);
    if (!repl->person && !repl->call->json) putchar('\n');
    fflush(stdout);
    return status;
}

/* Errors of one text are told and the next may come; a lost connection ends all. */
static bool is_fatal(enum ctl_exit status) {
    return status == CTL_LOST || status == CTL_NO_CONNECTION;
}

static enum ctl_exit lines_run(struct repl *repl) {
    enum ctl_exit status = CTL_OK, worst = CTL_OK;
    bool quit = false, any = false;
    while (!quit) {
        if (repl->person) fputs("> ", stdout);
        fflush(stdout);
        enum line_status got = line_read(repl);
        if (got == LINE_LOST) return session_lost(repl->session);
        if (got == LINE_INTERRUPT && !repl->person) return CTL_CANCELLED;
        if (got == LINE_INTERRUPT) {
            puts("  (Ctrl-D or /quit ends)");
            continue;
        }
        if (got == LINE_END) break;
        if (repl->line[strspn(repl->line, " \t\r")] == 0) continue;
        any = true;
        status = repl->line[0] == '/' ? slash_do(repl, &quit) : generate(repl, repl->line);
        if (is_fatal(status)) return status;
        if (status == CTL_CANCELLED && !repl->person) return status;
        if (status != CTL_OK && !repl->person) worst = status;
    }
    if (repl->person && !quit) putchar('\n');
    if (!repl->person && !any) worst = generate(repl, first_prompt);
    return worst;
}

enum ctl_exit repl_command(struct call *call, struct session *session) {
    static struct repl repl;
    repl.call = call;
    repl.session = session;
    repl.person = isatty(STDIN_FILENO);
    for (size_t i = 0; i < sizeof repl_defaults / sizeof repl_defaults[0]; i++) {
        bool given = false;
        for (size_t j = 0; j < call->n_params; j++)
            given = given || strcmp(call->param[j].name, repl_defaults[i].name) == 0;
        if (!given) (void)call_param_set(call, repl_defaults[i].name, repl_defaults[i].value);
    }
    enum ctl_exit status = session_open(session, call->address, REPL_WAIT_MS);
    if (status != CTL_OK) return status;
    link_catch_interrupt();
    struct reply health;
    status = ready_wait(&repl, &health);
    if (status != CTL_OK) return status;
    if (!call->json && !call->quiet) welcome_print(&repl, &health);
    if (call->text) return generate(&repl, call->text);
    return lines_run(&repl);
}
