#include "wire/verbs.h"

#include "base/panic.h"
#include "wire/reply.h"
#include "wire/server.h"

const struct verb verbs[] = {
    /* clang-format off */
    {"HELLO", 0, FIELDS_HELLO, NULL, verb_hello,
     "[proto=1] [crc=0|1]", "agree on the protocol version, and on trailers"},
    {"GEN", VERB_TAG | VERB_TEXT | VERB_READY | VERB_FREE_TAG, FIELDS_GENERATE | FIELDS_TEXT,
     "prompt", verb_gen, "TAG [FIELD=VALUE ...] \"PROMPT\"", "generate text"},
    {"PUT", VERB_TAG | VERB_TEXT | VERB_READY | VERB_FREE_TAG | VERB_APPENDS, FIELDS_PUT, "text",
     verb_put, "TAG [at=N] \"TEXT\"", "append to the text staged under the tag"},
    {"RUN", VERB_TAG | VERB_STAGED | VERB_READY | VERB_FREE_TAG, FIELDS_GENERATE | FIELDS_TEXT,
     "prompt", verb_run, "TAG [FIELD=VALUE ...]", "GEN with the staged text as prompt"},
    {"STOP", VERB_TAG, 0, NULL, verb_stop,
     "TAG", "end the job, or free the staged text"},
    {"REPLAY", VERB_TAG, FIELDS_REPLAY, NULL, verb_replay,
     "TAG [from=N]", "the job's lines again, from token N on (with crc=1)"},
    {"ACK", VERB_TAG, FIELDS_REPLAY, NULL, verb_ack,
     "TAG [from=N]", "what comes before token N has come; without N, everything"},
    {"SCORE", VERB_TAG | VERB_TEXT_OR_STAGED | VERB_READY | VERB_FREE_TAG,
     FIELDS_SCORE | FIELDS_TEXT, "text", verb_score,
     "TAG [FIELD=VALUE ...] [\"TEXT\"]", "log-probability of every token of the text"},
    {"TOKENIZE", VERB_TAG_MAY | VERB_TEXT_OR_STAGED | VERB_READY | VERB_FREE_TAG, FIELDS_TEXT,
     "text", verb_tokenize, "[TAG] [FIELD=VALUE ...] [\"TEXT\"]", "token ids of the text"},
    {"DETOKENIZE", VERB_TAG_MAY | VERB_IDS | VERB_READY | VERB_FREE_TAG, FIELDS_IDS,
     "ids", verb_detokenize, "[TAG] [ids=N,N,...] [special=0|1]", "text of the ids"},
    {"HEALTH", VERB_OBSERVER, 0, NULL, verb_health, "", "state, in one line"},
    {"INFO", VERB_OBSERVER, 0, NULL, verb_info, "", "facts and limits"},
    {"METRICS", VERB_OBSERVER, 0, NULL, verb_metrics, "", "counters, as Prometheus text"},
    {"DRAIN", VERB_READY, 0, NULL, verb_drain,
     "", "no new jobs; tells when the last has ended"},
    {"SHUTDOWN", 0, 0, NULL, verb_shutdown,
     "", "no new jobs; ends the server when the last has ended"},
    {"REBOOT", 0, 0, NULL, verb_reboot,
     "", "SHUTDOWN, and the appliance starts anew"},
    {"LOG", 0, FIELDS_LOG, NULL, verb_log,
     "[lines=N]", "the last lines of the log; of an appliance, of the kernel's too"},
    {"PING", VERB_OBSERVER, 0, NULL, verb_ping, "", "answers pong"},
    {"HELP", VERB_OBSERVER, 0, NULL, verb_help, "", "this"},
    {"BYE", VERB_OBSERVER, 0, NULL, verb_bye, "", "close the connection"},
    {0},
    /* clang-format on */
};

static void serve_bad_line(struct server *server, struct client *client,
                           const struct fault *fault) {
    reply_fault(&client->output, 0, fault);
    client->bad_lines++;
    if (client->bad_lines >= CLIENT_BAD_LINES_MAX && client_is_connection(client)) {
        server_finish(server, client);
    }
}

void verbs_bad_line(struct server *server, struct client *client, const char *why) {
    struct fault fault;
    fault_set(&fault, FAULT_BAD_LINE, "%s", why);
    serve_bad_line(server, client, &fault);
}

/* A client of another protocol: one error, and the end. */
static void serve_stranger(struct server *server, struct client *client) {
    struct fault fault;
    fault_set(&fault, FAULT_BAD_LINE,
              "this is not HTTP: wick speaks a line protocol, see docs/PROTOCOL.md");
    serve_bad_line(server, client, &fault);
    if (client_is_connection(client) && client->state == CLIENT_OPEN) server_finish(server, client);
}

/* Must the server say no before the command is looked at? */
static bool serve_refuses(const struct server *server, const struct client *client,
                          const struct verb *verb, struct fault *fault) {
    if (client->role == LOGIN_OBSERVER && (verb->needs & VERB_OBSERVER) == 0) {
        fault_set(fault, FAULT_FORBIDDEN,
                  "%s: an observer may use HEALTH, INFO, METRICS, PING, "
                  "HELP and BYE",
                  verb->name);
        return true;
    }
    if ((verb->needs & VERB_READY) == 0) return false;
    if (server->phase == SERVER_DOWN) {
        *fault = server->failure;
        return true;
    }
    if (server->phase != SERVER_SERVING) {
        fault_set(fault, FAULT_NOT_READY, "the model is loading, %u %% are done; wait for line 120",
                  server->percent);
        return true;
    }
    return false;
}

/* Does a job, or a staged text in the way, already use the tag? */
static bool tag_is_used(struct server *server, const struct client *client, const struct verb *verb,
                        const struct frame *frame, struct fault *fault) {
    if (frame->tag == 0 || (verb->needs & VERB_FREE_TAG) == 0) return false;
    struct job_id id = {client->number, frame->tag};
    if (jobs_find(&server->jobs, id) != NULL) {
        fault_set(fault, FAULT_TAG_IN_USE, "job %u still runs; STOP it or choose another tag",
                  frame->tag);
        return true;
    }
    if (replay_find(&server->replay, client->number, frame->tag) != NULL) {
        fault_set(fault, FAULT_TAG_IN_USE, "job %u has ended and is kept; ACK it or REPLAY it",
                  frame->tag);
        return true;
    }
    bool own_text = frame->has_text && (verb->needs & VERB_APPENDS) == 0;
    if (own_text && staging_find(&server->staging, client->number, frame->tag) != NULL) {
        fault_set(fault, FAULT_TAG_IN_USE,
                  "a text is staged as %u; RUN it, STOP it or choose another tag", frame->tag);
        return true;
    }
    return false;
}

/* The text of a command that has none of its own: the staged one. */
static void command_find_text(struct server *server, const struct client *client,
                              struct command *command, struct command_errors *errors) {
    const struct verb *verb = command->verb;
    uint32_t takes = VERB_TEXT_OR_STAGED | VERB_STAGED | VERB_IDS;
    if ((verb->needs & takes) == 0 || command->has_text || command->ids_set) return;
    if (command->tag == 0) return; /* said already */
    const struct staged *staged = staging_find(&server->staging, client->number, command->tag);
    if (staged == NULL) {
        const char *limits = (verb->needs & VERB_IDS) != 0 ? "N,N,..." : command_text_limits;
        command_error_add(errors, verb->text_name, limits);
        return;
    }
    command->text = (struct frame_text){staged->text, staged->bytes};
    if ((verb->needs & VERB_IDS) != 0) command->ids = command->text;
}

void verbs_serve(struct server *server, struct client *client, char *line, size_t length) {
    wick_assert(client->state == CLIENT_OPEN);
    if (frame_is_blank(line, length)) return;
    if (frame_is_http(line, length)) {
        serve_stranger(server, client);
        return;
    }
    struct fault fault;
    struct frame frame;
    if (!frame_parse(line, length, &frame, &fault)) {
        serve_bad_line(server, client, &fault);
        return;
    }
    const struct verb *verb = verb_find(verbs, frame.verb);
    if (verb == NULL) {
        fault_set(&fault, FAULT_UNKNOWN_VERB, "%.*s: there is no such verb; HELP lists them",
                  (int)frame.verb.length, frame.verb.bytes);
        serve_bad_line(server, client, &fault);
        return;
    }
    client->bad_lines = 0;
    if (serve_refuses(server, client, verb, &fault) ||
        tag_is_used(server, client, verb, &frame, &fault)) {
        reply_fault(&client->output, frame.tag, &fault);
        return;
    }
    struct command command;
    struct command_errors errors;
    command_parse(verb, &frame, server->engine->vocab.n_tokens, &command, &errors);
    command_find_text(server, client, &command, &errors);
    if (errors.n > 0) {
        server->metrics.invalid++;
        reply_errors(&client->output, command.tag, &errors);
        return;
    }
    verb->handler(server, client, &command);
}
