/* repl: for people: a line in, its continuation out. */
#include <stdio.h>
#include <string.h>

#include "talk.h"

static const char first_prompt[] = "Once upon a time";

/* What reads well with a small model; parameters of the command line win. */
static const struct call_param repl_defaults[] = {
    {"temperature", "0.8"}, {"top_p", "0.9"}, {"repetition_penalty", "1.1"}, {"max_tokens", "120"}};

static const struct talk_command repl_commands[] = {{0}};

static enum ctl_exit continue_text(struct talk *talk, const char *line) {
    const char *prompt = line ? line : first_prompt;
    struct gen_answer answer = {.echo = prompt};
    enum ctl_exit status = gen_stream(talk->call, talk->session, prompt, strlen(prompt), &answer);
    text_free(&answer.text);
    if (!talk->person && !talk->call->json) putchar('\n');
    return status;
}

enum ctl_exit repl_command(struct call *call, struct session *session) {
    static struct talk talk;
    talk.call = call;
    talk.session = session;
    talk.commands = repl_commands;
    talk.say = continue_text;
    talk_params_default(call, repl_defaults, sizeof repl_defaults / sizeof repl_defaults[0]);
    enum ctl_exit status = call_open(call, session, CALL_PERSON_WAIT_S);
    struct reply health;
    if (status == CTL_OK) status = health_ask(session, &health);
    if (status != CTL_OK) return status;
    if (!call->json && !call->quiet) {
        talk_welcome(&talk, &health);
        puts("Write how a text begins and it is continued; /help shows what else there is.");
    }
    if (!call->text) return talk_run(&talk);
    link_catch_interrupt();
    return continue_text(&talk, call->text);
}
