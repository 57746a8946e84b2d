/* The verbs for a bad cable: REPLAY ACK. */
#include "wire/reply.h"
#include "wire/server.h"
#include "wire/verbs.h"

static const char *state_word(const struct replay_ring *ring) {
    if (ring->ended) return "ended";
    return ring->from == 0 && ring->used == 0 ? "queued" : "running";
}

static void not_kept(struct client *client, const struct command *command, const char *why) {
    struct fault fault;
    fault_set(&fault, FAULT_NOT_KEPT, "%s", why);
    reply_fault(&client->output, command->tag, &fault);
}

/* Whoever asks for what comes from token N on has everything before it. */
void verb_replay(struct server *server, struct client *client, const struct command *command) {
    struct replay_ring *ring = replay_find(&server->replay, client->number, command->tag);
    if (ring == NULL) {
        not_kept(client, command, "no job of this tag is kept; HELLO crc=1 before it is sent");
        return;
    }
    if (command->from < ring->from) {
        not_kept(client, command, "those lines were acknowledged");
        return;
    }
    replay_acknowledge(&server->replay, ring, command->from);
    reply_text(&client->output, 232, command->tag, "replay from=%u lines=%u state=%s",
               command->from, replay_count(&server->replay, ring), state_word(ring));
    replay_write(&server->replay, ring, &client->output, server_reserve(server, client));
}

/* Has no answer: a client sends many of them. */
void verb_ack(struct server *server, struct client *client, const struct command *command) {
    struct replay_ring *ring = replay_find(&server->replay, client->number, command->tag);
    if (ring == NULL) return;
    if (command->from_set) {
        replay_acknowledge(&server->replay, ring, command->from);
    } else if (ring->ended) {
        replay_release(ring);
    }
}
