#include "talk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profile_file.h"
#include "terminal.h"
#include "wire/command.h"

/* Terminals that know it send pasted text apart from typed text. */
static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";

/* --- commands of every talk ---------------------------------------------------------------------
 */

bool talk_param_set(struct call *call, const char *name, const char *value) {
    /* A person sets few; the copies go with the program. */
    return call_param_set(call, text_copy(name, strlen(name)), text_copy(value, strlen(value)));
}

void talk_params_default(struct call *call, const struct call_param *defaults, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!call_param_get(call, defaults[i].name))
            (void)call_param_set(call, defaults[i].name, defaults[i].value);
}

static enum ctl_exit set_do(struct talk *talk, const char *rest) {
    const char *equals = strchr(rest, '=');
    if (!equals || equals == rest) {
        puts("/set needs KEY=VALUE, as in /set temperature=0.2");
        return CTL_OK;
    }
    char *name = text_copy(rest, (size_t)(equals - rest));
    if (!talk_param_set(talk->call, name, equals + 1)) puts("too many parameters");
    free(name);
    return CTL_OK;
}

static enum ctl_exit params_do(struct talk *talk, const char *rest) {
    (void)rest;
    for (size_t i = 0; i < talk->call->n_params; i++)
        printf("%s=%s\n", talk->call->param[i].name, talk->call->param[i].value);
    return CTL_OK;
}

static enum ctl_exit health_do(struct talk *talk, const char *rest) {
    (void)rest;
    struct reply reply;
    enum ctl_exit status = health_ask(talk->session, &reply);
    if (status == CTL_OK) health_print(&reply);
    return status;
}

static enum ctl_exit info_do(struct talk *talk, const char *rest) {
    (void)rest;
    struct reply reply;
    enum ctl_exit status = session_ask(talk->session, "INFO", &reply);
    while (status == CTL_OK && reply.more) {
        puts(reply.rest);
        status = session_reply(talk->session, 0, SESSION_ANSWER_MS, &reply);
    }
    return status;
}

static enum ctl_exit quit_do(struct talk *talk, const char *rest) {
    (void)rest;
    talk->quit = true;
    return CTL_OK;
}

static enum ctl_exit help_do(struct talk *talk, const char *rest);

static const struct talk_command talk_commands[] = {
    {"/set", "KEY=VALUE",
     "sets a parameter, as in /set temperature=0.2; without a value: unsets it", set_do},
    {"/params", "", "shows the parameters", params_do},
    {"/health", "", "how the server feels", health_do},
    {"/info", "", "facts and limits of the server and its model", info_do},
    {"/help", "", "this", help_do},
    {"/quit", "", "ends, as Ctrl-D does", quit_do},
    {"/exit", "", "the same", quit_do},
    {0}};

static void help_rows(const struct talk_command *commands) {
    for (; commands->name; commands++) {
        char syntax[64];
        snprintf(syntax, sizeof syntax, "%s %s", commands->name, commands->syntax);
        printf("  %-18s %s\n", syntax, commands->help);
    }
}

static enum ctl_exit help_do(struct talk *talk, const char *rest) {
    (void)rest;
    help_rows(talk->commands);
    help_rows(talk_commands);
    if (!talk->person) return CTL_OK;
    printf("  %-18s %s\n", "Ctrl-C", "stops a text that is being written");
    puts(
        "  Keys: arrows, Home, End, Ctrl-A E B F K U W Y T as in every shell; up, down and Ctrl-R\n"
        "  for lines typed before; Tab completes commands; Alt-Enter begins a new line.");
    return CTL_OK;
}

/* The command whose name the line begins with. */
static const struct talk_command *command_find(const struct talk *talk, const char *line) {
    size_t n = strcspn(line, " ");
    const struct talk_command *tables[] = {talk->commands, talk_commands};
    for (size_t i = 0; i < 2; i++)
        for (const struct talk_command *c = tables[i]; c->name; c++)
            if (strlen(c->name) == n && strncmp(c->name, line, n) == 0) return c;
    return NULL;
}

static enum ctl_exit slash_do(struct talk *talk, const char *line) {
    const struct talk_command *command = command_find(talk, line);
    if (!command) {
        printf("no command %s; /help shows what there is\n", line);
        return CTL_OK;
    }
    line += strlen(command->name);
    return command->run(talk, line + strspn(line, " "));
}

/* --- completion ---------------------------------------------------------------------------------
 */

/* Is `word` the nth that begins with text[0..length)? Counts down. */
static bool is_nth(const char *word, const char *text, size_t length, unsigned *nth) {
    return strncmp(word, text, length) == 0 && strlen(word) > length && (*nth)-- == 0;
}

/* Commands, and the keys of /set. */
static size_t complete(void *context, const char *text, size_t length, unsigned nth, char *out,
                       size_t room) {
    const struct talk *talk = context;
    static const char set[] = "/set ";
    size_t skip = strlen(set);
    if (length >= skip && strncmp(text, set, skip) == 0) {
        for (const struct field *field = fields; field->name; field++)
            if ((field->verbs & (FIELDS_GENERATE | FIELDS_TEXT)) &&
                is_nth(field->name, text + skip, length - skip, &nth))
                return (size_t)snprintf(out, room, "%s%s=", set, field->name);
        return 0;
    }
    const struct talk_command *tables[] = {talk->commands, talk_commands};
    for (size_t i = 0; i < 2; i++)
        for (const struct talk_command *c = tables[i]; c->name && *text == '/'; c++)
            if (is_nth(c->name, text, length, &nth))
                return (size_t)snprintf(out, room, "%s%s", c->name, *c->syntax ? " " : "");
    return 0;
}

/* --- lines --------------------------------------------------------------------------------------
 */

enum line_status {
    LINE_GIVEN,
    LINE_END,
    LINE_INTERRUPT, /* the key Ctrl-C */
    LINE_SIGNAL,    /* SIGINT or SIGTERM */
    LINE_LOST
};

/* Reads what stdin has. False: it is at its end. */
static bool input_read(struct talk *talk) {
    char bytes[4096];
    ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) return true;
    if (got > 0) text_add(&talk->input, bytes, (size_t)got);
    return got > 0;
}

static void input_drop(struct talk *talk, size_t n) {
    memmove(talk->input.bytes, talk->input.bytes + n, talk->input.length - n);
    talk->input.length -= n;
}

/* Waits until stdin can be read. */
static enum line_status input_wait(struct talk *talk, int timeout_ms) {
    char *news;
    switch (link_read(&talk->session->link, STDIN_FILENO, timeout_ms, &news)) {
    case LINK_INTERRUPT:
        return LINE_SIGNAL;
    case LINK_CLOSED:
        return LINE_LOST;
    case LINK_INPUT:
        return LINE_GIVEN;
    default:
        return LINE_END; /* news that nobody asked for, or the time is over */
    }
}

/* A line of a script. */
static enum line_status line_read(struct talk *talk) {
    bool open = true;
    for (;;) {
        char *lf = talk->input.length ? memchr(talk->input.bytes, '\n', talk->input.length) : NULL;
        if (lf || (!open && talk->input.length)) {
            size_t n = lf ? (size_t)(lf - talk->input.bytes) : talk->input.length;
            text_clear(&talk->line);
            text_add(&talk->line, talk->input.bytes, n);
            input_drop(talk, lf ? n + 1 : n);
            return LINE_GIVEN;
        }
        if (!open) return LINE_END;
        enum line_status status = input_wait(talk, -1);
        if (status == LINE_SIGNAL || status == LINE_LOST) return status;
        if (status == LINE_GIVEN) open = input_read(talk);
    }
}

static void screen_write(struct talk *talk) {
    fwrite(talk->screen.bytes, 1, talk->screen.length, stdout);
    fflush(stdout);
    text_clear(&talk->screen);
}

static void screen_draw(struct talk *talk) {
    unsigned columns, rows;
    terminal_size(&columns, &rows);
    editor_draw(&talk->editor, columns, rows, &talk->screen);
    screen_write(talk);
}

/* Feeds keys until one ends the line. */
static enum editor_event keys_feed(struct talk *talk) {
    enum editor_event event = EDITOR_MORE;
    size_t used = 0;
    while (event == EDITOR_MORE && used < talk->input.length)
        event = editor_feed(&talk->editor, (unsigned char)talk->input.bytes[used++]);
    if (used) input_drop(talk, used);
    return event;
}

/* A line of a person. */
static enum line_status line_edit(struct talk *talk) {
    enum { LOOK_MS = 500 }; /* at the size of the terminal */
    struct editor *editor = &talk->editor;
    editor_begin(editor);
    if (talk->next) editor_fill(editor, talk->next);
    free((char *)talk->next);
    talk->next = NULL;
    for (bool open = true;;) {
        enum editor_event event = keys_feed(talk);
        screen_draw(talk);
        if (event == EDITOR_MORE && open) {
            enum line_status status = input_wait(talk, LOOK_MS);
            if (status == LINE_SIGNAL || status == LINE_LOST) return status;
            if (status == LINE_GIVEN) open = input_read(talk);
            continue;
        }
        if (event == EDITOR_SUSPEND) {
            terminal_suspend();
            editor->drawn = false;
            continue;
        }
        editor_leave(editor, &talk->screen);
        screen_write(talk);
        text_clear(&talk->line);
        text_add(&talk->line, editor->text, editor->length);
        if (event == EDITOR_DONE) return LINE_GIVEN;
        return event == EDITOR_INTERRUPT ? LINE_INTERRUPT : LINE_END;
    }
}

/* The terminal is the editor's while a line is edited, and the program's otherwise. */
static enum line_status line_ask(struct talk *talk) {
    if (!talk->edits) {
        if (talk->person) fputs(talk->editor.prompt, stdout);
        fflush(stdout);
        return line_read(talk);
    }
    terminal_set(TERMINAL_KEYS);
    fputs(paste_on, stdout);
    enum line_status status = line_edit(talk);
    if (talk->editor.drawn) editor_leave(&talk->editor, &talk->screen);
    text_add_string(&talk->screen, paste_off);
    screen_write(talk);
    terminal_set(TERMINAL_QUIET);
    return status;
}

/* --- the talk -----------------------------------------------------------------------------------
 */

void talk_welcome(const struct talk *talk, const struct reply *health) {
    printf("%s (%s, %s, %s tokens of context) at %s, computed by %s %s\n",
           reply_value(health, "model", "?"), reply_value(health, "architecture", "?"),
           reply_value(health, "quantisation", "?"), reply_value(health, "ctx", "?"),
           talk->session->address, reply_value(health, "backend", "?"),
           reply_value(health, "isa", ""));
}

/* Errors of one text are told and the next may come; a lost connection ends all. */
static bool is_fatal(enum ctl_exit status) {
    return status == CTL_LOST || status == CTL_NO_CONNECTION;
}

static enum ctl_exit lines_run(struct talk *talk) {
    enum ctl_exit status = CTL_OK, worst = CTL_OK;
    bool any = false;
    while (!talk->quit) {
        enum line_status got = line_ask(talk);
        if (got == LINE_LOST) return session_lost(talk->session);
        if (got == LINE_END) break;
        if (got == LINE_SIGNAL && (talk->edits || !talk->person)) return CTL_CANCELLED;
        bool ours = got == LINE_INTERRUPT || got == LINE_SIGNAL;
        const char *line = talk->line.bytes;
        if (ours && !*line) puts("  (Ctrl-D or /quit ends)");
        if (ours || line[strspn(line, " \t\r\n")] == 0) continue;
        any = true;
        history_add(&talk->history, line);
        status = *line == '/' ? slash_do(talk, line) : talk->say(talk, line);
        fflush(stdout);
        if (is_fatal(status)) return status;
        if (status == CTL_CANCELLED && !talk->person) return status;
        if (status != CTL_OK && !talk->person) worst = status;
    }
    if (!talk->person && !any) worst = talk->say(talk, NULL);
    return worst;
}

enum ctl_exit talk_run(struct talk *talk) {
    const char *terminal = getenv("TERM");
    talk->person = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    talk->edits = talk->person && terminal && strcmp(terminal, "dumb") != 0;
    bool home = talk->person &&
                profile_path("XDG_STATE_HOME", ".local/state", "history", talk->history_path);
    history_open(&talk->history, home ? talk->history_path : NULL);
    talk->editor.prompt = "> ";
    talk->editor.prompt_on = talk->call->color ? "\033[1;32m" : NULL;
    talk->editor.prompt_off = talk->call->color ? "\033[0m" : NULL;
    talk->editor.history = &talk->history;
    talk->editor.complete = complete;
    talk->editor.complete_context = talk;
    link_catch_interrupt();
    enum ctl_exit status = lines_run(talk);
    terminal_set(TERMINAL_AS_IT_WAS);
    history_close(&talk->history);
    return status;
}
