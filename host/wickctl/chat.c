/* chat: a conversation, written in the model's own chat format. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat_style.h"
#include "conversation.h"
#include "engine/engine.h"
#include "talk.h"
#include "token/utf8.h"

enum { ANSWER_TOKENS_MIN = 16, ANSWER_TOKENS_MAX = 2048, FILE_BYTES_MAX = 1 << 26 };

static const struct call_param chat_defaults[] = {{"temperature", "0.7"}, {"top_p", "0.95"}};

struct chat {
    struct conversation conversation;
    const struct chat_style *format;
    const char *model_format; /* as INFO has it */
    unsigned ctx;
    bool replacing;         /* the next text takes the place of the last */
    unsigned regenerations; /* of the last answer: with a fixed seed, each takes another */
};

/* What the server says of its model. */
static enum ctl_exit facts_ask(struct chat *chat, struct session *session) {
    struct reply reply;
    enum ctl_exit status = session_ask(session, "INFO", &reply);
    chat->model_format = "none";
    while (status == CTL_OK && reply.more) {
        if (reply_split(&reply)) {
            const struct reply_item *format = reply_find(&reply, "chat_format");
            const struct reply_item *ctx = reply_find(&reply, "ctx");
            if (format) chat->model_format = text_copy(format->value, format->length);
            if (ctx) chat->ctx = (unsigned)strtoul(ctx->value, NULL, 10);
        }
        status = session_reply(session, 0, SESSION_ANSWER_MS, &reply);
    }
    return status;
}

/* --- asking -------------------------------------------------------------------------------------
 */

/* The person's parameters, and those that a conversation needs where the person set none. */
static void params_add(const struct chat *chat, struct call *call, char room[2][32]) {
    unsigned tokens = chat->ctx / 4;
    if (tokens < ANSWER_TOKENS_MIN) tokens = ANSWER_TOKENS_MIN;
    if (tokens > ANSWER_TOKENS_MAX) tokens = ANSWER_TOKENS_MAX;
    snprintf(room[0], sizeof room[0], "%u", tokens);
    if (!call_param_get(call, "max_tokens")) (void)call_param_set(call, "max_tokens", room[0]);
    if (chat->format->special && !call_param_get(call, "parse_special"))
        (void)call_param_set(call, "parse_special", "1");
    bool stops = call_param_get(call, "stop") != NULL;
    for (int i = 0; i < CHAT_STOPS_MAX && !stops && chat->format->stop[i]; i++)
        (void)call_param_set(call, "stop", chat->format->stop[i]);
    const char *seed = call_param_get(call, "seed");
    if (!seed || chat->regenerations == 0) return;
    snprintf(room[1], sizeof room[1], "%llu", strtoull(seed, NULL, 10) + chat->regenerations);
    (void)call_param_set(call, "seed", room[1]);
}

/* The oldest turn that is still sent is sent no longer. False: only the new one is left. */
static bool turn_drop(struct chat *chat) {
    if (chat->conversation.first + 1 >= chat->conversation.n) return false;
    chat->conversation.first++;
    return true;
}

static void turn_drop_tell(const struct talk *talk, size_t before) {
    const struct chat *chat = talk->context;
    size_t n = chat->conversation.first - before;
    if (n > 0 && !talk->call->quiet)
        fprintf(stderr, "[the context is full: %zu earlier %s no longer sent]\n", n,
                n == 1 ? "message is" : "messages are");
}

/* Asks for the answer to the last turn. Where that cannot be had, the turn is taken away. */
static enum ctl_exit answer_get(struct talk *talk) {
    struct chat *chat = talk->context;
    struct call call = *talk->call;
    char room[2][32];
    params_add(chat, &call, room);
    struct gen_answer answer = {.too_long_is_mine = true, .trim = true};
    struct text prompt = {0};
    size_t before = chat->conversation.first;
    enum ctl_exit status;
    for (;;) {
        text_clear(&prompt);
        chat_style_write(chat->format, &chat->conversation, &prompt);
        bool large = utf8_count(prompt.bytes, prompt.length) > ENGINE_PROMPT_CHARS_MAX;
        if (large && turn_drop(chat)) continue;
        answer.too_long_is_mine = chat->conversation.first + 1 < chat->conversation.n;
        answer.too_long = false;
        status = gen_stream(&call, talk->session, prompt.bytes, prompt.length, &answer);
        if (status != CTL_REFUSED) break;
        /* What was staged for the refused prompt must go. */
        if (!link_print(&talk->session->link, "STOP 1")) status = session_lost(talk->session);
        if (status != CTL_REFUSED || !answer.too_long || !turn_drop(chat)) break;
    }
    turn_drop_tell(talk, before);
    talk->call->prompt_rate = call.prompt_rate;
    if (status == CTL_OK || status == CTL_CANCELLED)
        conversation_answer(&chat->conversation, answer.text.bytes ? answer.text.bytes : "",
                            answer.text.length);
    else
        (void)conversation_undo(&chat->conversation);
    if (!talk->person && !call.json && status == CTL_OK) putchar('\n');
    text_free(&answer.text);
    text_free(&prompt);
    return status;
}

static enum ctl_exit say(struct talk *talk, const char *line) {
    struct chat *chat = talk->context;
    if (!line) return CTL_OK;
    if (chat->replacing) (void)conversation_undo(&chat->conversation);
    chat->replacing = false;
    chat->regenerations = 0;
    conversation_say(&chat->conversation, line);
    return answer_get(talk);
}

/* --- commands -----------------------------------------------------------------------------------
 */

static enum ctl_exit reset_do(struct talk *talk, const char *rest) {
    (void)rest;
    struct chat *chat = talk->context;
    conversation_reset(&chat->conversation);
    chat->replacing = false;
    return CTL_OK;
}

static enum ctl_exit system_do(struct talk *talk, const char *rest) {
    struct chat *chat = talk->context;
    if (strcmp(rest, "-") == 0) conversation_set_system(&chat->conversation, NULL);
    if (*rest && strcmp(rest, "-") != 0) conversation_set_system(&chat->conversation, rest);
    if (!*rest)
        puts(chat->conversation.system ? chat->conversation.system : "there is no system prompt");
    return CTL_OK;
}

static void formats_list(void) {
    for (const struct chat_style *format = chat_styles; format->name; format++)
        printf(" %s", format->name);
    putchar('\n');
}

static enum ctl_exit format_do(struct talk *talk, const char *rest) {
    struct chat *chat = talk->context;
    const struct chat_style *format = *rest ? chat_style_find(rest) : chat->format;
    if (!format) {
        fputs("no such format; there are:", stdout);
        formats_list();
    } else if (*rest) {
        chat->format = format;
    } else {
        printf("%s (the model's: %s); there are:", format->name, chat->model_format);
        formats_list();
    }
    return CTL_OK;
}

static enum ctl_exit undo_do(struct talk *talk, const char *rest) {
    (void)rest;
    struct chat *chat = talk->context;
    if (!conversation_undo(&chat->conversation)) puts("nothing has been said yet");
    return CTL_OK;
}

static enum ctl_exit regen_do(struct talk *talk, const char *rest) {
    (void)rest;
    struct chat *chat = talk->context;
    struct conversation *conversation = &chat->conversation;
    if (conversation->n == 0) {
        puts("nothing has been said yet");
        return CTL_OK;
    }
    struct turn *last = &conversation->turn[conversation->n - 1];
    free(last->answer);
    last->answer = NULL;
    chat->regenerations++;
    return answer_get(talk);
}

/* The last text goes to the editor; what comes from there takes its place. Without an editor the
 * new text stands after the command. */
static enum ctl_exit edit_do(struct talk *talk, const char *rest) {
    struct chat *chat = talk->context;
    const struct conversation *conversation = &chat->conversation;
    if (conversation->n == 0) {
        puts("nothing has been said yet");
        return CTL_OK;
    }
    chat->replacing = true;
    if (*rest) return say(talk, rest);
    const char *user = conversation->turn[conversation->n - 1].user;
    if (talk->edits) talk->next = text_copy(user, strlen(user));
    return CTL_OK;
}

static enum ctl_exit history_do(struct talk *talk, const char *rest) {
    (void)rest;
    const struct chat *chat = talk->context;
    const struct conversation *conversation = &chat->conversation;
    const char *on = talk->call->color ? "\033[1m" : "", *off = talk->call->color ? "\033[0m" : "";
    if (conversation->system) printf("%s[system]%s %s\n", on, off, conversation->system);
    for (size_t i = 0; i < conversation->n; i++) {
        const struct turn *turn = &conversation->turn[i];
        printf("%s> %s%s%s\n", on, turn->user, off,
               i < conversation->first ? "  [no longer sent]" : "");
        if (turn->answer) printf("%s\n", turn->answer + strspn(turn->answer, " \n"));
    }
    return CTL_OK;
}

static enum ctl_exit save_do(struct talk *talk, const char *rest) {
    const struct chat *chat = talk->context;
    if (!*rest) {
        puts("/save needs a FILE");
        return CTL_OK;
    }
    struct text text = {0};
    conversation_write(&chat->conversation, &text);
    FILE *file = fopen(rest, "we");
    bool fine = file && fwrite(text.bytes, 1, text.length, file) == text.length;
    int problem = errno;
    if (file && fclose(file) != 0) fine = false, problem = errno;
    if (!fine) printf("cannot write %s: %s\n", rest, strerror(problem));
    if (fine && !talk->call->quiet)
        printf("%zu messages saved in %s\n", chat->conversation.n, rest);
    text_free(&text);
    return fine ? CTL_OK : CTL_USAGE;
}

/* Reads a file into *text. */
static bool file_read(const char *path, struct text *text) {
    char bytes[1 << 16];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : 0;
    while (fd >= 0 && text->length < FILE_BYTES_MAX && (got = read(fd, bytes, sizeof bytes)) > 0)
        text_add(text, bytes, (size_t)got);
    if (got < 0) fprintf(stderr, "wickctl: cannot read %s: %s\n", path, strerror(errno));
    if (fd >= 0) close(fd);
    return got >= 0;
}

static enum ctl_exit conversation_load(struct chat *chat, const char *path) {
    struct text text = {0};
    unsigned line;
    bool read = file_read(path, &text);
    bool fine = read && conversation_read(&chat->conversation, text.bytes, text.length, &line);
    if (read && !fine)
        fprintf(stderr, "wickctl: %s, line %u: not the next message of a conversation\n", path,
                line);
    text_free(&text);
    return fine ? CTL_OK : CTL_USAGE;
}

static enum ctl_exit load_do(struct talk *talk, const char *rest) {
    struct chat *chat = talk->context;
    if (!*rest) {
        puts("/load needs a FILE");
        return CTL_OK;
    }
    if (conversation_load(chat, rest) != CTL_OK) return CTL_USAGE;
    chat->replacing = false;
    return history_do(talk, "");
}

static const struct talk_command chat_commands[] = {
    {"/reset", "", "forgets what was said; the system prompt stays", reset_do},
    {"/system", "[TEXT | -]", "sets the system prompt; - takes it away; alone: shows it",
     system_do},
    {"/regen", "", "another answer to the last message", regen_do},
    {"/edit", "[TEXT]", "changes the last message and asks again", edit_do},
    {"/undo", "", "takes the last message and its answer away", undo_do},
    {"/history", "", "shows the conversation", history_do},
    {"/save", "FILE", "keeps the conversation, one message a line, as JSON", save_do},
    {"/load", "FILE", "goes on with a saved conversation", load_do},
    {"/format", "[NAME]", "writes the conversation in another chat format; alone: shows it",
     format_do},
    {0}};

/* --- the command --------------------------------------------------------------------------------
 */

static enum ctl_exit format_choose(struct chat *chat, const struct call *call) {
    chat->format = chat_style_find(call->format ? call->format : chat->model_format);
    if (chat->format) return CTL_OK;
    fprintf(stderr, "wickctl: no chat format \"%s\"; there are:",
            call->format ? call->format : chat->model_format);
    for (const struct chat_style *format = chat_styles; format->name; format++)
        fprintf(stderr, " %s", format->name);
    fputc('\n', stderr);
    return CTL_USAGE;
}

static void welcome_print(const struct talk *talk, const struct reply *health) {
    const struct chat *chat = talk->context;
    talk_welcome(talk, health);
    if (strcmp(chat->model_format, "none") == 0 && !talk->call->format)
        puts("The model has no chat format that is known here: it reads a plain dialogue.");
    printf("Chat format: %s. /help shows what there is.\n", chat->format->name);
}

enum ctl_exit chat_command(struct call *call, struct session *session) {
    static struct chat chat;
    static struct talk talk;
    talk.call = call;
    talk.session = session;
    talk.commands = chat_commands;
    talk.say = say;
    talk.context = &chat;
    talk_params_default(call, chat_defaults, sizeof chat_defaults / sizeof chat_defaults[0]);
    if (call->load && conversation_load(&chat, call->load) != CTL_OK) return CTL_USAGE;
    if (call->system) conversation_set_system(&chat.conversation, call->system);
    enum ctl_exit status = call_open(call, session, CALL_PERSON_WAIT_S);
    struct reply health;
    if (status == CTL_OK) status = facts_ask(&chat, session);
    if (status == CTL_OK) status = format_choose(&chat, call);
    if (status == CTL_OK) status = health_ask(session, &health);
    if (status != CTL_OK) return status;
    if (!call->text) {
        bool person = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
        if (person && !call->json && !call->quiet) welcome_print(&talk, &health);
        return talk_run(&talk);
    }
    link_catch_interrupt();
    return say(&talk, call->text);
}
