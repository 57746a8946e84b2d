/* gen, score: jobs, streamed. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "call.h"
#include "json.h"
#include "show/progress.h"
#include "wire/frame.h"

enum {
    GEN_TAG = 1,        /* one job at a time on a connection of our own */
    GEN_TEXT_MAX = 8192 /* of one token; far above what a vocabulary holds */
};

/* What a terminal would take for commands is shown as '?'; a model may write anything. */
static void text_show(const struct reply_item *text, bool terminal) {
    for (size_t i = 0; i < text->length; i++) {
        unsigned char c = (unsigned char)text->value[i];
        bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
        putchar(terminal && control ? '?' : c);
    }
}

/* A token whose text needed several lines is one event all the same. */
static void event_print_json(const char *event, const struct reply *reply) {
    static char held[GEN_TEXT_MAX];
    static size_t n_held;
    const struct reply_item *index = reply_word(reply, 0), *text = reply_word(reply, 1);
    bool token = reply->code == 151 || reply->code == 152;
    if (token && text && text->length <= sizeof held - n_held) {
        memcpy(held + n_held, text->value, text->length);
        n_held += text->length;
    }
    if (reply->more) return;
    printf("{\"event\":\"%s\"", event);
    if (token) {
        printf(",\"index\":%s,\"text\":", index ? index->value : "null");
        json_text(held, n_held);
        n_held = 0;
    }
    json_fields(reply);
    puts("}");
    fflush(stdout);
}

static void summary_print(const struct call *call, const struct reply *end, const char *seed,
                          const char *prompt_tokens) {
    const struct reply_item *match = reply_find(end, "match");
    if (call->color_err) fputs("\033[2m", stderr);
    fprintf(stderr, "[%s tokens, %s", reply_value(end, "tokens", "?"),
            reply_value(end, "stop", "?"));
    if (match) {
        char shown[256];
        size_t used, n = frame_escape(match->value, match->length, shown, sizeof shown, &used);
        fprintf(stderr, " \"%.*s\"", (int)n, shown);
    }
    fprintf(stderr, "; prompt %s tokens in %s ms; %s tokens/s; seed %s]", prompt_tokens,
            reply_value(end, "prompt_ms", "?"), reply_value(end, "tokens_per_s", "?"), seed);
    fputs(call->color_err ? "\033[0m\n" : "\n", stderr);
}

/* What is shown until the first token comes: how long it takes, and where the rate of an earlier
 * prompt is known, how far it may be. */
struct waiting {
    const struct call *call;
    struct progress progress;
    double tokens; /* of the prompt; 0: the job has no slot yet */
    int idles;
    char label[64];
};

static void waiting_begin(struct waiting *waiting, double tokens) {
    waiting->tokens = tokens;
    if (tokens > 0)
        snprintf(waiting->label, sizeof waiting->label, "reading %.0f tokens", tokens);
    else
        snprintf(waiting->label, sizeof waiting->label, "waiting for a slot");
    progress_end(&waiting->progress);
    progress_begin(&waiting->progress, waiting->label, NULL);
    waiting->idles = 0;
}

static void waiting_tell(void *context) {
    struct waiting *waiting = context;
    const double idle_s = 0.1; /* session.h */
    if (++waiting->idles < 3) return;
    double rate = waiting->call->prompt_rate, done = rate * idle_s * waiting->idles;
    if (waiting->tokens <= 0 || rate <= 0)
        progress_tell(&waiting->progress, 0, 0);
    else
        progress_tell(&waiting->progress, done < waiting->tokens ? done : waiting->tokens * 0.99,
                      waiting->tokens);
}

/* What a stream remembers between its lines. */
struct stream {
    bool terminal; /* stdout is one */
    bool at_line_start;
    bool stopping; /* STOP was sent */
    bool trim;     /* blanks in front of the text are not shown */
    char seed[24];
    char prompt_tokens[16];
};

static void stream_started(struct stream *stream, const struct reply *reply) {
    snprintf(stream->seed, sizeof stream->seed, "%s", reply_value(reply, "seed", "?"));
    snprintf(stream->prompt_tokens, sizeof stream->prompt_tokens, "%s",
             reply_value(reply, "prompt_tokens", "?"));
}

/* False: stdout is gone. */
static bool stream_token(struct stream *stream, const struct reply *reply) {
    const struct reply_item *word = reply_word(reply, 1);
    if (!word) return true;
    struct reply_item text = *word;
    while (stream->trim && text.length > 0 && isspace((unsigned char)*text.value))
        text.value++, text.length--;
    if (text.length == 0) return true;
    stream->trim = false;
    text_show(&text, stream->terminal);
    stream->at_line_start = text.value[text.length - 1] == '\n';
    return fflush(stdout) == 0;
}

/* Sends STOP once; a second wish to stop is not to be waited for. */
static bool stream_stop(struct stream *stream, struct session *session) {
    if (stream->stopping) return false;
    stream->stopping = true;
    return link_print(&session->link, "STOP %d", GEN_TAG);
}

static enum ctl_exit stream_end(struct call *call, struct stream *stream,
                                const struct reply *reply) {
    double prompt_ms = strtod(reply_value(reply, "prompt_ms", "0"), NULL);
    if (prompt_ms > 0) call->prompt_rate = strtod(stream->prompt_tokens, NULL) / prompt_ms * 1e3;
    if (call->json) {
        event_print_json("end", reply);
    } else {
        if (stream->terminal && !stream->at_line_start) putchar('\n');
        fflush(stdout);
        if (!call->quiet) summary_print(call, reply, stream->seed, stream->prompt_tokens);
    }
    return strcmp(reply_value(reply, "stop", ""), "CANCELLED") == 0 ? CTL_CANCELLED : CTL_OK;
}

static enum ctl_exit stream_refused(const struct stream *stream, struct session *session,
                                    struct reply *reply, struct gen_answer *answer) {
    if (answer && answer->too_long_is_mine && reply->code == 413) {
        answer->too_long = true;
        return CTL_REFUSED;
    }
    if (stream->terminal && !stream->at_line_start) putchar('\n');
    fflush(stdout);
    return session_refused(session, reply);
}

/* The text in front of the answer, as soon as there is a slot. */
static void echo_show(const struct call *call, struct stream *stream, struct gen_answer *answer) {
    if (!answer || !answer->echo || call->json) return;
    struct reply_item item = {.value = answer->echo, .length = strlen(answer->echo)};
    if (call->color) fputs("\033[1m", stdout);
    text_show(&item, stream->terminal);
    if (call->color) fputs("\033[0m", stdout);
    stream->at_line_start = false;
    answer->echo = NULL;
}

/* Lines of the job until its last. */
static enum ctl_exit stream_follow(struct call *call, struct session *session,
                                   struct stream *stream, struct waiting *waiting,
                                   struct gen_answer *answer) {
    for (;;) {
        struct reply reply;
        enum ctl_exit status = session_reply(session, GEN_TAG, -1, &reply);
        if (status == CTL_CANCELLED && stream_stop(stream, session)) continue;
        if (status != CTL_OK || reply.code != 150) session->idle = NULL;
        if (status != CTL_OK || reply.code != 150) progress_end(&waiting->progress);
        if (status == CTL_OK && reply.code >= 400)
            return stream_refused(stream, session, &reply, answer);
        if (status != CTL_OK) return status;
        if (!reply_split(&reply)) continue;
        if (reply.code == 150) {
            stream_started(stream, &reply);
            waiting_begin(waiting, strtod(stream->prompt_tokens, NULL));
        } else {
            echo_show(call, stream, answer);
        }
        if (reply.code == 250) return stream_end(call, stream, &reply);
        const struct reply_item *text = reply.code == 151 ? reply_word(&reply, 1) : NULL;
        if (answer && text) text_add(&answer->text, text->value, text->length);
        if (call->json) event_print_json(reply.code == 150 ? "started" : "token", &reply);
        bool shown = call->json || reply.code != 151 || stream_token(stream, &reply);
        if (!shown && !stream->stopping && !stream_stop(stream, session)) return CTL_LOST;
    }
}

enum ctl_exit gen_stream(struct call *call, struct session *session, const char *prompt,
                         size_t length, struct gen_answer *answer) {
    struct stream stream = {.terminal = isatty(STDOUT_FILENO),
                            .at_line_start = true,
                            .trim = answer && answer->trim,
                            .seed = "?",
                            .prompt_tokens = "?"};
    struct waiting waiting = {.call = call};
    enum ctl_exit status = call_send(call, session, "GEN", GEN_TAG, prompt, length);
    if (status == CTL_CANCELLED) (void)link_print(&session->link, "STOP %d", GEN_TAG);
    if (status != CTL_OK) return status;
    waiting_begin(&waiting, 0);
    session->idle_context = &waiting;
    session->idle = call->quiet || call->json ? NULL : waiting_tell;
    status = stream_follow(call, session, &stream, &waiting, answer);
    session->idle = NULL;
    progress_end(&waiting.progress);
    return status;
}

enum ctl_exit gen_command(struct call *call, struct session *session) {
    const char *prompt;
    size_t length;
    enum ctl_exit status = call_text_read(call, &prompt, &length);
    if (status != CTL_OK) return status;
    status = call_open(call, session, 0);
    if (status != CTL_OK) return status;
    link_catch_interrupt();
    return gen_stream(call, session, prompt, length, NULL);
}

enum ctl_exit score_command(struct call *call, struct session *session) {
    const char *text;
    size_t length;
    enum ctl_exit status = call_text_read(call, &text, &length);
    if (status != CTL_OK) return status;
    status = call_open(call, session, 0);
    if (status == CTL_OK) status = call_send(call, session, "SCORE", GEN_TAG, text, length);
    while (status == CTL_OK) {
        struct reply reply;
        status = session_reply(session, GEN_TAG, -1, &reply);
        if (status != CTL_OK) break;
        if (reply.code >= 400) return session_refused(session, &reply);
        if (!reply_split(&reply)) continue;
        const struct reply_item *index = reply_word(&reply, 0), *piece = reply_word(&reply, 1);
        if (call->json) {
            event_print_json(reply.code == 250   ? "end"
                             : reply.code == 150 ? "started"
                                                 : "score",
                             &reply);
        } else if (reply.code == 152) {
            printf("%5s %7s %10s  ", index ? index->value : "", reply_value(&reply, "id", ""),
                   reply_value(&reply, "logprob", ""));
            if (piece) json_text(piece->value, piece->length);
            putchar('\n');
        }
        if (reply.code != 250) continue;
        if (!call->json)
            printf("%s tokens, log-probability %s, perplexity %s\n",
                   reply_value(&reply, "tokens", "?"), reply_value(&reply, "logprob_sum", "?"),
                   reply_value(&reply, "perplexity", "?"));
        return strcmp(reply_value(&reply, "stop", ""), "CANCELLED") == 0 ? CTL_CANCELLED : CTL_OK;
    }
    return status;
}
