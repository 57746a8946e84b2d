/* The verbs that end something: DRAIN SHUTDOWN REBOOT BYE. */
#include "wire/reply.h"
#include "wire/server.h"
#include "wire/verbs.h"

void verb_drain(struct server *server, struct client *client, const struct command *command) {
    (void)command;
    reply_text(&client->output, 160, 0, "draining jobs=%u", server->jobs.n);
    client->wants_drained = true;
    server_drain(server, false);
}

void verb_shutdown(struct server *server, struct client *client, const struct command *command) {
    (void)command;
    reply_text(&client->output, 161, 0, "shutting_down jobs=%u", server->jobs.n);
    server_drain(server, true);
}

void verb_reboot(struct server *server, struct client *client, const struct command *command) {
    (void)command;
    if (server->host == NULL) {
        struct fault fault;
        fault_set(&fault, FAULT_UNKNOWN_VERB,
                  "REBOOT: wick is a plain process here and did not boot this machine; SHUTDOWN "
                  "ends it");
        reply_fault(&client->output, 0, &fault);
        return;
    }
    reply_text(&client->output, 162, 0, "rebooting jobs=%u", server->jobs.n);
    server->reboot = true;
    server_drain(server, true);
}

void verb_bye(struct server *server, struct client *client, const struct command *command) {
    (void)command;
    scheduler_drop_client(server->scheduler, client->number);
    server_deliver(server);
    jobs_drop_client(&server->jobs, client);
    staging_drop_client(&server->staging, client->number);
    replay_drop_client(&server->replay, client->number);
    client->wants_drained = false;
    reply_text(&client->output, 221, 0, "bye");
    if (client->kind != WIRE_TTY) {
        server_finish(server, client);
    } else {
        struct seal none = {.kind = SEAL_NONE}; /* who comes next has agreed on nothing */
        client_seal(client, &none);
    }
}
